"""``star suspects``: labels of a project to look at again."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser(
        "suspects",
        help="labels to look at again",
        description="List labels, the likeliest mistakes first: those that annotators disagree "
        "about, then those that are least likely to a model trained on the other folds' labels. "
        "Trains as many models as there are folds; writes nothing into the project.",
    )
    verb.add_argument("folder", metavar="FOLDER", help="a project")
    verb.add_argument("-k", type=int, default=20, metavar="K", help="so many; default: 20")
    verb.add_argument("--folds", type=int, default=5, metavar="N", help="models; default: 5")
    verb.add_argument("--format", choices=("text", "json"), default="text")
    verb.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write them as star query does, with the models' answers as suggestions; corrected, "
        "star label --correct takes the file",
    )
    verb.add_argument("--force", action="store_true", help="replace FILE if it is there")
    verb.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Print the labels, or write them as rows to be decided on."""
    from star.annotation.formats.exchange import write
    from star.errors import spelled, unified
    from star.outputs import refuse_output
    from star.project.labelling import form_of
    from star.project.project import Project
    from star.project.suspects import again, suspects

    if options.output is not None:
        refuse_output(options.output, force=options.force)
        form_of(options.output, None)  # refused before the models are trained
    project = Project.of(options.folder)
    rows = suspects(project, folds=options.folds, k=options.k)
    if options.output is not None:
        write(options.output, form_of(options.output, None), again(project, rows))
    if options.format == "json":
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        who = f", {row['disagreement']:.0%} of its annotators say another" * bool(
            row["disagreement"]
        )
        said = "nothing" if row["prediction"] is None else spelled(row["prediction"])
        print(
            f"{spelled(row['id'])}: {spelled(row['label'])}, p {row['probability']:.3f}{who}; the "
            f"model says {said:.60}: {unified(row['text'])!a:.80}"
        )
    return 0

"""``star query``: the rows that people are to label now, as a file."""

from __future__ import annotations

import argparse
import sys
from typing import Any


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser(
        "query",
        help="write the rows that people are to label now",
        description="Write what the last round has chosen, or before any round the test rows and "
        "the first examples: id, text (masked, if annotation.masking is set), options, the score "
        "it was chosen by. Fill in label, or outcome with skip, unsure or no such label.",
    )
    verb.add_argument("folder", metavar="FOLDER", help="a project")
    verb.add_argument("-o", "--output", required=True, metavar="FILE")
    verb.add_argument("-k", type=int, metavar="K", help="the first K alone; default: all")
    verb.add_argument(
        "--format", help="jsonl, csv, label-studio or argilla; default: by FILE's end"
    )
    verb.add_argument("--suggest", action="store_true", help="with the last model's answers")
    verb.add_argument("--force", action="store_true", help="replace FILE if it is there")
    verb.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Write the rows that are open."""
    from star.annotation.formats.exchange import write
    from star.errors import InputError
    from star.outputs import refuse_output
    from star.project.labelling import form_of
    from star.project.project import Project

    if options.k is not None and options.k < 1:
        raise InputError(f"-k must be at least 1, got {options.k}")
    refuse_output(options.output, force=options.force)
    form = form_of(options.output, options.format)
    project = Project.of(options.folder)
    query = project.query()
    if not query.missing:
        print("nothing is open", file=sys.stderr)
    items = project.scored(query.missing[: options.k], suggest=options.suggest)
    write(options.output, form, items)
    print(f"{len(items)} rows for {query.purpose}, {query.short} of them needed: {options.output}")
    return 0

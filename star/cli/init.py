"""``star init``: a project folder from texts that people are to label."""

from __future__ import annotations

import argparse
import csv
import shlex
from typing import Any

NOTES = """\
examples:
  star init mail --data mail.csv --labels urgent,later,never
  star init mail --data mail.jsonl --text body --id number --labels urgent,later task.test_size=50
  star init sums --data sums.csv --text question --model HuggingFaceTB/SmolLM2-135M-Instruct

Rows whose label column is filled in are labelled by the annotator "data"; the others are the pool.
Without --test, task.test_size rows are drawn at random, asked for first and never trained on.
Without --labels the answers are free texts. What can be set stands in star run --help.
"""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser(
        "init",
        help="make a project of texts that people are to label",
        description="Copy rows into a new project folder, with its configuration.",
        epilog=NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("folder", metavar="FOLDER", help="a new or an empty one")
    verb.add_argument("overrides", metavar="key=value", nargs="*", help="override a key")
    verb.add_argument(
        "--data", required=True, help="rows: .csv, .jsonl, .json, .parquet or hub:OWNER/NAME"
    )
    verb.add_argument("--labels", help="the classes, with commas between; without: free answers")
    verb.add_argument("--text", metavar="COLUMN", help="the texts; default: text, question, …")
    verb.add_argument("--label", metavar="COLUMN", help="labels that exist; default: label, answer")
    verb.add_argument(
        "--id", metavar="COLUMN", help="the rows' ids; default: id, else their number"
    )
    verb.add_argument("--test", metavar="FILE", help="rows with labels to test on")
    verb.add_argument("--model", metavar="NAME", help="as model.name_or_path")
    verb.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Make the project and print what to do next."""
    from star.errors import InputError
    from star.project.project import Project
    from star.project.rows import Source
    from star.project.starting import start
    from star.project.status import status, text

    labels = None
    if options.labels is not None:
        labels = [label.strip() for label in next(csv.reader([options.labels]), [])]
        if not labels:
            raise InputError(
                f"--labels takes two or more classes with commas between, got {options.labels!r}; "
                "leave it out for free answers"
            )
    source = Source(
        options.data, labels, options.text, options.label, options.id, options.test, options.model
    )
    config, notes = start(options.folder, source, options.overrides)
    for note in notes:
        print(f"note: {note}")
    project = Project.of(options.folder)
    for note in project.data.notes:
        print(f"note: {note}")
    print(f"project {shlex.quote(options.folder)}, model {config.model.name_or_path}")
    print(text(status(project)))
    return 0

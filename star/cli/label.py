"""``star label``: a file of decisions into a project's journal."""

from __future__ import annotations

import argparse
import getpass
from typing import Any

from star.errors import InputError


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser(
        "label",
        help="take a file of labels into a project",
        description="Check a file that star query wrote, with its labels filled in, and add its "
        "decisions to the project's journal: all of them, or none and the reason.",
    )
    verb.add_argument("folder", metavar="FOLDER", help="a project")
    verb.add_argument("file", metavar="FILE", help="rows with id and label, or outcome")
    verb.add_argument("--annotator", metavar="NAME", help="who decided; default: the user's name")
    verb.add_argument(
        "--format", help="jsonl, csv, label-studio or argilla; default: by FILE's end"
    )
    verb.add_argument(
        "--correct",
        action="store_true",
        help="labels may replace the same annotator's earlier ones",
    )
    verb.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Take the decisions and print what they were, and what is next."""
    from star.project.labelling import add as take
    from star.project.project import Project
    from star.project.status import following

    project = Project.of(options.folder)
    taken = take(
        project,
        options.file,
        annotator=_user() if options.annotator is None else options.annotator,
        form=options.format,
        correct=options.correct,
    )
    print(taken)
    print(f"next: {following(project, project.query().short)}")
    return 0


def _user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container's number without a name
        raise InputError("the system has no name for you; give --annotator NAME") from None

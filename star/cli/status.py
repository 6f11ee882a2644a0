"""``star status``: where a project stands, and what to do next."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser(
        "status",
        help="where a project stands, and what to do next",
        description="Print rows, labels, conflicts, the curve so far, and the next command.",
    )
    verb.add_argument("folder", metavar="FOLDER", help="a project")
    verb.add_argument("--format", choices=("text", "json"), default="text")
    verb.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Print the status."""
    from star.project.project import Project
    from star.project.status import status, text

    told = status(Project.of(options.folder))
    print(text(told) if options.format == "text" else json.dumps(told, indent=2))
    return 0

"""``star train``: the next rounds of a project, on what people have labelled."""

from __future__ import annotations

import argparse
from typing import Any


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser(
        "train",
        help="train a project on what is labelled, and choose what to label next",
        description="Go on behind the project's last round, as star run does, until labels are "
        "missing: all that the open query asks for, or annotation.min_new_labels.",
    )
    verb.add_argument("folder", metavar="FOLDER", help="a project")
    verb.add_argument(
        "overrides", metavar="key=value", nargs="*", help="annotation.* and tracking.* for now"
    )
    verb.add_argument("--force", action="store_true", help="one new label is enough")
    verb.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Train, and print what is missing next."""
    from star.active_learning import starting
    from star.project.project import Project
    from star.project.status import following, missing

    words = ["annotation.min_new_labels=1"] if options.force else []
    project = Project.of(options.folder, [*options.overrides, *words])
    if starting.finished(project.config) is None:
        if project.query().short:
            print(missing(project))
            return 0
        _train(project)
    after = Project.of(options.folder, options.overrides)
    if after.run.finished:
        print(f"finished; next: {following(after, 0)}")
    else:
        print(missing(after))
    return 0


def _train(project: Any) -> None:
    from star.active_learning.loop import run  # late: torch
    from star.data.pool import LabelsMissing
    from star.models.distributed import leave

    try:
        run(project.config, rows=project.data)
    except LabelsMissing:
        pass
    finally:
        leave()

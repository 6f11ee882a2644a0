"""What stands beside the row: progress, budget, classes, curve, agreement. Ready for JSON."""

from __future__ import annotations

from collections import Counter
from typing import Any

from star.annotation.agreement import Agreement, krippendorff_alpha, pairwise_kappa
from star.annotation.state import standing
from star.project.page.desk import Desk, last
from star.project.page.moment import Moment
from star.project.project import annotator_of
from star.project.status import status

TOLD = (
    *("rows", "labelled", "of_them_test", "set_aside", "by_class", "test_rows", "open", "needed"),
    *("for", "rounds", "curve", "finished", "budget", "budget_left"),
)
"""What of a project's status the page shows."""


def overview(desk: Desk, annotator: str | None = None) -> dict[str, Any]:
    """Return where the project stands, and one annotator in it.

    Args:
        desk: The project's.
        annotator: Whose queues and last decision are told; ``None``: nobody's.

    Raises:
        InputError: The project is damaged, or the name is none.
    """
    at = desk.moment()
    stands = status(desk.project, at.decided, at.query)
    personal: dict[str, Any] = {}
    if annotator is not None:
        name = annotator_of(annotator)
        waiting = desk.queues(name, at)
        personal = {
            "annotator": name,
            "queues": {queue: len(rows) for queue, rows in waiting.items()},
            "last": last(at.entries, name),
        }
    return {
        **{key: stands[key] for key in TOLD},
        "conflicts": len(at.state.conflicts()),
        "fault": at.fault,
        "enough_by_force": at.forced,
        "annotators": dict(Counter(who for row in at.state.rows.values() for who in row)),
        "agreement": agreement(desk, at),
        **personal,
    }


def agreement(desk: Desk, at: Moment) -> dict[str, Any]:
    """Return how far annotators agree on what each said of himself.

    What settles a conflict was said in knowledge of the others' answers, and counts as no answer
    here: else every conflict that is settled would look like agreement. Nor does what was undone,
    though what is said again in its place may be such a decision.
    """
    undone = {entry.decision.undoes for entry in at.entries}
    alone = [e for e in at.entries if not e.decision.final and e.number not in undone]
    answers = standing(alone, desk.project.data.task.reading).answers()
    pairs = pairwise_kappa(answers)
    return {
        "alpha": _plain(krippendorff_alpha(answers)),
        "kappa": [{"between": list(pair), **_plain(value)} for pair, value in pairs.items()],
    }


def _plain(value: Agreement) -> dict[str, Any]:
    return {
        "value": value.value,
        "rows": value.rows,
        "observed": value.observed,
        "why": value.why,
    }

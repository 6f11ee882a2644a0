"""Whether enough is decided for what comes next; else what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from star.data.pool import LabelsMissing
from star.data.task import Answer


def refuse_missing(
    wanted: Sequence[int],
    known: Mapping[int, Answer | None],
    purpose: str,
    least: int | None = None,
) -> None:
    """Raise ``LabelsMissing`` if too few of ``wanted`` are decided.

    Args:
        wanted: Pool indices.
        known: What is decided.
        purpose: What they are for, in words.
        least: How many must be; ``None`` or more than there are: all.
    """
    missing = [i for i in wanted if i not in known]
    need = len(wanted) if least is None else min(least, len(wanted))
    short = need - (len(wanted) - len(missing))
    if short > 0:
        raise LabelsMissing(missing, short, purpose)


def refuse_same(
    t: int, labels: Mapping[int, str], before: Mapping[int, str], held_out: Set[int], left: int
) -> None:
    """Raise ``LabelsMissing`` if a round would be trained on nothing, or on nothing else.

    The latter only as long as there are other rows to ask for: then those are.

    Args:
        t: The round, behind round 0.
        labels: What it would have, by pool index.
        before: What the round before it had.
        held_out: Pool indices of the validation rows.
        left: How many rows nobody has decided on.
    """
    if not labels.keys() - held_out or (left and labels == before):
        raise LabelsMissing([], 1, f"round {t}")

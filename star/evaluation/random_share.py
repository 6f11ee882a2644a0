"""How good a model is on what is unlabelled, by the rows of its query that were drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """The share of right answers, and the interval it lies in.

    Attributes:
        rows: n, drawn rows that have a label.
        right: Of them, k that the model of the round answered right, before it was trained on them.
        accuracy: k / n.
        low: Lower end of the interval,
        high: and its upper end.
    """

    rows: int
    right: int
    accuracy: float
    low: float
    high: float


def estimate(correct: Sequence[bool], *, level: float = 0.95) -> Estimate | None:
    """Return the accuracy on the unlabelled rows, with its exact binomial interval.

    Clopper & Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the
    binomial": whatever the accuracy is, the interval holds it with probability ``level`` or more.
    That the rows were drawn without replacement makes it wider than need be, never narrower.

    Args:
        correct: (n,) whether each answer is right; ``None`` is returned of none.
        level: Between 0 and 1.
    """
    if not len(correct):
        return None
    from scipy.stats import binomtest  # late: a status that has nothing to estimate starts sooner

    right = sum(map(bool, correct))
    known = binomtest(right, len(correct))
    interval = known.proportion_ci(confidence_level=level, method="exact")
    return Estimate(
        len(correct), right, right / len(correct), float(interval.low), float(interval.high)
    )

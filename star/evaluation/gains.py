"""What labels gain, beside what they gain when drawn at random. Pure functions on arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from star.evaluation.learning_curves import (
    Array,
    checked_curve,
    checked_values,
    isotonic,
    quantile,
    reached_at,
)

DRAWS = 2000  # resamples of the seeds
# Relative. Means of floats that are zero on paper miss it by 1e-15 and less.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Factor:
    """A ratio of two means, and the values that 95 % confidence leaves.

    Attributes:
        value: The ratio.
        low: One end; ``None``: there is none.
        high: The other end.
        kind: What is left: ``between`` low and high; ``outside``, at most low or at least high;
            ``any`` value at all; ``one_seed``: nothing can be said.
    """

    value: float
    low: float | None
    high: float | None
    kind: Literal["between", "outside", "any", "one_seed"]


def factor(gains: ArrayLike, base: ArrayLike, *, confidence: float = 0.95) -> Factor | None:
    """Return the mean of gains over the mean of others, paired by seed, with Fieller's interval.

    A factor θ is left where a paired t test of ``a − θ·b`` would not refuse it, ``(ā − θ·b̄)² ≤
    t²·(s_aa − 2θ·s_ab + θ²·s_bb)/n``: between the roots of ``A·θ² − 2B·θ + C`` with ``A = b̄² −
    t²·s_bb/n``, ``B = ā·b̄ − t²·s_ab/n``, ``C = ā² − t²·s_aa/n`` if A > 0. Else b̄ is not told from
    0, the ratio has no bound, and what is left is the rest of the line, or all of it.

    Args:
        gains: (n,), one a seed.
        base: (n,) what they are compared with, on the same seeds.
        confidence: Coverage for normal values.

    Returns:
        ``None`` where the mean of ``base`` is not above zero: there is no gain to be a multiple of.

    Raises:
        ValueError: Shapes that differ, no value, or one that is not finite.

    Source: Fieller 1954, "Some Problems in Interval Estimation".
    """
    a, b = checked_values(gains), checked_values(base)
    if a.size != b.size:
        raise ValueError(f"expected as many gains on both sides, got {a.size} and {b.size}")
    mean_a, mean_b = float(a.mean()), float(b.mean())
    # A sum that is zero on paper misses it by rounding, and would be multiplied by 10^16.
    if mean_b <= ROUNDING * float(np.abs(b).max()):
        return None
    value = mean_a / mean_b
    if a.size == 1:
        return Factor(value, None, None, "one_seed")
    scale = float(stdtrit(a.size - 1, (1 + confidence) / 2)) ** 2 / a.size
    (s_aa, s_ab), (_, s_bb) = (np.cov(a, b) * scale).tolist()
    square, half, rest = mean_b**2 - s_bb, mean_a * mean_b - s_ab, mean_a**2 - s_aa
    inside = half**2 - square * rest
    # With A > 0 the ratio itself is left, so there are roots, but for rounding.
    if square > 0:
        root = math.sqrt(max(inside, 0.0))
        return Factor(value, (half - root) / square, (half + root) / square, "between")
    if square < 0 and inside > 0:
        root = math.sqrt(inside)
        return Factor(value, (half + root) / square, (half - root) / square, "outside")
    return Factor(value, None, None, "any")


@dataclass(frozen=True)
class LabelsTo:
    """How many labels the mean curve needs for a target.

    Attributes:
        target: Accuracy, a fraction.
        labels: Where the curve reaches it; ``None``: it does not.
        low: Lower end of its 95 % interval; ``None``: not reached there, or one seed.
        high: Upper end, likewise.
        never: Share of the resamples in which it is not reached; ``None`` for one seed, where there
            is no interval.
        total: Random's last label count, of which a share is saved.
    """

    target: float
    labels: float | None
    low: float | None
    high: float | None
    never: float | None
    total: float

    def saved(self, labels: float | None) -> float | None:
        """Return the share of random's labels that so many save; ``None``: not reached."""
        return None if labels is None else 1 - labels / self.total


def labels_to(
    labels: ArrayLike, method: ArrayLike, random: ArrayLike, target: float | None = None
) -> LabelsTo:
    """Return where a method's mean curve reaches a target, with a percentile bootstrap over seeds.

    Curves are means over seeds, made isotonic, and straight between their points. Each resample
    draws n seeds with replacement, of both rows together, and takes its own target where that is
    random's. With few seeds such intervals are somewhat too narrow.

    Args:
        labels: (R,) label counts, strictly increasing.
        method: (n, R) accuracies, a seed each.
        random: (n, R) accuracies of random on the same seeds.
        target: Accuracy; ``None``: the mean of random's last.

    Raises:
        ValueError: Shapes that do not fit, no seed, NaN, or label counts that do not increase.

    Source: Efron 1979, "Bootstrap Methods: Another Look at the Jackknife".
    """
    rows, others = (np.asarray(runs, dtype=np.float64) for runs in (method, random))
    if rows.ndim != 2 or rows.shape != others.shape or not len(rows):
        raise ValueError(f"expected equal shapes (n, R), n > 0, got {rows.shape}, {others.shape}")
    n, _ = checked_curve(labels, rows.mean(axis=0))
    checked_curve(labels, others.mean(axis=0))

    def at(seeds: NDArray[np.int64]) -> float:
        end = float(others[seeds, -1].mean()) if target is None else target
        return reached_at(n, isotonic(rows[seeds].mean(axis=0)), end)

    seeds = np.arange(len(rows))
    reached = at(seeds)
    end = float(others[:, -1].mean()) if target is None else target
    low = high = never = None
    if len(rows) > 1:
        drawn = np.random.default_rng(0).integers(len(rows), size=(DRAWS, len(rows)))
        found: Array = np.sort([at(one) for one in drawn])
        low, high = quantile(found, 0.025), quantile(found, 0.975)
        never = float(np.isinf(found).mean())
    known = reached if math.isfinite(reached) else None
    return LabelsTo(end, known, low, high, never, float(n[-1]))

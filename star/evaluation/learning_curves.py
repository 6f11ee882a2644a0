"""What learning curves are summed up as. Pure functions on arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression
from scipy.special import stdtrit

Array = NDArray[np.float64]

# Older results keep six digits: accuracies nearer than this are the same.
ROUNDING = 1e-6
# Fractions of smaller denominators differ by more than floats round.
MOST_QUESTIONS = 10**6


def rising(labels: Sequence[int]) -> list[int]:
    """Return the places of the rounds that a curve goes through: of rising label counts.

    Where people take labels back, or give none, a round has no more labels than one before it. Of
    equal counts the later is kept, and where counts fall the earlier ones that were higher are left
    out, so that the last round is always there.
    """
    kept: list[int] = []
    for place, count in enumerate(labels):
        while kept and labels[kept[-1]] >= count:
            kept.pop()
        kept.append(place)
    return kept


def area_under_curve(labels: ArrayLike, accuracy: ArrayLike) -> float:
    """Return the area under a learning curve, a fraction like the accuracies themselves.

    ``AUC = Σ_i (n_{i+1} − n_i) · (a_i + a_{i+1})/2 / (n_R − n_1)``: the trapezoid over the label
    counts divided by their range, the curve's mean height. One point alone returns its accuracy.

    Args:
        labels: (R,) label counts, strictly increasing.
        accuracy: (R,) accuracy after training on so many labels.

    Raises:
        ValueError: No point, shapes that differ, NaN, or label counts that do not increase.
    """
    n, a = checked_curve(labels, accuracy)
    if n.size == 1:
        return float(a[0])
    return float(np.trapezoid(a, n) / (n[-1] - n[0]))


def exact_area(labels: Sequence[int], accuracy: Sequence[Fraction]) -> Fraction:
    """Return :func:`area_under_curve` of exact accuracies, exactly: equal curves tie.

    Raises:
        ValueError: As there.
    """
    checked_curve(labels, [float(one) for one in accuracy])
    if len(labels) == 1:
        return accuracy[0]
    parts = zip(pairwise(labels), pairwise(accuracy), strict=True)
    total = sum(((n - m) * (a + b) / 2 for (m, n), (a, b) in parts), Fraction(0))
    return total / (labels[-1] - labels[0])


def exact_accuracy(value: float, questions: int | None) -> Fraction:
    """Return the fraction that an accuracy was rounded from.

    Args:
        value: Right answers by questions, as a float or rounded to six digits.
        questions: How many there were; ``None``: not known. Then, as where ``value`` is no such
            share of them, the nearest fraction of fewer than a million.
    """
    if questions:
        found = Fraction(round(value * questions), questions)
        if abs(float(found) - value) <= ROUNDING:
            return found
    return Fraction(value).limit_denominator(MOST_QUESTIONS)


def mean_interval(
    values: ArrayLike, *, confidence: float = 0.95
) -> tuple[float, float | None, float | None]:
    """Return the mean of independent values and its t-interval: (mean, low, high).

    ``m ± t_{n−1} · s / √n``. Of differences paired by seed it is the paired t-interval. One value
    has no interval: low and high are ``None``.

    Args:
        values: (n,), one a seed.
        confidence: Coverage of the interval for normal values.

    Raises:
        ValueError: No value, or one that is not finite.
    """
    v = checked_values(values)
    mean = float(v.mean())
    if v.size == 1:
        return mean, None, None
    half = float(stdtrit(v.size - 1, (1 + confidence) / 2) * v.std(ddof=1) / np.sqrt(v.size))
    return mean, mean - half, mean + half


def checked_values(values: ArrayLike) -> Array:
    """Return values as (n,) float64.

    Raises:
        ValueError: Another shape, no value, or one that is not finite.
    """
    v = np.asarray(values, dtype=np.float64)
    if v.ndim != 1 or v.size == 0 or not np.isfinite(v).all():
        raise ValueError(f"expected (n,) finite values with n > 0, got {v.tolist()}")
    return v


def ripl(auc: float, auc_random: float) -> float | None:
    """Return the relative improvement over passive learning.

    ``RIPL = (AUC − AUC_random) / (1 − AUC_random)``: the share of the area that random picking
    leaves above its curve. 1 is a perfect curve, 0 random's, below 0 worse than random. ``None``
    where random's curve is perfect itself: nothing is left to win.

    Args:
        auc: Area under the method's curve, in [0, 1].
        auc_random: Area under random's curve over the same label counts, in [0, 1].

    Raises:
        ValueError: An area outside [0, 1], or NaN.
    """
    for area in (auc, auc_random):
        if not -ROUNDING <= area <= 1 + ROUNDING:
            raise ValueError(f"areas of accuracies lie in [0, 1], got {area}")
    room = 1 - auc_random
    return (auc - auc_random) / room if room > ROUNDING else None


def isotonic(accuracy: ArrayLike) -> Array:
    """Return the non-decreasing curve that is nearest in least squares.

    ``argmin_f Σ_i (a_i − f_i)²`` with ``f_1 ≤ … ≤ f_R``: where a curve falls, the points involved
    share their mean. More labels should not hurt; what falls is noise, and without this a single
    lucky point would count as a target reached.

    Args:
        accuracy: (R,) accuracy in the order of the label counts.

    Raises:
        ValueError: Another shape, no point, or NaN.

    Source: pool adjacent violators, Barlow et al. 1972, "Statistical Inference under Order
    Restrictions"; computed by scipy.
    """
    return np.asarray(isotonic_regression(checked_values(accuracy)).x, dtype=np.float64)


@dataclass(frozen=True)
class LabelShares:
    """Which share of random's labels a method needs; over pairs of runs.

    Attributes:
        median: The least share within which half of the pairs get there; ``None`` if fewer do.
        low: Likewise for a quarter of the pairs.
        high: Likewise for three quarters.
        never: Share of the pairs that never get there; ``None`` without pairs.
        pairs: Number of pairs. They have runs in common, so it is no number of observations, and
            the quartiles describe the spread and bound no error.
    """

    median: float | None
    low: float | None
    high: float | None
    never: float | None
    pairs: int


def label_shares(
    labels: ArrayLike, method: ArrayLike, random: ArrayLike, *, paired: bool
) -> LabelShares:
    """Return the share of random's labels at which a method reaches random's final accuracy.

    For a run i of the method and a run j of random: the label count at which i's isotonic curve
    reaches the last value of j's, over the last label count. Runs of one seed begin with the same
    labels and are left out, so that random against random, ``label_shares(n, r, r, paired=True)``,
    is the same figure for a method that is no better. Put it beside every other:

    * Of two runs of random one always gets to the other's end. So half of its pairs never do (less
      the ties), and its median is near 1: the greatest share among the rest.
    * Its lower quartile is below 1. In that many pairs luck alone "saves" the labels that a
      comparison of two single curves would credit to the method.

    No share is less than the first label count over the last.

    Args:
        labels: (R,) label counts, strictly increasing, the same for all runs.
        method: (n, R) accuracies of the method, one row a run.
        random: (m, R) accuracies of random.
        paired: Row k of both is of the same seed (n = m): that pair is left out. Else all pairs.

    Raises:
        ValueError: Shapes that do not fit, no run, NaN, or label counts that do not increase.
    """
    mine, theirs = (np.asarray(runs, dtype=np.float64) for runs in (method, random))
    for runs in (mine, theirs):
        if runs.ndim != 2 or runs.shape[0] == 0:
            raise ValueError(f"expected accuracies (runs, R) with runs > 0, got {runs.shape}")
    if paired and len(mine) != len(theirs):
        raise ValueError(f"pairs need as many runs on both sides, got {len(mine)}, {len(theirs)}")
    n = checked_curve(labels, mine[0])[0]
    if n[-1] <= 0:
        raise ValueError(f"the last label count must be positive, got {n[-1]}")
    curves = [isotonic(checked_curve(n, run)[1]) for run in mine]
    targets = [isotonic(checked_curve(n, run)[1])[-1] for run in theirs]
    shares = np.sort(
        [
            reached_at(n, curve, target) / n[-1]
            for i, curve in enumerate(curves)
            for j, target in enumerate(targets)
            if not (paired and i == j)
        ]
    )
    if shares.size == 0:
        return LabelShares(median=None, low=None, high=None, never=None, pairs=0)
    return LabelShares(
        median=quantile(shares, 0.5),
        low=quantile(shares, 0.25),
        high=quantile(shares, 0.75),
        never=float(np.isinf(shares).mean()),
        pairs=shares.size,
    )


def checked_curve(labels: ArrayLike, accuracy: ArrayLike) -> tuple[Array, Array]:
    """Return both as (R,) float64.

    Raises:
        ValueError: No point, shapes that differ, NaN, or label counts that do not increase.
    """
    n = np.asarray(labels, dtype=np.float64)
    a = np.asarray(accuracy, dtype=np.float64)
    if n.ndim != 1 or n.size == 0 or n.shape != a.shape:
        raise ValueError(f"expected two equal shapes (R,) with R > 0, got {n.shape} and {a.shape}")
    if not (np.isfinite(n).all() and np.isfinite(a).all()):
        raise ValueError("label counts and accuracies must be finite")
    if not (np.diff(n) > 0).all():
        raise ValueError(f"label counts must increase strictly, got {n.tolist()}")
    return n, a


def reached_at(labels: Array, curve: Array, target: float) -> float:
    """Return where a non-decreasing curve reaches a target, or infinity."""
    there = curve >= target - ROUNDING
    if not there.any():
        return math.inf
    k = int(there.argmax())
    if k == 0:
        return float(labels[0])
    part = min((target - curve[k - 1]) / (curve[k] - curve[k - 1]), 1.0)
    return float(labels[k - 1] + part * (labels[k] - labels[k - 1]))


def quantile(ascending: Array, share: float) -> float | None:
    """Return the least value that this share of the values does not exceed, if it is finite."""
    found = ascending[math.ceil(share * ascending.size) - 1]
    return float(found) if np.isfinite(found) else None

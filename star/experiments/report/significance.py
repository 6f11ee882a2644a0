"""Do two rows of a table differ? Tests of differences paired by seed. Pure functions on arrays."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import nctdtr, stdtr, stdtrit

from star.evaluation.learning_curves import Array, checked_values, mean_interval

# Below six seeds no two-sided sign-flip test can reach 5 %: 2 of 2^5 is 6.25 %.
SIGN_FLIP_SEEDS = 6
# Up to here every sign flip is counted, beyond so many are drawn.
EXACT_SEEDS = 14
DRAWS = 20_000
# More seeds than anyone would run.
MOST_SEEDS = 1_000_000
# Relative. Differences in floats that are equal on paper miss each other by 1e-13 and less.
ROUNDING = 1e-9
# Whole numbers up to here are exact as floats, and so are their sums.
EXACT_WHOLE = 2**53


@dataclass(frozen=True)
class Comparison:
    """What differences paired by seed say. p-values are two-sided and not corrected: see ``holm``.

    Attributes:
        mean: Mean difference.
        low: Lower end of its 95 % paired t-interval; ``None`` for one seed.
        high: Upper end, likewise.
        n: Number of seeds.
        p_t: Paired t test, the one to report. ``None`` for one seed, and where all differences are
            the same but not zero: without spread the test would claim certainty. 1 where all are
            zero.
        p_sign_flip: Sign-flip test, which needs no normal values and whose least value is bound to
            the number of seeds, to stand beside it; ``None`` below six seeds.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    p_t: float | None
    p_sign_flip: float | None


def compare(differences: ArrayLike | Sequence[Fraction]) -> Comparison:
    """Return what differences paired by seed say of the true mean difference.

    The interval is ``mean_interval``'s. ``p_t = 2 · P(T_{n−1} ≥ |m| √n / s)``: below 0.05 exactly
    where the interval leaves 0 out.

    Args:
        differences: (n,), one a seed: the row minus what it is compared with, on the same seed.
            ``Fraction``s make the ties of the sign flips exact.

    Raises:
        ValueError: No difference, or one that is not finite.

    Source: t test: Student 1908, "The Probable Error of a Mean".
    """
    mean, low, high = mean_interval(differences)
    d = checked_values(differences)
    effect = _effect(d)
    known = effect is not None and math.isfinite(effect)
    p_t = float(2 * stdtr(d.size - 1, -effect * math.sqrt(d.size))) if known else None
    flips = sign_flip(differences) if d.size >= SIGN_FLIP_SEEDS else None
    return Comparison(
        mean=mean,
        low=low,
        high=high,
        n=d.size,
        p_t=p_t,
        p_sign_flip=flips,
    )


def sign_flip(differences: ArrayLike | Sequence[Fraction]) -> float:
    """Return the two-sided p-value of the sign-flip test.

    If two rows do not differ, each difference could as well have had the other sign:
    ``p = #{s ∈ {−1, 1}^n : |Σ_i s_i d_i| ≥ |Σ_i d_i|} / 2^n``, all 2^n of them up to 14 seeds. Ties
    count: those of ``Fraction``s as they are, in whole numbers of their common denominator; of
    floats also those that rounding hides. Beyond, 20,000 signs from a fixed generator:
    ``(1 + hits) / (1 + draws)``. The t statistic in place of the sum gives the same p-value, since
    ``Σ d²`` knows no signs.

    The least it can be is ``2^(1−n)``: 0.031 for six seeds, 0.002 for ten. So in a family of m
    comparisons Holm's correction can find nothing below 5 % unless ``m ≤ 0.05 · 2^(n−1)``: 1
    comparison with six seeds, 3 with seven, 6 with eight, 12 with nine, 25 with ten.

    Args:
        differences: (n,), one a seed.

    Raises:
        ValueError: No difference, or one that is not finite.

    Source: Fisher 1935, "The Design of Experiments", section 21; drawn: Phipson and Smyth 2010,
    "Permutation P-values Should Never Be Zero".
    """
    d, exact = checked_values(differences), _in_units(differences)
    slack = ROUNDING * np.abs(d).sum() if exact is None else 0.0
    d = d if exact is None else exact
    if d.size <= EXACT_SEEDS:
        # With all signs turned |Σ| is the same, so the first one may stay.
        sums, itself = d[:1], 0
        for value in d[1:]:
            sums = np.concatenate([sums + value, sums - value])
    else:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(DRAWS, d.size))
        sums, itself = signs @ d, 1
    hits = np.count_nonzero(np.abs(sums) >= abs(d.sum()) - slack)
    return (itself + hits) / (itself + sums.size)


def _in_units(differences: ArrayLike | Sequence[Fraction]) -> Array | None:
    """Return fractions as whole numbers of their common denominator; ``None``: others, too fine."""
    if not isinstance(differences, Sequence):
        return None
    parts = [part for part in differences if isinstance(part, Fraction)]
    unit = math.lcm(*(part.denominator for part in parts))
    whole = [int(part * unit) for part in parts]
    exact = len(parts) == len(differences) and sum(map(abs, whole)) < EXACT_WHOLE
    return np.array(whole, dtype=np.float64) if exact else None


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values corrected for their number: below 5 %, the family errs in 5 % at most.

    ``p̃_(k) = max_{j ≤ k} min(1, (m − j + 1) · p_(j))`` for the ascending p_(1) … p_(m), in the
    order given. Holds however the comparisons depend on one another. ``None``, a comparison that
    could not be made, stays ``None`` and does not count in m.

    Raises:
        ValueError: A value outside [0, 1], or NaN.

    Source: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    for p in p_values:
        if p is not None and not 0 <= p <= 1:
            raise ValueError(f"p-values lie in [0, 1], got {p}")
    corrected: list[float | None] = [None] * len(p_values)
    known = [k for k, p in enumerate(p_values) if p is not None]
    largest = 0.0
    for place, k in enumerate(sorted(known, key=lambda k: p_values[k])):
        largest = max(largest, min(1.0, (len(known) - place) * p_values[k]))
        corrected[k] = float(largest)
    return corrected


def seeds_needed(differences: ArrayLike, *, power: float = 0.8, level: float = 0.05) -> int | None:
    """Return the least number of seeds at which a paired t test would see such a difference.

    It takes the mean and the standard deviation found for the true ones, so it is as uncertain as
    they are: a hint how far off an answer is, no promise. In a family of m comparisons the level
    ``level / m`` suffices wherever this one stands among them. A difference without spread needs 2,
    the least a t test takes.

    Args:
        differences: (n,), one a seed.
        power: Probability of p < level.
        level: Two-sided level of the test.

    Returns:
        The number; ``None`` for one difference, for a mean of zero, and above a million.

    Raises:
        ValueError: No difference, one that is not finite, or not 0 < level < power < 1.
    """
    if not 0 < level < power < 1:
        raise ValueError(f"expected 0 < level < power < 1, got level {level} and power {power}")
    effect = _effect(checked_values(differences))
    if not effect:
        return None
    enough = 2
    while power_of_t_test(effect, enough, level=level) < power:
        enough *= 2
        if enough > 2 * MOST_SEEDS:
            return None
    counts = range(enough // 2 + 1, enough + 1)
    place = bisect_left(counts, power, key=lambda n: power_of_t_test(effect, n, level=level))
    found = counts[place]
    return found if found <= MOST_SEEDS else None


def power_of_t_test(effect: float, n: int, *, level: float = 0.05) -> float:
    """Return the probability that a paired two-sided t test of n seeds gives p < level.

    ``P(|T| > t_{n−1, 1−level/2})`` for a noncentral T with n − 1 degrees of freedom and
    noncentrality ``effect · √n``.

    Args:
        effect: True mean difference over the differences' true standard deviation, at least 0.
        n: Number of seeds, at least 2.
        level: Two-sided level of the test.

    Source: Cohen 1988, "Statistical Power Analysis for the Behavioral Sciences", chapter 2.
    """
    critical = float(stdtrit(n - 1, 1 - level / 2))
    shift = effect * math.sqrt(n)
    tails = (nctdtr(n - 1, shift, edge) for edge in (critical, -critical))
    # NaN where a tail is too small to be told from 0.
    below, wrong_side = (0.0 if math.isnan(tail) else float(tail) for tail in tails)
    return 1 - below + wrong_side


def _effect(differences: Array) -> float | None:
    """Return |mean| / standard deviation; ``None`` for one difference.

    Without spread infinity, or 0 where all differences are.
    """
    if differences.size == 1:
        return None
    mean, spread = abs(differences.mean()), differences.std(ddof=1)
    if mean == 0:
        return 0.0
    return math.inf if spread <= ROUNDING * mean else float(mean / spread)

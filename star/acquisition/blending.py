"""From the scores of two views to a query: common scale, λ(t), blend, selection. Pure numpy.

Symbols: ``base_weight`` is the paper's λ(t), ``base`` its u_base, ``full`` its u_full; t counts
rounds from 0, R = ``rounds`` is the number of trainings. Scores: higher = more informative.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[np.float64]


def _minmax(values: Array) -> Array:
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def _rank(values: Array) -> Array:
    return _minmax(rankdata(values))


def _zscore(values: Array) -> Array:
    # From [0, 1], where a constant is exactly 0 and no square underflows: the mean of equal numbers
    # can miss them by a rounding, and their deviation is then not 0.
    values = _minmax(values)
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else values


def _as_is(values: Array) -> Array:
    return values.astype(np.float64)


NORMALIZATIONS: dict[str, Callable[[Array], Array]] = {
    "minmax": _minmax,
    "rank": _rank,
    "zscore": _zscore,
    "none": _as_is,
    "base_minmax": _as_is,  # of the full view; `combine` scales the base
}


def common_scale(scores: Array, normalization: str) -> Array:
    """Return one view's scores (N,) on a scale both views share; a constant score becomes 0.

    The scale is taken over the current unlabelled pool, each view apart. ``none`` keeps the raw
    scores (the released code's fault 3, for comparison).
    """
    scores = np.asarray(scores, dtype=np.float64)
    return NORMALIZATIONS[normalization](scores) if len(scores) else scores


def base_weight(
    round_: int, rounds: int, *, schedule: str, value: float = 0.5, decay: float = 0.5
) -> float:
    """Return λ(t), the weight of the base model's score after round t, in [0, 1].

    ``linear``: 1 − (t+1)/R, from 1 − 1/R down to 1/R over the R − 1 queries (t = 0 … R−2); with
    R = 10 the released code's 1 − 0.1(t+1). ``cosine``: (1 + cos(π(t+1)/R))/2. ``exponential``:
    (1 − 1/R)·decay^t, so that it starts where ``linear`` does. ``constant``: ``value``.
    """
    if not 0 <= round_ < rounds:
        raise ValueError(f"round {round_} is not in 0..{rounds - 1}")
    done = (round_ + 1) / rounds
    return SCHEDULES[schedule](done, round_, rounds, value, decay)


SCHEDULES: dict[str, Callable[[float, int, int, float, float], float]] = {
    "linear": lambda done, t, rounds, value, decay: 1.0 - done,
    "cosine": lambda done, t, rounds, value, decay: 0.5 * (1.0 + math.cos(math.pi * done)),
    "exponential": lambda done, t, rounds, value, decay: (1.0 - 1.0 / rounds) * decay**t,
    "constant": lambda done, t, rounds, value, decay: value,
}


def _none(base: Array | None, full: Array, weight: float) -> Array:
    return full


def _subtract(base: Array | None, full: Array, weight: float) -> Array:
    assert base is not None
    return full - base


def _dynamic(base: Array | None, full: Array, weight: float) -> Array:
    assert base is not None
    return weight * base + (1.0 - weight) * full


COMBINATIONS: dict[str, Callable[[Array | None, Array, float], Array]] = {
    "none": _none,
    "subtract": _subtract,
    "dynamic": _dynamic,
}


def combine(
    base: Array | None,
    full: Array,
    *,
    how: str,
    weight: float,
    normalization: str,
    base_range: tuple[float, float] | None = None,
) -> Array:
    """Return the blended score (N,): ``none`` full, ``subtract`` full − base, ``dynamic``
    λ·base + (1 − λ)·full, both views on a common scale first.

    Args:
        base: (N,) scores of the base view; ``None`` is allowed for ``none`` alone.
        full: (N,) scores of the full view.
        how: A key of ``COMBINATIONS``.
        weight: λ(t).
        normalization: A key of ``NORMALIZATIONS``. ``base_minmax`` is the released code's scale
            (fault 3): the base view on [0, 1] over the *whole* pool, the full view in its own
            units, and the blend on [0, 1] over the unlabelled pool, which changes no order.
        base_range: Least and largest base score of the whole pool, for ``base_minmax``; ``None`` =
            those of ``base``.
    """
    if normalization == "base_minmax":
        if base is not None:
            low, high = base_range or (base.min(), base.max())
            base = (base - low) / (high - low) if high > low else np.zeros_like(base)
        return _minmax(COMBINATIONS[how](base, full.astype(np.float64), weight))
    full = common_scale(full, normalization)
    base = None if base is None else common_scale(base, normalization)
    return COMBINATIONS[how](base, full, weight)


def top_k(scores: Array, indices: NDArray[np.int64], count: int) -> list[int]:
    """Return the pool indices of the ``count`` highest scores; ties: the smaller index first.

    Args:
        scores: (N,), finite.
        indices: (N,) pool indices of the scores.
        count: K; more than N takes all N.
    """
    order = np.lexsort((indices, -np.asarray(scores, dtype=np.float64)))
    return [int(i) for i in np.asarray(indices)[order[:count]]]


# Of the scores' range, by the dtype of the weights: about three times what another padding moves
# them by, as measured (float32: SmolLM2; others: the tiny model, 0.0006 and 0.005).
TIE_TOLERANCE = {"float32": 1e-4, "float16": 2.5e-3, "bfloat16": 2e-2}


def near_ties(scores: Array, count: int, *, tolerance: float) -> int:
    """Return how many scores lie so close to the K-th that rounding could swap them.

    Close: within ``tolerance`` (see ``TIE_TOLERANCE``) times the scores' range. So 0 means that
    another batch size or process count does not alter the query; a score that is exactly the K-th's
    equal counts too, since its tie is settled by the index alone only while both stay equal.
    """
    scores = np.sort(np.asarray(scores, dtype=np.float64))[::-1]
    if count >= len(scores) or count < 1:
        return 0
    gap = tolerance * (scores[0] - scores[-1])
    inside, outside = scores[:count], scores[count:]
    if inside[-1] - outside[0] > gap:
        return 0
    return int((inside <= outside[0] + gap).sum() + (outside >= inside[-1] - gap).sum())


def effective_weights(base: Array | None, full: Array, blended: Array) -> dict[str, float | None]:
    """Return how much each view decided: Spearman's rank correlation of the blend with each.

    λ is a nominal weight; with views of unequal spread, or unscaled ones, the view with the larger
    spread decides. ``None`` where a view is missing or constant.
    """
    return {
        "base": None if base is None else spearman(base, blended),
        "full": spearman(full, blended),
    }


def spearman(first: Array, second: Array) -> float | None:
    """Return Spearman's rank correlation, ties by mean rank; ``None`` if either is constant."""
    if len(first) < 2:
        return None
    first, second = rankdata(first), rankdata(second)
    first, second = first - first.mean(), second - second.mean()
    scale = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / scale if scale > 0 else None

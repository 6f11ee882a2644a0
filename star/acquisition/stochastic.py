"""Stochastic batches: draws instead of the K highest, so that a batch is not K times the same.

Kirsch, Farquhar, Atighehchian, Jesson, Branchaud-Charron and Gal 2023, Stochastic Batch
Acquisition: A Simple Baseline for Deep Active Learning (arXiv 2106.12059): K examples are drawn one
after the other without replacement, each with a probability that grows with its score s or falls
with its rank r (1 = the highest):

* ``softmax``: p_i ∝ exp(β·s_i)
* ``power``: p_i ∝ s_i^β
* ``softrank``: p_i ∝ r_i^(−β)

By the Gumbel-top-K trick (Kool, van Hoof and Welling 2019, arXiv 1903.06059) these are the K
highest of β·log-weight + g, g standard Gumbel. Each function returns these keys, (N,), finite,
higher = picked. β = ``coldness`` > 0: towards 0 the draw is uniform, towards ∞ it is top K.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[np.float64]


def softmax(scores: Array, random: np.random.Generator, *, coldness: float = 1.0) -> Array:
    """Return keys of a draw with p ∝ exp(β·s).

    Args:
        scores: (N,), finite. Their unit matters: β = 1 is per nat where they are nats.
        random: Gives N Gumbel numbers.
        coldness: β.
    """
    return _keys(np.asarray(scores, dtype=np.float64), random, coldness)


def power(scores: Array, random: np.random.Generator, *, coldness: float = 1.0) -> Array:
    """Return keys of a draw with p ∝ s^β: the unit does not matter, the zero does.

    Args:
        scores: (N,), at least 0. Those of 0 come after all others, in random order.
        random: Gives N Gumbel numbers.
        coldness: β.

    Raises:
        ValueError: A score is negative.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if (scores < 0).any():
        raise ValueError(f"power needs scores of at least 0, got {scores.min()}")
    # The smallest normal number for 0: log 0 would be no finite key.
    return _keys(np.log(np.maximum(scores, np.finfo(np.float64).tiny)), random, coldness)


def softrank(scores: Array, random: np.random.Generator, *, coldness: float = 1.0) -> Array:
    """Return keys of a draw with p ∝ r^(−β), r the rank from the highest; ties share their mean.

    Args:
        scores: (N,), finite.
        random: Gives N Gumbel numbers.
        coldness: β.
    """
    return _keys(-np.log(rankdata(-np.asarray(scores, dtype=np.float64))), random, coldness)


def _keys(logits: Array, random: np.random.Generator, coldness: float) -> Array:
    if not coldness > 0:
        raise ValueError(f"coldness must be above 0, got {coldness}")
    return coldness * logits + random.gumbel(size=len(logits))


STOCHASTIC: dict[str, Callable[..., Array]] = {
    "softmax": softmax,
    "power": power,
    "softrank": softrank,
}

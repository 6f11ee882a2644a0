"""A share of every query at random: it covers what a strategy overlooks, and measures the model.

What is drawn is a uniform sample of all that is unlabelled, also of what the strategy would have
picked itself. So the share of it that the round's model answers right is an unbiased estimate of
its accuracy on the unlabelled rows, which it is not of what a strategy picks
(:func:`star.active_learning.drawn.estimated`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from star import seeding


def mixed(
    best: Sequence[int], index: NDArray[np.int64], share: float, *, seed: int, t: int
) -> tuple[list[int], list[int]]:
    """Return a query of K with a share at random, and which of it were drawn.

    They stand at random places, and the best of the others between them: where people answer the
    beginning of a query alone, what was drawn of that is a uniform sample too.

    Args:
        best: K pool indices, best first, by the strategy.
        index: (N,) the unlabelled pool indices, in any order.
        share: Of K, rounded to whole examples.
        seed: Of the run.
        t: The round.

    Returns:
        (K,) pool indices, and the d = round(share · K) drawn ones among them, in their order.
    """
    count = round(share * len(best))
    if not count:
        return list(best), []
    random = np.random.default_rng(seeding.derive(seed, "random share", t))
    drawn = random.choice(np.sort(index), count, replace=False).tolist()
    places = set(random.choice(len(best), count, replace=False).tolist())
    at_random, others = iter(drawn), iter(i for i in best if i not in set(drawn))
    return [next(at_random if k in places else others) for k in range(len(best))], drawn

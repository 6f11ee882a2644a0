"""Controls for the length of answers, since sums over tokens favour long ones.

Strategies like a user's own: from what is told of the pool to scores. Tables name them by
``star.strategies:longest_first`` and ``star.strategies:length_matched_random``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from star.acquisition import blending
from star.acquisition.components import Components

Array = NDArray[np.float64]


def longest_first(pool: Components) -> Array:
    """Return scores that pick the longest answers first; the longest prompts among equals.

    A control: sums over tokens favour long answers whatever the model thinks of them.
    """
    answers, prompts = pool.full_num_tokens, pool.prompt_tokens
    return np.asarray(answers + prompts / (1.0 + prompts.max()), dtype=np.float64)


def length_matched_random(pool: Components) -> Array:
    """Return scores that pick at random, among answers as long as the configuration would pick.

    A control: each of the K examples that ``blended`` would pick stands for its length; in its
    place another is drawn from the unlabelled ones whose answer, then prompt, is nearest in length.
    What this gains over a random choice is the lengths', what the configuration gains over this the
    uncertainty's.
    """
    picked = blending.top_k(pool.blended, pool.index, pool.query_size)
    places = np.searchsorted(pool.index, picked)
    length = longest_first(pool)
    free, chosen = np.ones(len(length), dtype=bool), np.zeros(len(length))
    for place in pool.random.permutation(places):
        # One of the ten nearest that are left: the example itself may come again, by chance alone.
        order = pool.random.permutation(np.flatnonzero(free))  # equal lengths in random order
        near = order[np.argsort(np.abs(length[order] - length[place]), kind="stable")[:10]]
        drawn = pool.random.choice(near)
        free[drawn], chosen[drawn] = False, 1.0
    return chosen

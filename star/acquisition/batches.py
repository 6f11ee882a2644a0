"""Batches as entries of ``STRATEGIES``: from what is told of the pool to the arrays they take.

The methods, with their papers and formulas, are in the files that this one imports. *Uncertainty*
is the configuration's own score (``measure``, ``combine``, …), so that it can be chosen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from star.acquisition import diversity, stochastic
from star.acquisition.components import Components

Array = NDArray[np.float64]


def softmax(pool: Components) -> Array:
    """Return keys of a draw with p ∝ exp(β·score)."""
    return stochastic.softmax(pool.blended, pool.random, coldness=pool.settings.coldness)


def power(pool: Components) -> Array:
    """Return keys of a draw with p ∝ score^β, the score from 0 to 1 over the pool."""
    scores = diversity.normalised(pool.blended)
    return stochastic.power(scores, pool.random, coldness=pool.settings.coldness)


def softrank(pool: Components) -> Array:
    """Return keys of a draw with p ∝ rank^(−β)."""
    return stochastic.softrank(pool.blended, pool.random, coldness=pool.settings.coldness)

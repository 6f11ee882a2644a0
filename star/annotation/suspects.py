"""Labels to look at again, the likeliest mistakes first. Pure functions on arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def ranked_suspects(
    losses: ArrayLike, disagreement: ArrayLike | None = None, k: int | None = None
) -> list[int]:
    """Return the positions of labels, the most suspect first.

    A row that annotators disagree about comes before every row that they do not, and among equals
    the one whose label the model finds less likely. Ties: the smaller position.

    Args:
        losses: (N,) negative log-probability of each label, in nats, by a model that was not
            trained on it (cross-fitting); ``inf`` is the most suspect.
        disagreement: (N,) share of a row's answers that differ from its label, in [0, 1]; ``None``:
            no row has answers of two.
        k: Return so many at most.

    Raises:
        ValueError: Shapes that differ, NaN, a share outside of [0, 1], or ``k`` below 0.
    """
    loss = np.asarray(losses, dtype=np.float64)
    share = np.zeros_like(loss) if disagreement is None else np.asarray(disagreement, np.float64)
    if loss.ndim != 1 or loss.shape != share.shape:
        raise ValueError(f"expected two equal shapes (N,), got {loss.shape} and {share.shape}")
    if np.isnan(loss).any() or not ((share >= 0) & (share <= 1)).all():
        raise ValueError("losses must be numbers, and shares lie in [0, 1]")
    if k is not None and k < 0:
        raise ValueError(f"k must be 0 or more, got {k}")
    order = np.lexsort((np.arange(loss.size), -loss, -share))
    return [int(i) for i in order[:k]]

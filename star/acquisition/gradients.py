"""BADGE: a batch of examples whose gradients are large and differ.

Ash, Zhang, Krishnamurthy, Langford and Agarwal 2020, Deep Batch Active Learning by Diverse,
Uncertain Gradient Lower Bounds (arXiv 1906.03671): the gradient of the loss in the last layer's
weights, were the likeliest class the answer, is g = (p − onehot(argmax p)) ⊗ h, C·d numbers; K of
them are drawn by k-means++.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from star.acquisition.points import rows_of

Array = NDArray[np.float64]


def badge(
    probabilities: ArrayLike, embeddings: ArrayLike, count: int, random: np.random.Generator
) -> list[int]:
    """Return K rows by k-means++ on gradient embeddings, none of which is ever made.

    With a = p − onehot(argmax p), ‖a ⊗ h‖² = ‖a‖²·‖h‖² and ⟨a ⊗ h, a' ⊗ h'⟩ = ⟨a, a'⟩·⟨h, h'⟩, so
    distances take 2·N·(C + d) FLOP a pick instead of 2·N·C·d, and N × (C + d) numbers. The first
    is the longest gradient, as in the authors' code; each next is drawn with a probability
    proportional to its squared distance to the nearest that was picked. Where all distances are 0
    (equal gradients, or none: a model that is sure of all), the rest is drawn uniformly.

    Args:
        probabilities: (N, C), rows sum to 1.
        embeddings: (N, d), the last layer's input.
        count: K; more than N takes all N.
        random: Gives one number a pick.

    Returns:
        Positions 0 … N − 1 in the order of the draws.

    Raises:
        ValueError: The two do not have N finite rows.
    """
    hidden = rows_of(embeddings)
    # In float64: of a model that is sure, 1 − p is below what float32 has next to 1.
    errors = np.array(rows_of(probabilities), dtype=np.float64)
    if len(errors) != len(hidden):
        raise ValueError(f"{len(errors)} rows of probabilities for {len(hidden)} of embeddings")
    size, count = len(hidden), min(count, len(hidden))
    if count < 1:
        return []
    errors[np.arange(size), errors.argmax(axis=1)] -= 1
    norms = np.square(errors).sum(axis=1) * np.square(hidden).sum(axis=1)
    picked, free = [int(norms.argmax())], np.ones(size, dtype=bool)
    distance = np.full(size, np.inf)
    tolerance = 4 * np.finfo(hidden.dtype).eps * (hidden.shape[1] + errors.shape[1]) ** 0.5
    while True:
        last = picked[-1]
        free[last] = False
        if len(picked) == count:
            return picked
        scale = norms + norms[last]
        new = scale - 2 * (errors @ errors[last]) * (hidden @ hidden[last])
        distance = np.minimum(distance, np.where(new < tolerance * scale, 0, new))
        mass = np.cumsum(np.where(free, distance, 0), dtype=np.float64)
        if mass[-1] == 0:
            mass = np.cumsum(free, dtype=np.float64)
        # Below the last sum, and past every row without mass, so that the row is free.
        picked.append(int(np.searchsorted(mass, random.random() * mass[-1], side="right")))

"""EPIG: how much a label would tell of the predictions that count.

Bickford Smith, Kirsch, Farquhar, Gal, Foster and Rainforth 2023, Prediction-Oriented Bayesian
Active Learning (arXiv 2304.08151). BALD (``star.acquisition.uncertainty``) asks for information on
the parameters, EPIG for information on predictions y* at targets x*:

    EPIG(x) = E_x*[ I(y; y* | x, x*) ] = H[p(y)] + E_x*[ H[p(y*)] − H[p(y, y*)] ],
    p(y, y*) = mean over passes s of p_s(y | x)·p_s(y* | x*).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr

Array = NDArray[np.float64]
BLOCK = 2**23  # joint probabilities in memory: 64 MB


def epig(log_probs: ArrayLike, target: ArrayLike, *, block: int = BLOCK) -> Array:
    """Return EPIG (N,) in nats, at least 0 up to rounding.

    Passes must be the same sub-networks for all rows (``masks: consistent``): what y tells of y*
    goes through them. One pass tells nothing: 0. N·M·C²·2S FLOP and as many logarithms as joint
    probabilities, N·M·C², in blocks.

    Args:
        log_probs: (N, S, C) natural logarithms, normalised over C.
        target: (M, S, C) of the inputs x* that count, M ≥ 1: the pool, or a sample of it.
        block: Joint probabilities in memory at most.

    Raises:
        ValueError: Shapes that do not fit, or no target.
    """
    own, others = (np.exp(np.asarray(array, dtype=np.float64)) for array in (log_probs, target))
    if own.ndim != 3 or others.ndim != 3 or own.shape[1:] != others.shape[1:] or not len(others):
        raise ValueError(
            f"log_probs (N, S, C) and target (M, S, C), M ≥ 1, do not fit: {own.shape}, "
            f"{others.shape}"
        )
    size, passes, classes = own.shape
    alone = entr(own.mean(axis=1)).sum(axis=1)
    of_targets = entr(others.mean(axis=1)).sum(axis=1).mean()
    right = others.transpose(1, 0, 2).reshape(passes, -1) / passes  # (S, M·C)
    joint = np.empty(size)
    rows = max(1, block // (classes * right.shape[1]))
    for start in range(0, size, rows):
        left = own[start : start + rows].transpose(0, 2, 1).reshape(-1, passes)  # (b·C, S)
        entropies = entr(left @ right).sum(axis=1).reshape(-1, classes).sum(axis=1)
        joint[start : start + rows] = entropies / len(others)
    return alone + of_targets - joint

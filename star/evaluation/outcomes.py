"""Confidences, outcomes and distributions as arrays that fit together. Pure functions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

# A softmax in float32, or the exponential of a summed log-probability, can miss 1 by this much.
ROUNDING = 1e-3


def checked_pair(
    confidence: ArrayLike, correct: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return confidences in [0, 1] and outcomes 0.0 or 1.0, both (N,); ``ValueError`` if not so."""
    p, hit = checked_scores(confidence, correct)
    _check_range(p, "confidence")
    return np.clip(p, 0.0, 1.0), hit


def checked_scores(
    score: ArrayLike, outcome: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return scores, any number, and outcomes, both (N,); ``ValueError`` if not so."""
    values, result = np.asarray(score, dtype=np.float64), checked_outcomes(outcome)
    if values.shape != result.shape:
        raise ValueError(f"scores and outcomes differ in shape: {values.shape} and {result.shape}")
    if np.isnan(values).any():
        raise ValueError("a score is NaN")
    return values, result


def checked_distributions(
    probabilities: ArrayLike, label: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return (N, C) rows that sum to 1 and (N,) class indices; ``ValueError`` if not so."""
    p = np.asarray(probabilities, dtype=np.float64)
    y = checked_labels(label, p.shape)
    _check_range(p, "probabilities")
    if not np.allclose(p.sum(axis=1), 1.0, rtol=0.0, atol=ROUNDING):
        raise ValueError("every row of probabilities must sum to 1")
    return p, y


def checked_labels(label: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return (N,) class indices that fit a matrix of the shape (N, C); ``ValueError`` if not so."""
    y = np.asarray(label)
    if len(shape) != 2 or 0 in shape or y.shape != shape[:1]:
        raise ValueError(f"expected (N, C) and (N,) with N, C > 0, got {shape} and {y.shape}")
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= shape[1]:
        raise ValueError(f"labels must be integers in 0..{shape[1] - 1}")
    return y


def checked_outcomes(correct: ArrayLike) -> NDArray[np.float64]:
    """Return (N,) outcomes, 0.0 or 1.0; ``ValueError`` if not so."""
    hit = np.asarray(correct, dtype=np.float64)
    if hit.ndim != 1 or hit.size == 0:
        raise ValueError(f"expected (N,) outcomes with N > 0, got shape {hit.shape}")
    if not np.isin(hit, (0.0, 1.0)).all():
        raise ValueError("outcomes must be 0 or 1")
    return hit


def _check_range(values: NDArray[np.float64], name: str) -> None:
    # Written so that NaN fails too.
    if not ((values >= -ROUNDING) & (values <= 1.0 + ROUNDING)).all():
        raise ValueError(f"{name} must lie in [0, 1]")

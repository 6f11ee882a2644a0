"""Does the confidence of an answer match how often it is right? Pure functions on arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

# A softmax in float32, or the exponential of a summed log-probability, can miss 1 by this much.
ROUNDING = 1e-3


def expected_calibration_error(
    confidence: ArrayLike, correct: ArrayLike, *, bins: int = 15
) -> float:
    """Return the expected calibration error, a fraction in [0, 1].

    ``ECE = Σ_b |b|/N · |accuracy(b) − mean confidence(b)|`` over equal-width bins
    ``(k/bins, (k+1)/bins]``; a confidence of 0 belongs to the first bin, empty bins count nothing.

    Args:
        confidence: (N,) probability given to the predicted answer.
        correct: (N,) whether that answer is right.
        bins: Number of bins.

    Raises:
        ValueError: No example, shapes that differ, NaN, or values outside [0, 1].

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3.
    """
    p, hit = _paired(confidence, correct)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    # k / bins is the double nearest to the edge; k * (1 / bins) and confidence * bins are not, and
    # would put a confidence of 0.55 into the wrong one of 20 bins.
    edges = np.arange(1, bins + 1) / bins
    which = np.searchsorted(edges, p, side="left")
    gap = np.bincount(which, weights=hit - p, minlength=bins)
    return float(np.abs(gap).sum() / p.size)


def brier(probabilities: ArrayLike, label: ArrayLike) -> float:
    """Return the Brier score over classes, in [0, 2]; 0 is best.

    ``mean_n Σ_c (p_nc − 1[c = label_n])²``, the sum over all classes (Brier's own), which for two
    classes is twice the binary score.

    Args:
        probabilities: (N, C) each row a distribution over the classes.
        label: (N,) the right class's index.

    Raises:
        ValueError: No example, wrong shapes, a row that is no distribution, or a label outside.

    Source: Brier 1950, "Verification of forecasts expressed in terms of probability".
    """
    p = np.asarray(probabilities, dtype=np.float64)
    y = np.asarray(label)
    if p.ndim != 2 or p.size == 0 or y.shape != p.shape[:1]:
        raise ValueError(f"expected (N, C) and (N,) with N, C > 0, got {p.shape} and {y.shape}")
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= p.shape[1]:
        raise ValueError(f"labels must be integers in 0..{p.shape[1] - 1}")
    _check_range(p, "probabilities")
    if not np.allclose(p.sum(axis=1), 1.0, rtol=0.0, atol=ROUNDING):
        raise ValueError("every row of probabilities must sum to 1")
    target = np.zeros_like(p)
    target[np.arange(y.size), y] = 1.0
    return float(((p - target) ** 2).sum(axis=1).mean())


def binary_brier(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Return the Brier score of "the answer is right", in [0, 1]; 0 is best.

    ``mean_n (confidence_n − correct_n)²``, for answers that are no choice among classes.

    Args:
        confidence: (N,) probability given to the predicted answer.
        correct: (N,) whether that answer is right.

    Raises:
        ValueError: No example, shapes that differ, NaN, or values outside [0, 1].
    """
    p, hit = _paired(confidence, correct)
    return float(((p - hit) ** 2).mean())


def accuracy_stderr(correct: ArrayLike) -> float:
    """Return the standard error of an accuracy, a fraction: ``sqrt(a (1 − a) / N)``.

    It is the spread over draws of the N test examples, for one fixed model; the spread over seeds
    is another matter.

    Args:
        correct: (N,) whether each answer is right.

    Raises:
        ValueError: No example, or a value that is neither 0 nor 1.
    """
    hit = _outcomes(correct)
    accuracy = hit.mean()
    return float(np.sqrt(accuracy * (1.0 - accuracy) / hit.size))


def _paired(
    confidence: ArrayLike, correct: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    p, hit = np.asarray(confidence, dtype=np.float64), _outcomes(correct)
    if p.shape != hit.shape:
        raise ValueError(f"confidence and correct differ in shape: {p.shape} and {hit.shape}")
    _check_range(p, "confidence")
    return np.clip(p, 0.0, 1.0), hit


def _outcomes(correct: ArrayLike) -> NDArray[np.float64]:
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

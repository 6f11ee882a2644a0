"""Scores that are best where a forecast says what it believes. Pure functions on arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from star.evaluation.outcomes import checked_distributions, checked_pair


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
    p, y = checked_distributions(probabilities, label)
    target = np.zeros_like(p)
    target[np.arange(y.size), y] = 1.0
    return float(((p - target) ** 2).sum(axis=1).mean())


def negative_log_likelihood(probabilities: ArrayLike, label: ArrayLike) -> float:
    """Return the mean negative log-probability of the right class, in nats; 0 is best.

    ``mean_n −log p_{n, label_n}``. One right class of probability 0 makes it ``inf``.

    Args:
        probabilities: (N, C) each row a distribution over the classes.
        label: (N,) the right class's index.

    Raises:
        ValueError: As ``brier``.
    """
    p, y = checked_distributions(probabilities, label)
    gold = np.clip(p[np.arange(y.size), y], 0.0, 1.0)
    with np.errstate(divide="ignore"):
        return float((0.0 - np.log(gold)).mean())


def binary_brier(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Return the Brier score of "the answer is right", in [0, 1]; 0 is best.

    ``mean_n (confidence_n − correct_n)²``, for answers that are no choice among classes.

    Args:
        confidence: (N,) probability given to the predicted answer.
        correct: (N,) whether that answer is right.

    Raises:
        ValueError: No example, shapes that differ, NaN, or values outside [0, 1].
    """
    p, hit = checked_pair(confidence, correct)
    return float(((p - hit) ** 2).mean())

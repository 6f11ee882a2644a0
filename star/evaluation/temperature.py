"""Temperature scaling: one number that makes confidences honest. Pure functions on arrays.

It is a control beside the constraint on LoRA: over-confidence mended after training. A temperature
is fitted on labelled examples held out from training, never on the test split; its labels count.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from star.evaluation.outcomes import checked_labels, checked_pair

LIMITS = (0.05, 20.0)
# What float32 cannot tell from 1 counts as its last number below 1, a logit of 16.6; small
# confidences have every digit they need, so that only 0 is moved, to a logit of −708.
SMALLEST, LARGEST = float(np.finfo(np.float64).tiny), 1.0 - 2.0**-24


@dataclass(frozen=True)
class Temperatures:
    """What makes confidences honest, fitted on held-out rows.

    Attributes:
        whole: Of a choice's distribution, or of the confidence in a whole generated answer.
        token_mean: Of a generated answer's other confidence; ``None`` for choices.
    """

    whole: float
    token_mean: float | None = None

    @classmethod
    def of(cls, scaled: Mapping[str, Any]) -> Temperatures:
        """Return them from ``calibration.full_scaled`` of a round's metrics."""
        mean = scaled.get("token_mean")
        return cls(float(scaled["temperature"]), mean and float(mean["temperature"]))


def fit_temperature(log_probs: ArrayLike, label: ArrayLike) -> float:
    """Return the T in [0.05, 20] that minimises the mean NLL of ``softmax(log_probs / T)``.

    T > 1 softens over-confident distributions, T < 1 sharpens timid ones; the predicted class stays
    the same. The loss is convex in 1/T, and its slope is bisected. Where the minimum lies outside,
    the nearer bound is returned: 0.05 if every answer is right, 20 if the log-probabilities mislead
    on average. 1 if the loss is the same near 1, the rows being flat or every answer right beyond
    what float64 can tell from sure.

    Fit it on a labelled hold-out, never on the test split.

    Args:
        log_probs: (N, C) finite log-probabilities in nats, or logits, over the classes.
        label: (N,) the right class's index.

    Raises:
        ValueError: No example, wrong shapes, a value that is not finite, or a label outside.
    """
    z = _finite(log_probs)
    y = checked_labels(label, z.shape)
    z = z - z.max(axis=1, keepdims=True)
    gold = z[np.arange(y.size), y]

    def slope(temperature: float) -> float:
        """Return the derivative of the loss in 1/T, which grows with 1/T."""
        weight = np.exp(z / temperature)
        expected = (weight * z).sum(axis=1) / weight.sum(axis=1)
        return float((expected - gold).mean())

    cold, hot = LIMITS
    if slope(1.0) == 0.0:
        return 1.0
    if slope(cold) <= 0.0:
        return cold
    if slope(hot) >= 0.0:
        return hot
    low, high = math.log(cold), math.log(hot)
    for _ in range(60):  # from 6 to less than the last digit of a double
        middle = 0.5 * (low + high)
        if slope(math.exp(middle)) > 0.0:
            low = middle
        else:
            high = middle
    return math.exp(0.5 * (low + high))


def scale(log_probs: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Return ``log softmax(log_probs / T)``, normalised log-probabilities (N, C) in nats.

    Args:
        log_probs: (N, C) finite log-probabilities in nats, or logits.
        temperature: T from ``fit_temperature``.

    Raises:
        ValueError: Not (N, C) with C > 0, a value that is not finite, or T not above 0.
    """
    z = _finite(log_probs)
    if z.ndim != 2 or z.shape[1] == 0:
        raise ValueError(f"expected (N, C) with C > 0, got {z.shape}")
    _check_temperature(temperature)
    z = (z - z.max(axis=1, keepdims=True)) / temperature
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def fit_confidence_temperature(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Return the T in [0.05, 20] that minimises the mean NLL of "the answer is right".

    The loss is that of ``scale_confidence``, for generated answers, which are no choice among
    classes. No T moves a confidence across one half: right answers with confidences below it, as
    long generated ones have, drive T to 20. Bounds as in ``fit_temperature``, the classes being
    right and wrong. Fit it on a labelled hold-out, never on the test split.

    Args:
        confidence: (N,) probability given to the predicted answer.
        correct: (N,) whether that answer is right.

    Raises:
        ValueError: No example, shapes that differ, NaN, or values outside [0, 1].
    """
    p, hit = checked_pair(confidence, correct)
    return fit_temperature(np.stack([np.zeros_like(p), _logit(p)], axis=1), hit.astype(np.int64))


def scale_confidence(confidence: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Return ``sigmoid(logit(confidence) / T)``, in [0, 1]. (N,) to (N,).

    One half stays; confidences keep their order. Logits end at −708 and 16.6, where float64 ends
    and where float32 takes a confidence for 1: T = 1 returns 1 as 1 − 6e-8.

    Args:
        confidence: (N,) probability given to the predicted answer.
        temperature: T from ``fit_confidence_temperature``.

    Raises:
        ValueError: Not (N,), NaN, values outside [0, 1], or T not above 0.
    """
    p = np.asarray(confidence, dtype=np.float64)
    if p.size:
        p, _ = checked_pair(p, np.zeros(p.shape))
    _check_temperature(temperature)
    return np.exp(-np.logaddexp(0.0, -_logit(p) / temperature))


def _logit(p: NDArray[np.float64]) -> NDArray[np.float64]:
    p = np.clip(p, SMALLEST, LARGEST)
    return np.log(p) - np.log1p(-p)


def _finite(log_probs: ArrayLike) -> NDArray[np.float64]:
    z = np.asarray(log_probs, dtype=np.float64)
    if not np.isfinite(z).all():
        raise ValueError("log-probabilities must be finite")
    return z


def _check_temperature(temperature: float) -> None:
    if not 0.0 < temperature < math.inf:
        raise ValueError(f"the temperature must be above 0 and finite, got {temperature}")

"""Does the confidence of an answer match how often it is right? Pure functions on arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from star.evaluation.outcomes import checked_outcomes, checked_pair
from star.evaluation.proper_scores import binary_brier
from star.evaluation.ranking import area_under_risk_coverage, auroc


def expected_calibration_error(
    confidence: ArrayLike, correct: ArrayLike, *, bins: int = 15, scheme: str = "equal_width"
) -> float:
    """Return the expected calibration error, a fraction in [0, 1].

    ``ECE = Σ_b |b|/N · |accuracy(b) − mean confidence(b)|``; empty bins count nothing. The order of
    the examples changes nothing but the last digits.

    ``equal_width``: bins ``(k/bins, (k+1)/bins]``; a confidence of 0 belongs to the first bin.
    ``equal_mass``: the example at place r (from 0) of the N sorted confidences belongs to bin
    ``⌊r · bins / N⌋``, so counts differ by one at most; equal confidences all go where the middle
    of their places lies, ``r = (first + last)/2``, so that a tie is never split.

    Args:
        confidence: (N,) probability given to the predicted answer.
        correct: (N,) whether that answer is right.
        bins: Number of bins.
        scheme: A key of ``SCHEMES``.

    Raises:
        ValueError: No example, shapes that differ, NaN, values outside [0, 1], no bin or no such
            scheme.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3; equal mass:
    Nixon et al. 2019, "Measuring Calibration in Deep Learning", without its split of ties.
    """
    p, hit = checked_pair(confidence, correct)
    gap = np.bincount(_which_bin(p, bins, scheme), weights=hit - p, minlength=bins)
    return float(np.abs(gap).sum() / p.size)


def reliability_bins(
    confidence: ArrayLike, correct: ArrayLike, *, bins: int = 15, scheme: str = "equal_width"
) -> list[dict[str, Any]]:
    """Return a reliability diagram's bins, lowest first; all ``bins`` of them, also empty ones.

    Each has ``low`` and ``high``, ``count``, ``confidence`` (the mean) and ``accuracy``, both
    ``None`` in an empty bin. ``low`` and ``high`` are the edges of ``(low, high]`` for
    ``equal_width``; for ``equal_mass`` the least and the greatest confidence inside, ``None`` in an
    empty bin. ``Σ count/N · |accuracy − confidence|`` is ``expected_calibration_error``, which
    takes and refuses the same.
    """
    p, hit = checked_pair(confidence, correct)
    which = _which_bin(p, bins, scheme)
    found = []
    for k in range(bins):
        inside, right = p[which == k], hit[which == k]
        low, high = k / bins, (k + 1) / bins
        if scheme == "equal_mass":
            low, high = (float(inside.min()), float(inside.max())) if inside.size else (None, None)
        found.append(
            {
                "low": low,
                "high": high,
                "count": int(inside.size),
                "confidence": float(inside.mean()) if inside.size else None,
                "accuracy": float(right.mean()) if inside.size else None,
            }
        )
    return found


def _equal_width(p: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    # k / bins is the double nearest to the edge; k * (1 / bins) and confidence * bins are not, and
    # would put a confidence of 0.55 into the wrong one of 20 bins.
    return np.searchsorted(np.arange(1, bins + 1) / bins, p, side="left")


def _equal_mass(p: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    # rankdata counts from 1 and gives ties their mean; doubled it is a whole number, and so exact.
    return (2.0 * rankdata(p) - 2.0).astype(np.int64) * bins // (2 * p.size)


SCHEMES: dict[str, Callable[[NDArray[np.float64], int], NDArray[np.int64]]] = {
    "equal_width": _equal_width,
    "equal_mass": _equal_mass,
}


def _which_bin(p: NDArray[np.float64], bins: int, scheme: str) -> NDArray[np.int64]:
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    if scheme not in SCHEMES:
        raise ValueError(f"scheme must be one of {', '.join(SCHEMES)}, got {scheme!r}")
    return SCHEMES[scheme](p, bins)


def overconfidence(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Return the signed gap ``mean confidence − accuracy``, in [−1, 1]; 0 is best.

    Above 0 the answers are surer than right, below 0 the other way round. The calibration error,
    which has no sign, is never smaller than its absolute value.

    Args:
        confidence: (N,) probability given to the predicted answer.
        correct: (N,) whether that answer is right.

    Raises:
        ValueError: No example, shapes that differ, NaN, or values outside [0, 1].

    Source: Lichtenstein, Fischhoff and Phillips 1982, "Calibration of probabilities: The state of
    the art to 1980".
    """
    p, hit = checked_pair(confidence, correct)
    return float(p.mean() - hit.mean())


def accuracy_stderr(correct: ArrayLike) -> float:
    """Return the standard error of an accuracy, a fraction: ``sqrt(a (1 − a) / N)``.

    It is the spread over draws of the N test examples, for one fixed model; the spread over seeds
    is another matter.

    Args:
        correct: (N,) whether each answer is right.

    Raises:
        ValueError: No example, or a value that is neither 0 nor 1.
    """
    hit = checked_outcomes(correct)
    accuracy = hit.mean()
    return float(np.sqrt(accuracy * (1.0 - accuracy) / hit.size))


def summary(confidence: ArrayLike, correct: ArrayLike, *, bins: int = 15) -> dict[str, Any]:
    """Return how well confidences fit and rank answers; JSON can hold it.

    ``accuracy``; ``ece`` and ``ece_equal_mass``; ``overconfidence``; ``brier`` (binary); ``auroc``
    of 1 − confidence against error, ``None`` if all answers are right or all wrong; ``aurc``;
    ``reliability``, the equal-width ``reliability_bins``. It takes and refuses what
    ``expected_calibration_error`` does.
    """
    p, hit = checked_pair(confidence, correct)
    return {
        "accuracy": float(hit.mean()),
        "ece": expected_calibration_error(p, hit, bins=bins),
        "ece_equal_mass": expected_calibration_error(p, hit, bins=bins, scheme="equal_mass"),
        "overconfidence": overconfidence(p, hit),
        "brier": binary_brier(p, hit),
        # −p has the order of 1 − p, which would round tiny confidences into ties.
        "auroc": auroc(-p, 1.0 - hit),
        "aurc": area_under_risk_coverage(p, hit),
        "reliability": reliability_bins(p, hit, bins=bins),
    }

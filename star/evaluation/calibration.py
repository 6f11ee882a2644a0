"""Does the confidence of an answer match how often it is right? Pure functions on arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

# A softmax in float32, or the exponential of a summed log-probability, can miss 1 by this much.
ROUNDING = 1e-3


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
    empty bin. ``Σ count/N · |accuracy − confidence|`` is ``expected_calibration_error``.

    Args:
        confidence: (N,) probability given to the predicted answer.
        correct: (N,) whether that answer is right.
        bins: Number of bins.
        scheme: A key of ``SCHEMES``.

    Raises:
        ValueError: As ``expected_calibration_error``.
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
    p, y = _distributions(probabilities, label)
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
    p, y = _distributions(probabilities, label)
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
    hit = _outcomes(correct)
    accuracy = hit.mean()
    return float(np.sqrt(accuracy * (1.0 - accuracy) / hit.size))


def auroc(uncertainty: ArrayLike, error: ArrayLike) -> float | None:
    """Return how well uncertainty tells wrong answers from right ones, a fraction; 0.5 is chance.

    The area under the ROC curve: the probability that a random wrong answer has the higher
    uncertainty than a random right one, a tie counting one half. ``None`` if all answers are right
    or all are wrong.

    Args:
        uncertainty: (N,) any number, higher = less sure.
        error: (N,) 1 where the answer is wrong, 0 where it is right.

    Raises:
        ValueError: No example, shapes that differ, NaN, or an error that is neither 0 nor 1.

    Source: Hanley and McNeil 1982, "The Meaning and Use of the Area under a ROC Curve".
    """
    u, wrong = _scored(uncertainty, error)
    positive = wrong.sum()
    pairs = positive * (wrong.size - positive)
    if pairs == 0:
        return None
    # Mann and Whitney's U: the wrong answers' ranks less those they would have among themselves.
    above = rankdata(u)[wrong == 1.0].sum() - positive * (positive + 1.0) / 2.0
    return float(above / pairs)


def risk_coverage(
    confidence: ArrayLike, correct: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the coverages k/N for k = 1 … N and the error rate among the k most confident.

    Both (N,), fractions; the last risk is the error rate. Where the k-th confidence is one of
    several equal ones, the risk is its mean over all orders of these, so input order says nothing.

    Args:
        confidence: (N,) any number, higher = surer.
        correct: (N,) whether the answer is right.

    Raises:
        ValueError: No example, shapes that differ, NaN, or an outcome that is neither 0 nor 1.

    Source: Geifman and El-Yaniv 2017, "Selective Classification for Deep Neural Networks".
    """
    p, hit = _scored(confidence, correct)
    _, group, size = np.unique(-p, return_inverse=True, return_counts=True)
    wrong = np.bincount(group, weights=1.0 - hit)
    count = np.arange(1, p.size + 1)
    return count / p.size, np.cumsum(np.repeat(wrong / size, size)) / count


def area_under_risk_coverage(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Return the area under the risk-coverage curve (AURC), a fraction; 0 is best.

    The mean of ``risk_coverage``'s N risks. It falls with the error rate as well as with better
    ranking: compare it between models of like accuracy.

    Args:
        confidence: (N,) any number, higher = surer.
        correct: (N,) whether the answer is right.

    Raises:
        ValueError: As ``risk_coverage``.

    Source: Geifman et al. 2019, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers".
    """
    return float(risk_coverage(confidence, correct)[1].mean())


def summary(confidence: ArrayLike, correct: ArrayLike, *, bins: int = 15) -> dict[str, Any]:
    """Return what this module says of answers and their confidences; JSON can hold it.

    ``accuracy``; ``ece`` and ``ece_equal_mass``; ``overconfidence``; ``brier`` (binary); ``auroc``
    of 1 − confidence against error, ``None`` if all answers are right or all wrong; ``aurc``;
    ``reliability``, the equal-width ``reliability_bins``.

    Args:
        confidence: (N,) probability given to the predicted answer.
        correct: (N,) whether that answer is right.
        bins: Number of bins.

    Raises:
        ValueError: As ``expected_calibration_error``.
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


def checked_pair(
    confidence: ArrayLike, correct: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return confidences in [0, 1] and outcomes 0.0 or 1.0, both (N,); ``ValueError`` if not so."""
    p, hit = _scored(confidence, correct)
    _check_range(p, "confidence")
    return np.clip(p, 0.0, 1.0), hit


def _scored(
    score: ArrayLike, outcome: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values, result = np.asarray(score, dtype=np.float64), _outcomes(outcome)
    if values.shape != result.shape:
        raise ValueError(f"scores and outcomes differ in shape: {values.shape} and {result.shape}")
    if np.isnan(values).any():
        raise ValueError("a score is NaN")
    return values, result


def _distributions(
    probabilities: ArrayLike, label: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
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

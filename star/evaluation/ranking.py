"""Does confidence rank right answers before wrong ones? Pure functions on arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from star.evaluation.outcomes import checked_scores


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
    u, wrong = checked_scores(uncertainty, error)
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
    p, hit = checked_scores(confidence, correct)
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

"""What learning curves are summed up as. Pure functions on arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t


def area_under_curve(labels: ArrayLike, accuracy: ArrayLike) -> float:
    """Return the area under a learning curve, a fraction like the accuracies themselves.

    ``AUC = Σ_i (n_{i+1} − n_i) · (a_i + a_{i+1})/2 / (n_R − n_1)``: the trapezoid over the label
    counts divided by their range, the curve's mean height. One point alone returns its accuracy.

    Args:
        labels: (R,) label counts, strictly increasing.
        accuracy: (R,) accuracy after training on so many labels.

    Raises:
        ValueError: No point, shapes that differ, NaN, or label counts that do not increase.
    """
    n = np.asarray(labels, dtype=np.float64)
    a = np.asarray(accuracy, dtype=np.float64)
    if n.ndim != 1 or n.size == 0 or n.shape != a.shape:
        raise ValueError(f"expected two equal shapes (R,) with R > 0, got {n.shape} and {a.shape}")
    if not (np.isfinite(n).all() and np.isfinite(a).all()):
        raise ValueError("label counts and accuracies must be finite")
    if not (np.diff(n) > 0).all():
        raise ValueError(f"label counts must increase strictly, got {n.tolist()}")
    if n.size == 1:
        return float(a[0])
    return float(np.trapezoid(a, n) / (n[-1] - n[0]))


def mean_interval(
    values: ArrayLike, *, confidence: float = 0.95
) -> tuple[float, float | None, float | None]:
    """Return the mean of independent values and its t-interval: (mean, low, high).

    ``m ± t_{n−1} · s / √n``. Of differences paired by seed it is the paired t-interval. One value
    has no interval: low and high are ``None``.

    Args:
        values: (n,), one a seed.
        confidence: Coverage of the interval for normal values.

    Raises:
        ValueError: No value, or one that is not finite.
    """
    v = np.asarray(values, dtype=np.float64)
    if v.ndim != 1 or v.size == 0 or not np.isfinite(v).all():
        raise ValueError(f"expected (n,) finite values with n > 0, got {v.tolist()}")
    mean = float(v.mean())
    if v.size == 1:
        return mean, None, None
    half = float(t.ppf((1 + confidence) / 2, v.size - 1) * v.std(ddof=1) / np.sqrt(v.size))
    return mean, mean - half, mean + half

"""Agreement beyond chance between two lists of labels. Pure functions."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from sklearn.metrics import cohen_kappa_score


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Return Cohen's kappa, ``(p_o − p_e) / (1 − p_e)``, at most 1; 0 is what chance gives.

    Args:
        first: (N,) labels of one annotator, or of one round's model.
        second: (N,) of the other, for the same rows.

    Returns:
        ``None`` where it is undefined: both gave all rows one and the same label, so that chance
        alone agrees everywhere.

    Raises:
        ValueError: No rows, or not as many of both.

    Source: Cohen 1960, "A coefficient of agreement for nominal scales"; computed by scikit-learn.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"expected as many labels of both, got {len(first)} and {len(second)}")
    codes = {label: code for code, label in enumerate(dict.fromkeys([*first, *second]))}
    if len(codes) == 1:
        return None
    a, b = ([codes[label] for label in labels] for labels in (first, second))
    return float(cohen_kappa_score(a, b))

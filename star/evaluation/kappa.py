"""Agreement beyond chance between two lists of labels. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence


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

    Source: Cohen 1960, "A coefficient of agreement for nominal scales". Not scikit-learn's, which
    a report would wait for: it loads pandas.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"expected as many labels of both, got {len(first)} and {len(second)}")
    if len({*first, *second}) == 1:
        return None
    size, one, other = len(first), Counter(first), Counter(second)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / size
    chance = sum(count * other[label] for label, count in one.items()) / size**2
    return (observed - chance) / (1 - chance)

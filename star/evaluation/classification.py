"""Figures of a classifier by class: recall, precision, F1, their macro mean, who is taken for whom.

A class that occurs nowhere in the test rows has no recall, and one that is never predicted no
precision: such values are ``None`` and count in no mean, rather than as a 0 or a 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def by_class(
    gold: Sequence[str], predicted: Sequence[str | None], labels: Sequence[str]
) -> dict[str, Any]:
    """Return the figures of N predictions over C classes.

    F1 of a class is 2·TP / (2·TP + FP + FN), which is 0 for one that occurs and is never found.
    ``macro_f1`` is its mean over the classes that occur in gold or prediction, as scikit-learn's
    ``f1_score(average="macro")`` has it; ``balanced_accuracy`` the mean recall of those in gold.

    Args:
        gold: N labels.
        predicted: N labels; ``None``: no class could be read, which is wrong, and nobody's.
        labels: All C classes.

    Returns:
        ``macro_f1``, ``balanced_accuracy``, ``per_class`` (label → recall, precision, f1, count)
        and ``confusion``: C rows of gold by C columns of predictions, counts.

    Raises:
        ValueError: Not as many predictions as labels, none, or a label that is no class.
    """
    if len(gold) != len(predicted) or not gold:
        raise ValueError(f"{len(gold)} labels and {len(predicted)} predictions")
    position = {label: i for i, label in enumerate(labels)}
    unknown = {*gold, *predicted} - {*position, None}
    if unknown or None in gold:
        raise ValueError(f"not among the classes: {sorted(map(str, unknown))}")
    size = len(labels)
    confusion = np.zeros((size, size + 1), dtype=np.int64)  # the last column: no class
    columns = [size if label is None else position[label] for label in predicted]
    np.add.at(confusion, ([position[label] for label in gold], columns), 1)
    hits, real = confusion.diagonal()[:size].astype(float), confusion.sum(axis=1)
    named = confusion[:, :size].sum(axis=0)
    rows: dict[str, dict[str, Any]] = {}
    for i, label in enumerate(labels):
        rows[label] = {
            "recall": float(hits[i] / real[i]) if real[i] else None,
            "precision": float(hits[i] / named[i]) if named[i] else None,
            "f1": float(2 * hits[i] / (real[i] + named[i])) if real[i] + named[i] else None,
            "count": int(real[i]),
        }
    return {
        "macro_f1": _mean(row["f1"] for row in rows.values()),
        "balanced_accuracy": _mean(row["recall"] for row in rows.values()),
        "per_class": rows,
        "confusion": confusion[:, :size].tolist(),
    }


def _mean(values: Any) -> float:
    return float(np.mean([value for value in values if value is not None]))


def balance(bought: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """Return how even N bought labels are over C classes.

    Args:
        bought: N labels.
        labels: All C classes, at least two.

    Returns:
        ``class_counts`` (label → count), ``class_entropy``, the entropy of the counts' shares over
        that of equal shares, log C: 1 where all classes are equally frequent, 0 where there is but
        one; ``least_class``, the smallest share, at most 1/C.

    Raises:
        ValueError: No label, or one that is no class.
    """
    counts = dict.fromkeys(labels, 0)
    for label in bought:
        if label not in counts:
            raise ValueError(f"not among the classes: {label}")
        counts[label] += 1
    if not bought:
        raise ValueError("no labels")
    shares = np.array([*counts.values()]) / len(bought)
    some = shares[shares > 0]
    return {
        "class_counts": counts,
        "class_entropy": float(-(some * np.log(some)).sum() / np.log(len(shares))) + 0.0,
        "least_class": float(shares.min()),
    }

"""Figures by class, against scikit-learn's definitions worked out by hand."""

from __future__ import annotations

import math

import pytest

from star.evaluation.classification import balance, by_class


def test_a_confusion_worked_out_by_hand() -> None:
    gold = ["a", "a", "a", "b", "b", "c"]
    predicted = ["a", "a", "b", "b", "c", None]
    made = by_class(gold, predicted, ["a", "b", "c"])
    assert made["confusion"] == [[2, 1, 0], [0, 1, 1], [0, 0, 0]]
    assert made["per_class"]["a"] == {
        "recall": pytest.approx(2 / 3), "precision": 1.0, "f1": pytest.approx(0.8), "count": 3,
    }  # fmt: skip
    assert made["per_class"]["b"]["f1"] == pytest.approx(0.5)
    assert made["per_class"]["c"] == {"recall": 0.0, "precision": 0.0, "f1": 0.0, "count": 1}
    assert made["macro_f1"] == pytest.approx((0.8 + 0.5 + 0.0) / 3)
    assert made["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)


def test_a_class_that_is_nowhere_counts_in_no_mean() -> None:
    made = by_class(["a", "b"], ["a", "a"], ["a", "b", "never", "named"])
    assert made["per_class"]["never"] == {
        "recall": None, "precision": None, "f1": None, "count": 0,
    }  # fmt: skip
    assert made["per_class"]["b"]["precision"] is None  # never predicted
    assert made["balanced_accuracy"] == pytest.approx(0.5)
    assert made["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)


@pytest.mark.parametrize(
    "gold, predicted", [(["a"], []), ([], []), (["x"], ["a"]), (["a"], ["x"]), ([None], ["a"])]
)
def test_what_is_no_classification_raises(gold: list, predicted: list) -> None:
    with pytest.raises(ValueError):
        by_class(gold, predicted, ["a", "b"])


def test_balance_of_what_was_bought_by_hand() -> None:
    even = balance(["a", "b", "b", "a"], ["a", "b"])
    assert even == {"class_counts": {"a": 2, "b": 2}, "class_entropy": 1.0, "least_class": 0.5}
    one = balance(["b"] * 3, ["a", "b", "c"])
    assert one["class_counts"] == {"a": 0, "b": 3, "c": 0}
    assert (one["class_entropy"], one["least_class"]) == (0.0, 0.0)
    most = balance(["a", "a", "a", "b"], ["a", "b"])
    assert most["class_entropy"] == pytest.approx(2 - 0.75 * math.log2(3))
    assert most["least_class"] == 0.25
    for bought in ([], ["d"]):
        with pytest.raises(ValueError, match=r"no labels|not among the classes: d"):
            balance(bought, ["a", "b"])

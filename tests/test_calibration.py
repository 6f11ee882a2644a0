"""Calibration measures against closed forms, a plain loop and scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from star.calibration import (
    accuracy_stderr,
    binary_brier,
    brier,
    expected_calibration_error,
)


def loop_ece(confidence: list[float], correct: list[bool], bins: int) -> float:
    total = 0.0
    for k in range(bins):
        inside = [
            (p, c)
            for p, c in zip(confidence, correct, strict=True)
            if k / bins < p <= (k + 1) / bins or (k == 0 and p == 0.0)
        ]
        total += abs(sum(c - p for p, c in inside))
    return total / len(confidence)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 20),
)
def test_ece_equals_a_loop_over_bins(rows: list[tuple[float, bool]], bins: int) -> None:
    confidence, correct = [p for p, _ in rows], [c for _, c in rows]
    ours = expected_calibration_error(confidence, correct, bins=bins)
    assert ours == pytest.approx(loop_ece(confidence, correct, bins), abs=1e-12)
    assert 0.0 <= ours <= 1.0


def test_ece_closed_forms() -> None:
    assert expected_calibration_error([1.0, 1.0], [1, 1]) == 0.0
    assert expected_calibration_error([1.0, 0.0], [0, 1]) == 1.0
    # One bin: the gap of the means; in ten bins 0.9 and 0.5 stand alone.
    assert expected_calibration_error([0.9, 0.5], [1, 0], bins=1) == pytest.approx(0.2)
    assert expected_calibration_error([0.9, 0.5], [1, 0], bins=10) == pytest.approx(0.3)


def test_ece_bins_are_closed_on_the_right() -> None:
    # In (0.4, 0.5] both stand together and their gaps cancel: (0 - 0.5) + (1 - 0.5).
    assert expected_calibration_error([0.5, 0.5], [0, 1], bins=10) == pytest.approx(0.0)
    # 0.55 * 20 is 11.000000000000002: a multiplication would put it beside 0.56.
    together = expected_calibration_error([0.55, 0.51], [0, 1], bins=20)
    assert together == pytest.approx(abs(-0.55 + 0.49) / 2)


def test_brier_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), size=50)
    label = rng.integers(0, 4, size=50)
    theirs = brier_score_loss(label, probabilities, labels=range(4), scale_by_half=False)
    assert brier(probabilities, label) == pytest.approx(theirs, rel=1e-12)


def test_binary_brier_equals_scikit_learn_and_half_of_brier() -> None:
    rng = np.random.default_rng(1)
    p, correct = rng.random(50), rng.integers(0, 2, size=50)
    ours = binary_brier(p, correct)
    assert ours == pytest.approx(brier_score_loss(correct, p), rel=1e-12)
    assert brier(np.stack([1 - p, p], axis=1), correct) == pytest.approx(2 * ours, rel=1e-12)


def test_brier_extremes() -> None:
    assert brier([[1.0, 0.0, 0.0]], [0]) == 0.0
    assert brier([[1.0, 0.0, 0.0]], [2]) == 2.0
    assert brier([[1 / 3, 1 / 3, 1 / 3]], [1]) == pytest.approx(2 / 3)


def test_accuracy_stderr() -> None:
    assert accuracy_stderr([True, False, True, True]) == pytest.approx(math.sqrt(0.75 * 0.25 / 4))
    assert accuracy_stderr([True]) == 0.0


def test_float32_rounding_above_one_is_taken_as_one() -> None:
    above = np.float32(1.0) + np.float32(1e-6)
    assert expected_calibration_error([above], [1]) == 0.0
    assert binary_brier([above], [1]) == 0.0


@pytest.mark.parametrize(
    "confidence, correct",
    [([], []), ([0.5], [1, 0]), ([math.nan], [1]), ([1.5], [1]), ([-0.1], [0]), ([0.5], [2])],
)
def test_bad_confidences_are_refused(confidence: list[float], correct: list[int]) -> None:
    with pytest.raises(ValueError):
        expected_calibration_error(confidence, correct)
    with pytest.raises(ValueError):
        binary_brier(confidence, correct)


@pytest.mark.parametrize(
    "probabilities, label",
    [
        ([], []),
        ([[0.5, 0.5]], [2]),
        ([[0.5, 0.5]], [-1]),
        ([[0.5, 0.5]], [0, 1]),
        ([[0.5, 0.4]], [0]),
        ([[math.nan, 0.5]], [0]),
        ([[0.5, 0.5]], [0.0]),
    ],
)
def test_bad_distributions_are_refused(probabilities: list[list[float]], label: list[int]) -> None:
    with pytest.raises(ValueError):
        brier(probabilities, label)


def test_bins_must_be_positive() -> None:
    with pytest.raises(ValueError, match="bins"):
        expected_calibration_error([0.5], [1], bins=0)

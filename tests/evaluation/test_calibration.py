"""Calibration measures against closed forms, a plain loop and scikit-learn."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss

from star.evaluation.calibration import (
    accuracy_stderr,
    expected_calibration_error,
    overconfidence,
    reliability_bins,
)
from star.evaluation.proper_scores import binary_brier, brier, negative_log_likelihood

# Few values, so that there are ties; many examples or few, so that there are empty bins.
TIED = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 0.9, 1.0]), st.booleans()),
    min_size=1,
    max_size=40,
)
LOOSE = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40)


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


@given(LOOSE, st.integers(1, 20))
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


@given(LOOSE, st.integers(1, 20))
def test_over_confidence_has_a_sign_and_never_exceeds_the_ece(
    rows: list[tuple[float, bool]], bins: int
) -> None:
    confidence, correct = [p for p, _ in rows], [c for _, c in rows]
    ours = overconfidence(confidence, correct)
    assert ours == pytest.approx(sum(p - c for p, c in rows) / len(rows), abs=1e-12)
    assert abs(ours) <= expected_calibration_error(confidence, correct, bins=bins) + 1e-12
    turned = overconfidence([1 - p for p in confidence], [not c for c in correct])
    assert turned == pytest.approx(-ours, abs=1e-12)


def test_over_confidence_closed_forms() -> None:
    assert overconfidence([1.0, 1.0], [0, 0]) == 1.0
    assert overconfidence([0.0], [1]) == -1.0
    # The gaps of two bins cancel, while the ECE adds them up.
    assert overconfidence([0.9, 0.1], [0, 1]) == 0.0
    assert expected_calibration_error([0.9, 0.1], [0, 1]) == pytest.approx(0.9)


def test_ece_bins_are_closed_on_the_right() -> None:
    # In (0.4, 0.5] both stand together and their gaps cancel: (0 - 0.5) + (1 - 0.5).
    assert expected_calibration_error([0.5, 0.5], [0, 1], bins=10) == pytest.approx(0.0)
    # 0.55 * 20 is 11.000000000000002: a multiplication would put it beside 0.56.
    together = expected_calibration_error([0.55, 0.51], [0, 1], bins=20)
    assert together == pytest.approx(abs(-0.55 + 0.49) / 2)


def loop_equal_mass(confidence: list[float], bins: int) -> list[int]:
    """Return each example's bin, from its places in the sorted list, in exact arithmetic."""
    places = sorted(confidence)
    first = {p: places.index(p) for p in places}
    last = {p: len(places) - 1 - places[::-1].index(p) for p in places}
    return [math.floor(Fraction(first[p] + last[p], 2) * bins / len(places)) for p in confidence]


@given(TIED | LOOSE, st.integers(1, 20))
def test_equal_mass_ece_equals_a_loop(rows: list[tuple[float, bool]], bins: int) -> None:
    confidence, correct = [p for p, _ in rows], [c for _, c in rows]
    gaps = dict.fromkeys(range(bins), 0.0)
    for k, p, c in zip(loop_equal_mass(confidence, bins), confidence, correct, strict=True):
        gaps[k] += c - p
    ours = expected_calibration_error(confidence, correct, bins=bins, scheme="equal_mass")
    assert ours == pytest.approx(sum(map(abs, gaps.values())) / len(rows), abs=1e-12)


def test_equal_mass_bins_are_equal_shares_of_the_sorted_examples() -> None:
    rng = np.random.default_rng(2)
    p, correct = rng.random(60) ** 4, rng.integers(0, 2, size=60)
    order = np.argsort(p)
    gaps = [abs((correct[part] - p[part]).sum()) for part in order.reshape(12, 5)]
    ours = expected_calibration_error(p, correct, bins=12, scheme="equal_mass")
    assert ours == pytest.approx(sum(gaps) / 60, abs=1e-12)
    for n in range(1, 40):
        found = reliability_bins(p[:n], correct[:n], bins=7, scheme="equal_mass")
        counts = [one["count"] for one in found]
        assert sum(counts) == n and max(counts) - min(counts) <= 1


def test_a_tie_is_never_split() -> None:
    # Half of the examples are sure; two bins would cut the ten through the middle of 0.8.
    p = [0.2, 0.3, 0.8, 0.8, 0.8, 0.8, 1.0, 1.0, 1.0, 1.0]
    found = reliability_bins(p, [1] * 10, bins=2, scheme="equal_mass")
    assert [one["count"] for one in found] == [6, 4]
    assert [(one["low"], one["high"]) for one in found] == [(0.2, 0.8), (1.0, 1.0)]
    # All alike: one bin, the one in the middle.
    found = reliability_bins([0.6] * 9, [1, 0, 1] * 3, bins=5, scheme="equal_mass")
    assert [one["count"] for one in found] == [0, 0, 9, 0, 0]


@given(TIED | LOOSE, st.randoms(), st.sampled_from(["equal_width", "equal_mass"]))
def test_ece_does_not_depend_on_the_order(rows: list, random, scheme: str) -> None:
    shuffled = random.sample(rows, len(rows))
    first, second = (
        expected_calibration_error(*zip(*some, strict=True), bins=4, scheme=scheme)
        for some in (rows, shuffled)
    )
    assert first == pytest.approx(second, abs=1e-12)


@given(TIED | LOOSE, st.integers(1, 20), st.sampled_from(["equal_width", "equal_mass"]))
def test_the_error_follows_from_the_reliability_bins(rows: list, bins: int, scheme: str) -> None:
    confidence, correct = zip(*rows, strict=True)
    found = reliability_bins(confidence, correct, bins=bins, scheme=scheme)
    assert len(found) == bins
    assert sum(one["count"] for one in found) == len(rows)
    full = [one for one in found if one["count"]]
    follows = sum(one["count"] * abs(one["accuracy"] - one["confidence"]) for one in full)
    ours = expected_calibration_error(confidence, correct, bins=bins, scheme=scheme)
    assert ours == pytest.approx(follows / len(rows), abs=1e-12)
    for one in full:
        inside = [p for p in confidence if one["low"] < p <= one["high"] or p == one["low"]]
        assert len(inside) >= one["count"]
        assert one["low"] - 1e-12 <= one["confidence"] <= one["high"] + 1e-12
    for one in found:
        assert (one["count"] == 0) == (one["confidence"] is None) == (one["accuracy"] is None)


def test_reliability_bins_by_hand() -> None:
    found = reliability_bins([0.9, 0.5, 0.0, 0.8], [1, 0, 0, 0], bins=2)
    assert found == [
        {"low": 0.0, "high": 0.5, "count": 2, "confidence": 0.25, "accuracy": 0.0},
        {"low": 0.5, "high": 1.0, "count": 2, "confidence": pytest.approx(0.85), "accuracy": 0.5},
    ]
    first, second = reliability_bins([0.9], [1], bins=2)
    assert first == {"low": 0.0, "high": 0.5, "count": 0, "confidence": None, "accuracy": None}
    assert (second["count"], second["confidence"], second["accuracy"]) == (1, 0.9, 1.0)
    first, second = reliability_bins([0.9], [1], bins=2, scheme="equal_mass")
    assert (first["low"], first["high"], first["count"]) == (0.9, 0.9, 1)
    assert (second["low"], second["high"], second["count"]) == (None, None, 0)


def test_negative_log_likelihood_equals_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    probabilities = rng.dirichlet(np.ones(4), size=50)
    label = rng.integers(0, 4, size=50)
    theirs = log_loss(label, probabilities, labels=range(4))
    assert negative_log_likelihood(probabilities, label) == pytest.approx(theirs, rel=1e-9)
    # One class seen, one example, and one class alone.
    ours = negative_log_likelihood(probabilities[:1], [2])
    assert ours == pytest.approx(-math.log(probabilities[0, 2]))
    assert negative_log_likelihood([[1.0]], [0]) == 0.0


def test_negative_log_likelihood_of_the_impossible_is_infinite() -> None:
    assert negative_log_likelihood([[0.0, 1.0], [0.5, 0.5]], [0, 0]) == math.inf
    assert negative_log_likelihood([[1.0 + 1e-6, 0.0]], [0]) == 0.0


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
    with pytest.raises(ValueError):
        overconfidence(confidence, correct)
    with pytest.raises(ValueError):
        reliability_bins(confidence, correct)


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
    with pytest.raises(ValueError):
        negative_log_likelihood(probabilities, label)


def test_bins_must_be_positive() -> None:
    with pytest.raises(ValueError, match="bins"):
        expected_calibration_error([0.5], [1], bins=0)
    with pytest.raises(ValueError, match="bins"):
        reliability_bins([0.5], [1], bins=0, scheme="equal_mass")


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match="equal_width, equal_mass"):
        expected_calibration_error([0.5], [1], scheme="quantile")
    with pytest.raises(ValueError, match="equal_width, equal_mass"):
        reliability_bins([0.5], [1], scheme="quantile")

"""Summaries of learning curves against closed forms, numpy and scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy.stats import t as student
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import auc

from star.evaluation.learning_curves import (
    LabelShares,
    area_under_curve,
    isotonic,
    label_shares,
    mean_interval,
    ripl,
    rising,
)

# Of so few test examples that runs often tie.
CURVES = st.lists(st.integers(0, 20).map(lambda k: k / 20), min_size=1, max_size=9)


def test_closed_forms() -> None:
    assert area_under_curve([20, 40, 60], [0.5, 0.5, 0.5]) == pytest.approx(0.5)
    assert area_under_curve([0, 100], [0.0, 1.0]) == pytest.approx(0.5)
    # Uneven steps weigh by their width: (10 * 0.5 + 90 * 1) / 100.
    assert area_under_curve([0, 10, 100], [0.0, 1.0, 1.0]) == pytest.approx(0.95)


def test_one_point_returns_its_accuracy() -> None:
    assert area_under_curve([20], [0.25]) == 0.25


def test_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels, accuracy = np.cumsum(rng.integers(1, 50, size=10)), rng.random(10)
    theirs = auc(labels, accuracy) / (labels[-1] - labels[0])
    assert area_under_curve(labels, accuracy) == pytest.approx(theirs, rel=1e-12)


@given(
    st.lists(st.tuples(st.integers(1, 500), st.floats(0, 1)), min_size=1, max_size=12),
    st.integers(1, 9),
)
def test_a_mean_height_that_knows_no_unit(rows: list[tuple[int, float]], scale: int) -> None:
    labels = np.cumsum([step for step, _ in rows])
    accuracy = [a for _, a in rows]
    area = area_under_curve(labels, accuracy)
    assert min(accuracy) - 1e-12 <= area <= max(accuracy) + 1e-12
    assert area_under_curve(labels * scale, accuracy) == pytest.approx(area, abs=1e-12)


@pytest.mark.parametrize(
    "labels, accuracy",
    [
        ([], []),
        ([1, 2], [0.5]),
        ([2, 1], [0.5, 0.5]),
        ([1, 1], [0.5, 0.5]),
        ([1, 2], [0.5, math.nan]),
    ],
)
def test_bad_curves_are_refused(labels: list[int], accuracy: list[float]) -> None:
    with pytest.raises(ValueError):
        area_under_curve(labels, accuracy)


# --- intervals ---------------------------------------------------------------------------------


def test_the_interval_of_a_mean_by_hand() -> None:
    # 1, 2, 3: mean 2, s = 1, and the table's t for 2 degrees of freedom is 4.303.
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert low == pytest.approx(2 - 4.303 / math.sqrt(3), abs=1e-3)
    assert high == pytest.approx(2 + 4.303 / math.sqrt(3), abs=1e-3)
    assert mean_interval([7.0]) == (7.0, None, None)
    assert mean_interval([0.5, 0.5]) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("values", [[], [math.nan], [[1.0]], [1.0, math.inf]])
def test_no_interval_of_what_is_no_list_of_numbers(values: list) -> None:
    with pytest.raises(ValueError, match="finite values"):
        mean_interval(values)


def test_the_interval_covers_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(3.0, 2.0, size=(4000, 5))
    inside = [low <= 3.0 <= high for _, low, high in map(mean_interval, draws)]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.012)  # 3.5 standard errors


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=12), st.floats(0.5, 0.99))
def test_the_interval_is_scipys(values: list[float], confidence: float) -> None:
    mean, low, high = mean_interval(values, confidence=confidence)
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    if error > 1e-6:  # scipy makes NaN of no spread
        theirs = student.interval(confidence, len(values) - 1, loc=np.mean(values), scale=error)
        assert (low, high) == pytest.approx(theirs, rel=1e-9, abs=1e-9)
    assert low <= mean <= high


# --- relative improvement ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "places"),
    [
        ([4, 6, 8], [0, 1, 2]),
        ([4, 4], [1]),
        ([4, 6, 6, 8], [0, 2, 3]),
        ([4, 8, 6, 10], [0, 2, 3]),
        ([4, 8, 10, 2], [3]),
        ([], []),
    ],
)
def test_a_curve_goes_through_rising_counts(labels: list[int], places: list[int]) -> None:
    assert rising(labels) == places


def test_the_share_of_the_area_that_random_leaves() -> None:
    assert ripl(0.8, 0.6) == pytest.approx(0.5)
    assert ripl(0.6, 0.6) == 0
    assert ripl(1.0, 0.6) == pytest.approx(1)
    assert ripl(0.4, 0.6) == pytest.approx(-0.5)
    assert ripl(1.0, 1.0) is None and ripl(0.9, 1.0) is None


@pytest.mark.parametrize("areas", [(math.nan, 0.5), (0.5, math.nan), (70.0, 60.0), (-0.1, 0.5)])
def test_areas_are_fractions(areas: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="lie in"):
        ripl(*areas)


# --- isotonic curves and labels to a target ----------------------------------------------------


def test_where_a_curve_falls_its_points_share_their_mean() -> None:
    assert isotonic([0.1, 0.5, 0.3, 0.6]) == pytest.approx([0.1, 0.4, 0.4, 0.6])
    assert isotonic([0.9, 0.6, 0.3]) == pytest.approx([0.6, 0.6, 0.6])
    assert isotonic([0.2]) == pytest.approx([0.2])


@given(CURVES)
def test_isotonic_curves_are_scikit_learns(accuracy: list[float]) -> None:
    curve = isotonic(accuracy)
    theirs = IsotonicRegression().fit_transform(np.arange(len(accuracy)), accuracy)
    assert curve == pytest.approx(theirs, abs=1e-12)
    assert (np.diff(curve) >= 0).all()
    assert curve.mean() == pytest.approx(np.mean(accuracy), abs=1e-12)
    assert isotonic(curve) == pytest.approx(curve, abs=1e-12)


def labels_to_target(labels: ArrayLike, accuracy: ArrayLike, target: float) -> float | None:
    """Return where a curve gets to the end of another, which is flat."""
    flat = np.full(len(labels), target)
    share = label_shares(labels, [accuracy], [flat], paired=False).median
    return None if share is None else share * labels[-1]


def test_labels_to_a_target_by_hand() -> None:
    labels, accuracy = [20, 40, 80], [0.2, 0.6, 0.8]
    assert labels_to_target(labels, accuracy, 0.6) == pytest.approx(40)
    assert labels_to_target(labels, accuracy, 0.5) == pytest.approx(35)
    assert labels_to_target(labels, accuracy, 0.7) == pytest.approx(60)
    assert labels_to_target(labels, accuracy, 0.8) == pytest.approx(80)
    assert labels_to_target(labels, accuracy, 0.1) == 20  # nothing is known below
    assert labels_to_target(labels, accuracy, 0.81) is None
    # The lucky point of 0.9 is worth 0.7: no target of 0.8 was reached there.
    assert labels_to_target([1, 2, 3, 4], [0.1, 0.9, 0.5, 0.7], 0.8) is None
    assert labels_to_target([1, 2, 3, 4], [0.1, 0.9, 0.5, 0.7], 0.7) == pytest.approx(2)


def test_a_target_missed_by_rounding_alone_is_reached() -> None:
    assert labels_to_target([10, 20], [0.1, 0.333333], 1 / 3) == 20
    assert labels_to_target([10, 20], [0.1, 0.333333], 0.3334) is None


@given(CURVES, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_target_takes_more_labels(accuracy: list[float], a: float, b: float) -> None:
    labels = np.cumsum(np.arange(1, len(accuracy) + 1)) * 10
    curve = isotonic(accuracy)
    found = [labels_to_target(labels, accuracy, target) for target in sorted((a, b))]
    for count, target in zip(found, sorted((a, b)), strict=True):
        assert (count is None) == (target > curve[-1] + 1e-6)
        if count is not None:
            assert labels[0] <= count <= labels[-1]
            assert np.interp(count, labels, curve) >= target - 2e-6
            if count > labels[0]:
                assert np.interp(count, labels, curve) == pytest.approx(target, abs=2e-6)
    if found[1] is not None:
        assert found[0] is not None and found[0] <= found[1] + 1e-9


@pytest.mark.parametrize(
    "call",
    [
        lambda: isotonic([]),
        lambda: isotonic([0.1, math.nan]),
        lambda: isotonic([[0.1, 0.2]]),
        lambda: label_shares([1, 2], [[0.1]], [[0.1, 0.2]], paired=False),
        lambda: label_shares([2, 1], [[0.1, 0.2]], [[0.1, 0.2]], paired=False),
        lambda: label_shares([1, 2], [[0.1, math.nan]], [[0.1, 0.2]], paired=False),
        lambda: label_shares([1, 2], [0.1, 0.2], [[0.1, 0.2]], paired=False),
        lambda: label_shares([1, 2], [[0.1, 0.2]], np.zeros((0, 2)), paired=False),
        lambda: label_shares([1, 2], [[0.1, 0.2]], [[0.1, 0.2, 0.3]], paired=False),
        lambda: label_shares([1, 2], [[0.1, 0.2]], [[0.1, math.nan]], paired=False),
        lambda: label_shares([1, 2], [[0.1, 0.2]] * 2, [[0.1, 0.2]] * 3, paired=True),
        lambda: label_shares([0], [[0.1]], [[0.1]], paired=False),
    ],
)
def test_no_labels_to_targets_of_bad_input(call) -> None:
    with pytest.raises(ValueError):
        call()


# --- shares of random's labels -----------------------------------------------------------------


def test_shares_of_labels_by_hand() -> None:
    labels = [20, 40, 80]
    method = [[0.2, 0.6, 0.8], [0.2, 0.3, 0.4]]
    random = [[0.2, 0.3, 0.7], [0.2, 0.3, 0.5], [0.2, 0.3, 0.6]]
    # The first run gets to 0.7, 0.5, 0.6 at 60, 35, 40 labels of 80; the second never.
    assert label_shares(labels, method, random, paired=False) == LabelShares(
        median=pytest.approx(0.75), low=pytest.approx(0.5), high=None, never=0.5, pairs=6
    )
    # By seed: run 0 against random's run 1 alone, and run 1 against run 0, which it never reaches.
    assert label_shares(labels, method, random[:2], paired=True) == LabelShares(
        median=pytest.approx(35 / 80), low=pytest.approx(35 / 80), high=None, never=0.5, pairs=2
    )


def test_one_seed_has_no_pair_of_different_seeds() -> None:
    assert label_shares([1, 2], [[0.1, 0.2]], [[0.1, 0.2]], paired=True) == LabelShares(
        median=None, low=None, high=None, never=None, pairs=0
    )


def test_the_same_rising_curve_takes_all_the_labels() -> None:
    shares = label_shares([20, 40, 80], [[0.2, 0.4, 0.6]] * 3, [[0.2, 0.4, 0.6]] * 3, paired=True)
    assert (shares.low, shares.median, shares.high, shares.never) == (1, 1, 1, 0)


@given(st.lists(st.tuples(*[st.integers(0, 20)] * 5), min_size=2, max_size=6))
def test_of_two_runs_of_random_one_gets_to_the_others_end(rows: list[tuple[int, ...]]) -> None:
    runs = np.array(rows) / 20
    shares = label_shares([20, 40, 60, 80, 100], runs, runs, paired=True)
    assert shares.pairs == len(rows) * (len(rows) - 1)
    assert shares.never <= 0.5
    assert 0.2 <= shares.low <= shares.median <= 1


def noisy_curves(
    rng: np.random.Generator, tables: int, runs: int, labels: np.ndarray
) -> np.ndarray:
    """Return (tables, runs, R) accuracies on 200 test examples of runs that differ by luck."""
    luck = rng.normal(0, 0.02, size=(tables, runs, 1))
    return rng.binomial(200, 0.8 - 0.6 * np.exp(-labels / 60) + luck) / 200


def test_luck_alone_saves_labels_and_is_shown_beside() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(20, 180, 20)
    random, copy = (noisy_curves(rng, 100, 10, labels) for _ in range(2))
    faster = noisy_curves(rng, 100, 10, 2 * labels)  # as if each label were two
    itself = [label_shares(labels, r, r, paired=True) for r in random]
    copies = [label_shares(labels, c, r, paired=True) for c, r in zip(copy, random, strict=True)]
    better = [label_shares(labels, f, r, paired=True) for f, r in zip(faster, random, strict=True)]
    # In a quarter of its pairs random "saves" a tenth of the labels, and more.
    assert np.mean([s.low for s in itself]) < 0.9
    assert np.mean([s.never for s in itself]) == pytest.approx(0.48, abs=0.02)
    assert np.mean([s.median for s in itself]) > 0.95
    # A copy of random gives the same figures but for noise: 3 standard errors.
    for name in ("low", "never"):
        pairs = [(getattr(c, name), getattr(s, name)) for c, s in zip(copies, itself, strict=True)]
        gaps = [one - two for one, two in pairs if one is not None]
        assert len(gaps) >= 95
        assert abs(np.mean(gaps)) < 3 * np.std(gaps) / math.sqrt(len(gaps))
    # One that learns twice as fast needs about half, and seldom fails.
    assert np.mean([s.median for s in better]) == pytest.approx(0.5, abs=0.1)
    assert np.mean([s.never for s in better]) < 0.15

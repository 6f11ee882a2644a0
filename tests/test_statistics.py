"""Summaries of learning curves against closed forms and scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import auc

from star.statistics import area_under_curve, mean_interval


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

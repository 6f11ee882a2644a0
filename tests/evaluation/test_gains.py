"""Factors over random's gain and labels to a target, against closed forms and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from star.evaluation.gains import factor, labels_to

LABELS = [100, 200, 300]


# --- factors -------------------------------------------------------------------------------------


def refused(a: np.ndarray, b: np.ndarray, theta: float) -> bool:
    """Whether a paired t test at 5 % refuses that mean(a) is theta · mean(b)."""
    return bool(stats.ttest_1samp(a - theta * b, 0).pvalue < 0.05)


def test_of_a_constant_gain_it_is_the_interval_of_the_mean_over_it() -> None:
    # Without spread below, the ratio's interval is the t-interval of the mean, divided.
    a = np.array([1.0, 2.0, 3.0, 6.0])
    found = factor(a, [2.0] * 4)
    interval = stats.t.interval(0.95, 3, a.mean(), stats.sem(a))
    assert found is not None and found.kind == "between"
    assert found.value == pytest.approx(1.5)
    assert (found.low, found.high) == pytest.approx(tuple(end / 2 for end in interval))


def test_twice_the_gain_on_every_seed_is_certain() -> None:
    found = factor([4.0, 5.0, 6.2], [2.0, 2.5, 3.1])
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((2.0, 2.0, 2.0), abs=1e-6)


finite = st.lists(
    st.tuples(st.integers(-20, 40), st.integers(-20, 40)), min_size=3, max_size=9
).filter(lambda pairs: np.ptp([a for a, _ in pairs]) and np.ptp([b for _, b in pairs]))


@given(finite)
def test_what_is_left_is_what_a_t_test_does_not_refuse(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs, dtype=float).T
    found = factor(a, b)
    if found is None:
        assert b.mean() <= 0
        return
    assert found.value == pytest.approx(a.mean() / b.mean())
    thetas = np.array([*np.linspace(-8, 8, 33), found.value, 1e4, -1e4])
    ends = [end for end in (found.low, found.high) if end is not None]
    near = [np.abs(thetas - end) < 1e-6 * np.abs(thetas) + 1e-6 for end in ends]
    residuals = a[:, None] - thetas * b[:, None]
    clear = (np.ptp(residuals, axis=0) > 1e-9) & ~np.any([*near, np.zeros(36, bool)], axis=0)
    kept = stats.ttest_1samp(residuals[:, clear], 0).pvalue > 0.05
    left = np.ones(36, bool)
    if ends:
        between = (thetas >= ends[0]) & (thetas <= ends[1])
        left = between if found.kind == "between" else ~between
    assert (kept == left[clear]).all(), found


def test_two_seeds_with_a_wide_gain_below_bound_nothing() -> None:
    # 4.6 times on the mean, and no factor is refused: what two seeds can say.
    found = factor([4.6, 4.6], [0.5, 1.5])
    assert found is not None and found.value == pytest.approx(4.6)
    assert found.kind == "outside"
    assert not refused(np.array([4.6, 4.6]), np.array([0.5, 1.5]), 100.0)
    assert found.low is not None and found.high is not None and found.low < 0 < found.high < 4.6
    nothing = factor([1.0, -1.0, 1.2, -0.8], [-1.0, -1.0, 1.1, 1.1])
    assert nothing is not None and (nothing.kind, nothing.low, nothing.high) == ("any", None, None)


def test_one_seed_has_a_factor_and_no_interval() -> None:
    found = factor([0.03], [0.02])
    assert found is not None and found.value == pytest.approx(1.5)
    assert (found.kind, found.low, found.high) == ("one_seed", None, None)


@pytest.mark.parametrize("base", [[0.0, 0.0], [-0.1, 0.05], [-0.2], [0.8 - 0.7, 0.6 - 0.7]])
def test_of_no_gain_there_is_no_multiple(base: list[float]) -> None:
    assert factor([0.1] * len(base), base) is None


def test_the_interval_covers_as_often_as_it_says() -> None:
    draws = np.random.default_rng(3)
    base = draws.normal(1.0, 0.5, size=(2000, 8))
    gains = 0.5 * base + draws.normal(1.0, 0.4, size=(2000, 8))  # means 1.5 and 1.0
    hits = 0
    for a, b in zip(gains, base, strict=True):
        found = factor(a, b)
        assert found is not None
        if found.kind == "any" or found.low is None or found.high is None:
            hits += 1
        else:
            between = found.low <= 1.5 <= found.high
            hits += between if found.kind == "between" else not between
    assert 0.935 < hits / 2000 < 0.965


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [1.0, 2.0]), ([math.nan], [1.0])])
def test_bad_gains_are_refused(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError):
        factor(a, b)


# --- labels to a target --------------------------------------------------------------------------


def test_labels_to_randoms_end_by_hand() -> None:
    # Means: method 0.5, 0.7, 0.9, random 0.5, 0.6, 0.8: its end lies halfway from 200 to 300.
    method = [[0.4, 0.7, 0.9], [0.6, 0.7, 0.9]]
    random = [[0.5, 0.6, 0.7], [0.5, 0.6, 0.9]]
    found = labels_to(LABELS, method, random)
    assert found.target == pytest.approx(0.8)
    assert found.labels == pytest.approx(250)
    assert found.saved(found.labels) == pytest.approx(50 / 300)
    # Of two seeds a quarter of the resamples is the first twice (to 0.7: 200), a quarter the second
    # twice (to 0.9: 300), the rest both.
    assert (found.low, found.high, found.never) == pytest.approx((200, 300, 0))
    itself = labels_to(LABELS, random, random)
    assert itself.labels == itself.low == itself.high == 300
    assert itself.saved(300) == 0


def test_a_target_that_is_not_reached() -> None:
    method = [[0.5, 0.6, 0.65], [0.5, 0.6, 0.75]]
    found = labels_to(LABELS, method, method, 0.7)
    assert found.labels == pytest.approx(300)
    assert found.low == pytest.approx(200 + 100 * 0.1 / 0.15) and found.high is None
    assert found.never == pytest.approx(0.25, abs=0.03)
    never = labels_to(LABELS, method, method, 0.9)
    assert (never.labels, never.low, never.high, never.never) == (None, None, None, 1)
    assert never.saved(never.labels) is None


def test_a_lucky_point_reaches_nothing() -> None:
    found = labels_to(LABELS, [[0.5, 0.9, 0.6]], [[0.5, 0.6, 0.8]])
    assert found.labels is None  # (0.9 + 0.6) / 2 < 0.8


def test_one_seed_has_no_interval() -> None:
    found = labels_to(LABELS, [[0.5, 0.7, 0.9]], [[0.5, 0.6, 0.8]])
    assert found.labels == pytest.approx(250)
    assert (found.low, found.high, found.never) == (None, None, None)


def test_the_interval_is_scipys() -> None:
    draws = np.random.default_rng(5)
    labels = np.arange(100, 600, 100)
    rising = np.linspace(0.6, 0.8, 5)
    random = rising + draws.normal(0, 0.01, size=(8, 5))
    method = rising + 0.03 + draws.normal(0, 0.01, size=(8, 5))

    def statistic(seeds: np.ndarray) -> float:
        curve = method[seeds].mean(axis=0)
        return float(np.interp(random[seeds, -1].mean(), curve, labels))

    found = labels_to(labels, method, random)
    assert found.labels == pytest.approx(statistic(np.arange(8)))
    theirs = stats.bootstrap(
        (np.arange(8),),
        statistic,
        n_resamples=4000,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.1 * width)


@pytest.mark.parametrize(
    ("labels", "method", "random"),
    [
        (LABELS, [], []),
        (LABELS, [[0.5, 0.6, 0.7]], [[0.5, 0.6, 0.7]] * 2),
        (LABELS, [[0.5, 0.6]], [[0.5, 0.6]]),
        ([3, 2, 1], [[0.5, 0.6, 0.7]], [[0.5, 0.6, 0.7]]),
        (LABELS, [[0.5, 0.6, math.nan]], [[0.5, 0.6, 0.7]]),
    ],
)
def test_bad_curves_are_refused(labels: list, method: list, random: list) -> None:
    with pytest.raises(ValueError):
        labels_to(labels, method, random)

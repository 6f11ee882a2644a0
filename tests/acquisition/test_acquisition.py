"""Scores to a query: scale, weights, blend, selection, against closed forms."""

from __future__ import annotations

import itertools
import math
from typing import get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from star.acquisition import uncertainty
from star.acquisition.blending import (
    COMBINATIONS,
    NORMALIZATIONS,
    SCHEDULES,
    base_weight,
    combine,
    common_scale,
    effective_weights,
    near_ties,
    spearman,
    top_k,
)
from star.config import AcquisitionConfig, BaseWeightConfig, load, strategy_name

finite = st.floats(-1e6, 1e6, allow_subnormal=False)
scores_of = st.lists(finite, min_size=1, max_size=30).map(np.array)
# Few values, so that ties are the rule.
tied = st.lists(st.integers(0, 3), min_size=2, max_size=20)


def words(config: type, name: str) -> set[str]:
    return set(get_args(get_type_hints(config)[name]))


def test_choices_are_those_of_the_configuration() -> None:
    assert set(NORMALIZATIONS) == words(AcquisitionConfig, "normalization")
    assert set(COMBINATIONS) == words(AcquisitionConfig, "combine")
    assert set(SCHEDULES) == words(BaseWeightConfig, "schedule")
    # bald needs all passes at once and is apart.
    assert set(uncertainty.MEASURES) | {"bald"} == words(AcquisitionConfig, "measure")
    for how in words(AcquisitionConfig, "combine"):
        config = ["acquisition.continuation=base", f"acquisition.combine={how}"]
        assert strategy_name(load(None, config))


# --- common scale ------------------------------------------------------------------------------


def test_scales_by_hand() -> None:
    values = np.array([1.0, 5.0, 2.0, 2.0])
    assert common_scale(values, "minmax").tolist() == [0, 1, 0.25, 0.25]
    # Mean ranks 1, 4, 2.5, 2.5, put on [0, 1].
    assert common_scale(values, "rank").tolist() == [0, 1, 0.5, 0.5]
    assert common_scale(values, "none").tolist() == values.tolist()
    np.testing.assert_allclose(common_scale(values, "zscore"), stats.zscore(values))


@pytest.mark.parametrize("name", ["minmax", "rank", "zscore"])
@pytest.mark.parametrize("value", [0.0, 0.1, -3.7, 1e9])
@pytest.mark.parametrize("count", [1, 3, 7])
def test_a_constant_score_becomes_zero(name: str, value: float, count: int) -> None:
    assert common_scale(np.full(count, value), name).tolist() == [0.0] * count


@pytest.mark.parametrize("name", list(NORMALIZATIONS))
def test_nothing_to_scale(name: str) -> None:
    assert common_scale(np.array([]), name).shape == (0,)


@given(scores_of, st.sampled_from(["minmax", "rank", "zscore"]))
def test_a_scale_keeps_the_order_and_forgets_the_unit(values: np.ndarray, name: str) -> None:
    before = values.copy()
    scaled = common_scale(values, name)
    assert (values == before).all()
    assert np.isfinite(scaled).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(scaled[order]) >= 0).all()
    np.testing.assert_allclose(common_scale(2 * values, name), scaled, atol=1e-9)
    if name != "zscore" and np.ptp(values) > 0:
        assert (scaled.min(), scaled.max()) == (0, 1)


# --- λ(t) --------------------------------------------------------------------------------------


def test_linear_is_the_released_code_for_ten_rounds() -> None:
    weights = [base_weight(t, 10, schedule="linear") for t in range(9)]
    assert weights == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


@given(st.integers(2, 60))
def test_closed_forms(rounds: int) -> None:
    for t in range(rounds):
        linear = base_weight(t, rounds, schedule="linear")
        assert linear == pytest.approx(1 - (t + 1) / rounds)
        assert base_weight(t, rounds, schedule="cosine") == pytest.approx(
            math.cos(math.pi * (t + 1) / (2 * rounds)) ** 2
        )
        assert base_weight(t, rounds, schedule="exponential", decay=0.7) == pytest.approx(
            (1 - 1 / rounds) * 0.7**t
        )
        assert base_weight(t, rounds, schedule="constant", value=0.3) == 0.3
    # Queries follow rounds 0 to R - 2.
    assert base_weight(0, rounds, schedule="linear") == pytest.approx(1 - 1 / rounds)
    assert base_weight(rounds - 2, rounds, schedule="linear") == pytest.approx(1 / rounds)


@given(
    st.integers(2, 60), st.sampled_from(["linear", "cosine", "exponential"]), st.floats(0.01, 0.99)
)
def test_the_weight_falls_and_is_a_weight(rounds: int, schedule: str, decay: float) -> None:
    weights = [base_weight(t, rounds, schedule=schedule, decay=decay) for t in range(rounds)]
    assert all(0 <= weight < 1 for weight in weights)
    assert all(after < before for before, after in itertools.pairwise(weights))


@pytest.mark.parametrize("t", [-1, 3, 4])
def test_no_weight_outside_the_run(t: int) -> None:
    with pytest.raises(ValueError, match=r"0\.\.2"):
        base_weight(t, 3, schedule="linear")


# --- blend -------------------------------------------------------------------------------------


def test_blends_by_hand() -> None:
    base, full = np.array([0.0, 10.0, 5.0]), np.array([3.0, 1.0, 2.0])
    options = {"weight": 0.75, "normalization": "minmax"}
    assert combine(base, full, how="none", **options).tolist() == [1, 0, 0.5]
    assert combine(base, full, how="subtract", **options).tolist() == [1, -1, 0]
    assert combine(base, full, how="dynamic", **options).tolist() == [0.25, 0.75, 0.5]
    raw = combine(base, full, how="dynamic", weight=0.5, normalization="none")
    assert raw.tolist() == [1.5, 5.5, 3.5]
    assert combine(None, full, how="none", **options).tolist() == [1, 0, 0.5]


@pytest.mark.parametrize("name", list(NORMALIZATIONS))
@pytest.mark.parametrize("weight, view", [(0.0, 1), (1.0, 0)])
def test_the_ends_of_the_blend_are_the_views(name: str, weight: float, view: int) -> None:
    views = np.random.default_rng(0).normal(size=(2, 9))
    blended = combine(*views, how="dynamic", weight=weight, normalization=name)
    # `base_minmax` scales the blend at last, so either view comes out on [0, 1].
    scale = "minmax" if name == "base_minmax" else name
    np.testing.assert_allclose(blended, common_scale(views[view], scale), rtol=0, atol=1e-15)


def test_the_released_codes_scale() -> None:
    # Fault 3 by hand: the base on [0, 1] over the whole pool (0 to 10 nats, here 2 and 4 of it are
    # unlabelled), the full view in nats, the blend on [0, 1].
    base, full = np.array([2.0, 4.0, 2.0]), np.array([30.0, 10.0, 50.0])
    options = {"how": "dynamic", "weight": 0.9, "normalization": "base_minmax"}
    blended = combine(base, full, **options, base_range=(0.0, 10.0))
    mixed = np.array([0.9 * 0.2 + 3.0, 0.9 * 0.4 + 1.0, 0.9 * 0.2 + 5.0])
    np.testing.assert_allclose(blended, (mixed - 1.36) / (5.18 - 1.36), rtol=1e-14)
    constant = combine(base, full, **options, base_range=(3.0, 3.0))
    np.testing.assert_allclose(constant, [0.5, 0.0, 1.0], rtol=1e-14)


# --- selection ---------------------------------------------------------------------------------


def test_ties_go_to_the_smaller_pool_index() -> None:
    scores, indices = np.array([1.0, 2.0, 1.0, 1.0, 0.0]), np.array([9, 4, 5, 7, 1])
    assert top_k(scores, indices, 3) == [4, 5, 7]
    assert top_k(scores, indices, 99) == [4, 5, 7, 9, 1]
    assert top_k(scores, indices, 0) == []
    assert top_k(np.array([0.0, -0.0]), np.array([8, 3]), 1) == [3]


@given(tied, st.integers(0, 25), st.randoms(use_true_random=False))
def test_the_query_does_not_depend_on_the_order(values: list[int], count: int, random) -> None:
    pairs = list(zip(values, range(100, 100 + len(values)), strict=True))
    expected = [i for _, i in sorted(pairs, key=lambda pair: (-pair[0], pair[1]))[:count]]
    random.shuffle(pairs)
    scores, indices = np.array(pairs, dtype=np.float64).T
    assert top_k(scores, indices.astype(np.int64), count) == expected


def test_near_ties_by_hand() -> None:
    scores = np.array([10.0, 6.0, 5.0, 0.0])
    assert near_ties(scores, 2, tolerance=1e-4) == 0
    assert near_ties(scores, 2, tolerance=0.11) == 2  # gap 1 of a range of 10
    assert near_ties(scores, 2, tolerance=0.09) == 0
    assert near_ties(np.array([3.0, 2, 2, 2, 1]), 2, tolerance=1e-4) == 3
    assert near_ties(np.ones(4), 2, tolerance=1e-4) == 4
    assert [near_ties(scores, count, tolerance=1e-4) for count in (4, 9, 0)] == [0, 0, 0]


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=20), st.integers(1, 19), st.data())
def test_no_near_tie_means_that_small_changes_alter_nothing(
    values: list[int], count: int, data: st.DataObject
) -> None:
    scores, indices = np.array(values, dtype=np.float64), np.arange(len(values))
    if near_ties(scores, count, tolerance=0.01):
        return
    half = 0.0049 * np.ptp(scores)
    noise = data.draw(
        st.lists(st.floats(-half, half), min_size=len(values), max_size=len(values)), "noise"
    )
    moved = top_k(scores + np.array(noise), indices, count)
    assert set(moved) == set(top_k(scores, indices, count))


# --- effective weights -------------------------------------------------------------------------


@given(tied, st.data())
def test_spearman_is_scipys(first: list[int], data: st.DataObject) -> None:
    size = len(first)
    second = data.draw(st.lists(st.integers(0, 4), min_size=size, max_size=size))
    got = spearman(np.array(first), np.array(second))
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert got is None
    else:
        assert got == pytest.approx(stats.spearmanr(first, second).statistic)


def test_the_view_with_the_larger_spread_decides() -> None:
    rng = np.random.default_rng(0)
    base, full = rng.normal(size=200), 1000 * rng.normal(size=200)
    options = {"how": "dynamic", "weight": 0.9}
    # The released code's fault 3: without a common scale a λ of 0.9 is almost none.
    raw = effective_weights(base, full, combine(base, full, normalization="none", **options))
    assert raw["full"] > 0.99 and abs(raw["base"]) < 0.3
    even = effective_weights(base, full, combine(base, full, normalization="zscore", **options))
    assert even["base"] > 0.9 and even["full"] < 0.4
    alone = effective_weights(None, full, full)
    assert alone["base"] is None and alone["full"] == pytest.approx(1)
    assert effective_weights(np.ones(200), full, full)["base"] is None

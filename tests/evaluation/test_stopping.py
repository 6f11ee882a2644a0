from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star.evaluation import stopping
from star.evaluation.stopping import RULES, History, consecutive_kappa, outcome, total_costs

CURVE = History(
    labels=[10, 20, 30, 40, 50],
    accuracy=[0.5, 0.7, 0.68, 0.7, 0.705],
    uncertainty=[0.9, 0.4, 0.45, 0.2, 0.1],
    kappas=consecutive_kappa([list("aabb"), *[list("abab")] * 4]),
)


def test_each_rule_stops_where_its_definition_says() -> None:
    assert stopping.budget(CURVE, 30) == 2 and stopping.budget(CURVE, 31) == 3
    assert stopping.budget(CURVE, 51) is None
    assert stopping.rounds(CURVE, 1) == 0 and stopping.rounds(CURVE, 5) == 4
    assert stopping.rounds(CURVE, 6) is None
    # Best so far: 0.5, 0.7, 0.7, 0.7, 0.705.
    assert stopping.no_gain(CURVE, 0.01, patience=1) == 2
    assert stopping.no_gain(CURVE, 0.01, patience=2) == 3
    assert stopping.no_gain(CURVE, 0.01, patience=5) is None
    assert stopping.no_gain(CURVE, 0.0, patience=1) is None  # a best so far never falls
    even = History([1, 2, 3], [0.6, 0.65, 0.7])  # as floats, the second gain is below 0.05
    assert stopping.no_gain(even, 0.05, patience=1) is None
    assert stopping.low_uncertainty(CURVE, 0.5) == 1
    assert stopping.low_uncertainty(CURVE, 0.1) is None
    assert CURVE.kappas == [0, 1, 1, 1]
    assert stopping.stable(CURVE) == 4 and stopping.stable(CURVE, window=1) == 2
    assert stopping.stable(CURVE, window=5) is None


def test_a_model_that_collapsed_is_not_called_stable() -> None:
    same = History([1, 2, 3, 4], [0.5] * 4, kappas=consecutive_kappa([["a", "a"]] * 4))
    assert same.kappas == [None] * 3
    assert stopping.stable(same, window=1) is None


def test_what_was_not_recorded_stops_nothing() -> None:
    bare = History([1, 2], [0.5, 0.6])
    assert stopping.low_uncertainty(bare, 1.0) is None and stopping.stable(bare) is None


@given(st.data())
def test_a_rule_looks_at_no_later_round(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 7))
    values = st.lists(st.floats(0, 1), min_size=size, max_size=size)
    kappas = st.lists(st.none() | st.floats(-1, 1), min_size=size - 1, max_size=size - 1)
    whole = History(
        range(1, size + 1),
        data.draw(values),
        data.draw(values),
        data.draw(kappas),
    )
    settings = {
        "budget": {"limit": 3},
        "rounds": {"count": 3},
        "no_gain": {"threshold": 0.1, "patience": 2},
        "low_uncertainty": {"threshold": 0.5},
        "stable": {"threshold": 0.9, "window": 2},
    }
    assert set(settings) == set(RULES)
    for name, rule in RULES.items():
        told = rule(whole, **settings[name])
        for cut in range(1, size + 1):
            part = History(
                whole.labels[:cut],
                whole.accuracy[:cut],
                whole.uncertainty[:cut],  # type: ignore[index]
                whole.kappas[: cut - 1],
            )
            assert rule(part, **settings[name]) == (
                told if told is not None and told < cut else None
            )


def test_what_stopping_saves_and_costs() -> None:
    prices = (0.0, 0.1, 1.0)
    found = outcome(CURVE, 2, prices, served=100)
    assert (found.round, found.stopped, found.saved, found.saved_share) == (2, True, 20, 0.4)
    assert found.lost == pytest.approx(0.025)
    # 30 labels, and 32 errors in 100 answers at each price.
    assert found.costs == pytest.approx({0.0: 30, 0.1: 33.2, 1.0: 62})
    # The cheapest: round 0 (10), round 0 (10 + 5), round 1 (20 + 30).
    assert found.regrets == pytest.approx({0.0: 20, 0.1: 18.2, 1.0: 12})
    end = outcome(CURVE, None, prices, served=100)
    assert (end.round, end.stopped, end.saved, end.lost) == (4, False, 0, 0)
    assert total_costs([1, 2], [1.0, 0.5], 2, 10).tolist() == [1, 12]


def test_what_is_no_history_is_refused() -> None:
    for labels, accuracy, uncertainty, kappas in (
        ([], [], None, ()),
        ([1, 1], [0.1, 0.2], None, ()),
        ([1, 2], [0.1], None, ()),
        ([1, 2], [0.1, float("nan")], None, ()),
        ([1, 2], [0.1, 0.2], [0.1], ()),
        ([1, 2], [0.1, 0.2], None, [0.5, 0.5]),
    ):
        with pytest.raises(ValueError):
            History(labels, accuracy, uncertainty, kappas)
    for call in (
        lambda: stopping.no_gain(CURVE, 0.1, 0),
        lambda: stopping.stable(CURVE, window=0),
        lambda: stopping.rounds(CURVE, 0),
        lambda: outcome(CURVE, 5, (), served=1),
        lambda: total_costs([1], [0.5], -1, 1),
        lambda: consecutive_kappa([["a"], ["a", "b"]]),
    ):
        with pytest.raises(ValueError):
            call()

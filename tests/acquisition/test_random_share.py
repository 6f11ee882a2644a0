"""A share of every query at random: a uniform sample, whatever the strategy picks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from star.acquisition.blending import near_ties, top_k
from star.acquisition.decision import decide
from star.acquisition.random_share import mixed
from star.acquisition.scores import Scores
from star.acquisition.uncertainty import MEASURES
from star.config import AcquisitionConfig, config_hash, load, strategy_name
from star.errors import InputError
from star.evaluation.random_share import estimate

INDEX = np.arange(100, 140)


@given(st.integers(0, 40), st.floats(0, 0.99), st.integers(0, 50), st.integers(0, 5))
def test_the_best_of_the_others_stay_in_their_order(
    count: int, share: float, seed: int, t: int
) -> None:
    best = np.random.default_rng(seed).permutation(INDEX)[:count].tolist()
    query, drawn = mixed(best, INDEX, share, seed=seed, t=t)
    assert len(query) == len(set(query)) == count and len(drawn) == round(share * count)
    assert set(drawn) <= set(query) <= set(INDEX.tolist())
    assert [i for i in query if i in set(drawn)] == drawn
    others = [i for i in query if i not in set(drawn)]
    assert others == [i for i in best if i not in set(drawn)][: len(others)]
    assert mixed(best, INDEX[::-1], share, seed=seed, t=t) == (query, drawn)


def test_every_row_and_every_place_is_as_likely() -> None:
    rows, places, first = Counter(), Counter(), Counter()
    for seed in range(4000):
        query, drawn = mixed(INDEX[:10].tolist(), INDEX, 0.3, seed=seed, t=1)
        rows.update(drawn)
        first.update(drawn[:1])  # what is answered of a part of the query is a sample as well
        places.update(query.index(i) for i in drawn)
    assert chisquare([rows[i] for i in INDEX.tolist()]).pvalue > 1e-3
    assert chisquare([first[i] for i in INDEX.tolist()]).pvalue > 1e-3
    assert chisquare([places[k] for k in range(10)]).pvalue > 1e-3


def test_near_ties_are_of_those_that_scores_decided() -> None:
    values = np.array([5.0, 4.0, 3.0, 2.0, 2.0, 1.0, 0.5, 0.0])
    arrays = {f"full_{name}": values[:, None] for name in MEASURES}
    pool = Scores({"index": np.arange(8), "full_num_tokens": np.ones(8, dtype=int)} | arrays)
    a = AcquisitionConfig(combine="none", random_share=0.25)
    for seed in range(30):
        made = decide(pool, a, t=0, rounds=2, count=4, seed=seed)
        others = ~np.isin(np.arange(8), made.drawn)
        assert made.near_ties == near_ties(values[others], 3, tolerance=1e-6)
        picked = [i for i in made.indices if i not in made.drawn]
        assert picked == top_k(values[others], np.flatnonzero(others), 3)


def test_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    shared = load(None, ["acquisition.random_share=0.2", "acquisition.select=k_center"])
    assert strategy_name(shared) == "k_center-random0.2"
    assert config_hash(shared) != config_hash(load(None, ["acquisition.select=k_center"]))
    assert config_hash(load(None, ["acquisition.random_share=0"])) == config_hash(load())
    for wrong in ("1", "-0.1", "nan", "some"):
        with pytest.raises(InputError, match="random_share"):
            load(None, [f"acquisition.random_share={wrong}"])


@pytest.mark.parametrize(
    ("right", "rows", "low", "high"),  # Clopper and Pearson's, as tables have them
    [(0, 10, 0.0, 0.3085), (10, 10, 0.6915, 1.0), (8, 10, 0.4439, 0.9748), (1, 2, 0.0126, 0.9874)],
)
def test_the_interval_is_exact(right: int, rows: int, low: float, high: float) -> None:
    found = estimate([True] * right + [False] * (rows - right))
    assert found is not None and (found.rows, found.right) == (rows, right)
    assert found.accuracy == right / rows
    assert found.low == pytest.approx(low, abs=5e-5)
    assert found.high == pytest.approx(high, abs=5e-5)


def test_of_nothing_there_is_no_interval() -> None:
    assert estimate([]) is None


def test_the_interval_holds_the_pool_s_accuracy() -> None:
    rng, held = np.random.default_rng(0), 0
    right = rng.random(200) < 0.7
    for seed in range(1000):
        _, drawn = mixed(list(range(40)), np.arange(200), 0.5, seed=seed, t=0)
        found = estimate(right[drawn].tolist())
        assert found is not None
        held += found.low <= right.mean() <= found.high
    assert held >= 950

"""Stochastic batches, against the probabilities of drawing one after the other."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import chisquare

from star.acquisition.stochastic import STOCHASTIC, power, softmax, softrank

SCORES = np.array([0.5, 2.0, 1.0, 0.25])
DRAWS = 2000


def pair_probabilities(weights: np.ndarray) -> dict[tuple[int, int], float]:
    """Return p(first, then second) of draws without replacement."""
    p = weights / weights.sum()
    pairs = itertools.permutations(range(len(p)), 2)
    return {(i, j): p[i] * p[j] / (1 - p[i]) for i, j in pairs}


@pytest.mark.parametrize("coldness", [1.0, 2.5])
@pytest.mark.parametrize(
    "name, weights",
    [
        ("softmax", np.exp(SCORES)),
        ("power", SCORES),
        ("softrank", 1 / np.array([3.0, 1.0, 2.0, 4.0])),
    ],
)
def test_pairs_come_as_often_as_they_should(
    name: str, weights: np.ndarray, coldness: float
) -> None:
    random = np.random.default_rng(5)
    keys = [STOCHASTIC[name](SCORES, random, coldness=coldness) for _ in range(DRAWS)]
    first, second = np.argsort(-np.array(keys), axis=1)[:, :2].T
    expected = pair_probabilities(weights**coldness)
    seen = [int(((first == i) & (second == j)).sum()) for i, j in expected]
    assert chisquare(seen, DRAWS * np.array(list(expected.values()))).pvalue > 1e-3


@pytest.mark.parametrize("name", STOCHASTIC)
def test_the_generator_decides(name: str) -> None:
    draw = STOCHASTIC[name]
    one, same, other = (draw(SCORES, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


@pytest.mark.parametrize("name", STOCHASTIC)
def test_a_cold_draw_is_top_k(name: str) -> None:
    keys = STOCHASTIC[name](SCORES, np.random.default_rng(0), coldness=1e4)
    assert np.argsort(-keys).tolist() == [1, 2, 0, 3]


@pytest.mark.parametrize("name", STOCHASTIC)
def test_equal_scores_are_drawn_alike(name: str) -> None:
    random = np.random.default_rng(3)
    first = [int(STOCHASTIC[name](np.full(4, 0.7), random).argmax()) for _ in range(DRAWS)]
    assert chisquare(np.bincount(first, minlength=4)).pvalue > 1e-3


def test_power_takes_zeros_last_and_any_unit() -> None:
    scores = np.array([0.0, 1e-9, 0.0, 3.0])
    keys = power(scores, np.random.default_rng(0))
    assert np.isfinite(keys).all()
    assert set(np.argsort(-keys)[:2]) == {1, 3}
    again = power(7 * SCORES, np.random.default_rng(1))
    assert (np.argsort(again) == np.argsort(power(SCORES, np.random.default_rng(1)))).all()


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        power(np.array([0.1, -0.1]), np.random.default_rng(0))
    with pytest.raises(ValueError, match="coldness"):
        softmax(SCORES, np.random.default_rng(0), coldness=0.0)
    assert softrank(np.array([]), np.random.default_rng(0)).shape == (0,)

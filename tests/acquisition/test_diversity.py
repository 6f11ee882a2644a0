"""k-centre, its combinations and clusters, against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from star.acquisition import diversity, points
from star.acquisition.diversity import (
    cluster_then_uncertain,
    clusters,
    k_center,
    normalised,
    uncertain_then_k_center,
    weighted_k_center,
)

NONE = np.empty((0, 3))


def brute_force(
    rows: np.ndarray, labelled: np.ndarray, count: int, weights: np.ndarray
) -> list[int]:
    """Return the picks by a full matrix of distances, in float64, ties to the smaller position."""
    rows, labelled = rows.astype(np.float64), labelled.astype(np.float64)
    chosen: list[int] = []
    for _ in range(min(count, len(rows))):
        distance = cdist(rows, np.concatenate([labelled, rows[chosen]])).min(axis=1)
        key = weights * distance
        key[chosen] = -1
        chosen.append(int(key.argmax()))
    return chosen


def cloud(size: int, seed: int, dim: int = 5) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = 3 * random.normal(size=(4, dim))
    return centres[random.integers(4, size=size)] + random.normal(size=(size, dim))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kept", [1, 3, 8, 4096])  # rows that are kept up to date pick by pick
@pytest.mark.parametrize("seed", range(4))
def test_k_center_is_the_brute_force(
    monkeypatch: pytest.MonkeyPatch, seed: int, kept: int, dtype: type
) -> None:
    monkeypatch.setattr(diversity, "CANDIDATES", kept)
    monkeypatch.setattr(points, "ROWS", 7)
    rows, labelled = cloud(60, seed).astype(dtype), cloud(5, seed + 100).astype(dtype)
    weights = np.random.default_rng(seed).uniform(size=60)
    assert k_center(rows, labelled, 40) == brute_force(rows, labelled, 40, np.ones(60))
    assert k_center(rows, labelled, 40, weights=weights) == brute_force(rows, labelled, 40, weights)


def test_k_center_by_hand() -> None:
    rows = np.array([[0.0], [1.0], [4.0], [10.0]])
    assert k_center(rows, np.array([[0.0]]), 3) == [3, 2, 1]
    # 4 is 4 from 0 and 6 from 10; both ends tie at first, the smaller position goes first.
    assert k_center(np.array([[-2.0], [2.0], [1.0]]), np.array([[0.0]]), 3) == [0, 1, 2]


def test_nothing_labelled_begins_in_the_middle() -> None:
    rows = np.array([[0.0], [1.0], [2.0], [9.0]])  # mean 3
    assert k_center(rows, NONE[:, :1], 2) == [2, 3]
    assert k_center(rows, [], 1, weights=np.array([1.0, 2.0, 0.0, 2.0])) == [1]


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_copies_are_picked_last_and_in_order(offset: float) -> None:
    rows = np.repeat(cloud(4, 0, dim=30), 3, axis=0).astype(np.float32) + np.float32(offset)
    picks = k_center(rows, rows[:1], 12)
    assert sorted(picks) == list(range(12))
    assert all(place % 3 == 0 for place in picks[:3])
    assert picks[3:] == sorted(picks[3:])
    same = np.ones((6, 4), dtype=np.float32)
    assert k_center(same, same[:1], 4) == k_center(same, same[:0], 4) == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 100])
def test_never_more_than_there_are(count: int) -> None:
    rows, random = cloud(10, 1), np.random.default_rng(0)
    unsure = np.linspace(0, 1, 10)
    for picks in (
        k_center(rows, rows[:2], count),
        k_center(rows, [], count),
        weighted_k_center(rows, rows[:2], unsure, count),
        uncertain_then_k_center(rows, rows[:2], unsure, count),
        cluster_then_uncertain(rows, unsure, count, random),
    ):
        assert len(picks) == len(set(picks)) == min(count, 10)
        assert set(picks) <= set(range(10))


def test_zeros_alone() -> None:
    assert k_center(np.zeros((5, 3)), NONE, 3) == [0, 1, 2]
    assert k_center(cloud(5, 0, 3), NONE, 5, weights=np.zeros(5))[1:] != []
    assert sorted(k_center(cloud(5, 0, 3), NONE, 5, weights=np.zeros(5))) == [0, 1, 2, 3, 4]


def covered(rows: np.ndarray, picks: list[int]) -> float:
    """Return the largest distance to the nearest pick."""
    return float(cdist(rows, rows[picks]).min(axis=1).max())


@pytest.mark.parametrize("count", [2, 5, 20, 60])
def test_it_covers_better_than_random(count: int) -> None:
    rows, random = cloud(300, 7), np.random.default_rng(0)
    drawn = [covered(rows, random.choice(300, count, replace=False).tolist()) for _ in range(20)]
    assert covered(rows, k_center(rows, [], count)) < np.mean(drawn)


def test_combinations_by_hand() -> None:
    rows, labelled = np.array([[1.0], [2.0], [3.0], [10.0]]), np.array([[0.0]])
    # Normalised uncertainty 1, 1/2, 1/2, 0 times distance 1, 2, 3, 10.
    unsure = np.array([5.0, 3.0, 3.0, 1.0])
    assert weighted_k_center(rows, labelled, unsure, 1) == [2]
    # A constant uncertainty leaves the diversity.
    assert weighted_k_center(rows, labelled, np.full(4, 0.3), 1) == [3]
    # The two most uncertain, then the farthest of them; ties to the smaller position.
    assert uncertain_then_k_center(rows, labelled, unsure, 1, factor=2) == [1]
    assert uncertain_then_k_center(rows, labelled, unsure, 1, factor=4) == [3]
    assert uncertain_then_k_center(rows, labelled, unsure, 2, factor=1) == [1, 0]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=9).map(np.array))
def test_normalised_uncertainty(values: np.ndarray) -> None:
    scaled = normalised(values)
    assert scaled.min() >= 0
    assert scaled.max() == 1


def test_clusters_are_those_that_are_there() -> None:
    random = np.random.default_rng(0)
    which = random.integers(6, size=120)
    rows = 50 * np.eye(6)[which] + random.normal(size=(120, 6))
    cluster = clusters(rows, 6, np.random.default_rng(1))
    assert len({(a, b) for a, b in zip(which, cluster, strict=True)}) == 6
    unsure = random.uniform(size=120)
    best = [int(np.flatnonzero(which == c)[unsure[which == c].argmax()]) for c in range(6)]
    picks = cluster_then_uncertain(rows, unsure, 6, np.random.default_rng(1))
    assert picks == sorted(best, key=lambda i: -unsure[i])


@pytest.mark.parametrize("count", [5, 60])  # Lloyd's algorithm, mini-batches
def test_the_generator_decides_on_clusters(count: int) -> None:
    rows = cloud(200, 2)
    one, same, other = (clusters(rows, count, np.random.default_rng(s)) for s in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_fewer_kinds_of_rows_than_clusters() -> None:
    rows = np.repeat(cloud(3, 0), 5, axis=0)
    unsure = np.arange(15.0)
    picks = cluster_then_uncertain(rows, unsure, 6, np.random.default_rng(0))
    assert picks == [14, 9, 4, 13, 12, 11]  # the best of each kind, then the most uncertain


def test_what_is_refused() -> None:
    rows = cloud(4, 0)
    with pytest.raises(ValueError, match="one length"):
        k_center(rows, np.ones((2, 3)), 1)
    with pytest.raises(ValueError, match="finite"):
        k_center(np.full((2, 2), np.nan), [], 1)
    with pytest.raises(ValueError, match="≥ 0"):
        k_center(rows, [], 1, weights=np.array([1, 1, 1, -1.0]))
    with pytest.raises(ValueError, match="factor"):
        uncertain_then_k_center(rows, [], np.ones(4), 1, factor=0)

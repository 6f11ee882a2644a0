"""TypiClust, MaxHerding and UHerding, against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import softmax

from star.acquisition import representative
from star.acquisition.representative import (
    fitted_temperature,
    herding,
    kernel_width,
    margin_uncertainty,
    sample,
    tempered,
    typiclust,
)
from star.evaluation.calibration import expected_calibration_error

NONE = np.empty((0, 5))


def cloud(size: int, seed: int, dim: int = 5) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (
        random.normal(size=(size, dim))
        + 2 * random.normal(size=(3, dim))[random.integers(3, size=size)]
    )


def brute_force(
    rows: np.ndarray, labelled: np.ndarray, count: int, weights: np.ndarray, width: float
) -> list[int]:
    """Return the greedy maximum of the coverage, each computed anew from the whole kernel."""
    everything = np.concatenate([rows, labelled])
    everything = everything / np.linalg.norm(everything, axis=1, keepdims=True)
    kernel = np.exp(-((cdist(everything[: len(rows)], everything) / width) ** 2))
    known, chosen = list(range(len(rows), len(everything))), []

    def coverage(extra: int) -> float:
        return float(weights @ kernel[:, [*known, *chosen, extra]].max(axis=1))

    for _ in range(count):
        left = {i: coverage(i) for i in range(len(rows)) if i not in chosen}
        # Two rows that cover each other and nothing else gain the same, but for rounding.
        tied = [i for i, value in left.items() if value > max(left.values()) - 1e-9]
        chosen.append(max(tied, key=lambda i: weights @ kernel[:, i]))
    return chosen


@pytest.mark.parametrize("known", [0, 4])
@pytest.mark.parametrize("width", [0.4, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_herding_is_the_brute_force(
    monkeypatch: pytest.MonkeyPatch, seed: int, width: float, known: int
) -> None:
    monkeypatch.setattr(representative, "COLUMNS", 7)
    rows, labelled = cloud(40, seed), cloud(known, seed + 50)
    weights = np.random.default_rng(seed).uniform(size=40)
    expected = brute_force(rows, labelled, 25, np.ones(40), width)
    assert herding(rows, labelled, 25, width=width) == expected
    expected = brute_force(rows, labelled, 25, weights, width)
    assert herding(rows, labelled, 25, width=width, uncertainty=weights) == expected


def test_a_narrow_kernel_leaves_uncertainty_and_a_wide_one_the_middle() -> None:
    rows = cloud(30, 3)
    unsure = np.random.default_rng(0).uniform(0.5, 1, size=30)
    narrow = herding(rows, [], 30, uncertainty=unsure, width=1e-2)
    assert narrow == np.argsort(-unsure).tolist()
    whole = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    wide = herding(rows, [], 1, width=100.0)
    assert wide == [int((cdist(whole, whole) ** 2).sum(axis=1).argmin())]


def test_copies_and_zeros_in_order() -> None:
    rows = np.repeat(cloud(3, 0), 4, axis=0).astype(np.float32)
    picks = herding(rows, [], 12)
    assert sorted(picks[:3]) == [0, 4, 8]
    assert picks[3:] == [i for i in range(12) if i % 4]
    assert herding(np.zeros((4, 5)), NONE, 3) == [0, 1, 2]
    assert herding(cloud(4, 0), cloud(2, 1), 3, uncertainty=np.zeros(4)) == [0, 1, 2]


def test_the_length_of_rows_does_not_matter() -> None:
    rows = cloud(20, 1)
    assert herding(rows * np.arange(1, 21)[:, None], [], 8) == herding(rows, [], 8)


def test_width_is_the_least_distance_between_what_is_labelled() -> None:
    labelled = cloud(50, 4)
    whole = labelled / np.linalg.norm(labelled, axis=1, keepdims=True)
    distances = cdist(whole, whole)[np.triu_indices(50, 1)]
    assert kernel_width(labelled) == pytest.approx(distances.min())
    copies = np.concatenate([labelled, 3 * labelled]).astype(np.float32)
    assert kernel_width(copies) == pytest.approx(distances.min(), rel=1e-4)
    assert kernel_width(labelled[:1]) == kernel_width([]) == kernel_width(np.ones((3, 2))) == 1.0


def test_a_sample_of_large_pools() -> None:
    assert sample(20, 5, np.random.default_rng(0), limit=20).tolist() == list(range(20))
    drawn = sample(1000, 5, np.random.default_rng(0), limit=20)
    assert len(set(drawn.tolist())) == 20
    assert (np.diff(drawn) > 0).all()
    assert len(sample(1000, 50, np.random.default_rng(0), limit=20)) == 50


def kinds() -> np.ndarray:
    """Return 30 rows of three far kinds, 15, 9 and 6 of them."""
    where = np.repeat([0, 1, 2], [15, 9, 6])
    return 100 * np.eye(5)[where] + np.random.default_rng(8).normal(size=(30, 5))


def most_typical(rows: np.ndarray, free: list[int]) -> int:
    near = min(20, len(free) // 2)
    distances = np.sort(cdist(rows[free], rows[free]), axis=1)[:, 1 : near + 1]
    return free[int(distances.mean(axis=1).argmin())]


def test_typiclust_takes_the_most_typical_of_the_largest_kinds() -> None:
    rows = kinds()
    expected = [most_typical(rows, list(range(*part))) for part in ((0, 15), (15, 24), (24, 30))]
    assert typiclust(rows, NONE, 3, np.random.default_rng(0)) == expected
    # The largest kind has a label, so it comes last.
    picks = typiclust(rows[1:], rows[:1], 2, np.random.default_rng(0))
    assert picks == [place - 1 for place in expected[1:]]


def test_typiclust_goes_round_and_takes_small_kinds_last() -> None:
    rows = kinds()
    first = typiclust(rows, NONE, 5, np.random.default_rng(0), max_clusters=3)
    second = [i for i in range(15) if i != first[0]]
    assert first[3] == most_typical(rows, second)
    picks = typiclust(rows, NONE, 30, np.random.default_rng(0), max_clusters=3, smallest=6)
    assert sorted(picks) == list(range(30))
    assert sorted(picks[24:]) == list(range(24, 30))


@pytest.mark.parametrize("count", [0, 1, 7, 8, 50])
def test_never_more_than_there_are(count: int) -> None:
    rows, unsure = cloud(8, 1), np.linspace(0, 1, 8)
    for picks in (
        typiclust(rows, rows[:3], count, np.random.default_rng(0)),
        typiclust(np.ones((8, 2)), [], count, np.random.default_rng(0)),
        herding(rows, rows[:3], count),
        herding(rows, [], count, uncertainty=unsure),
    ):
        assert len(picks) == len(set(picks)) == min(count, 8)
        assert set(picks) <= set(range(8))


def test_the_generator_decides() -> None:
    rows = cloud(120, 5)
    one, same, other = (typiclust(rows, [], 9, np.random.default_rng(s)) for s in (1, 1, 2))
    assert one == same != other


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="width"):
        herding(cloud(3, 0), [], 1, width=0.0)
    with pytest.raises(ValueError, match="≥ 0"):
        herding(cloud(3, 0), [], 1, uncertainty=np.array([1.0, -1.0, 0.0]))


def test_tempered_is_softmax_of_the_logarithm() -> None:
    chances = np.random.default_rng(0).dirichlet(np.ones(4), 20)
    np.testing.assert_allclose(tempered(chances, 1.0), chances)
    np.testing.assert_allclose(tempered(chances, 2.5), softmax(np.log(chances) / 2.5, axis=1))
    sure = np.array([[1.0, 0.0, 0.0]])
    np.testing.assert_allclose(tempered(sure, 10.0), sure, atol=1e-12)
    assert np.ptp(tempered(chances, 10.0)) < np.ptp(chances) < np.ptp(tempered(chances, 0.1))


def test_margin_uncertainty_by_hand() -> None:
    chances = [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.2, 0.7, 0.1]]
    np.testing.assert_allclose(margin_uncertainty(chances), [1.0, 0.0, 0.5])
    assert margin_uncertainty([[1.0], [1.0]]).tolist() == [0, 0]


@pytest.mark.parametrize("truth", [0.4, 1.0, 2.5])
def test_the_temperature_is_the_one_that_was_put_in(truth: float) -> None:
    random = np.random.default_rng(0)
    honest = random.dirichlet(np.ones(3), 4000)
    correct = random.random(4000) < honest.max(axis=1)
    told = tempered(honest, 1 / truth)  # a sure model where truth is above 1
    assert fitted_temperature(told, correct) == pytest.approx(truth, rel=0.15)


def test_the_temperature_has_the_least_calibration_error() -> None:
    random = np.random.default_rng(1)
    chances = random.dirichlet(np.ones(3), 60)
    correct = random.random(60) < 0.5
    found = fitted_temperature(chances, correct)

    def error(temperature: float) -> float:
        sure = tempered(chances, temperature).max(axis=1)
        return expected_calibration_error(sure, correct, bins=15)

    assert error(found) == pytest.approx(min(error(t) for t in representative.TEMPERATURES))
    assert fitted_temperature(np.empty((0, 1)), np.empty(0)) == 1
    assert fitted_temperature(np.full((5, 4), 0.25), np.array([True, *[False] * 4])) == 1

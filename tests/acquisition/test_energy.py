"""The batch of least energy: against a loop over pairs, in crowded and sparse places, in blocks."""

from __future__ import annotations

import numpy as np
import pytest

from star.acquisition import diversity, energy


def generator() -> np.random.Generator:
    return np.random.default_rng(5)


def naive(rows: np.ndarray, labelled: np.ndarray, count: int) -> list[int]:
    """Return the picks by float64 loops over pairs."""
    every = np.concatenate([rows, labelled]).astype(np.float64)
    distances = np.linalg.norm(every[:, None] - every, axis=2)
    near = int(np.ceil(energy.NEAR * len(every)))
    width = np.median(np.sort(distances, axis=1)[:, near])
    chosen: list[int] = []
    centres = [np.asarray(row, dtype=np.float64) for row in labelled]
    for _ in range(count):
        if centres:
            sums = [sum(np.exp(-((x - s) ** 2).sum() / width**2) for s in centres) for x in rows]
        else:
            sums = [((x - rows.mean(axis=0)) ** 2).sum() for x in rows]
        best = min((i for i in range(len(rows)) if i not in chosen), key=lambda i: sums[i])
        chosen.append(best)
        centres.append(rows[best].astype(np.float64))
    return chosen


@pytest.mark.parametrize("known", [0, 1, 9])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_least_sum_of_kernels(known: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows, labelled = random.normal(size=(60, 4)), random.normal(size=(known, 4))
    picked = energy.minimum_energy(rows, labelled, 20, generator())
    assert picked == naive(rows, labelled, 20)
    far = energy.minimum_energy(rows * 1e3 + 7e4, labelled * 1e3 + 7e4, 20, generator())
    assert far == picked  # neither the unit nor the origin counts


def crowd(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return 600 rows of four kinds, one of them nine tenths of all, and the kinds."""
    kind = np.repeat([0, 1, 2, 3], [540, 20, 20, 20])
    return np.eye(4)[kind] * 3 + random.normal(size=(600, 4)) * 0.5, kind


@pytest.mark.parametrize("seed", range(3))
def test_a_sparse_kind_gets_its_share(seed: int) -> None:
    rows, kind = crowd(np.random.default_rng(seed))
    picked = energy.minimum_energy(rows, rows[:0], 40, generator())
    shares = np.bincount(kind[picked], minlength=4)
    assert shares[1:].min() >= 5  # a random draw has 1 or 2 of each
    again = energy.minimum_energy(rows, rows[picked[:20]], 20, generator())
    assert not set(again) & set(picked[:20])


def test_copies_are_taken_last_and_all_of_them_if_need_be() -> None:
    random = np.random.default_rng(0)
    rows = np.concatenate(
        [np.tile(random.normal(size=(1, 3)), (30, 1)), random.normal(size=(6, 3))]
    )
    picked = energy.minimum_energy(rows, rows[:1], 36, generator())
    assert set(picked[:6]) == set(range(30, 36)) and sorted(picked) == list(range(36))
    same = np.ones((5, 2))
    assert energy.minimum_energy(same, same[:0], 9, generator()) == [0, 1, 2, 3, 4]
    assert energy.minimum_energy(same, same, 0, generator()) == []


def test_blocks_and_a_sample_for_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    rows, labelled = random.normal(size=(300, 6)), random.normal(size=(50, 6))
    picked = energy.minimum_energy(rows, labelled, 30, generator())
    monkeypatch.setattr(energy, "COLUMNS", 7)
    assert energy.minimum_energy(rows, labelled, 30, generator()) == picked
    whole = energy.width(rows, generator())
    monkeypatch.setattr(energy, "SAMPLE", 150)
    assert energy.width(rows, generator()) == pytest.approx(whole, rel=0.15)
    assert energy.width(rows, generator()) == energy.width(rows, generator())


def test_it_spreads_more_evenly_than_k_centre() -> None:
    rows, kind = crowd(np.random.default_rng(4))
    rows[:540] *= np.random.default_rng(5).uniform(0.2, 3, size=(540, 1))  # the crowd is wide
    start = rows[540:541]
    ours = np.bincount(kind[energy.minimum_energy(rows, start, 40, generator())], minlength=4)
    theirs = np.bincount(kind[diversity.k_center(rows, start, 40)], minlength=4)
    assert ours[1:].sum() > theirs[1:].sum()

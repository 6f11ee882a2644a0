"""BADGE, against k-means++ on gradient embeddings that are really made."""

from __future__ import annotations

import numpy as np
import pytest

from star.acquisition.gradients import badge


def made(size: int, seed: int, classes: int = 3, dim: int = 6) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.dirichlet(np.ones(classes), size=size), random.normal(size=(size, dim))


def gradients(probabilities: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Return (N, C·d) gradients of −log p(argmax p) in the last layer's weights."""
    errors = probabilities - np.eye(probabilities.shape[1])[probabilities.argmax(axis=1)]
    return np.einsum("nc,nd->ncd", errors, hidden).reshape(len(hidden), -1)


def k_means_plus_plus(rows: np.ndarray, count: int, random: np.random.Generator) -> list[int]:
    picked = [int(np.square(rows).sum(axis=1).argmax())]
    while len(picked) < count:
        differences = rows[:, None] - rows[picked]
        squared = np.square(differences).sum(axis=2).min(axis=1)
        squared[picked] = 0
        mass = np.cumsum(squared)
        picked.append(int((mass <= random.random() * mass[-1]).sum()))
    return picked


@pytest.mark.parametrize("seed", range(5))
def test_it_is_k_means_plus_plus_on_gradients(seed: int) -> None:
    probabilities, hidden = made(50, seed)
    expected = k_means_plus_plus(
        gradients(probabilities, hidden), 30, np.random.default_rng(seed + 10)
    )
    assert badge(probabilities, hidden, 30, np.random.default_rng(seed + 10)) == expected


@pytest.mark.parametrize("least", [1e-8, 1e-12, 1e-30])
def test_a_model_that_is_sure_of_all_is_told_apart_too(least: float) -> None:
    """1 − p is far below what float32, in which embeddings are, has next to 1."""
    _, hidden = made(50, 4)
    doubt = np.geomspace(least, 50 * least, 50)[np.random.default_rng(0).permutation(50), None]
    probabilities = np.concatenate([1 - doubt, doubt * [[0.25, 0.75]]], axis=1)
    hidden = hidden.astype(np.float32)
    expected = k_means_plus_plus(
        gradients(probabilities, hidden.astype(np.float64)), 30, np.random.default_rng(1)
    )
    assert badge(probabilities, hidden, 30, np.random.default_rng(1)) == expected


def test_draws_are_proportional_to_squared_distances() -> None:
    # Gradients (p − 1, p) ⊗ h with p = 1/2: lengths 3, 2, 1 and 0 times one direction.
    probabilities, hidden = np.full((4, 2), 0.5), np.array([[3.0], [2.0], [1.0], [0.0]])
    second = [
        badge(probabilities, hidden, 2, np.random.default_rng(seed))[1] for seed in range(4000)
    ]
    shares = np.bincount(second, minlength=4) / 4000
    assert shares == pytest.approx(np.array([0, 1, 4, 9]) / 14, abs=0.03)


def test_equal_gradients_and_none_at_all() -> None:
    probabilities, hidden = made(3, 0)
    copies = badge(
        np.repeat(probabilities, 4, axis=0),
        np.repeat(hidden, 4, axis=0).astype(np.float32),
        12,
        np.random.default_rng(0),
    )
    assert sorted(copies) == list(range(12))
    assert len({place // 4 for place in copies[:3]}) == 3  # one of each kind at first
    sure = badge(np.eye(3), hidden, 3, np.random.default_rng(0))
    assert sure[0] == 0
    assert sorted(sure) == [0, 1, 2]


@pytest.mark.parametrize("count", [0, 1, 5, 6, 40])
def test_never_more_than_there_are(count: int) -> None:
    picks = badge(*made(6, 1), count, np.random.default_rng(0))
    assert len(picks) == len(set(picks)) == min(count, 6)


def test_the_generator_decides() -> None:
    one, same, other = (badge(*made(40, 1), 9, np.random.default_rng(s)) for s in (1, 1, 2))
    assert one == same != other


def test_what_is_refused() -> None:
    probabilities, hidden = made(6, 1)
    with pytest.raises(ValueError, match="rows of probabilities"):
        badge(probabilities[1:], hidden, 2, np.random.default_rng(0))

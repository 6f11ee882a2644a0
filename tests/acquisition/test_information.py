"""EPIG, against its definition pair by pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import rel_entr

from star.acquisition.information import epig


def made(size: int, passes: int, classes: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.log(random.dirichlet(np.full(classes, 0.7), size=(size, passes)))


def by_pairs(own: np.ndarray, others: np.ndarray) -> list[float]:
    """Return the mean over targets of KL[p(y, y*) ‖ p(y)·p(y*)]."""
    values = []
    for row in np.exp(own):
        kl = []
        for target in np.exp(others):
            joint = np.mean([np.outer(p, q) for p, q in zip(row, target, strict=True)], axis=0)
            alone = np.outer(row.mean(axis=0), target.mean(axis=0))
            kl.append(rel_entr(joint, alone).sum())
        values.append(float(np.mean(kl)))
    return values


@pytest.mark.parametrize("block", [1, 100, 10**6])
@pytest.mark.parametrize("classes", [2, 5])
def test_it_is_its_definition(classes: int, block: int) -> None:
    own, others = made(9, 4, classes, 0), made(7, 4, classes, 1)
    assert epig(own, others, block=block) == pytest.approx(by_pairs(own, others), abs=1e-12)


def test_by_hand() -> None:
    # Two passes that are sure, each of another class: y tells all of y*, log 2, where y* differs
    # with the pass, and nothing where it does not.
    with np.errstate(divide="ignore"):
        differ, agree = np.log(np.eye(2))[None], np.log([[[1.0, 0.0], [1.0, 0.0]]])
    assert epig(differ, differ) == pytest.approx([math.log(2)])
    assert epig(differ, agree) == pytest.approx([0], abs=1e-15)
    assert epig(agree, differ) == pytest.approx([0], abs=1e-15)
    assert epig(differ, np.concatenate([differ, agree])) == pytest.approx([math.log(2) / 2])


def test_one_pass_tells_nothing() -> None:
    own = made(5, 1, 3, 2)
    assert epig(own, own) == pytest.approx(np.zeros(5), abs=1e-12)


def test_nothing_and_what_is_refused() -> None:
    own = made(5, 3, 2, 2)
    assert epig(own[:0], own).shape == (0,)
    for target in (own[:0], own[:, :2], own[..., :1], own[0]):
        with pytest.raises(ValueError, match="do not fit"):
            epig(own, target)

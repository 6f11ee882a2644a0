"""Strategies of scikit-activeml through the adapter; skipped where it is not installed."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_decision import ask, context, global_streams, scores

from star.acquisition import skactiveml_pool, user_function
from star.acquisition.decision import decide
from star.acquisition.strategies import strategy_of
from star.config import AcquisitionConfig, load
from star.errors import InputError

there = pytest.mark.skipif(
    skactiveml_pool.installed(skactiveml_pool.DISTRIBUTION) is None,
    reason="scikit-activeml is not installed",
)


def named(name: str) -> AcquisitionConfig:
    return AcquisitionConfig(strategy=f"skactiveml:{name}")


@there
@pytest.mark.parametrize("name", skactiveml_pool.KNOWN)
def test_a_strategy_keeps_the_contract(name: str) -> None:
    a, before = named(name), global_streams()
    for size, count in ((30, 7), (12, 11), (8, 1), (5, 5), (4, 9), (1, 1), (0, 3)):
        pool = scores(size, seed=count)
        made = ask(pool, a, count)
        assert len(made.indices) == len(set(made.indices)) == min(size, count)
        assert set(made.indices) <= set(pool.index.tolist())
        assert ask(scores(size, seed=count), a, count).indices == made.indices
    assert global_streams() == before
    many = {tuple(ask(scores(30), a, 7, seed=seed).indices) for seed in range(5)}
    assert len(many) > 1 or name != "RandomSampling"


@there
@pytest.mark.parametrize("name", sorted({*skactiveml_pool.KNOWN} - {"TypiClust"}))  # 1.0.1 fails
def test_equal_examples_do_not_break_it(name: str) -> None:
    pool = scores(9, tied=True)
    same = replace(context(pool), embed=lambda _, index: np.ones((len(index), 3), np.float32))
    made = decide(pool, named(name), t=1, rounds=4, count=4, seed=0, context=same)
    assert len(set(made.indices)) == 4


@there
def test_they_are_told_probabilities_and_embeddings() -> None:
    pool = scores(30, seed=3)
    chances = np.exp(pool.arrays["full_log_probs"]).mean(axis=1)
    least = np.argsort(chances.max(axis=1))[:7]  # least confident, by default
    picked = ask(pool, named("UncertaintySampling"), 7).indices
    assert set(picked) == set(pool.index[least].tolist())
    farthest = ask(pool, AcquisitionConfig(select="k_center"), 7).indices
    assert ask(pool, named("CoreSet"), 7).indices == farthest


@there
def test_all_that_is_left_asks_it_nothing() -> None:
    def embed(view: str, index: Any) -> Any:
        raise AssertionError("nothing is embedded where all are picked")

    pool = scores(5)
    told = replace(context(pool), embed=embed)
    made = decide(pool, named("TypiClust"), t=1, rounds=4, count=9, seed=0, context=told)
    assert made.batch and made.indices == pool.index.tolist()


@there
def test_what_it_needs_is_said_and_its_version_is_its_source() -> None:
    assert strategy_of(named("CoreSet")).needs == {"embeddings"}
    assert strategy_of(named("Clue")).needs == {"scores", "log_probs", "embeddings"}
    assert user_function.fingerprint("skactiveml:Clue") == skactiveml_pool.fingerprint()


@there
@pytest.mark.parametrize(
    "name, said",
    [
        ("CoreSat", r"has no such strategy; did you mean 'CoreSet'\?; there are Badge, Clue, Cor"),
        ("QueryByCommittee", "trains a model of its own again and again"),
    ],
)
def test_other_names_are_refused_in_one_line(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        strategy_of(named(name))
    assert "\n" not in str(caught.value)


def test_without_the_package_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skactiveml_pool, "installed", lambda _: None)
    with pytest.raises(InputError, match=r"needs scikit-activeml, .* pip install 'star-al\[skac"):
        strategy_of(named("CoreSet"))


def test_it_is_imported_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [m for m in sys.modules if m.partition(".")[0] == "skactiveml"]:
        monkeypatch.delitem(sys.modules, module)
    found: Any = load(None, ["acquisition.strategy=skactiveml:CoreSet"])
    assert found.acquisition.strategy == "skactiveml:CoreSet"
    assert "skactiveml" not in sys.modules

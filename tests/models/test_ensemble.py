"""Ensembles: members that a plain training with their seed gives, and an adapter put back."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from test_classifier import HUES, bert, loaded

from star.config import AdapterConfig, RegularizerConfig, TrainConfig
from star.models import adapter, ensemble, likelihood, training
from star.models.encoding import TokenRow
from star.models.language_model import LanguageModel

__all__ = ["bert"]  # a fixture

ROWS = tiny.random_rows(6, seed=2)
TRAIN = TrainConfig(learning_rate=0.01, num_train_epochs=2, per_device_train_batch_size=2)
NUMBER = [TokenRow(i, (1, 4 + i, 5 + i, 2), (i % len(HUES),)) for i in range(6)]


@pytest.fixture(params=["words", "head"])
def case(request: pytest.FixtureRequest, tiny_llama: Path, bert: Path) -> Any:
    if request.param == "words":
        return tiny.load(tiny_llama), ROWS, tiny.ADAPTER
    return loaded(bert), NUMBER, AdapterConfig(r=4, lora_alpha=8, target_modules=["query"])


def fit(model: LanguageModel, rows: list[TokenRow], adapted: Any, seed: int) -> Any:
    return training.fit(
        model, adapted, rows, config=TRAIN, regularizer=RegularizerConfig(), seed=seed, round_=1
    )


def trained_plainly(model: LanguageModel, rows: Any, config: AdapterConfig, seed: int) -> Any:
    """Return the weights, and the scores, of a training with a seed and nothing before it."""
    with adapter.fresh(model, config, seed=seed, round_=1) as adapted:
        fit(model, rows, adapted, seed)
        return deepcopy(adapter.weights(adapted)), likelihood.nll(model, rows)[:, 0]


def test_members_are_plain_trainings(case: Any) -> None:
    model, rows, config = case
    with adapter.fresh(model, config, seed=7, round_=1) as adapted:
        own = fit(model, rows, adapted, 7)
        before = deepcopy(adapter.weights(adapted))
        places = {name: p.data_ptr() for name, p in adapted.named_parameters()}
        scores = likelihood.nll(model, rows)
        passes, tokens = ensemble.train(
            model, adapted, config, lambda a, s: fit(model, rows, a, s),
            count=3, seed=7, round_=1,
        )  # fmt: skip
        # The round's own adapter is on again, as it was.
        after = adapter.weights(adapted)
        assert after.keys() == before.keys() and all(after[n].equal(before[n]) for n in before)
        assert {name: p.data_ptr() for name, p in adapted.named_parameters()} == places
        assert np.array_equal(likelihood.nll(model, rows), scores)
        with passes.installed():
            each = likelihood.nll(model, rows, passes=passes)
            held = []
            for s in range(3):
                passes.select_pass(s)
                held.append(deepcopy(adapter.weights(adapted)))
        assert np.array_equal(likelihood.nll(model, rows), scores)
    assert tokens == 2 * own.tokens
    assert not hasattr(model.causal, "peft_config")
    for s, seed in enumerate((7, ensemble.seed_of(7, 1), ensemble.seed_of(7, 2))):
        weights, alone = trained_plainly(model, rows, config, seed)
        assert all(held[s][name].equal(weights[name]) for name in weights)
        np.testing.assert_allclose(each[:, s], alone, rtol=1e-6)
    assert (np.abs(np.diff(each, axis=1)).max(axis=0) > 1e-3).all()
    assert not torch.equal(*(next(iter(member.values())) for member in held[1:]))


def test_the_adapter_is_put_back_when_a_member_fails(case: Any) -> None:
    model, rows, config = case

    def fail(*_: Any) -> Any:
        raise RuntimeError("mine")

    with adapter.fresh(model, config, seed=7, round_=1) as adapted:
        fit(model, rows, adapted, 7)
        scores = likelihood.nll(model, rows)
        with pytest.raises(RuntimeError, match="mine"):
            ensemble.train(model, adapted, config, fail, count=2, seed=7, round_=1)
        assert np.array_equal(likelihood.nll(model, rows), scores)
        assert fit(model, rows, adapted, 8).log  # and can be trained on
    assert not hasattr(model.causal, "peft_config")


def test_rows_of_another_order_change_no_rank(tiny_llama: Path) -> None:
    model = tiny.load(tiny_llama)
    with adapter.fresh(model, tiny.ADAPTER, seed=0, round_=1) as adapted:
        fit(model, ROWS, adapted, 0)
        passes, _ = ensemble.train(
            model, adapted, tiny.ADAPTER, lambda a, s: fit(model, ROWS, a, s),
            count=2, seed=0, round_=1,
        )  # fmt: skip
        with passes.installed():
            there = likelihood.nll(model, ROWS, passes=passes)
            back = likelihood.nll(
                replace(model, batching=replace(model.batching, rows=1)), ROWS[::-1], passes=passes
            )
    np.testing.assert_allclose(back[::-1], there, rtol=1e-5)

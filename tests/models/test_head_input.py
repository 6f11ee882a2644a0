"""BADGE's embedding: what the last layer takes of each row, in every architecture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_classifier import ADAPTER, ENCODERS, HUES, loaded, make, texts, words
from torch import nn

import star
from star.active_learning.loop import run
from star.config import AdapterConfig, load
from star.errors import InputError
from star.files import read_npz
from star.models import adapter
from star.models.batching import Batching
from star.models.classifier import Classifier
from star.models.embedding import embed


def learn(adapted: Any) -> None:
    """Put random numbers in what is trained, as if it had been."""
    stream = torch.Generator().manual_seed(3)
    for weight in adapter.weights(adapted).values():
        weight.copy_(torch.randn(weight.shape, generator=stream) * 0.3)


def last_layer(adapted: Any) -> nn.Linear:
    """Return the trained layer that gives the classes."""
    [layer] = [
        m
        for n, m in adapted.named_modules()
        if isinstance(m, nn.Linear) and m.out_features == len(HUES) and "modules_to_save" in n
    ]
    return layer


def by_hand(model: Classifier, adapted: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, row by row, what a hook sees the last layer take, p, and the gradient in its weight.

    Of shapes (N, d), (N, C) and (N, C, d); the gradient is of the loss were the likeliest class the
    answer, as arXiv 1906.03671 has it.
    """
    layer, seen, chances, gradients = last_layer(adapted), [], [], []
    hook = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()[0]))
    for text in texts():
        told = model.tokenizer(text, return_tensors="pt")
        told.pop("token_type_ids", None)
        logits = adapted(**told).logits[0]
        if seen[-1].ndim == 2:  # a decoder's takes each token's state: the one whose logits count
            every = nn.functional.linear(seen[-1], layer.weight, layer.bias)
            [place] = (every - logits).abs().amax(dim=1).lt(1e-6).nonzero().flatten().tolist()
            seen[-1] = seen[-1][place]
        loss = nn.functional.cross_entropy(logits, logits.argmax())
        gradients.append(torch.autograd.grad(loss, layer.weight)[0].numpy())
        chances.append(logits.detach().softmax(-1).numpy())
    hook.remove()
    return torch.stack(seen).numpy(), np.stack(chances), np.stack(gradients)


@pytest.mark.parametrize("kind", ENCODERS)
def test_it_is_what_a_hook_sees_and_makes_the_gradient(kind: str, tmp_path: Path) -> None:
    model = loaded(make(tmp_path, kind))
    rows = model.encode(texts(), [""] * 7, eos=False)
    with adapter.fresh(model, ADAPTER, seed=0, round_=0) as adapted:
        learn(adapted)
        taken, chances, gradients = by_hand(model, adapted)
        for most in (1, 3, 64):
            model.batching = Batching(rows=most)
            made = embed(model, rows, pooling="head")
            assert made.dtype == np.float32
            np.testing.assert_allclose(made, taken, rtol=1e-4, atol=1e-5)
        states = {how: embed(model, rows, pooling=how) for how in ("mean", "last")}
    errors = chances - np.eye(len(HUES))[chances.argmax(axis=1)]
    outer = errors[:, :, None] * made[:, None, :]
    np.testing.assert_allclose(outer, gradients, rtol=1e-3, atol=1e-5)
    assert np.abs(states["mean"] - made).max() > 0.1
    if kind not in ("llama", "gpt2", "qwen2"):  # whose heads take the last token's state
        assert np.abs(states["last"] - made).max() > 0.1


def test_a_decoder_that_fills_with_the_token_behind_each_text(tmp_path: Path) -> None:
    folder = make(tmp_path, "llama")
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text()) | {"pad_token": None}
    path.write_text(json.dumps(settings))
    model = loaded(folder)
    assert model.tokenizer.pad_token is None
    rows = model.encode(texts(), [""] * 7, eos=False)
    assert {row.prompt[-1] for row in rows} == {model.pad_id}
    with adapter.fresh(model, ADAPTER, seed=0, round_=0) as adapted:
        learn(adapted)
        taken, *_ = by_hand(model, adapted)  # of the token before it
        np.testing.assert_allclose(embed(model, rows, pooling="head"), taken, rtol=1e-4, atol=1e-5)


def test_the_model_answers_as_before_and_dropout_is_off(tmp_path: Path) -> None:
    model = loaded(make(tmp_path, "roberta"))
    rows = model.encode(texts(), [""] * 7, eos=False)
    with adapter.fresh(model, AdapterConfig(r=4, lora_dropout=0.5), seed=0, round_=0) as adapted:
        learn(adapted)
        told = model.tokenizer(texts()[0], return_tensors="pt")
        with torch.no_grad():
            before = adapted(**told).logits
            first = embed(model, rows, pooling="head")
            np.testing.assert_array_equal(embed(model, rows, pooling="head"), first)
            assert torch.equal(adapted(**told).logits, before)


def test_an_architecture_that_ends_in_no_such_layer_is_refused(tmp_path: Path) -> None:
    model = replace(loaded(make(tmp_path, "bert")), last="")
    rows = model.encode(texts(), [""] * 7, eos=False)
    with pytest.raises(InputError, match="BertForSequenceClassification has no linear layer"):
        embed(model, rows, pooling="head")


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("roberta"), "roberta")


def queries(folder: Path) -> list[Any]:
    return [json.loads(p.read_text()) for p in sorted(folder.rglob("selected.json"))]


def test_a_run_takes_it_whatever_pooling_says_and_keeps_it_by_round(
    roberta: Path, tmp_path: Path
) -> None:
    badge = words(roberta, tmp_path, "acquisition.select=badge", "acquisition.mc_dropout.passes=0")
    badge += ["evaluation.views=full", "train.num_train_epochs=1"]
    folder = run(load(None, [*badge, "run_name=default"]))
    first, second = (read_npz(folder / f"rounds/{t:02d}/embeddings.npz") for t in (0, 1))
    assert set(first) == set(second) == {"index", "head"}
    assert np.abs(first["head"] - second["head"]).max() > 1e-6
    assert np.abs(first["head"]).max() <= 1  # behind a tanh
    last = ["run_name=last", "acquisition.pooling=last", "pool.rounds=2"]
    assert queries(run(load(None, [*badge, *last]))) == queries(folder)[:1]
    assert [row["overlap"] for row in star.replay(folder)] == [1, 1]

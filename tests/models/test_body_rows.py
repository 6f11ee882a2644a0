"""Rows of a classifier end to end: the numbers and gradients of padded ones, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_classifier import ADAPTER, ENCODERS, HUES, SHOWING, loaded, make, texts
from test_head_input import learn
from torch import Tensor
from transformers import AutoTokenizer

from star.config import ModelConfig
from star.config.schema import AdapterConfig, RegularizerConfig, TrainConfig
from star.models import adapter, classifier, embedding, isolation, likelihood, packing, training
from star.models.batching import Batching
from star.models.classifier import Classifier
from star.models.encoding import TokenRow
from star.models.learning_mode import learning
from star.models.traits import Traits

# Attention that is more than a mask, or that a window cuts.
OTHERS = {
    "modernbert": {
        **ENCODERS["bert"], "pad_token_id": 0, "cls_token_id": 1, "bos_token_id": 1,
        "sep_token_id": 2, "eos_token_id": 2, "local_attention": 8,
    },
    "deberta": {**ENCODERS["bert"], "relative_attention": True, "pos_att_type": ["c2p"]},
}  # fmt: skip


def labelled(model: Classifier) -> list[TokenRow]:
    """Return nine rows of several lengths, the class of each."""
    rows = model.encode(texts(9), [HUES[i % 3] for i in range(9)], eos=True)
    return [
        replace(row, prompt=row.prompt + row.prompt[1:] * (i % 3)) for i, row in enumerate(rows)
    ]


def outcome(model: Classifier, rows: list[TokenRow]) -> list[Tensor]:
    """Return the class log-odds of a batch, its states, and the gradient of its loss."""
    batch = model.lay_out(rows)
    assert bool(batch.runs) == model.packable
    with model.packing(batch):
        training.answer_nll(model, batch).backward()
    with torch.no_grad():
        made = [model.predict(batch), model.states(batch), model.head_input(batch)]
    trained = [p for p in model.causal.parameters() if p.requires_grad]
    made += [p.grad for p in trained if p.grad is not None]
    for p in trained:
        p.grad = None
    return made


def near(one: Tensor, other: Tensor) -> None:
    assert (one - other).norm() <= 1e-4 * other.norm() + 1e-6


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ENCODERS)
def test_the_numbers_and_gradients_of_padded_rows(
    kind: str, checkpointing: bool, tmp_path: Path
) -> None:
    model = loaded(make(tmp_path, kind))
    assert model.packable and model.behind == (0 if kind == "roberta" else None)
    rows = labelled(model)
    assert len({len(row.prompt) for row in rows}) >= 3
    with adapter.fresh(model, replace(ADAPTER, lora_dropout=0.0), seed=0, round_=0) as adapted:
        with torch.no_grad():
            learn(adapted)
        config = TrainConfig(gradient_checkpointing=checkpointing)
        with learning(adapted, config):
            packed = outcome(model, rows)
            model.packable = False
            padded = outcome(model, rows)
    assert len(packed) > 5
    for one, other in zip(packed, padded, strict=True):
        near(one, other)


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama"])
def test_training_goes_as_it_does_padded(kind: str, tmp_path: Path) -> None:
    model, losses = loaded(make(tmp_path, kind)), []
    for packable in (True, False):
        model.packable = packable
        settings = AdapterConfig(r=4, target_modules="auto", lora_dropout=0.0)
        with adapter.fresh(model, settings, seed=0, round_=0) as adapted:
            result = training.fit(
                model, adapted, labelled(model), regularizer=RegularizerConfig(), seed=0, round_=0,
                config=TrainConfig(num_train_epochs=8, learning_rate=0.01),
            )  # fmt: skip
        losses.append([entry["loss"] for entry in result.log])
    assert losses[0][-1] < losses[0][0] - 0.01  # it learns
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "llama", "gpt2"])
def test_a_line_may_be_longer_than_a_row_may(kind: str, tmp_path: Path) -> None:
    model = loaded(make(tmp_path, kind))
    rows = [TokenRow(i, tuple(3 + (i * j) % 20 for j in range(38 - i)), (0,)) for i in range(9)]
    assert sum(len(row.prompt) for row in rows) > 4 * model.max_length
    made = {}
    for most in (1, 9):
        model.batching = Batching(rows=most)
        made[most] = [likelihood.nll(model, rows), embedding.embed(model, rows)]
    for alone, together in zip(made[1], made[9], strict=True):
        np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [*SHOWING, *OTHERS])
def test_the_trial_refuses_what_would_not_keep_rows_apart(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENCODERS, kind, (SHOWING | OTHERS)[kind])
    config = ModelConfig(name_or_path=str(make(tmp_path, kind)), attn_implementation="eager")
    model = classifier.load(config, HUES)
    model.traits, model.packable = Traits(), True  # as if nothing were known
    for behind in (None, model.pad_id):
        model.behind = behind
        assert not isolation.packs_under_head(model)


@pytest.mark.parametrize("kind", ["albert", "modernbert"])
def test_what_the_trial_refuses_is_padded(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    albert = {**ENCODERS["electra"], "num_hidden_groups": 1}  # its pooler takes a row, no batch
    monkeypatch.setitem(ENCODERS, kind, {"albert": albert, **OTHERS}[kind])
    model = loaded(make(tmp_path, kind))
    assert not model.packable and model.behind is None
    beside(model, labelled(model))


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_text_may_have_the_token_that_fills_batches(kind: str, tmp_path: Path) -> None:
    model = loaded(make(tmp_path, kind))
    assert model.packable
    texts = ((1, 5, 0, 6, 7, 2), (0,), (1, 5, 6, 0, 0, 7, 8, 9, 2), (1, 5, 6, 7, 2))
    beside(model, [TokenRow(i, text, (0,)) for i, text in enumerate(texts)])


def beside(model: Classifier, rows: list[TokenRow]) -> None:
    """Hold what rows give together to what each gives alone and padded."""
    made = []
    for most, packable in ((64, model.packable), (1, False)):
        model.batching, model.packable = Batching(rows=most, tokens=10**6), packable
        made.append([likelihood.nll(model, rows), embedding.embed(model, rows, pooling="head")])
    for together, alone in zip(*made, strict=True):
        np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)


# Windows longer than the trial's rows; PhiMoE's attention is not told of its own.
WINDOWED = {
    "mistral": {**ENCODERS["qwen2"], "sliding_window": 64},
    "gemma3_text": {**ENCODERS["qwen2"], "sliding_window": 64, "head_dim": 8},
    "phimoe": {
        **ENCODERS["qwen2"], "sliding_window": 64, "num_local_experts": 2,
        "num_experts_per_tok": 1,
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", WINDOWED)
def test_rows_that_a_window_cuts_are_padded(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENCODERS, kind, {**WINDOWED[kind], "max_position_embeddings": 300})
    model = loaded(make(tmp_path, kind, limit=300))
    assert model.packs(60) and not model.packs(70)
    rows = [TokenRow(i, tuple(3 + (i + j) % 20 for j in range(n)), (0,)) for i, n in LENGTHS]
    beside(model, rows)


LENGTHS = list(enumerate((150, 30, 64, 63, 12)))


@pytest.mark.parametrize("scales", [True, False])
def test_a_body_that_counts_hidden_tokens_is_padded(
    scales: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = 50  # which no row of the trial has but where it is put there
    more = {"vocab_size": 64, "mask_token_id": hidden, "token_dropout": scales, "pad_token_id": 0}
    rotary = {"position_embedding_type": "rotary"}
    monkeypatch.setitem(ENCODERS, "esm", {**ENCODERS["bert"], **more, **rotary})
    folder = make(tmp_path, "esm")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"more{i}" for i in range(hidden - len(tokenizer))])
    tokenizer.add_special_tokens({"mask_token": "[MASK]"})
    assert tokenizer.mask_token_id == hidden
    tokenizer.save_pretrained(folder)
    model = loaded(folder)
    assert model.packable is not scales
    rows = [(1, 5, hidden, 6, 7, 2), (1, 5, 6, 7, 8, 9, 2), (1, hidden, hidden, 2)]
    beside(model, [TokenRow(i, row, (0,)) for i, row in enumerate(rows)])


def leaking_head(share: float, patch: pytest.MonkeyPatch) -> None:
    plain = Classifier.predict

    def predict(self: Classifier, batch: Any, cache: Any = None) -> Tensor:
        logits = plain(self, batch, cache)
        return logits + share * logits.roll(1, 0) if batch.runs else logits

    patch.setattr(Classifier, "predict", predict)


def leaking_attention(share: float, patch: pytest.MonkeyPatch) -> None:
    plain = packing.Layout.attend

    def attend(*words: Any) -> Tensor:
        out = plain(*words)
        return out + share * out.roll(1, 1)

    patch.setattr(packing.Layout, "attend", attend)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("leak", [leaking_head, leaking_attention])
def test_the_least_leak_is_seen(
    leak: Any, dtype: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ModelConfig(name_or_path=str(make(tmp_path, "bert")), dtype=dtype)
    assert classifier.load(config, HUES).packable
    leak(0.02, monkeypatch)
    assert not classifier.load(config, HUES).packable


def test_it_is_a_matter_of_what_computes(tmp_path: Path) -> None:
    folder = make(tmp_path, "bert")
    eager = classifier.load(ModelConfig(str(folder), attn_implementation="eager"), HUES)
    packed = loaded(folder)
    assert packed.packable and not eager.packable
    assert packed.fingerprint != eager.fingerprint


def test_a_body_is_left_as_it_was(tmp_path: Path) -> None:
    model = loaded(make(tmp_path, "bert"))
    batch = model.lay_out(labelled(model))
    model.predict(batch)
    with pytest.raises(IndexError):  # a token that has no embedding, from within
        model.predict(replace(batch, ids=batch.ids + 1000))
    body = model.causal.bert
    assert not body._forward_hooks and not body._forward_pre_hooks
    assert model.causal.config._attn_implementation == "sdpa"


def test_the_benchmark_prints_both_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scripts = Path(__file__).parents[2] / "scripts"
    monkeypatch.syspath_prepend(str(scripts))
    from benchmark import heads

    for split in ("train", "validation"):
        rows = [{"sentence": text, "label": i % 2} for i, text in enumerate(texts(9))]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{split}.jsonl").write_text(lines)
    words = ["heads.py", "--model", str(make(tmp_path / "bert", "bert")), "--data", str(tmp_path)]
    monkeypatch.setattr("sys.argv", [*words, "--rows", "3", "--updates", "2"])
    threads = torch.get_num_threads()
    try:
        heads.main()
    finally:
        torch.set_num_threads(threads)
    packed, padded, ratio = capsys.readouterr().out.splitlines()
    assert packed.startswith("end to end") and padded.startswith("padded")
    assert packed.split("loss")[1] == padded.split("loss")[1]
    assert ratio.startswith("ratio")

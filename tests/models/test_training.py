"""The loop against naive ones: the loss, its batches, the schedule, what is kept."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import adaptable
import numpy as np
import pytest
import tiny
import torch
from torch import Tensor

from star import seeding
from star.config import RegularizerConfig, TrainConfig
from star.errors import InputError
from star.models import adapter, training
from star.models.checkpoint import TrainingResult
from star.models.encoding import TokenRow, encode
from star.models.language_model import LanguageModel

ROWS = [replace(row, index=i) for i, row in enumerate(tiny.random_rows(19, seed=4))]
DRY = replace(tiny.ADAPTER, lora_dropout=0.0)
TRAIN = TrainConfig(learning_rate=3e-3, num_train_epochs=2)
NONE = RegularizerConfig(kind="none")


def train(
    model: LanguageModel,
    config: TrainConfig = TRAIN,
    *,
    rows: list[TokenRow] = ROWS,
    lora: Any = DRY,
    regularizer: RegularizerConfig = NONE,
    seed: int = 0,
    **options: Any,
) -> tuple[TrainingResult, dict[str, Tensor]]:
    """Return the log and the weights that were trained."""
    with adapter.fresh(model, lora, seed=0, round_=0) as adapted:
        found = training.fit(
            model, adapted, rows, config=config, regularizer=regularizer, seed=seed, round_=0,
            **options,
        )  # fmt: skip
        assert not any(module.training for module in adapted.modules())
        return found, {
            n: p.detach().clone() for n, p in adapted.named_parameters() if p.requires_grad
        }


def series(found: TrainingResult, key: str = "loss") -> np.ndarray:
    return np.array([entry[key] for entry in found.log])


def close(one: np.ndarray, two: np.ndarray) -> None:
    residual = np.abs(one - two)
    assert one.shape == two.shape and residual.max() < 1e-5 and residual.mean() < 1e-5


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)


def order(epoch: int, seed: int = 0) -> list[int]:
    return torch.randperm(len(ROWS), generator=seeding.generator(seed, "order", 0, epoch)).tolist()


# --- the loss ----------------------------------------------------------------------------------


def test_the_first_loss_is_the_mean_over_the_answers_tokens(model: LanguageModel) -> None:
    texts = ["what is the answer", "tom has 3 eggs"]
    rows = encode(model.tokenizer, texts, ["yes", "3 eggs and 4 pens"], eos=True)
    logs = [tiny.naive_log_probs(model, row) for row in rows]
    tails = [row.continuation for row in rows]
    assert all(tail[-1] == model.tokenizer.eos_token_id for tail in tails)
    nll = [-float(part[range(len(t)), t].sum()) for part, t in zip(logs, tails, strict=True)]
    found, _ = train(model, rows=rows)  # B is 0 at first: the adapter says what the base does
    assert found.log[0]["loss"] == pytest.approx(sum(nll) / sum(map(len, tails)), rel=1e-5)
    assert found.tokens == 2 * sum(len(row) for row in rows)


@pytest.mark.parametrize("regularizer", [NONE, RegularizerConfig(kind="loss", beta=0.5)])
def test_how_an_update_is_split_changes_nothing(
    model: LanguageModel, regularizer: RegularizerConfig
) -> None:
    runs = [
        train(
            model,
            replace(TRAIN, per_device_train_batch_size=size, gradient_accumulation_steps=steps),
            regularizer=regularizer,
        )
        for size, steps in ((8, 1), (4, 2), (2, 4))
    ]
    assert len(runs[0][0].log) == 2 * 3  # 19 rows: the last update of an epoch is a short one
    for found, weights in runs[1:]:
        for key in ("loss", "norm_B", "constraint"):
            close(series(found, key), series(runs[0][0], key))
        for name, weight in weights.items():
            torch.testing.assert_close(weight, runs[0][1][name], rtol=1e-3, atol=1e-4)


def test_gradient_checkpointing_changes_nothing(model: LanguageModel) -> None:
    plain, _ = train(model, lora=tiny.ADAPTER)
    saving, _ = train(model, replace(TRAIN, gradient_checkpointing=True), lora=tiny.ADAPTER)
    close(series(plain), series(saving))
    # Nothing of it stays on the base model for the next round.
    assert not any(getattr(m, "gradient_checkpointing", False) for m in model.causal.modules())
    assert not any(m._forward_hooks for m in model.causal.modules())


@pytest.mark.parametrize(
    "name, noise",
    [
        ("opt", {"dropout": 0.5, "attention_dropout": 0.5}),
        ("falcon", {"hidden_dropout": 0.5, "attention_dropout": 0.5}),
        ("gpt2", {"resid_pdrop": 0.5, "attn_pdrop": 0.5, "embd_pdrop": 0.5}),
        ("gpt_neox", {"hidden_dropout": 0.5, "attention_dropout": 0.5}),
        ("phimoe", {"attention_dropout": 0.5}),
    ],
)
def test_noise_of_the_base_models_own_stays_off(
    name: str, noise: dict[str, float], tiny_llama: Path, tmp_path: Path
) -> None:
    model = tiny.load(adaptable.stored(name, tmp_path, tiny_llama, **noise))
    lora = replace(tiny.ADAPTER, target_modules="auto")
    short = replace(TRAIN, num_train_epochs=1)
    plain, _ = train(model, short, lora=lora)
    nll = [tiny.naive_log_probs(model, r)[range(len(r.continuation)), r.continuation] for r in ROWS]
    first = torch.cat([nll[i] for i in order(0)[:8]])
    assert plain.log[0]["loss"] == pytest.approx(-float(first.mean()), rel=1e-5)
    saving, _ = train(model, replace(short, gradient_checkpointing=True), lora=lora)
    np.testing.assert_allclose(series(saving), series(plain), rtol=1e-5)
    np.testing.assert_allclose(series(saving, "grad_norm"), series(plain, "grad_norm"), rtol=1e-4)
    assert not any(module.training for module in model.causal.modules())


def test_activations_are_recomputed_where_asked(model: LanguageModel) -> None:
    layer, calls = model.causal.model.layers[0].self_attn, []
    hook = layer.register_forward_hook(lambda *_: calls.append(1))
    try:
        for saving, times in ((False, 1), (True, 2)):
            calls.clear()
            config = replace(TRAIN, max_steps=1, gradient_checkpointing=saving)
            train(model, config)
            assert len(calls) == times
    finally:
        hook.remove()


def naive(
    model: LanguageModel, regularizer: RegularizerConfig, lora: Any = DRY
) -> tuple[list[float], dict[str, Tensor]]:
    """Train with Hugging Face's own loss, one example a forward pass."""
    beta, losses = adapter.beta_of(regularizer), []
    with adapter.fresh(model, lora, seed=0, round_=0) as adapted:
        named = {n: p for n, p in adapted.named_parameters() if p.requires_grad}
        b = [p for n, p in named.items() if "lora_B" in n]
        a = [p for n, p in named.items() if "lora_A" in n]
        decay = beta if regularizer.kind == "decoupled" else 0.0
        optimizer = torch.optim.AdamW(
            [{"params": b, "weight_decay": decay}, {"params": a, "weight_decay": 0.0}], lr=3e-3
        )
        updates = [order(e)[s : s + 8] for e in range(2) for s in range(0, len(ROWS), 8)]
        for step, update in enumerate(updates):
            for group in optimizer.param_groups:
                group["lr"] = 3e-3 * (1 - step / len(updates))
            tokens = sum(len(ROWS[i].continuation) for i in update)
            loss = torch.zeros(())
            for i in update:
                row = ROWS[i]
                ids = torch.tensor([row.prompt + row.continuation])
                labels = torch.tensor([(-100,) * len(row.prompt) + row.continuation])
                mean = adapted(input_ids=ids, labels=labels).loss
                loss = loss + mean * len(row.continuation) / tokens
            losses.append(loss.item())
            if regularizer.kind == "loss":
                loss = loss + beta / 2 * sum(p.square().sum() for p in b)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([*a, *b], 1.0)
            optimizer.step()
        return losses, {n: p.detach().clone() for n, p in named.items()}


@pytest.mark.parametrize("kind, beta", [("none", None), ("decoupled", 20.0), ("loss", 0.5)])
def test_equals_a_naive_loop(model: LanguageModel, kind: str, beta: float | None) -> None:
    regularizer = RegularizerConfig(kind=kind, beta=beta)  # type: ignore[arg-type]
    found, weights = train(model, regularizer=regularizer)
    losses, expected = naive(model, regularizer)
    close(series(found), np.array(losses))
    for name, weight in weights.items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-3, atol=1e-4)


def test_it_learns(model: LanguageModel) -> None:
    found, _ = train(model, replace(TRAIN, learning_rate=0.03, num_train_epochs=8))
    assert series(found)[-3:].mean() < 0.5 * series(found)[:3].mean()


# --- the regulariser ---------------------------------------------------------------------------


def test_what_the_log_says_of_the_regulariser(model: LanguageModel) -> None:
    found, weights = train(model, regularizer=RegularizerConfig(kind="loss", beta=0.5))
    # The term is that of the B the update began with, the norm that of the B it left.
    expected = 0.5 / 2 * series(found, "norm_B")[:-1] ** 2
    assert series(found, "constraint")[0] == 0
    np.testing.assert_allclose(series(found, "constraint")[1:], expected, rtol=1e-4)
    whole = series(found, "loss") + series(found, "constraint")
    np.testing.assert_allclose(
        series(found, "constraint_share"), series(found, "constraint") / whole
    )
    norm = torch.cat([w.flatten() for n, w in weights.items() if "lora_B" in n]).norm()
    assert found.log[-1]["norm_B"] == pytest.approx(float(norm), rel=1e-5)
    assert not series(found, "decay").any()

    found, _ = train(model, regularizer=RegularizerConfig(kind="decoupled", beta=2.0))
    np.testing.assert_allclose(series(found, "decay"), 2 * series(found, "learning_rate"))
    assert not series(found, "constraint").any()


@pytest.mark.parametrize("kind, beta", [("decoupled", 50.0), ("loss", 5.0)])
def test_the_constraint_makes_b_smaller(model: LanguageModel, kind: str, beta: float) -> None:
    free, _ = train(model)
    held, _ = train(model, regularizer=RegularizerConfig(kind=kind, beta=beta))  # type: ignore[arg-type]
    assert held.log[-1]["norm_B"] < 0.9 * free.log[-1]["norm_B"]


# --- schedule ----------------------------------------------------------------------------------


def test_the_rate_falls_over_the_training_steps(model: LanguageModel) -> None:
    found, _ = train(model)
    np.testing.assert_allclose(series(found, "learning_rate"), 3e-3 * (1 - np.arange(6) / 6))
    assert series(found, "epoch").tolist() == [0, 0, 0, 1, 1, 1]
    assert series(found, "step").tolist() == [0, 1, 2, 3, 4, 5]

    found, _ = train(model, replace(TRAIN, warmup_ratio=0.5, lr_scheduler_type="constant"))
    expected = 3e-3 * np.array([0, 1 / 3, 2 / 3, 1, 1, 1])
    np.testing.assert_allclose(series(found, "learning_rate"), expected)


@pytest.mark.parametrize("steps", [1, 3, 7])
def test_max_steps(model: LanguageModel, steps: int) -> None:
    found, _ = train(model, replace(TRAIN, max_steps=steps, per_device_train_batch_size=5))
    np.testing.assert_allclose(
        series(found, "learning_rate"), 3e-3 * (1 - np.arange(steps) / steps)
    )
    seen = [ROWS[i] for e in range(2) for i in order(e)]
    sizes = [len(r) for e in range(2) for r in seen[19 * e : 19 * e + 19]]
    count = [0, 5, 10, 15, 19, 24, 29, 34][steps]  # four updates an epoch, the last one of four
    assert found.tokens == sum(sizes[:count])


# --- faults and choices ------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_names_update_and_rows(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, calls = training.answer_nll, []

    def broken(model: LanguageModel, batch: list[TokenRow]) -> Tensor:
        calls.append(batch)
        return plain(model, batch) * (math.nan if len(calls) == 2 else 1.0)

    monkeypatch.setattr(training, "answer_nll", broken)
    rows = order(0)[8:16]
    with pytest.raises(InputError) as refused:
        train(model)
    assert f"update 1: the loss is nan on rows {rows}" in str(refused.value)
    assert not model.causal.training


@pytest.mark.parametrize("steps, ratio", [(1, 1.0), (1, 0.6)])
def test_a_training_at_rate_0_is_refused(model: LanguageModel, steps: int, ratio: float) -> None:
    with pytest.raises(InputError, match=r"round 0: 1 updates moved nothing: the rate was 0"):
        train(model, replace(TRAIN, max_steps=steps, warmup_ratio=ratio))
    found, _ = train(model, replace(TRAIN, max_steps=steps + 1, warmup_ratio=0.5))
    assert series(found, "norm_B")[-1] > 0
    assert not train(model, replace(TRAIN, max_steps=0))[0].log  # meant so


def test_all_that_is_written_is_finite(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.adapter, "norms", lambda _: {"norm_B": torch.tensor(math.inf)})
    with pytest.raises(InputError, match=r"update 0: norm_B is inf on rows \[.*\]; lower train"):
        train(model)


def test_gradients_that_are_clipped_away_are_named(model: LanguageModel) -> None:
    with pytest.raises(InputError, match=r"moved nothing: train.max_grad_norm=1e-300 clips"):
        train(model, replace(TRAIN, max_grad_norm=1e-300))


def test_a_training_without_a_gradient_is_refused(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = training.answer_nll
    monkeypatch.setattr(training, "answer_nll", lambda *a: plain(*a) * 0.0)
    with pytest.raises(InputError, match=r"6 updates moved nothing: no gradient came"):
        train(model)


def test_the_best_epoch_is_kept(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    values, seen = iter([2.0, 1.0, 3.0]), []

    def scripted(model: Any, adapted: Any, rows: Any) -> float:
        seen.append({n: p.detach().clone() for n, p in adapted.named_parameters()})
        return next(values)

    config = replace(TRAIN, num_train_epochs=3, keep="best")
    monkeypatch.setattr(training, "validation_loss", scripted)
    found, weights = train(model, config, validation=ROWS[:4])
    assert found.validation == [2.0, 1.0, 3.0] and found.kept_epoch == 1
    assert same(weights, seen[1]) and not same(weights, seen[2])
    values = iter([2.0, 1.0, 3.0])
    found, last = train(model, replace(config, keep="last"), validation=ROWS[:4])
    assert found.kept_epoch == 2 and same(last, seen[2])


def test_validation_is_without_dropout_and_changes_no_training(model: LanguageModel) -> None:
    config = replace(TRAIN, num_train_epochs=1, learning_rate=1e-12)
    found, _ = train(model, config, lora=tiny.ADAPTER, validation=ROWS)
    nll = [tiny.naive_log_probs(model, r)[range(len(r.continuation)), r.continuation] for r in ROWS]
    assert found.validation == pytest.approx([-float(torch.cat(nll).mean())], rel=1e-5)
    with_it, weights = train(model, lora=tiny.ADAPTER, validation=ROWS)
    without, expected = train(model, lora=tiny.ADAPTER)
    assert with_it.log == without.log and same(weights, expected)


def test_dropout_acts_and_is_repeatable(model: LanguageModel) -> None:
    before = torch.get_rng_state()
    first = train(model, lora=tiny.ADAPTER)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)  # the global stream is of no concern
    again = train(model, lora=tiny.ADAPTER)
    assert first[0].log == again[0].log and same(first[1], again[1])
    assert first[0].log != train(model)[0].log
    assert first[0].log != train(model, lora=tiny.ADAPTER, seed=1)[0].log

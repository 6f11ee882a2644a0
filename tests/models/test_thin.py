"""The low-rank branch beside weights of 16 bits, against float32; what an update leaves unread."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from star.config import McDropoutConfig, ModelConfig, RegularizerConfig, TrainConfig
from star.errors import InputError
from star.models import adapter, likelihood, mc_dropout, merging, training
from star.models import loading as models
from star.models.batching import Batching
from star.models.language_model import LanguageModel
from star.models.learning_mode import learning, thin_products
from star.models.training import answer_nll
from star.models.update_log import UpdateLog, Values

ROWS = tiny.random_rows(9, seed=4)


@pytest.fixture
def half(tiny_llama: Path) -> LanguageModel:
    """The tiny LLaMA in bfloat16."""
    config = ModelConfig(name_or_path=str(tiny_llama), device="cpu", dtype="bfloat16")
    return models.load(config, batching=Batching(rows=4))


def scored(model: LanguageModel, adapted: Any, masks: Any = "consistent") -> np.ndarray:
    settings = McDropoutConfig(passes=2, masks=masks)
    with mc_dropout.passes(adapted, settings, seed=0, round_=0).installed() as passes:
        return likelihood.nll(model, ROWS, passes=passes)


@pytest.mark.parametrize("masks", ["consistent", "token"])
def test_thin_products_score_as_those_of_peft(
    half: LanguageModel, masks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tiny.learned(half) as adapted:
        assert isinstance(merging.way_of(half.causal), merging.Thin)
        thin, bare = scored(half, adapted, masks), likelihood.nll(half, ROWS)
        monkeypatch.setattr(merging.Thin, "possible", False)
        wide, bare_wide = scored(half, adapted, masks), likelihood.nll(half, ROWS)
    assert np.abs(thin - thin[:, :1]).max() > 0.1  # the branch shows
    np.testing.assert_allclose(thin, wide, rtol=3e-2)
    np.testing.assert_allclose(bare, bare_wide, rtol=3e-2)


def test_thin_products_leave_the_model_as_it_was(half: LanguageModel) -> None:
    with tiny.learned(half) as adapted:
        forwards = {name: layer.forward for name, layer in adapter.layers(adapted)}
        before = likelihood.nll(half, ROWS)
        scored(half, adapted)
        assert not any("forward" in vars(layer) for _, layer in adapter.layers(adapted))
        assert forwards.keys() == dict(adapter.layers(adapted)).keys()
        assert all(p.dtype == torch.float32 for p in adapter.weights(adapted).values())
        np.testing.assert_array_equal(likelihood.nll(half, ROWS), before)


def test_a_pass_costs_a_bare_one_and_the_rank(half: LanguageModel) -> None:
    batch = half.lay_out(ROWS)

    def flops() -> int:
        def product(_: Any, a: Any, b: Any, **__: Any) -> int:  # in place, which is not counted
            return 2 * math.prod(a) * b[1]

        in_place = {torch.ops.aten.addmm_: product}
        with (
            FlopCounterMode(display=False, custom_mapping=in_place) as counter,
            torch.inference_mode(),
        ):
            half.predict(batch)
        return counter.get_total_flops()

    bare = flops()
    with tiny.learned(half) as adapted, merging.merged(half.causal):
        with_branch = flops()
        thin = sum(p.numel() for p in adapter.weights(adapted).values())
    assert with_branch - bare == 2 * thin * batch.ids.numel()


@pytest.mark.parametrize("bias", [True, False])
def test_a_bias_is_added_once(bias: bool) -> None:
    class Tiny(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.words = nn.Linear(8, 6, bias=bias), nn.Embedding(3, 8)

        def get_input_embeddings(self) -> nn.Module:
            return self.words

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x)  # type: ignore[no-any-return]

    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(
        Tiny().to(torch.bfloat16),  # type: ignore[arg-type]
        LoraConfig(r=2, target_modules=["linear"], init_lora_weights=False),
    ).eval()
    x = torch.randn(2, 5, 8, dtype=torch.bfloat16)
    with torch.inference_mode():
        wide = adapted(x)
        with merging.merged(adapted.get_base_model()):  # type: ignore[arg-type]
            assert "forward" in vars(adapted.base_model.model.linear)
            thin = adapted(x)
    torch.testing.assert_close(thin, wide, rtol=3e-2, atol=3e-2)


# ---- training -----------------------------------------------------------------------------------


def test_in_training_the_weights_and_gradients_stay_float32(half: LanguageModel) -> None:
    def gradients(thin: bool) -> list[Tensor]:
        with tiny.learned(half) as adapted, learning(adapted, TrainConfig()):
            for _, layer in adapter.layers(adapted):
                layer.lora_dropout.eval()
            batch = half.lay_out(ROWS)
            with half.packing(batch):
                if thin:
                    with thin_products(adapted):
                        answer_nll(half, batch).backward()
                else:
                    answer_nll(half, batch).backward()
            found = [p.grad for p in adapted.parameters() if p.requires_grad]
            assert all(g is not None and g.dtype == torch.float32 for g in found)
            return [g for g in found if g is not None]

    apart = [
        float((one - other).norm() / other.norm())
        for one, other in zip(gradients(True), gradients(False), strict=True)
    ]
    assert 0 < max(apart) < 0.2 and np.mean(apart) < 0.05


def test_each_update_multiplies_with_the_weights_that_the_last_one_left(
    half: LanguageModel,
) -> None:
    config = TrainConfig(
        max_steps=12, per_device_train_batch_size=4, learning_rate=1e-2,
        lr_scheduler_type="constant",
    )  # fmt: skip

    def trained(thin: bool) -> list[dict[str, float]]:
        still = replace(tiny.ADAPTER, lora_dropout=0.0)
        with (
            adapter.fresh(half, still, seed=0, round_=0) as adapted,
            thin_products(adapted) if thin else nullcontext(),
        ):
            return training.fit(
                half, adapted, ROWS, config=config, regularizer=RegularizerConfig(kind="none"),
                seed=0, round_=0,
            ).log  # fmt: skip

    thin, wide = trained(True), trained(False)
    assert thin[-1]["norm_A"] > 1.05 * thin[0]["norm_A"]  # no gradient comes to A while B is 0
    # By how much the two part hangs on the CPU's products; weights kept from the first update would
    # leave the loss where it began, at more than half as much again.
    for name in ("loss", "norm_A", "norm_B"):
        np.testing.assert_allclose([u[name] for u in thin], [u[name] for u in wide], rtol=0.15)


class Reads(TorchDispatchMode):
    """Counts the numbers that the host takes from the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def values(loss: float, term: float | None = None) -> Values:
    names = ("loss", "grad_norm", "norm_A", "norm_B")
    measured = {name: torch.tensor(loss + i) for i, name in enumerate(names)}
    return Values(measured, None if term is None else torch.tensor(term), 1e-3, 0.5)


def test_updates_are_read_together_and_say_the_same() -> None:
    each: list[list[dict[str, float]]] = []
    for every in (1, 4):
        entries: list[dict[str, float]] = []
        log = UpdateLog(entries, 0, every=every)
        with Reads() as reads:
            for i in range(6):
                log.add(i // 3, values(0.1 + i, None if i % 2 else 0.3), ROWS[:2])
                assert log.count == i + 1 and len(entries) == (i + 1) // every * every
        assert reads.count == 0  # numbers come in tables
        log.read()
        each.append(entries)
    assert each[0] == each[1] and [entry["step"] for entry in each[0]] == list(range(6))
    first = each[0][0]
    term, loss = float(torch.tensor(0.3)), float(torch.tensor(0.1))
    assert first["constraint"] == term and first["constraint_share"] == term / (loss + term)


def test_an_infinite_loss_is_named_when_it_is_read() -> None:
    entries: list[dict[str, float]] = []
    log = UpdateLog(entries, 3, every=4)
    for i, loss in enumerate((1.0, float("inf"), float("nan"))):
        log.add(0, values(loss), ROWS[i : i + 1])
    with pytest.raises(InputError, match=r"^round 3, update 1: the loss is inf on rows \[") as told:
        log.read()
    assert f"[{ROWS[1].index}]" in str(told.value) and len(entries) == 1


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = UpdateLog.__init__
    monkeypatch.setattr(
        UpdateLog, "__init__", lambda self, *words, every: plain(self, *words, every=5)
    )


@pytest.mark.parametrize("kind", ["none", "loss"])
def test_an_update_asks_the_device_for_nothing(
    model: LanguageModel, kind: Any, seldom: None
) -> None:
    config = TrainConfig(max_steps=12, per_device_train_batch_size=4, lr_scheduler_type="linear")
    with adapter.fresh(model, tiny.ADAPTER, seed=0, round_=0) as adapted, Reads() as reads:
        found = training.fit(
            model, adapted, ROWS, config=config, regularizer=RegularizerConfig(kind=kind), seed=0,
            round_=0,
        )  # fmt: skip
    assert len(found.log) == 12
    assert reads.count == 0, reads.count

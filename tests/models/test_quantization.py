"""Four-bit base weights: what is computed with them, and in which dtype."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import runs
import tiny
import torch

from star.active_learning import learner
from star.config import ModelConfig, RegularizerConfig, TrainConfig, load
from star.errors import InputError
from star.models import adapter, likelihood, optimizers, quantization, saved_adapter, training
from star.models import loading as models
from star.models.language_model import LanguageModel

ROWS = tiny.random_rows(12, seed=3)
DRY = replace(tiny.ADAPTER, lora_dropout=0.0)
WHOLE = RegularizerConfig(kind="decoupled", beta=0.1)
CPU = torch.device("cpu")


@pytest.fixture
def bnb() -> Any:
    return pytest.importorskip("bitsandbytes", reason="pip install 'star-al[nf4]'")


def four_bit(folder: Path, **options: Any) -> LanguageModel:
    settings = {"quantization": "nf4", "device": "cpu", **options}
    return models.load(ModelConfig(name_or_path=str(folder), **settings))


def dequantised(bnb: Any, folder: Path, model: LanguageModel, dtype: str) -> LanguageModel:
    """Return the ordinary model of the weights that the four bits of ``model`` stand for."""
    plain = models.load(ModelConfig(name_or_path=str(folder), device="cpu", dtype=dtype))
    for name, module in quantised(bnb, model):
        stored = module.weight
        assert not getattr(stored.quant_state, "packing_format_for_cpu", False)
        weight = bnb.functional.dequantize_4bit(stored.data, stored.quant_state)
        plain.causal.get_submodule(name).weight.data = weight.to(plain.causal.dtype)
    return plain


def quantised(bnb: Any, model: LanguageModel) -> Iterator[tuple[str, Any]]:
    for name, module in model.causal.named_modules():
        if isinstance(module, bnb.nn.Linear4bit):
            yield name, module


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_scores_are_those_of_the_four_bits_in_the_models_dtype(
    bnb: Any, tiny_llama: Path, dtype: str, double: bool
) -> None:
    model = four_bit(tiny_llama, dtype=dtype, double_quantization=double)
    scored = likelihood.nll(model, ROWS)  # after the forward passes of loading
    expected = likelihood.nll(dequantised(bnb, tiny_llama, model, dtype), ROWS)
    close = {"float32": 1e-5, "bfloat16": 2e-2}[dtype]
    np.testing.assert_allclose(scored, expected, rtol=close)
    before = likelihood.nll(models.load(ModelConfig(str(tiny_llama), dtype=dtype)), ROWS)
    assert not np.allclose(scored, before, rtol=close)
    modules = dict(quantised(bnb, model))
    assert len(modules) == 2 * 7  # the body's projections; head and embeddings are as they were
    for module in modules.values():
        assert module.weight.quant_state.nested is double
        assert module.compute_dtype == model.causal.dtype
    others = [p for p in model.causal.parameters() if p.is_floating_point()]
    assert others and all(p.dtype == getattr(torch, dtype) for p in others)


@pytest.mark.parametrize("recompute", [False, True])
def test_training_is_that_on_the_dequantised_weights(
    bnb: Any, tiny_llama: Path, recompute: bool
) -> None:
    model = four_bit(tiny_llama)
    plain = dequantised(bnb, tiny_llama, model, "float32")
    config = TrainConfig(learning_rate=3e-3, num_train_epochs=2, gradient_checkpointing=recompute)
    weights = [trained(each, config) for each in (model, plain)]
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[0].items():
        assert weight.dtype == torch.float32
        torch.testing.assert_close(weight, weights[1][name], rtol=1e-3, atol=1e-5)


def trained(model: LanguageModel, config: TrainConfig) -> dict[str, torch.Tensor]:
    with adapter.fresh(model, DRY, seed=0, round_=0) as adapted:
        training.fit(model, adapted, ROWS, config=config, regularizer=WHOLE, seed=0, round_=0)
        return {n: p.detach().clone() for n, p in adapted.named_parameters() if p.requires_grad}


def test_training_in_16_bits_moves_a_float32_adapter_and_nothing_else(
    bnb: Any, tiny_llama: Path
) -> None:
    model = four_bit(tiny_llama, dtype="bfloat16")
    before = {name: p.clone() for name, p in model.causal.named_parameters()}
    weights = trained(model, TrainConfig(learning_rate=3e-3, gradient_checkpointing=True))
    assert all(weight.dtype == torch.float32 for weight in weights.values())
    after = dict(model.causal.named_parameters())
    assert after.keys() == before.keys()
    for name, weight in before.items():  # bits, dtype and all
        assert after[name].dtype == weight.dtype and torch.equal(after[name], weight)


def test_a_saved_adapter_scores_as_it_did(bnb: Any, tiny_llama: Path, tmp_path: Path) -> None:
    model = four_bit(tiny_llama)
    with tiny.learned(model, DRY) as adapted:
        expected = likelihood.nll(model, ROWS)
        adapter.save(adapted, tmp_path / "adapter")
    with saved_adapter.load(four_bit(tiny_llama), tmp_path / "adapter") as adapted:
        again = likelihood.nll(replace(model, causal=adapted.get_base_model()), ROWS)
    np.testing.assert_array_equal(again, expected)


class Killed(BaseException):
    pass


def test_a_run_goes_on_to_the_same_numbers(
    bnb: Any, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = runs.write_data(tmp_path / "data")
    words = ("model.quantization=nf4", "pool.rounds=2", "model.device=cpu")
    whole = runs.go(tiny_llama, data, tmp_path / "whole", *words)
    with monkeypatch.context() as patch:
        seen, ours = [], learner.Learner.evaluate

        def once(*given: Any, **more: Any) -> Any:
            seen.append(1)
            if len(seen) == 2:
                raise Killed
            return ours(*given, **more)

        patch.setattr(learner.Learner, "evaluate", once)
        with pytest.raises(Killed):
            runs.go(tiny_llama, data, tmp_path / "parts", *words)
    parts = runs.go(tiny_llama, data, tmp_path / "parts", *words)
    assert runs.result(parts) == runs.result(whole)
    assert runs.content(parts) == runs.content(whole)
    assert "nf4, double" in json.dumps(runs.read(parts / "environment.json")["model"])


# --- without bitsandbytes ------------------------------------------------------------------------


def test_no_module_lays_its_weights_out_anew() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    setattr(module[0], quantization.PACKS, True)
    quantization.keep_as_stored(module)
    assert getattr(module[0], quantization.PACKS) is False
    assert not hasattr(module[1], quantization.PACKS)


def test_single_quantisation_is_of_four_bits_alone() -> None:
    words = ["model.double_quantization=false"]
    with pytest.raises(InputError, match=r"belongs to model\.quantization=nf4, got none"):
        load(None, words)
    assert not load(None, [*words, "model.quantization=nf4"]).model.double_quantization


def test_pages_need_a_gpu_and_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    paged, gpu = TrainConfig(optimizer="paged_adamw"), torch.device("cuda")
    with pytest.raises(InputError, match=r"needs a GPU, got device cpu; set train\.optimizer=ad"):
        optimizers.refuse_elsewhere(paged, CPU)
    monkeypatch.setattr(optimizers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs bitsandbytes; pip install"):
        optimizers.refuse_elsewhere(paged, gpu)


def test_a_run_that_asks_for_pages_without_a_gpu_leaves_nothing_behind(
    tiny_llama: Path, tmp_path: Path
) -> None:
    data = runs.write_data(tmp_path / "data")
    with pytest.raises(InputError, match="needs a GPU"):
        runs.go(
            tiny_llama, data, tmp_path / "out", "train.optimizer=paged_adamw", "model.device=cpu"
        )
    assert not (tmp_path / "out").exists()


def test_pages_are_bitsandbytes_adamw_in_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    library = ModuleType("bitsandbytes")
    library.optim = ModuleType("bitsandbytes.optim")  # type: ignore[attr-defined]
    library.optim.PagedAdamW32bit = lambda *given, **more: made.append((given, more))
    monkeypatch.setitem(sys.modules, "bitsandbytes", library)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", library.optim)
    monkeypatch.setattr(optimizers.importlib.util, "find_spec", lambda name: library)
    groups = [{"params": [], "weight_decay": 0.5}]
    config = TrainConfig(optimizer="paged_adamw", learning_rate=0.25)
    optimizers.adamw(groups, config, torch.device("cuda"))
    assert made == [((groups,), {"lr": 0.25})]

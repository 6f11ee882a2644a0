"""Constraint LoRA: nothing leaks, the regulariser is what the formula says."""

from __future__ import annotations

import json
import warnings
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import adaptable
import pytest
import tiny
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from star.config import (
    AdapterConfig,
    McDropoutConfig,
    ModelConfig,
    RegularizerConfig,
)
from star.errors import InputError
from star.models import adapter, mc_dropout, merging, saved_adapter
from star.models import loading as models
from star.models.language_model import LanguageModel
from star.models.targets import LLAMA_PROJECTIONS

IDS = torch.tensor([[1, 20, 21, 22, 23, 24]])


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def logits(model: LanguageModel) -> Tensor:
    with torch.no_grad():
        return model.causal(input_ids=IDS).logits


def matrices(adapted: nn.Module, part: str) -> dict[str, Tensor]:
    return {n: getattr(m, part)["default"].weight for n, m in adapter.layers(adapted)}


def test_the_base_is_bitwise_the_same_after_a_training(model: LanguageModel) -> None:
    before, names = state(model.causal), [name for name, _ in model.causal.named_modules()]
    with adapter.fresh(model, tiny.ADAPTER, seed=0, round_=0) as adapted:
        optimizer = torch.optim.AdamW(
            adapter.parameter_groups(adapted, RegularizerConfig()), lr=0.1
        )
        for _ in range(3):
            adapted.train()
            adapted(input_ids=IDS, labels=IDS).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        assert adapter.norms(adapted)["norm_B"] > 1
    assert same(state(model.causal), before)
    assert [name for name, _ in model.causal.named_modules()] == names
    assert not any(module.training for module in model.causal.modules())
    assert not any(p.requires_grad for p in model.causal.parameters())


def test_the_base_is_restored_after_an_exception(model: LanguageModel) -> None:
    before = state(model.causal)
    with pytest.raises(RuntimeError, match="mine"), tiny.learned(model):
        raise RuntimeError("mine")
    assert same(state(model.causal), before)


def test_a_later_round_starts_as_on_a_model_just_loaded(
    model: LanguageModel, tiny_llama: Path, tmp_path: Path
) -> None:
    def start(model: LanguageModel) -> dict[str, Tensor]:
        with adapter.fresh(model, tiny.ADAPTER, seed=5, round_=1) as adapted:
            assert list(adapted.peft_config) == ["default"]
            return state(adapted)

    with tiny.learned(model) as adapted:
        adapter.save(adapted, tmp_path / "a")
    with saved_adapter.load(model, tmp_path / "a"):
        pass
    assert same(start(model), start(tiny.load(tiny_llama)))


def test_the_start_depends_on_seed_and_round_alone(model: LanguageModel) -> None:
    def start(seed: int, round_: int) -> Tensor:
        torch.rand(1)  # whatever else was drawn
        with adapter.fresh(model, tiny.ADAPTER, seed=seed, round_=round_) as adapted:
            assert all(not b.any() for b in matrices(adapted, "lora_B").values())
            return torch.cat([a.flatten().clone() for a in matrices(adapted, "lora_A").values()])

    reference = start(0, 0)
    assert torch.equal(reference, start(0, 0))
    assert not torch.equal(reference, start(1, 0)) and not torch.equal(reference, start(0, 1))


def test_a_saved_adapter_is_the_same_file_in_every_process(
    model: LanguageModel, tmp_path: Path
) -> None:
    with adapter.fresh(model, AdapterConfig(r=2), seed=0, round_=0) as adapted:
        adapter.save(adapted, tmp_path)
        names = sorted(adapted.peft_config["default"].target_modules)
    stored = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
    assert stored == names and len(names) == 7  # a set of so many is not in order by chance


def test_no_global_random_numbers_are_used(model: LanguageModel) -> None:
    before = torch.get_rng_state()
    with tiny.learned(model):
        pass
    assert torch.equal(torch.get_rng_state(), before)


def test_views(model: LanguageModel) -> None:
    base = logits(model)
    with tiny.learned(model) as adapted:
        full = logits(model)
        assert not torch.allclose(full, base, atol=0.1)
        with adapter.base_model(adapted):
            assert torch.equal(logits(model), base)
        assert torch.equal(logits(model), full)
    assert torch.equal(logits(model), base)


def test_only_lora_is_trained_and_only_b_is_decayed(adapted: nn.Module) -> None:
    names = {id(p): name for name, p in adapted.named_parameters()}
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 2 * len(LLAMA_PROJECTIONS)  # A and B, two layers

    for kind, decay in (("decoupled", 0.25), ("loss", 0.0), ("none", 0.0)):
        groups = adapter.parameter_groups(adapted, RegularizerConfig(kind=kind, beta=0.25))
        b, a = [{names[id(p)] for p in group["params"]} for group in groups]
        assert b == {name for name in trained if ".lora_B." in name}
        assert a == {name for name in trained if ".lora_A." in name}
        assert [group["weight_decay"] for group in groups] == [decay, 0.0]


def test_the_loss_term_and_its_gradient(adapted: nn.Module) -> None:
    config = RegularizerConfig(kind="loss", beta=0.3)
    term = adapter.constraint(adapted, config)
    found = matrices(adapted, "lora_B")
    expected = 0.15 * sum(float(b.detach().double().square().sum()) for b in found.values())
    assert term is not None and term.item() == pytest.approx(expected, rel=1e-6)
    term.backward()
    for b in found.values():
        torch.testing.assert_close(b.grad, 0.3 * b.detach())
    assert all(a.grad is None for a in matrices(adapted, "lora_A").values())


@pytest.mark.parametrize("kind", ["none", "decoupled"])
def test_no_loss_term_of_the_other_kinds(adapted: nn.Module, kind: str) -> None:
    assert adapter.constraint(adapted, RegularizerConfig(kind=kind, beta=0.3)) is None


@pytest.mark.parametrize("kind, factor", [("decoupled", 1 - 0.1 * 0.5), ("none", 1.0)])
def test_without_gradient_a_step_shrinks_b_by_rate_times_beta(
    adapted: nn.Module, kind: str, factor: float
) -> None:
    groups = adapter.parameter_groups(adapted, RegularizerConfig(kind=kind, beta=0.5))
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    a = {n: w.detach().clone() for n, w in matrices(adapted, "lora_A").items()}
    b = {n: w.detach().clone() for n, w in matrices(adapted, "lora_B").items()}
    for group in groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, weight in matrices(adapted, "lora_B").items():
        torch.testing.assert_close(weight.detach(), b[name] * factor)
    assert all(torch.equal(w, a[n]) for n, w in matrices(adapted, "lora_A").items())


def test_defaults_of_beta() -> None:
    assert adapter.beta_of(RegularizerConfig(kind="none")) == 0
    assert adapter.beta_of(RegularizerConfig(kind="decoupled")) == 0.5  # the released code's
    assert adapter.beta_of(RegularizerConfig(kind="loss")) == adapter.DEFAULT_BETA["loss"] > 0
    assert adapter.beta_of(RegularizerConfig(kind="loss", beta=0.0)) == 0
    assert set(adapter.DEFAULT_BETA) == {"none", "decoupled", "loss"}


def test_norms(adapted: nn.Module) -> None:
    for part, key in (("lora_A", "norm_A"), ("lora_B", "norm_B")):
        whole = torch.cat([w.detach().flatten() for w in matrices(adapted, part).values()])
        assert adapter.norms(adapted)[key] == pytest.approx(float(whole.norm()), rel=1e-5)


def test_save_and_load(model: LanguageModel, tmp_path: Path) -> None:
    with tiny.learned(model) as adapted:
        expected, trained = logits(model), state(adapted)
        adapter.save(adapted, tmp_path / "adapter")
    before = state(model.causal)
    with saved_adapter.load(model, tmp_path / "adapter") as adapted:
        assert same(state(adapted), trained)
        assert torch.equal(logits(model), expected)
        assert {m.lora_dropout["default"].p for _, m in adapter.layers(adapted)} == {0.3}
    assert same(state(model.causal), before)
    assert not list((tmp_path / "adapter").glob("*.bin"))


def test_what_is_no_adapter_is_refused(model: LanguageModel, tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"no adapter_model\.safetensors"),
        saved_adapter.load(model, tmp_path),
    ):
        pass


def keys_changed(folder: Path, change: Any) -> None:
    path = folder / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)


def settings_changed(folder: Path, **values: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.replace("self_attn", "attention"): value for key, value in state.items()}


def one_less(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return dict(list(state.items())[1:])


def deeper(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {k.replace("layers.1", "layers.7"): v.clone() for k, v in state.items()}


def with_embeddings(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {"base_model.model.model.embed_tokens.weight": torch.ones(58, 32)}


def of_rank_2(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value[:2].contiguous() for key, value in state.items()}


@pytest.mark.parametrize(
    "change, parts",
    [
        (renamed, ["the file lacks ", "lora_A", "more; give the model"]),
        (one_less, ["the file lacks ", "model.layers.0"]),
        (deeper, ["has besides LoRA's own ", "layers.7"]),
        (with_embeddings, ["brings its own model.embed_tokens.weight"]),
        (of_rank_2, ["size mismatch", "torch.Size([2, 32])"]),
        ({"peft_type": "PROMPT_TUNING"}, ["of the kind PROMPT_TUNING; only LORA"]),
        ({"peft_type": "IA3"}, ["of the kind IA3; only LORA"]),
        ({"peft_type": "FOO"}, ["of the kind FOO; only LORA"]),
        ({"alora_invocation_tokens": [7]}, ["an activated LoRA"]),
        ({"target_modules": ["c_attn"]}, ["does not fit the model", "c_attn"]),
        ({"r": "four"}, ["does not fit the model"]),
        ("torn weights", ["cannot be read"]),
        ("torn settings", ["adapter_config.json is not JSON"]),
        ("no settings", ["no adapter_config.json"]),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_and_leaves_the_base(
    model: LanguageModel, tmp_path: Path, change: Any, parts: list[str]
) -> None:
    base, before = logits(model), state(model.causal)
    with tiny.learned(model) as adapted:
        adapter.save(adapted, tmp_path)
    if callable(change):
        keys_changed(tmp_path, change)
    elif isinstance(change, dict):
        settings_changed(tmp_path, **change)
    elif change == "no settings":
        (tmp_path / "adapter_config.json").unlink()
    else:
        name = "adapter_model.safetensors" if "weights" in change else "adapter_config.json"
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError) as refused, saved_adapter.load(model, tmp_path):
        pass
    assert "\n" not in str(refused.value)
    for part in parts:
        assert part in str(refused.value)
    assert same(state(model.causal), before) and torch.equal(logits(model), base)
    assert not list(adapter.layers(model.causal))


def test_a_whole_module_that_the_file_lacks_is_refused(
    model: LanguageModel, tmp_path: Path
) -> None:
    settings = LoraConfig(
        r=4, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM"
    )
    base, before = logits(model), state(model.causal)
    with adapter.quietly():
        adapted = get_peft_model(model.causal, settings)
    tiny.learn(adapted)
    adapted.base_model.model.lm_head.modules_to_save["default"].weight.data.mul_(2)
    adapted.eval().save_pretrained(tmp_path)
    expected = logits(model)
    rows = torch.tensor([5, 9, 3])
    assert not torch.allclose(expected, base)
    adapter.remove(model)
    with saved_adapter.load(model, tmp_path), torch.no_grad():
        hidden = model.hidden(IDS)[0]
        torch.testing.assert_close(model.logits(hidden), expected[0])
        torch.testing.assert_close(model.logits(hidden, rows), expected[0][:, rows])
    assert same(state(model.causal), before)
    keys_changed(tmp_path, lambda held: {k: v for k, v in held.items() if "lora" in k})
    with (
        pytest.raises(InputError, match=r"it lacks .*lm_head"),
        saved_adapter.load(model, tmp_path),
    ):
        pass
    assert same(state(model.causal), before)


def test_a_wrong_target_is_named_with_the_nearest(model: LanguageModel) -> None:
    config = AdapterConfig(target_modules=["q_proj", "qproj"])
    with (
        pytest.raises(InputError, match=r"'qproj' is no linear module.*did you mean 'q_proj'\?"),
        adapter.fresh(model, config, seed=0, round_=0),
    ):
        pass
    assert not list(adapter.layers(model.causal))


# --- merged into the weights -------------------------------------------------------------------


@torch.inference_mode()
@pytest.mark.parametrize("targets", [["q_proj", "down_proj"], ["v_proj", "lm_head"]])
def test_folded_weights_compute_the_same_and_go_without_a_trace(
    tiny_llama: Path, targets: list[str]
) -> None:
    model, ids = tiny.load(tiny_llama), torch.tensor([[1, 7, 9, 30, 12]])
    with tiny.learned(model, replace(tiny.ADAPTER, target_modules=targets)) as adapted:
        parameters = dict(adapted.named_parameters())
        values = {name: parameter.clone() for name, parameter in parameters.items()}
        plain = model.logits(model.hidden(ids)[0])
        with adapter.base_model(adapted):
            base = model.logits(model.hidden(ids)[0])
        with merging.merged(model.causal):
            for _, layer in adapter.layers(adapted):
                layer.lora_B["default"].register_forward_hook(lambda *_: pytest.fail("not merged"))
            merged = model.logits(model.hidden(ids)[0])
        assert (plain - base).abs().max() > 0.1
        torch.testing.assert_close(merged, plain, rtol=1e-5, atol=1e-4)
        after = dict(adapted.named_parameters())
        assert after.keys() == parameters.keys()
        assert all(after[name] is parameters[name] for name in after)
        assert all(torch.equal(after[name], values[name]) for name in after)


@torch.inference_mode()
@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "falcon", "phi3", "opt"])
def test_other_architectures_fold_as_well(name: str, tiny_llama: Path, tmp_path: Path) -> None:
    model = tiny.load(adaptable.stored(name, tmp_path / "model", tiny_llama))
    ids = torch.tensor([[1, 7, 9, 30, 12]])
    config = replace(tiny.ADAPTER, target_modules="all-linear")
    base = model.logits(model.hidden(ids)[0])
    with tiny.learned(model, config, scale=0.05) as adapted:
        plain = model.logits(model.hidden(ids)[0])
        # Falcon has a linear layer of its own.
        assert merging.Merged(model.causal).possible == (name != "falcon")
        with merging.merged(model.causal):
            merged = model.logits(model.hidden(ids)[0])
        assert (plain - base).abs().max() > 0.1
        torch.testing.assert_close(merged, plain, rtol=1e-4, atol=1e-4)
        adapter.save(adapted, tmp_path / "adapter")
    assert torch.equal(model.logits(model.hidden(ids)[0]), base)
    with saved_adapter.load(model, tmp_path / "adapter"):
        assert torch.equal(model.logits(model.hidden(ids)[0]), plain)


@torch.inference_mode()
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_the_scale_of_rslora(name: str, tiny_llama: Path, tmp_path: Path) -> None:
    folder = tiny_llama
    if name == "gpt2":
        folder = adaptable.stored(name, tmp_path / "model", tiny_llama)
    model, ids = tiny.load(folder), torch.tensor([[1, 7, 9, 30, 12]])
    # alpha / sqrt(r) = 8 / 2 is what alpha / r = 16 / 4 is without it.
    root = replace(tiny.ADAPTER, target_modules="all-linear", lora_alpha=8, use_rslora=True)
    with tiny.learned(model, replace(root, lora_alpha=16, use_rslora=False), scale=0.02):
        expected = model.logits(model.hidden(ids)[0])
    with tiny.learned(model, root, scale=0.02) as adapted:
        assert {layer.scaling["default"] for _, layer in adapter.layers(adapted)} == {4.0}
        assert torch.equal(model.logits(model.hidden(ids)[0]), expected)
        with merging.merged(model.causal):
            merged = model.logits(model.hidden(ids)[0])
        torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-4)
        adapter.save(adapted, tmp_path / "adapter")
    # PEFT alone reads it back.
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    with adapter.quietly():
        theirs = PeftModel.from_pretrained(loaded, str(tmp_path / "adapter"))
    torch.testing.assert_close(theirs(input_ids=ids).logits[0], expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("name", ["llama", "tied", "gpt2"])
def test_words_alone_are_scored_with_the_heads_adapter(
    name: str, dtype: str, tiny_llama: Path, tmp_path: Path
) -> None:
    folder = tiny_llama
    if name != "llama":
        kind = {"tied": "qwen3"}.get(name, name)
        folder = adaptable.stored(kind, tmp_path, tiny_llama, tie_word_embeddings=True)
    model = models.load(ModelConfig(name_or_path=str(folder), device="cpu", dtype=dtype))
    words, hidden = torch.tensor([40, 3, 17]), model.hidden(IDS)[0]
    base = model.logits(hidden, words)
    torch.testing.assert_close(base, model.logits(hidden)[:, words])
    with tiny.learned(model, replace(tiny.ADAPTER, target_modules=["lm_head"])):
        full = model.logits(hidden, words)
        assert torch.equal(full, model.logits(hidden)[:, words])
        assert (full - base).abs().max() > 0.1
    assert torch.equal(model.logits(hidden, words), base)


def variant(model: LanguageModel, folder: Path, **more: Any) -> None:
    """Save an adapter that PEFT alone has made."""
    settings = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.2, task_type="CAUSAL_LM", **more)
    with adapter.quietly():
        adapted = get_peft_model(model.causal, settings)
    tiny.learn(adapted)
    with warnings.catch_warnings(action="ignore"):  # that the head's own weight comes with it
        adapted.save_pretrained(folder)
    adapter.remove(model)


def test_dora_is_not_folded_and_has_no_masks_per_token(
    model: LanguageModel, tmp_path: Path
) -> None:
    variant(model, tmp_path, use_dora=True, target_modules=["o_proj", "up_proj"])
    with saved_adapter.load(model, tmp_path) as adapted:
        assert not merging.Merged(model.causal).possible
        mc_dropout.passes(adapted, McDropoutConfig(passes=2), seed=0, round_=0)
        with pytest.raises(InputError, match="masks per token cannot act on DoRA"):
            mc_dropout.passes(adapted, McDropoutConfig(passes=2, masks="token"), seed=0, round_=0)


def test_an_adapted_head_has_no_masks_per_token(model: LanguageModel, tmp_path: Path) -> None:
    variant(model, tmp_path, target_modules=["v_proj", "lm_head"])
    with (
        saved_adapter.load(model, tmp_path) as adapted,
        pytest.raises(InputError, match="masks per token cannot act on the output head"),
    ):
        mc_dropout.passes(adapted, McDropoutConfig(passes=2, masks="token"), seed=0, round_=0)


@pytest.mark.parametrize("change", ["bfloat16", "off", "none", "merged"])
def test_what_is_not_folded(tiny_llama: Path, change: str) -> None:
    model = tiny.load(tiny_llama)
    assert not merging.Merged(model.causal).possible
    if change == "none":
        return
    with tiny.learned(model) as adapted:
        assert merging.Merged(model.causal).possible
        if change == "bfloat16":
            model.causal.to(torch.bfloat16)
        if change == "merged":
            adapted.merge_adapter()
        with adapter.base_model(adapted) if change == "off" else nullcontext():
            assert not merging.Merged(model.causal).possible
            with merging.merged(model.causal):
                for _, layer in adapter.layers(adapted):
                    assert layer.merged == (change == "merged")
        if change == "merged":
            adapted.unmerge_adapter()

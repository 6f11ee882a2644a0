"""Which modules get an adapter: by name, by path, by word, on more than one architecture."""

from __future__ import annotations

from pathlib import Path

import adaptable
import architectures
import pytest
import runs
import tiny
import torch
import yaml
from transformers import AutoModelForCausalLM

from star.active_learning.loop import run
from star.config import AdapterConfig, ModelConfig, config_hash, load
from star.errors import InputError
from star.experiments.estimate import estimate as estimating
from star.models import adapter, merging, targets
from star.models import loading as models
from star.models.language_model import LanguageModel
from star.models.targets import LLAMA_PROJECTIONS

FUSED = ["query_key_value"]
NEOX = [*FUSED, "dense", "dense_h_to_4h", "dense_4h_to_h"]


def wrapped(name: str) -> LanguageModel:
    return LanguageModel(adaptable.bare(name), None, "", {}, 256, frozenset(), 0)


def resolved(name: str, modules: object, r: int = 4) -> list[str]:
    config = AdapterConfig(r=r, target_modules=modules)
    return targets.resolve(adaptable.bare(name), config)


@pytest.mark.parametrize(
    "name, auto, everything",
    [
        ("qwen3", list(LLAMA_PROJECTIONS), set(LLAMA_PROJECTIONS)),
        ("gpt2", ["c_attn"], {"c_attn", "c_proj", "c_fc"}),
        ("gpt_neox", FUSED, set(NEOX)),
        ("falcon", FUSED, set(NEOX)),
        ("bloom", FUSED, set(NEOX)),
        ("opt", ["q_proj", "v_proj"], {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"}),
        # PEFT has no list for these; Mamba's out_proj it refuses, dt_proj's weight is read past it.
        (
            "phi3",
            ["o_proj", "qkv_proj", "gate_up_proj", "down_proj"],
            {"o_proj", "qkv_proj", "gate_up_proj", "down_proj"},
        ),
        ("mamba", ["in_proj", "x_proj"], {"in_proj", "x_proj"}),
        # Experts in one block are no modules.
        ("mixtral", ["q_proj", "v_proj"], {"q_proj", "k_proj", "v_proj", "o_proj"}),
        ("qwen3_moe", list(LLAMA_PROJECTIONS[:4]), set(LLAMA_PROJECTIONS[:4])),
    ],
)
def test_what_the_words_mean(name: str, auto: list[str], everything: set[str]) -> None:
    assert resolved(name, "auto") == auto
    assert set(resolved(name, "all-linear")) == everything
    for word in ("auto", "all-linear"):
        model = wrapped(name)
        linear = targets.linear_modules(model.causal)
        head = model.causal.get_output_embeddings()
        expected = targets.matching(linear, resolved(name, word))
        with adapter.fresh(
            model, AdapterConfig(r=4, target_modules=word), seed=0, round_=0
        ) as adapted:
            found = [n.removeprefix("base_model.model.") for n, _ in adapter.layers(adapted)]
        assert found == expected and not any(linear[n] is head for n in found)


@pytest.mark.parametrize("name", sorted(architectures.KINDS))
@pytest.mark.parametrize("word", ["auto", "all-linear"])
def test_every_adapter_acts_in_every_architecture(name: str, word: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        causal = AutoModelForCausalLM.from_config(architectures.config_of(name)).eval()
    config = AdapterConfig(r=4, lora_alpha=8, target_modules=word)
    linear = targets.linear_modules(causal)
    expected = targets.matching(linear, targets.resolve(causal, config))
    assert not any(linear[full] is causal.get_output_embeddings() for full in expected)
    model = LanguageModel(causal, None, "", {}, 256, frozenset(), 0)
    ids = torch.arange(20, 50).unsqueeze(0)
    with tiny.learned(model, config, scale=0.05) as adapted:
        layers = dict(adapter.layers(adapted))
        assert [full.removeprefix("base_model.model.") for full in layers] == expected
        plain = causal(input_ids=ids, use_cache=False).logits
        plain.log_softmax(-1)[..., 7].sum().backward()
        for full, layer in layers.items():
            assert layer.lora_A["default"].weight.grad.any(), full
        with torch.no_grad(), merging.merged(causal):
            merged = causal(input_ids=ids, use_cache=False).logits
        torch.testing.assert_close(merged, plain, rtol=1e-3, atol=1e-4)


def test_a_name_that_would_take_in_the_head_gets_its_path() -> None:
    causal = adaptable.bare("gpt_neox")
    causal.gpt_neox.layers[0].lm_head = torch.nn.Linear(32, 32)
    names = targets.resolve(causal, AdapterConfig(r=4, target_modules="all-linear"))
    assert "0.lm_head" in names and "lm_head" not in names


def test_all_of_it_is_what_peft_takes() -> None:
    from peft import LoraConfig, get_peft_model

    for name in ("gpt2", "falcon", "phi3", "opt"):
        settings = LoraConfig(
            r=4, target_modules="all-linear", task_type="CAUSAL_LM", fan_in_fan_out=name == "gpt2"
        )
        with adapter.quietly():
            theirs = get_peft_model(adaptable.bare(name), settings)
        expected = [n.removeprefix("base_model.model.") for n, _ in adapter.layers(theirs)]
        linear = targets.linear_modules(adaptable.bare(name))
        assert targets.matching(linear, resolved(name, "all-linear")) == expected


@pytest.mark.parametrize(
    "name, modules, parts",
    [
        ("gpt2", ["c_atn"], ["'c_atn'", "did you mean 'c_attn'?", "c_attn, c_fc, c_proj"]),
        ("gpt2", ["attn.cattn"], ["did you mean 'attn.c_attn'?"]),
        ("gpt_neox", ["layers.7.attention.dense"], ["did you mean 'layers.", "attention.dense'?"]),
        ("bloom", ["query_keyvalue"], ["did you mean 'query_key_value'?"]),
        ("opt", ["self_attn"], ["'self_attn' is no linear module", "OPTAttention"]),
        ("falcon", ["word_embeddings"], ["no linear module", "Embedding"]),
        ("mamba", ["in_proj", "out_proj"], ["'out_proj' cannot get an adapter", "Mamba"]),
        (
            "mamba",
            ["dt_proj"],
            ["'dt_proj' cannot get an adapter: the model reads"],
        ),
        ("mamba", ["mixer.conv1d"], ["'mixer.conv1d' is no linear module", "Conv1d"]),
        ("qwen3_moe", ["gate_proj"], ["'gate_proj' is no linear module"]),
        ("mixtral", ["mlp.experts"], ["'mlp.experts' is no linear module", "MixtralExperts"]),
        ("phi3", {"auto": ["o_proj"]}, ["auto means [o_proj, qkv_proj", "recorded [o_proj]"]),
        ("qwen3", ["all_linear"], ["did you mean 'all-linear'?"]),
    ],
)
def test_what_cannot_be_adapted(name: str, modules: object, parts: list[str]) -> None:
    with pytest.raises(InputError) as refused:
        resolved(name, modules)
    message = str(refused.value)
    assert "\n" not in message and "lm_head" not in message and "embed_out" not in message
    for part in parts:
        assert part in message


def test_a_rank_that_no_matrix_has_is_refused_before_memory_is_taken() -> None:
    assert resolved("gpt_neox", "auto", r=96) == FUSED  # of 32 x 96
    with pytest.raises(InputError, match=r"adapter\.r must be at most 96, .* got 1000000000"):
        resolved("gpt_neox", "auto", r=10**9)


def test_a_model_with_nothing_to_adapt() -> None:
    causal = adaptable.bare("mamba")
    for layer in causal.backbone.layers:
        layer.mixer = torch.nn.Identity()
    with pytest.raises(InputError, match="no linear module that PEFT adapts"):
        targets.resolve(causal, AdapterConfig(r=4))


def test_what_is_left_out_is_said() -> None:
    causal = adaptable.bare("mixtral")
    line = targets.summary(causal, ["q_proj", "v_proj"], 8)
    assert "rank 8 on 4 modules (q_proj, v_proj); none on experts, gate, k_proj, o_proj" in line
    causal = adaptable.bare("qwen3")
    assert "none on" not in targets.summary(causal, list(LLAMA_PROJECTIONS), 8)


# --- the run folder -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.write_data(tmp_path_factory.mktemp("data"), pool=14, test=2, choices=True)


FAST = (*runs.CHOICES, "pool.rounds=1", "train.max_steps=2", "acquisition.select=random")


@pytest.mark.parametrize("word", ["auto", "all-linear"])
def test_a_run_keeps_what_a_word_meant(
    word: str, tiny_llama: Path, data: Path, tmp_path: Path
) -> None:
    folder = adaptable.stored("gpt_neox", tmp_path / "model", tiny_llama)
    said = runs.words(folder, data, tmp_path, *FAST, f"adapter.target_modules={word}")
    out = run(load(None, said))
    kept = yaml.safe_load((out / "config.yaml").read_text())["adapter"]["target_modules"]
    assert kept == {word: resolved("gpt_neox", word)}
    # The same run: by the word, and by the file.
    assert config_hash(load(out / "config.yaml")) == config_hash(load(None, said))
    before = (out / "config.yaml").read_bytes()
    (out / "result.json").unlink()
    assert run(load(None, said)) == out == run(load(out / "config.yaml"))
    assert (out / "config.yaml").read_bytes() == before
    # Another version of PEFT, another list: not this run's any more.
    (out / "result.json").unlink()
    text = (out / "config.yaml").read_text().replace("query_key_value", "dense")
    (out / "config.yaml").write_text(text)
    runs.earlier(out)
    with pytest.raises(InputError, match=r"was started with .*dense"):
        run(load(None, said))


def test_names_stay_as_they_are(tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    out = runs.go(tiny_llama, data, tmp_path, *FAST, "adapter.target_modules=[q_proj]")
    kept = yaml.safe_load((out / "config.yaml").read_text())["adapter"]["target_modules"]
    assert kept == ["q_proj"]


def test_a_wrong_name_is_refused_before_anything_is_scored(
    tiny_llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "star.acquisition.pool_scorer.PoolScorer.base", lambda _: pytest.fail("scored")
    )
    words = (*runs.CHOICES, "adapter.target_modules=[self_attn.qproj]")
    with pytest.raises(InputError, match=r"did you mean 'self_attn\.q_proj'\?"):
        runs.go(tiny_llama, data, tmp_path, *words)


@pytest.mark.parametrize("name", ["gpt2", "mamba", "bloom"])
@pytest.mark.parametrize("modules", ["auto", "all-linear"])
def test_an_estimate_counts_what_a_run_adapts(
    name: str, modules: str, tiny_llama: Path, data: Path, tmp_path: Path
) -> None:
    folder = adaptable.stored(name, tmp_path / "model", tiny_llama)
    words = [f"adapter.target_modules={modules}", "model.attn_implementation=eager"]
    config = load(None, runs.words(folder, data, tmp_path, *FAST, *words))
    found = estimating.estimate(config, flops_per_second=1e12)
    assert found["parameters"] > 0
    shape = estimating.shape_of(estimating.without_weights(config).causal, config.adapter)
    with adapter.fresh(wrapped(name), config.adapter, seed=0, round_=0) as adapted:
        trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
        assert (shape.lora, shape.modules) == (trained, len(list(adapter.layers(adapted))))


def test_masks_per_token_on_the_head_are_refused_at_once(
    tiny_llama: Path, data: Path, tmp_path: Path
) -> None:
    words = (*runs.CHOICES, "adapter.target_modules=[q_proj,lm_head]")
    masks = "acquisition.mc_dropout.masks=token"
    with pytest.raises(InputError, match=r"masks per token cannot act on the output head"):
        runs.go(tiny_llama, data, tmp_path, *words, masks)
    config = load(None, runs.words(tiny_llama, data, tmp_path, *words, masks))
    with pytest.raises(InputError, match=r"masks per token cannot act on the output head"):
        estimating.estimate(config, flops_per_second=1e12)


# --- a base model is plain ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["qwen3", "gpt2"])
def test_a_model_with_an_adapter_in_its_folder_is_refused(
    name: str, tiny_llama: Path, tmp_path: Path
) -> None:
    folder = adaptable.stored(name, tmp_path / "model", tiny_llama)
    model = tiny.load(folder)
    with tiny.learned(model, AdapterConfig(r=4)) as adapted:
        adapter.save(adapted, folder)
    for what in (
        models.load,
        lambda c: estimating.without_weights(load(None, [f"model.name_or_path={c.name_or_path}"])),
    ):
        with pytest.raises(InputError, match=r"has an adapter in it.*take it out, or merge it"):
            what(ModelConfig(name_or_path=str(folder)))
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"is an adapter of .*: give that model"):
        models.load(ModelConfig(name_or_path=str(folder)))


def test_a_model_that_was_stored_quantised_is_refused(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaForCausalLM

    monkeypatch.setattr(LlamaForCausalLM, "is_quantized", True, raising=False)
    with pytest.raises(InputError, match=r"stored quantised.*model\.quantization=nf4"):
        tiny.load(tiny_llama)

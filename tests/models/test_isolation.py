"""What configurations say of a model's reach, and that the trial at load finds what they do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import architectures
import pytest
import tiny
import torch
import transformers
from torch import Tensor, nn

from star.config import ModelConfig
from star.errors import InputError
from star.models import isolation, packing
from star.models import loading as models
from star.models.batching import length_batches
from star.models.language_model import LanguageModel
from star.models.traits import Traits, most_positions, traits_of

KNOWN: dict[str, Traits] = {
    "cohere2": Traits(window=architectures.WINDOW),
    "gemma2": Traits(window=architectures.WINDOW),
    "gemma3_text_and_images": Traits(window=architectures.WINDOW),
    "gpt2": Traits(),
    "gpt_neo": Traits(window=architectures.WINDOW),
    "gpt_oss": Traits(window=architectures.WINDOW),
    "lfm2": Traits(maskable=False),
    "llama": Traits(),
    "llama4": Traits(window=architectures.WINDOW, chunked=True),
    "mamba": Traits(maskable=False),
    "mistral": Traits(window=architectures.WINDOW),
    "phi3_long": Traits(turn=architectures.TURN),
    "phimoe": Traits(window=architectures.WINDOW),
    "qwen2_moe": Traits(window=architectures.WINDOW),
    "qwen3_next": Traits(maskable=False),
    "qwen3_next_linear": Traits(maskable=False, cached=False),
    "recurrent_gemma": Traits(window=architectures.WINDOW, maskable=False),
}


class Bare(nn.Module):
    """A model of which the configuration is all there is."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config


@pytest.mark.parametrize("name", KNOWN)
def test_what_a_configuration_says(name: str) -> None:
    with torch.device("meta"):
        causal = transformers.AutoModelForCausalLM.from_config(architectures.config_of(name))
    assert traits_of(causal) == KNOWN[name]
    if name != "mamba":
        assert most_positions(causal) == 256


@pytest.mark.parametrize(
    "words, traits",
    [
        ({"sliding_window": 4096, "max_window_layers": 3}, Traits(window=4096)),
        ({"sliding_window": None, "_sliding_window_pattern": 6}, Traits()),
        ({"some_local_window_size": 7, "sliding_window": 9}, Traits(window=7)),
        ({"layer_types": ["full_attention", "never_heard_of"]}, Traits(maskable=False)),
        ({"layer_types": ["full_attention", "hybrid"]}, Traits(maskable=False)),
        ({"layers_block_type": ["mamba", "attention"]}, Traits(maskable=False)),
        ({"index_topk": 2048}, Traits(maskable=False)),
        ({"mlp_layer_types": ["dense", "sparse"]}, Traits()),
        (
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
            Traits(turn=2048),
        ),
        (
            {"rope_parameters": {"full": {"rope_type": "longrope"}, "original": 5},
             "original_max_position_embeddings": 64},
            Traits(turn=64),
        ),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, Traits()),
    ],
)  # fmt: skip
def test_words_of_models_to_come(words: dict[str, Any], traits: Traits) -> None:
    config = transformers.PreTrainedConfig()
    for name, value in {"max_position_embeddings": 2048, **words}.items():
        setattr(config, name, value)
    assert traits_of(Bare(config)) == traits


def test_a_batch_has_rows_of_one_side_of_each_cut() -> None:
    lengths = [3, 30, 12, 13, 40, 12, 29, 5]
    batches = list(length_batches(lengths, 3, 60, cuts=(12, 29)))
    assert [[lengths[i] for i in one] for one in batches] == [
        [40],
        [30],
        [29, 13],
        [12, 12, 5],
        [3],
    ]
    assert list(length_batches(lengths, 3, 60)) == list(length_batches(lengths, 3, 60, cuts=()))


# --- the trial ---------------------------------------------------------------------------------


def leaking_pass(model: LanguageModel, patch: pytest.MonkeyPatch, share: float) -> None:
    """Let each token of a packed batch see the one before it, be it another row's."""
    plain = LanguageModel.predict

    def predict(self: LanguageModel, batch: Any, cache: Any = None) -> Tensor:
        states = plain(self, batch, cache)
        return states + share * states.roll(1, 0) if batch.runs else states

    patch.setattr(LanguageModel, "predict", predict)


def leaking_step(model: LanguageModel, patch: pytest.MonkeyPatch, share: float) -> None:
    """Let each row of a cached step see the one before it."""
    plain = LanguageModel.step

    def step(self: LanguageModel, tokens: Tensor, cache: packing.Cache) -> Tensor:
        states = plain(self, tokens, cache)
        return states + share * states.roll(1, 0)

    patch.setattr(LanguageModel, "step", step)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("leak", [leaking_pass, leaking_step])
def test_the_least_leak_is_seen(
    leak: Any, dtype: Any, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ModelConfig(str(tiny_llama), device="cpu", dtype=dtype)
    model = models.load(config)
    assert model.packable and isolation.packs(model)
    # Far below what rounding does to a whole forward pass in this dtype.
    leak(model, monkeypatch, {"float32": 1e-5, "bfloat16": 1e-2, "float16": 2e-3}[dtype])
    assert not isolation.packs(model)


def test_wrong_places_are_seen(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.load(tiny_llama)
    plain = LanguageModel.step

    def late(self: LanguageModel, tokens: Tensor, cache: packing.Cache) -> Tensor:
        cache.lengths = cache.lengths + 1
        return plain(self, tokens, cache)

    monkeypatch.setattr(LanguageModel, "step", late)
    assert not isolation.packs(model)


def test_the_trial_takes_few_passes(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, sizes = tiny.load(tiny_llama), []
    plain = LanguageModel.hidden
    monkeypatch.setattr(
        LanguageModel,
        "hidden",
        lambda self, ids, **more: sizes.append(ids.numel()) or plain(self, ids, **more),
    )
    assert isolation.packs(model) and len(sizes) <= 8 and sum(sizes) < 400


def test_a_model_that_sees_what_is_to_come_is_refused(tmp_path: Path) -> None:
    folder = architectures.make("gemma3", tmp_path / "gemma")
    path = folder / "config.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "use_bidirectional_attention": True})
    )
    with pytest.raises(InputError, match=r"in Gemma3ForCausalLM a token sees the tokens behind it"):
        tiny.load(folder)


@pytest.mark.parametrize(
    "name, prompts",
    [("mamba", "equal"), ("llama4", "equal"), ("gpt_neox", "any"), ("rwkv", "none")],
)
def test_batches_of_prompts_are_trusted_where_it_is_proven(
    name: str, prompts: str, tmp_path: Path
) -> None:
    folder = architectures.make(name, tmp_path / name)
    kernel: Any = "eager" if name in ("mamba", "rwkv") else "sdpa"
    model = models.load(ModelConfig(str(folder), device="cpu", attn_implementation=kernel))
    assert model.answers_together == prompts

"""The model that the benchmark measures: a stored one, or a known shape with random weights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from star import seeding
from star.config import ModelConfig
from star.errors import InputError
from star.models import loading as models
from star.models.language_model import LanguageModel
from star.models.reading import DTYPES

SHAPES: dict[str, dict[str, Any]] = {
    "llama-2-7b": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32000,
        "max_position_embeddings": 4096,
    },
    "smollm2-135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
}
ON_GPU_ALONE = ("llama-2-7b",)


def load_model(options: argparse.Namespace) -> LanguageModel:
    """Return ``--model``."""
    return models.load(
        ModelConfig(name_or_path=options.model, dtype=options.dtype, device=options.device)
    )


def random_model(options: argparse.Namespace) -> LanguageModel:
    """Return a model of a known shape with random weights and ``--model``'s tokenizer."""
    name = options.random_weights
    device = models.device_of(ModelConfig(device=options.device))
    if name in ON_GPU_ALONE and device.type == "cpu":
        raise InputError(f"--random-weights {name} needs a GPU, got device cpu; use --model")
    folder = Path(options.model)  # a folder may have a tokenizer alone
    tokenizer: Any = AutoTokenizer.from_pretrained(folder) if folder.is_dir() else None
    tokenizer = tokenizer or load_model(options).tokenizer
    config = LlamaConfig(**SHAPES[name])
    with seeding.forked(0, "benchmark"), device:
        make: Any = AutoModelForCausalLM.from_config
        causal = make(config, dtype=DTYPES[options.dtype])
    return LanguageModel(
        causal=causal.eval().requires_grad_(False),
        tokenizer=_Folded(tokenizer, config.vocab_size),
        fingerprint=name,
        info={"source": "random", "name_or_path": name, "dtype": options.dtype},
        max_length=config.max_position_embeddings,
        stop_ids=frozenset({tokenizer.eos_token_id}),
        pad_id=tokenizer.eos_token_id,
        packable=True,
    )


class _Folded:
    """A tokenizer whose ids are taken modulo a smaller vocabulary: their number is what counts."""

    def __init__(self, tokenizer: Any, vocabulary: int) -> None:
        self._tokenizer, self._vocabulary = tokenizer, vocabulary

    def __call__(self, texts: str | list[str], **options: Any) -> dict[str, Any]:
        ids = self._tokenizer(texts, **options)["input_ids"]
        alone = isinstance(texts, str)
        rows = [[i % self._vocabulary for i in row] for row in ([ids] if alone else ids)]
        return {"input_ids": rows[0] if alone else rows}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

"""What the model tests share: rows of random tokens, an adapter that has learned, a naive loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from star.config import AdapterConfig, ModelConfig
from star.models import adapter
from star.models import loading as models
from star.models.batching import Batching
from star.models.encoding import TokenRow
from star.models.language_model import LanguageModel

# Dropout high enough for masks to show; alpha = 2r so that the LoRA branch weighs in.
ADAPTER = AdapterConfig(r=4, lora_alpha=8, lora_dropout=0.3)


def write_llama(folder: Path, tokenizer: Any, *, spread: float) -> Path:
    """Write a 2-layer LLaMA with random weights of that deviation, and its tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        initializer_range=spread,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def load(folder: Path | str) -> LanguageModel:
    """Return the model, with few rows in a forward pass, so that there is more than one."""
    return models.load(
        ModelConfig(name_or_path=str(folder), device="cpu"), batching=Batching(rows=4)
    )


def random_rows(count: int, *, seed: int = 0, longest: int = 9) -> list[TokenRow]:
    """Return rows of different lengths; their indices are not their places."""
    stream = torch.Generator().manual_seed(seed)

    def ids(low: int, high: int) -> tuple[int, ...]:
        size = int(torch.randint(low, high + 1, (1,), generator=stream))
        return tuple(torch.randint(4, 58, (size,), generator=stream).tolist())

    return [TokenRow(1000 - 7 * i, (1, *ids(1, longest)), ids(1, longest)) for i in range(count)]


def learn(adapted: Any, seed: int = 0, scale: float = 0.3) -> None:
    """Put random numbers in every B, as if the adapter had been trained."""
    stream = torch.Generator().manual_seed(seed)
    for _, layer in adapter.layers(adapted):
        weight = layer.lora_B[adapter.NAME].weight
        weight.data.copy_(torch.randn(weight.shape, generator=stream) * scale)


@contextmanager
def learned(
    model: LanguageModel, config: AdapterConfig = ADAPTER, scale: float = 0.3
) -> Iterator[Any]:
    with adapter.fresh(model, config, seed=0, round_=0) as adapted:
        learn(adapted, scale=scale)
        yield adapted


@torch.no_grad()
def naive_log_probs(model: LanguageModel, row: TokenRow) -> torch.Tensor:
    """Return float64 (tokens, V): one row alone, the whole model, one position after the other."""
    logits = model.causal(input_ids=torch.tensor([row.prompt + row.continuation])).logits[0]
    places = [len(row.prompt) - 1 + j for j in range(len(row.continuation))]
    return torch.stack([logits[place].double().log_softmax(-1) for place in places])

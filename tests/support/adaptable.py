"""Tiny models with random weights of several architectures, as folders with a tokenizer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
import transformers

LIKE_LLAMA: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
NO_GROUPS = {key: value for key, value in LIKE_LLAMA.items() if key != "num_key_value_heads"}
GPT2: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
NOISE = {"input_jitter_noise": 0.2, "router_jitter_noise": 0.2}
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2LMHeadModel", GPT2),
    "gpt_neox": ("GPTNeoXForCausalLM", NO_GROUPS),
    "falcon": ("FalconForCausalLM", NO_GROUPS),
    "phi3": ("Phi3ForCausalLM", LIKE_LLAMA),
    "bloom": ("BloomForCausalLM", {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "opt": (
        "OPTForCausalLM",
        {**NO_GROUPS, "ffn_dim": 64, "word_embed_proj_dim": 32, "layerdrop": 0.3},
    ),
    "qwen3": ("Qwen3ForCausalLM", {**LIKE_LLAMA, "head_dim": 8}),
    "mixtral": ("MixtralForCausalLM", {**LIKE_LLAMA, "num_local_experts": 4}),
    "qwen3_moe": ("Qwen3MoeForCausalLM", {**LIKE_LLAMA, **EXPERTS, "head_dim": 8}),
    "phimoe": (
        "PhimoeForCausalLM",
        {**LIKE_LLAMA, **NOISE, "num_local_experts": 4},
    ),
    "mamba": ("MambaForCausalLM", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
}  # fmt: skip


def bare(name: str, **more: Any) -> Any:
    """Return a model of 58 words; its weights are large enough for distributions to differ."""
    kind, settings = SETTINGS[name]
    model = getattr(transformers, kind)
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = model(model.config_class(vocab_size=58, **{**settings, **ids, **more}))
        for parameter in made.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, 0, 0.3)
    return made.eval()


def stored(name: str, folder: Path, tokenizer: Path, **more: Any) -> Path:
    """Store :func:`bare`'s model with the tokenizer files of another; return the folder."""
    bare(name, **more).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / file, folder)
    return folder

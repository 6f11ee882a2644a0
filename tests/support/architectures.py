"""Tiny models with random weights, one for each of the architectures that people fine-tune."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
import transformers

TOKENIZER = Path(__file__).parents[2] / "star" / "models" / "assets" / "tiny"
VOCABULARY = 257  # of the embedded model's tokenizer
WINDOW = 12  # shorter than most rows of the tests
TURN = 24  # where long RoPE begins
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
    "attention_dropout": 0.0,
    "sliding_window": None,
}
GPT = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256}
EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
}
SHARED = {**EXPERTS, "shared_expert_intermediate_size": 32}
LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 8,
    "long_factor": [4.0] * 8,
    "original_max_position_embeddings": TURN,
}
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
SLIDING = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
QWEN_WINDOW = {"sliding_window": WINDOW, "use_sliding_window": True, "max_window_layers": 0}
MAMBA = {"state_size": 8, "conv_kernel": 4, "expand": 2, "time_step_rank": 8}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
# Name to the class without "Config" or "ForCausalLM", and what is not COMMON.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "bloom": ("Bloom", {"n_head": 4, "n_layer": 2}),
    "codegen": ("CodeGen", {**GPT, "rotary_dim": 8}),
    "cohere": ("Cohere", {"logit_scale": 0.25}),
    "cohere2": ("Cohere2", {**SLIDING, "logit_scale": 0.25}),
    "diffllama": ("DiffLlama", {}),
    "falcon": ("Falcon", {"head_dim": "none", "new_decoder_architecture": True}),
    "falcon_alibi": ("Falcon", {"head_dim": "none", "alibi": True}),
    "gemma": ("Gemma", {}),
    "gemma2": ("Gemma2", {**SLIDING, "final_logit_softcapping": 30.0}),
    "gemma3": ("Gemma3", SLIDING),
    "gemma3_text_and_images": ("Gemma3", SLIDING),
    "gpt2": ("GPT2", GPT),
    "gpt_bigcode": ("GPTBigCode", GPT),
    "gpt_neo": (
        "GPTNeo",
        {"attention_types": [[["global", "local"], 1]], "window_size": WINDOW, "num_layers": 2},
    ),
    "gpt_neox": ("GPTNeoX", {}),
    "gpt_oss": ("GptOss", {**SLIDING, **EXPERTS}),
    "gptj": ("GPTJ", {**GPT, "rotary_dim": 8}),
    "granite": ("Granite", {"logits_scaling": 3.0}),
    "lfm2": ("Lfm2", {"layer_types": ["conv", "full_attention"], "conv_L_cache": 3}),
    "llama": ("Llama", {}),
    "llama4": (
        "Llama4",
        {**EXPERTS, "attention_chunk_size": WINDOW, "intermediate_size_mlp": 96,
         "num_experts_per_tok": 1, "layer_types": ["chunked_attention", "full_attention"]},
    ),
    "mamba": ("Mamba", MAMBA),
    "mistral": ("Mistral", {"sliding_window": WINDOW}),
    "mixtral": ("Mixtral", EXPERTS),
    "mpt": ("Mpt", {"d_model": 64, "n_heads": 4, "n_layers": 2, "max_seq_len": 256}),
    "olmo2": ("Olmo2", {}),
    "opt": ("OPT", {"ffn_dim": 96, "word_embed_proj_dim": 64}),
    "phi": ("Phi", {}),
    "phi3": ("Phi3", {}),
    "phi3_long": ("Phi3", {"rope_parameters": LONG_ROPE,
                           "original_max_position_embeddings": TURN}),
    "phimoe": ("Phimoe", {**EXPERTS, "sliding_window": WINDOW}),
    "qwen2": ("Qwen2", QWEN_WINDOW),
    "qwen2_moe": ("Qwen2Moe", {**SHARED, **QWEN_WINDOW}),
    "qwen3": ("Qwen3", {}),
    "qwen3_moe": ("Qwen3Moe", EXPERTS),
    "qwen3_next": ("Qwen3Next", {**SHARED, **LINEAR}),
    "qwen3_next_linear": (
        "Qwen3Next",
        {**SHARED, **LINEAR, "layer_types": ["linear_attention", "linear_attention"]},
    ),
    "recurrent_gemma": (
        "RecurrentGemma",
        {"sliding_window": "none", "attention_window_size": WINDOW, "lru_width": 64,
         "block_types": ["recurrent", "attention"]},
    ),
    "rwkv": ("Rwkv", {"attention_hidden_size": 64}),
    "smollm3": ("SmolLM3", {"no_rope_layers": [1, 0]}),
    "stablelm": ("StableLm", {}),
    "starcoder2": ("Starcoder2", {"sliding_window": WINDOW}),
    "xglm": ("XGLM", {"d_model": 64, "ffn_dim": 96, "attention_heads": 4, "num_layers": 2}),
}  # fmt: skip
# Spread of the weights, 0.3 else. None: the library's own start; what leaks is then large beside
# what a row has itself. Gemma's embeddings are its head and many times larger: at 0.3 it is certain
# of every token, and the differences of its logits are rounding.
SPREAD = dict.fromkeys(
    ("qwen3_next", "qwen3_next_linear", "mamba", "lfm2", "recurrent_gemma", "rwkv"), None
)
SPREAD |= dict.fromkeys(("gemma", "gemma2", "gemma3", "gemma3_text_and_images"), 0.1)


def config_of(name: str) -> Any:
    kind, more = KINDS[name]
    words = {**COMMON, **more}
    words = {key: value for key, value in words.items() if value != "none"}
    if name == "gemma3_text_and_images":
        text = transformers.Gemma3TextConfig(**words)
        return transformers.Gemma3Config(
            text_config=text.to_dict(), vision_config=VISION, mm_tokens_per_image=4
        )
    suffix = "TextConfig" if kind in ("Gemma3", "Llama4") else "Config"
    return getattr(transformers, kind + suffix)(**words)


def make(name: str, folder: Path) -> Path:
    """Make the model of this name in ``folder``, with the embedded model's tokenizer."""
    config = config_of(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            spread = SPREAD.get(name, 0.3)
            if parameter.dim() > 1 and spread is not None:
                torch.nn.init.normal_(parameter, 0, spread)
    model.eval().save_pretrained(folder)
    if name == "qwen2":  # transformers reads its tokenizer as this class, whatever its file says
        letters = {chr(i): i + 2 for i in range(33, 127)} | {"Ġ": 2, "Ċ": 3}
        tokenizer = transformers.Qwen2Tokenizer(
            vocab={"<pad>": 0, "<eos>": 1, **letters}, merges=[], eos_token="<eos>",
            pad_token="<pad>", unk_token="<pad>",
        )  # fmt: skip
        tokenizer.save_pretrained(folder)
        return folder
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / file, folder)
    return folder

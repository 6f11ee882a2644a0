"""The base model and its tokenizer, from wherever ``model.name_or_path`` points.

Weights are read from safetensors or GGUF alone, never from pickle, and no code from a model
repository is run.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig
from transformers.modeling_layers import GradientCheckpointingLayer

from star.cache import digest
from star.config import ModelConfig
from star.errors import InputError, one_line
from star.models import identity, isolation, sharding, varlen
from star.models.batching import Batching
from star.models.chat import chat_of
from star.models.free_memory import fitted
from star.models.language_model import LanguageModel
from star.models.reading import DTYPES, device_of, pad_of, read
from star.models.sources import cache_root, resolve
from star.models.traits import most_positions, traits_of


def load(
    config: ModelConfig,
    *,
    cache_dir: str | None = None,
    batching: Batching | None = None,
    chat: bool = False,
) -> LanguageModel:
    """Load a model for scoring and fine-tuning: eval mode, all weights frozen.

    Args:
        config: ``model``.
        cache_dir: ``tracking.cache_dir``.
        batching: What goes through it at once.
        chat: ``task.chat_template``.

    Under FSDP every process must call this at once.

    Raises:
        InputError: No such model, package or file; a gated or unreachable Hub repository; weights
            in pickle only; no chat template where one is asked for; quantization without
            bitsandbytes; an output head that this program does not know.
    """
    where, info = resolve(config, cache_root(cache_dir))
    options: dict[str, Any] = {"trust_remote_code": False}
    if info["source"] == "hub":
        options["revision"] = info["revision"]  # a commit: all files of one snapshot
    tokenizer, causal, _ = read(config, where, options)
    template = chat_of(tokenizer, config.name_or_path) if chat else None
    causal.eval().requires_grad_(False)
    if sharding.wanted(config):
        sharding.shard(causal, device_of(config))
    elif config.quantization == "none":
        causal.to(device_of(config))
    stop_ids = _stop_ids(causal, tokenizer) | ({template.end} if template else set())
    # `generate` would fill in what a model's authors advise (repetition_penalty, temperature, ...);
    # here an answer is the plain greedy one, the same that is scored.
    causal.generation_config = GenerationConfig()
    vocabulary = causal.get_input_embeddings().weight.shape[0]  # type: ignore[operator,union-attr]
    model = LanguageModel(
        causal=causal,
        tokenizer=tokenizer,
        fingerprint="",
        info=info | {"name_or_path": config.name_or_path, "dtype": config.dtype},
        max_length=most_positions(causal),
        stop_ids=stop_ids,
        pad_id=pad_of(tokenizer, vocabulary, config.name_or_path),
        traits=traits_of(causal),
        batching=fitted(batching or Batching(), causal, device_of(config)),
        chat=template,
    )
    if config.torch_compile:
        _compile(causal)
    _try_out(model, config)
    _identify(model, config)
    return model


def _identify(model: LanguageModel, config: ModelConfig) -> None:
    """Note what the model computes with, and the fingerprint of that and of its content."""
    info = model.info
    info["computation"] = identity.computation(
        config,
        device=device_name(model.device),
        packed=model.packable,
        varlen=model.packable and varlen.serves(model.device, DTYPES[config.dtype]),
    )
    name = config.name_or_path if info["source"] == "hub" else None  # elsewhere a place, no more
    asked = ["chat template"] if model.chat is not None else []
    model.fingerprint = digest([name, info["revision"], info["computation"], *asked])


def _stop_ids(causal: Any, tokenizer: Any) -> frozenset[int]:
    """Return the tokens that end an answer, by the tokenizer and by the model's own settings."""
    own = getattr(causal.generation_config, "eos_token_id", None)
    stops = {tokenizer.eos_token_id, *(own if isinstance(own, (list, tuple)) else [own])}
    return frozenset(stops - {None})


def _try_out(model: LanguageModel, config: ModelConfig) -> None:
    """Find out whether a model's rows may be packed.

    Raises:
        InputError: It does not run here, its head is refused by :func:`_check_head`, or it looks
            ahead.
    """
    try:
        _check_head(model, config)
    except (InputError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of code that is not ours: no kernel for this dtype or device, ...
        raise InputError(
            f"model {config.name_or_path} does not run with model.dtype={config.dtype} and "
            f"model.attn_implementation={config.attn_implementation} here: {one_line(error)}"
        ) from error
    if config.attn_implementation == "sdpa":
        model.packable = True  # while it is tried
        model.packable = isolation.packs(model)
        model.windows = model.packable and isolation.tells_windows(model)
    if not model.packable:
        isolation.require_causal(model)


def device_name(device: torch.device) -> str:
    """Return the kind of a device, with a GPU's name: others round otherwise."""
    if device.type != "cuda":
        return device.type
    return f"{device.type} {torch.cuda.get_device_name(device)}"


def _compile(causal: nn.Module) -> None:
    """Compile each layer, all alike once; attention stays as it is, it is one kernel already.

    Adapters come and go inside a compiled layer; that and merging them cost a compilation each, the
    first time.
    """
    compiler = os.environ.get("CXX", "g++")
    if next(causal.parameters()).device.type == "cpu" and shutil.which(compiler) is None:
        raise InputError(
            f"model.torch_compile needs a C++ compiler on a CPU, there is no {compiler}; install "
            "one or set model.torch_compile=false"
        )
    for module in causal.modules():
        if isinstance(module, GradientCheckpointingLayer):  # transformers' word for a whole layer
            module.compile(dynamic=True)


@torch.inference_mode()
def _check_head(model: LanguageModel, config: ModelConfig) -> None:
    """Refuse an architecture whose logits are not body + head as ``LanguageModel.logits`` has it.

    Scoring calls body and head apart; an unknown step between them would shift every score.
    """
    vocabulary = model.causal.get_input_embeddings().weight.shape[0]
    ids = torch.arange(1, 9, device=model.device).remainder(vocabulary).unsqueeze(0)
    whole = model.causal(input_ids=ids, use_cache=False).logits[0].float()
    parts = model.logits(model.hidden(ids)[0])
    tolerance = 1e-4 if config.dtype == "float32" else 5e-2
    if not torch.allclose(whole, parts, rtol=tolerance, atol=tolerance):
        kind = type(model.causal).__name__
        raise InputError(f"{kind} changes its logits in a way star does not know; please report it")

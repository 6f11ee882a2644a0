"""A model in numbers, from its configuration alone, and the memory that a run takes with it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from star.config import AdapterConfig, Config
from star.errors import InputError
from star.experiments.estimate import costs
from star.experiments.estimate.costs import Shape
from star.models import generation, likelihood, sources, targets
from star.models import loading as models
from star.models.batching import Batching
from star.models.chat import chat_of
from star.models.language_model import LanguageModel
from star.models.reading import DTYPES
from star.models.traits import most_positions, text_config
from star.models.weight_files import own_code

if TYPE_CHECKING:
    from star.experiments.estimate.workload import Workload

LIBRARIES = 0.5e9  # bytes of Python with torch and transformers loaded, on a CPU


def without_weights(config: Config) -> LanguageModel:
    """Return the model's shape and tokenizer: all modules, no weights (on the meta device)."""
    name = config.model.name_or_path
    options: dict[str, Any] = {"trust_remote_code": False}
    if name.startswith("package://") or name.endswith(".gguf"):
        # Small, and local.
        cache, chat = config.tracking.cache_dir, config.task.chat_template
        return models.load(config.model, cache_dir=cache, chat=chat)
    if name.startswith("embedded://"):
        name = str(sources.ASSETS / name.removeprefix("embedded://"))
    elif config.model.revision is not None:
        options["revision"] = config.model.revision
    sources.refuse_adapter(config.model.name_or_path, name, options.get("revision"))
    try:
        settings = AutoConfig.from_pretrained(name, **options)
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
        with torch.device("meta"):
            causal = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                settings, attn_implementation=config.model.attn_implementation
            )
    except (OSError, ValueError, ImportError, KeyError) as error:
        code = own_code(name, error)
        if code is not None:
            raise InputError(code) from error
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"model {name}: no configuration or tokenizer: {lines[0]}") from error
    return LanguageModel(
        causal=causal,
        tokenizer=tokenizer,
        fingerprint="",
        info={},
        max_length=most_positions(causal),
        stop_ids=frozenset(),
        pad_id=0,
        chat=chat_of(tokenizer, name) if config.task.chat_template else None,
    )


def shape_of(causal: nn.Module, config: AdapterConfig) -> Shape:
    """Return a causal LM and the adapter it will get in numbers.

    Raises:
        InputError: ``adapter.target_modules`` does not fit the model (see ``targets.resolve``).
    """
    settings = text_config(causal)
    head = causal.get_output_embeddings()  # type: ignore[operator]
    linear = targets.linear_modules(causal)
    names = targets.matching(linear, targets.resolve(causal, config))
    sides = [targets.features(linear[name]) for name in names]
    inputs, outputs = [one for one, _ in sides], [two for _, two in sides]
    matrices = 0
    for name, module in causal.named_modules():
        if module is head or isinstance(module, nn.Embedding):
            continue
        if name in linear:  # four-bit ones too, whose weights are packed
            matrices += math.prod(targets.features(module))
        else:  # experts in one block
            matrices += sum(p.numel() for p in module.parameters(recurse=False) if p.dim() > 1)
    heads = getattr(settings, "num_attention_heads", None) or 0  # none in a state-space model
    width = getattr(settings, "head_dim", None) or settings.hidden_size // max(1, heads)
    vocabulary = head.weight.shape[0]
    rest = {id(p): p.numel() for m in causal.modules() if isinstance(m, nn.Embedding) or m is head
            for p in m.parameters(recurse=False)}  # fmt: skip
    return Shape(
        layers=settings.num_hidden_layers,
        hidden=settings.hidden_size,
        attention=heads * width,
        key_value=(getattr(settings, "num_key_value_heads", None) or heads) * width,
        intermediate=getattr(settings, "intermediate_size", None) or 4 * settings.hidden_size,
        vocabulary=vocabulary,
        matrices=matrices,
        parameters=matrices + sum(rest.values()),
        modules=len(inputs),
        adapted=sum(i * o for i, o in zip(inputs, outputs, strict=True)),
        adapted_inputs=sum(inputs),
        lora=config.r * (sum(inputs) + sum(outputs)),
        rank=config.r,
    )


def memory_of(load: Workload, *, on_cpu: bool) -> dict[str, float]:
    """Return bytes: the base weights, what each kind of work needs beside them, and the peak."""
    config, shape = load.config, load.shape
    size = torch.finfo(DTYPES[config.model.dtype]).bits / 8
    four_bit = config.model.quantization == "nf4"
    longest = np.sort(load.rows, axis=1)[:, -config.train.per_device_train_batch_size :]
    tokens, answers = longest.sum(axis=1).tolist()  # of a batch of the longest
    rows, widest = config.evaluation.per_device_eval_batch_size, load.widest()
    parts = {
        "train": costs.training_bytes(
            shape,
            tokens=tokens,
            predicted=answers,
            size=size,
            dropout=config.adapter.lora_dropout > 0,
            mask=4.0 if on_cpu else 1.0,
            recompute=config.train.gradient_checkpointing,
        ),
        "score": costs.scoring_bytes(
            shape,
            tokens=max(widest, min(rows * widest, Batching.of(config).tokens)),
            logits=likelihood.CHUNK_ELEMENTS,
            size=size,
            merged=load.merged,
        ),
    }
    if load.total().new:
        width = load.longest().widest()
        rows = max(1, min(rows, generation.BATCH_TOKENS // width))
        parts["generate"] = costs.generating_bytes(
            shape, rows=rows, tokens=width, size=size, merged=load.merged
        )
    double = config.model.double_quantization
    base = costs.weight_bytes(shape, size, four_bit=four_bit, double=double)
    libraries = LIBRARIES if on_cpu else 0.0
    peak = base + libraries + max(parts.values())
    return {"weights": base, **parts, "libraries": libraries, "peak": peak}

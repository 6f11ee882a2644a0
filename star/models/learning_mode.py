"""A model in training: dropout in the LoRA branch alone, activations recomputed if asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from star.config import TrainConfig
from star.errors import InputError
from star.models import adapter


def set_learning(adapted: PeftModel) -> None:
    """Dropout in the LoRA branch alone: the frozen base model's own stays off, as in MC passes.

    ``adapted.train()`` would switch it on too, and the adapter would be trained round a noisy base
    that it never meets when it is scored.
    """
    adapted.eval()
    for _, layer in adapter.layers(adapted):
        layer.lora_dropout.train()
    for module in _recomputed(adapted):
        # Transformers recomputes activations in layers that are in training mode alone.
        module.training = True


def _recomputed(adapted: nn.Module) -> list[nn.Module]:
    """Return the layers whose activations are recomputed now."""
    return [
        module for module in adapted.modules() if "_gradient_checkpointing_func" in vars(module)
    ]


def _recompute(layer: nn.Module) -> None:
    """Let transformers' layer keep no activations, and be in training mode to itself alone.

    What it computes must not see that mode: dropout of the base model's own, noise in a router.
    """

    def call(function: Callable[..., Any], *inputs: Any) -> Any:
        def quiet(*inputs: Any) -> Any:
            layer.training = False
            try:
                return function(*inputs)
            finally:
                layer.training = True

        return checkpoint(quiet, *inputs, use_reentrant=False)

    layer.gradient_checkpointing, layer._gradient_checkpointing_func = True, call


@contextmanager
def thin_products(adapted: PeftModel) -> Iterator[None]:
    """Multiply with A and B in the base model's 16 bits, if it has 16; they stay float32.

    So are their gradients, and what the optimiser keeps. By its data sheet an H100 multiplies
    float32 matrices at a fifteenth of the rate; what it saves there nobody has measured.
    """
    base: Any = adapted.get_base_model()
    weight = base.get_input_embeddings().weight
    if weight.dtype not in (torch.bfloat16, torch.float16):
        yield
        return
    layers = [layer for _, layer in adapter.layers(adapted)]
    for layer in layers:
        layer.cast_input_dtype_enabled = False  # to float32, and back
    try:
        # Its cache would keep what A and B were in the first update for all that follow.
        with torch.autocast(weight.device.type, dtype=weight.dtype, cache_enabled=False):
            yield
    finally:
        for layer in layers:
            del layer.cast_input_dtype_enabled


@contextmanager
def learning(adapted: PeftModel, config: TrainConfig) -> Iterator[None]:
    """Learning mode and, if asked for, gradient checkpointing, for as long as the context lasts."""
    if config.gradient_checkpointing:
        layers = [m for m in adapted.modules() if isinstance(m, GradientCheckpointingLayer)]
        if not layers:
            raise InputError(
                f"{type(adapted.get_base_model()).__name__} has no layers whose activations can be "
                "recomputed; set train.gradient_checkpointing=false"
            )
        for layer in layers:
            _recompute(layer)
    set_learning(adapted)
    device = next(adapted.parameters()).device
    try:
        with thin_products(adapted) if device.type == "cuda" else nullcontext():
            yield
    finally:
        for layer in _recomputed(adapted):
            del layer.gradient_checkpointing, layer._gradient_checkpointing_func
        adapted.eval()

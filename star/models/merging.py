"""An adapter merged into the weights for as long as something is scored: W + s·B·A."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from star.models.adapter import NAME, is_variant, layers


def is_mergeable(module: nn.Module, dtype: torch.dtype) -> bool:
    """Whether what an adapter adds to a module can be added to its weights, if they have ``dtype``.

    In 16 bits the sum would lose most of a branch that is small beside W; quantised weights, which
    are of another kind of module, cannot be added to.
    """
    return type(module) in (nn.Linear, Conv1D) and dtype in (torch.float32, torch.float64)


class Merged:
    """Scoring with W + s·B·A in the place of W and its LoRA branch: one product, not three.

    A context; s is the adapter's scale. The base weights themselves come back at its end, bit for
    bit: taking the branch off again by subtraction would leave an error of rounding behind, more
    with every round.
    """

    def __init__(self, causal: nn.Module) -> None:
        self._layers = dict(layers(causal))

    @property
    def possible(self) -> bool:
        """Whether the branch is on and can be merged without changing the ranking."""
        return bool(self._layers) and all(
            is_mergeable(layer.base_layer, layer.base_layer.weight.dtype)
            and layer.active_adapters == [NAME]
            and not (layer.disable_adapters or layer.merged)
            and not (is_variant(layer) or layer.lora_bias[NAME])
            for layer in self._layers.values()
        )

    def __enter__(self) -> Merged:
        self._base = {name: layer.base_layer.weight for name, layer in self._layers.items()}
        # New parameters: the old ones may be tied to other modules'. And ordinary ones:
        # torch.compile would take a tensor of the inference mode for another kind of weight. All of
        # them before any is in place: memory may not be enough.
        with torch.inference_mode(False):
            copies = [nn.Parameter(torch.empty_like(w), False) for w in self._base.values()]
        for layer, weight in zip(self._layers.values(), copies, strict=True):
            layer.base_layer.weight = weight
            layer.merged_adapters.append(NAME)  # so that PEFT leaves the branch out
        return self

    @torch.no_grad()
    def set(self) -> None:
        """Merge the branches in, with the A and B that the adapter has now."""
        for name, layer in self._layers.items():
            lora_a = layer.lora_A[NAME].weight
            lora_b = layer.lora_B[NAME].weight.to(lora_a.dtype)
            # Conv1D keeps its weight as (in, out): W + (B·A)ᵀ.
            pair = (lora_a.T, lora_b.T) if layer.fan_in_fan_out else (lora_b, lora_a)
            torch.addmm(
                self._base[name],
                *pair,
                alpha=layer.scaling[NAME],
                out=layer.base_layer.weight.data,
            )

    def __exit__(self, *_: object) -> None:
        for name, layer in self._layers.items():
            layer.base_layer.weight = self._base[name]
            layer.merged_adapters.remove(NAME)


@contextmanager
def merged(causal: nn.Module) -> Iterator[None]:
    """Merge the adapter in view, if there is one that can be; else change nothing."""
    weights = Merged(causal)
    if not weights.possible:
        yield
        return
    with weights:
        weights.set()
        yield

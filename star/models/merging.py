"""An adapter while something is scored: merged into the weights, W + s·B·A, or thin beside them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from star.config import Config
from star.models import targets
from star.models.adapter import NAME, is_variant, layers
from star.models.language_model import LanguageModel
from star.models.reading import DTYPES
from star.models.sharding import is_shared


def is_mergeable(module: nn.Module, dtype: torch.dtype) -> bool:
    """Whether what an adapter adds to a module can be added to its weights, if they have ``dtype``.

    In 16 bits the sum would lose most of a branch that is small beside W; quantised weights, which
    are of another kind of module, cannot be added to.
    """
    return type(module) in (nn.Linear, Conv1D) and dtype in (torch.float32, torch.float64)


def will_merge(config: Config, model: LanguageModel) -> bool:
    """Whether a run's adapters will be merged, of a model that may have no weights yet."""
    modules, dtype = targets.linear_modules(model.causal), DTYPES[config.model.dtype]
    adapted = targets.matching(modules, targets.resolve(model.causal, config.adapter))
    return config.model.quantization == "none" and all(
        is_mergeable(modules[name], dtype) for name in adapted
    )


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
            and not is_shared(layer.base_layer.weight)
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


class Thin:
    """Scoring with the branch beside weights of 16 or 4 bits, in their dtype: two thin products.

    A context. PEFT's float32 products are scaled, added and rounded one after the other, each time
    through memory; here the large product is added to what the thin ones gave. What that saves on a
    GPU nobody has measured; scores are as near to float32's as PEFT's are. Training keeps float32.
    """

    def __init__(self, causal: nn.Module) -> None:
        self._layers = dict(layers(causal))
        self._pairs: dict[str, tuple[Tensor, Tensor]] = {}
        self._dtype = torch.float32
        if self._layers:  # four-bit weights are of another dtype than what they compute in
            embeddings: Any = causal.get_input_embeddings()  # type: ignore[operator]
            self._dtype = embeddings.weight.dtype

    @property
    def possible(self) -> bool:
        """Whether the branch is on, in linear modules that compute in 16 bits."""
        return (
            bool(self._layers)
            and self._dtype in (torch.bfloat16, torch.float16)
            and all(
                isinstance(layer.base_layer, nn.Linear)
                and layer.active_adapters == [NAME]
                and not (layer.disable_adapters or layer.merged)
                and not (is_variant(layer) or layer.lora_bias[NAME])
                for layer in self._layers.values()
            )
        )

    def __enter__(self) -> Thin:
        for name, layer in self._layers.items():
            layer.forward = partial(self._forward, name)
        return self

    @torch.no_grad()
    def set(self) -> None:
        """Take A and s·B as the adapter has them now."""
        for name, layer in self._layers.items():
            scaled = layer.scaling[NAME] * layer.lora_B[NAME].weight.float()
            self._pairs[name] = layer.lora_A[NAME].weight.to(self._dtype), scaled.to(self._dtype)

    def _forward(self, name: str, x: Tensor) -> Tensor:
        layer, (lora_a, scaled_b) = self._layers[name], self._pairs[name]
        base = layer.base_layer
        # Masks per token are in the dropout's place; dropout itself is off.
        inner = linear(layer.lora_dropout[NAME](x), lora_a).flatten(0, -2)
        if type(base) is nn.Linear and base.bias is None and base.weight.dtype == x.dtype:
            out = linear(inner, scaled_b).addmm_(x.flatten(0, -2), base.weight.T)
        else:
            out = base(x).flatten(0, -2).addmm_(inner, scaled_b.T)
        return out.unflatten(0, x.shape[:-1])

    def __exit__(self, *_: object) -> None:
        for layer in self._layers.values():
            del layer.forward
        self._pairs = {}


def way_of(causal: nn.Module, *, masked: bool = False) -> Merged | Thin | None:
    """Return how the adapter in view is scored with; ``None``: as PEFT has it, or there is none.

    Args:
        causal: The model.
        masked: Every token has a mask of its own, which no weights can have.
    """
    whole, thin = Merged(causal), Thin(causal)
    if whole.possible and not masked:
        return whole
    return thin if thin.possible else None


@contextmanager
def merged(causal: nn.Module) -> Iterator[None]:
    """Score with the adapter in view, if there is one, as it costs least."""
    way = way_of(causal)
    if way is None:
        yield
        return
    with way:
        way.set()
        yield

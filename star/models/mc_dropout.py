"""Monte-Carlo dropout in the LoRA branch alone: S stochastic sub-networks while scoring.

``consistent``: one mask m on the input features of every adapted module a pass, the same for every
example and token, so that a pass is a fixed sub-network with A·diag(m)/(1−p) in A's place (in the
sense of Gal & Ghahramani 2016, arXiv 1506.02142: one draw of weights a pass). ``token``: a fresh
mask for every token, as PEFT's dropout layer draws them in training, see ``token_masks``.

Masks are functions of (seed, round, pass, module) and, for ``token``, of the row's tokens. The
model stays in eval mode throughout, so the base model's own dropout stays off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from star import seeding
from star.config import McDropoutConfig
from star.errors import InputError
from star.models import adapter, targets
from star.models.passes import Passes, matrix_a
from star.models.token_masks import TokenMasks

KIND = "MC dropout"


def check_modules(causal: nn.Module, names: Iterable[str], config: McDropoutConfig) -> None:
    """Raise ``InputError`` where masks per token cannot act on all that gets an adapter."""
    head = causal.get_output_embeddings()  # type: ignore[operator]
    linear = targets.linear_modules(causal)
    if config.passes and config.masks == "token":
        _refuse_head(n for n in targets.matching(linear, names) if linear[n] is head)


def _refuse_head(names: Iterable[str]) -> None:
    # The head is applied at some positions alone, in chunks, where no mask knows its place.
    for name in names:
        raise InputError(
            f"masks per token cannot act on the output head, but {name} has an adapter; set "
            "acquisition.mc_dropout.masks=consistent (star score: --masks consistent)"
        )


def passes(adapted: PeftModel, config: McDropoutConfig, *, seed: int, round_: int) -> Passes:
    """Return the S passes of one round.

    Raises:
        InputError: Dropout 0 in some adapted module (PEFT then puts an identity in its place), or a
            merged adapter (which skips dropout): all passes would be equal. Masks per token on the
            output head, or on DoRA, which asks its dropout in training alone.
    """
    layers = dict(adapter.layers(adapted))
    for name, layer in layers.items():
        dropout = layer.lora_dropout[adapter.NAME]
        if not isinstance(dropout, nn.Dropout) or dropout.p <= 0:
            raise InputError(
                f"MC dropout needs adapter.lora_dropout > 0, but {name} has none: all passes "
                "would be equal"
            )
    drawn = {"settings": asdict(config), "seed": seed, "round": round_}
    if config.masks == "token":
        _refuse_for_tokens(adapted, layers)

        def key(pass_: int, name: str) -> int:
            return seeding.derive(seed, "mc_dropout", round_, pass_, name)

        masks = TokenMasks(layers, key)
        return Passes(adapted, config.passes, lambda _: {}, kind=KIND, drawn=drawn, masks=masks)
    own = {name: layer.lora_A[adapter.NAME].weight.data for name, layer in layers.items()}

    def sub_network(pass_: int) -> dict[str, Tensor]:
        masked = {}
        for name, weight in own.items():
            p = layers[name].lora_dropout[adapter.NAME].p
            stream = seeding.generator(seed, "mc_dropout", round_, pass_, name)
            keep = torch.rand(weight.shape[1], generator=stream) >= p
            scale = (keep.to(weight.dtype) / (1.0 - p)).to(weight.device)
            masked[matrix_a(name)] = weight * scale
        return masked

    return Passes(adapted, config.passes, sub_network, kind=KIND, drawn=drawn)


def _refuse_for_tokens(adapted: PeftModel, layers: Mapping[str, Any]) -> None:
    head = adapted.get_base_model().get_output_embeddings() if layers else None
    _refuse_head(name for name, layer in layers.items() if layer is head)
    for name, layer in layers.items():
        if adapter.is_variant(layer):
            raise InputError(
                f"masks per token cannot act on DoRA, which {name} has; set masks to consistent"
            )

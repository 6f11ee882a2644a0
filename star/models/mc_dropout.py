"""Monte-Carlo dropout in the LoRA branch alone: S stochastic sub-networks while scoring.

``consistent``: one mask m on the input features of every adapted module a pass, the same for every
example and token, so that a pass is a fixed sub-network with A·diag(m)/(1−p) in A's place (in the
sense of Gal & Ghahramani 2016, arXiv 1506.02142: one draw of weights a pass). ``token``: a fresh
mask for every token, as PEFT's dropout layer draws them in training.

Masks are functions of (seed, round, pass, module) and, for ``token``, of the row's tokens up to the
place that is masked: a row's place in its file or pool, what else is in the batch, its padding or
its order cannot change them. Rows that begin alike have equal masks as far as they do (the choices
of a question over their common prompt), and two equal rows equal scores. The model stays in eval
mode throughout, so the base model's own dropout stays off.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor, nn

from star import seeding
from star.config import McDropoutConfig
from star.errors import InputError
from star.models import adapter, merging, targets
from star.models.batching import Batch


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


class Passes:
    """The S passes of one round. Use inside ``with passes.installed():``."""

    def __init__(
        self, adapted: PeftModel, config: McDropoutConfig, *, seed: int, round_: int
    ) -> None:
        """Check that passes can differ.

        Raises:
            InputError: Dropout 0 in some adapted module (PEFT then puts an identity in its place),
                or a merged adapter (which skips dropout): all passes would be equal. Masks per
                token on the output head, or on DoRA, which asks its dropout in training alone.
        """
        self.count = config.passes
        self._adapted = adapted
        self._layers = dict(adapter.layers(adapted))
        self._kind = config.masks
        self._key = (seed, round_)
        for name, layer in self._layers.items():
            dropout = layer.lora_dropout[adapter.NAME]
            if not isinstance(dropout, nn.Dropout) or dropout.p <= 0:
                raise InputError(
                    f"MC dropout needs adapter.lora_dropout > 0, but {name} has none: all passes "
                    "would be equal"
                )
            if layer.merged:
                raise InputError(f"MC dropout needs an unmerged adapter, but {name} is merged")
        if not self._layers:
            raise InputError("MC dropout needs an adapter, the model has none")
        if config.masks == "token":
            head = adapted.get_base_model().get_output_embeddings()
            _refuse_head(name for name, layer in self._layers.items() if layer is head)
            for name, layer in self._layers.items():
                if adapter.is_variant(layer):
                    raise InputError(
                        f"masks per token cannot act on DoRA, which {name} has; set masks to "
                        "consistent"
                    )

    @contextmanager
    def installed(self) -> Iterator[Passes]:
        """Put the masks in place; weights and modules are restored at the end, come what may."""
        self._a = {n: layer.lora_A[adapter.NAME].weight.data for n, layer in self._layers.items()}
        self._dropouts = {n: layer.lora_dropout[adapter.NAME] for n, layer in self._layers.items()}
        self._pass: int | None = None
        merged = merging.Merged(self._adapted)
        self._merged = merged if self._kind == "consistent" and merged.possible else None
        try:
            if self._kind == "token":
                self._tokens = {n: _TokenMask(self._dropouts[n].p).eval() for n in self._layers}
                for name, layer in self._layers.items():
                    layer.lora_dropout[adapter.NAME] = self._tokens[name]
            with self._merged or nullcontext():
                yield self
        finally:
            for name, layer in self._layers.items():
                layer.lora_A[adapter.NAME].weight.data = self._a[name]
                layer.lora_dropout[adapter.NAME] = self._dropouts[name]

    def select_pass(self, pass_: int) -> None:
        """Make the next forward passes those of the ``pass_``-th sub-network, 0 … S − 1."""
        if self._pass == pass_:
            return
        self._pass = pass_
        if self._merged is not None:
            self._merged.set(self._sub_network(pass_))
        elif self._kind == "consistent":
            for name, masked in self._sub_network(pass_).items():
                self._layers[name].lora_A[adapter.NAME].weight.data = masked

    def set_batch(self, batch: Batch) -> None:
        """Say which rows the next forward pass sees; ``token`` masks are functions of that."""
        if self._kind == "token":
            places = _beginnings(batch)
            for name, mask in self._tokens.items():
                key = seeding.derive(self._key[0], "mc_dropout", self._key[1], self._pass, name)
                mask.set_rows(key, places)

    def _sub_network(self, pass_: int) -> dict[str, Tensor]:
        """Return A·diag(m)/(1 − p) of every adapted module."""
        masked = {}
        for name, weight in self._a.items():
            p = self._dropouts[name].p
            stream = seeding.generator(self._key[0], "mc_dropout", self._key[1], pass_, name)
            keep = torch.rand(weight.shape[1], generator=stream) >= p
            masked[name] = weight * (keep.to(weight.dtype) / (1.0 - p)).to(weight.device)
        return masked


class _TokenMask(nn.Module):
    """Dropout whose mask is a hash of (module's key, beginning of the row, feature)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self._rows: Tensor | None = None

    def set_rows(self, key: int, places: Tensor) -> None:
        """Set the hash keys of the next batch's places, from :func:`_beginnings`."""
        low, high = _signed(key & 0xFFFFFFFF), _signed(key >> 32)
        self._rows = _mix(_mix(places ^ low) ^ high)

    def forward(self, x: Tensor) -> Tensor:
        if self._rows is None or self._rows.shape != x.shape[:-1]:
            got = None if self._rows is None else tuple(self._rows.shape)
            raise RuntimeError(f"token masks aimed at {got}, the module sees {tuple(x.shape)}")
        rows = self._rows
        feature = torch.arange(x.shape[-1], dtype=torch.int32, device=x.device)
        bits = _mix(rows[..., None] ^ _mix(feature))  # (B, T, F), uniform over int32
        keep = bits >= int(self.p * 2**32) - 2**31
        return x * keep / (1.0 - self.p)


def _beginnings(batch: Batch) -> Tensor:
    """Return int32 hashes of each place's row up to there, in the shape of the batch's ids.

    The sum of a hash of each token with its position, so that a running sum gives all of them; of a
    packed line the sum in front of each row is taken off.
    """
    positions = batch.positions.expand_as(batch.ids)
    tokens = _mix(batch.ids.to(torch.int32) ^ _mix(~positions.to(torch.int32)))
    sums = tokens.to(torch.int64).cumsum(dim=1)
    if batch.runs:
        first = torch.arange(batch.ids.shape[1], device=sums.device) - positions
        sums = sums - (sums - tokens).gather(1, first)
    low = sums & 0xFFFFFFFF
    return (low - (low >> 31 << 32)).to(torch.int32)


def _signed(word: int) -> int:
    return word - 2**32 if word >= 2**31 else word


def _mix(x: Tensor) -> Tensor:
    """Return a 32-bit integer hash, element by element (C. Wellons's ``lowbias32`` constants).

    Multiplication wraps; the mask after each arithmetic shift makes it a logical one.
    """
    x = x ^ ((x >> 16) & 0xFFFF)
    x = x * 0x7FEB352D
    x = x ^ ((x >> 15) & 0x1FFFF)
    x = x * _signed(0x846CA68B)
    return x ^ ((x >> 16) & 0xFFFF)


def check_spread(scores: np.ndarray) -> None:
    """Raise ``InputError`` if the S passes gave every example the same score.

    Args:
        scores: (N, S). An adapter that has learned (B ≠ 0) moves some score, unless what it adds
            is lost in rounding.
    """
    if scores.shape[0] and scores.shape[1] > 1 and (scores == scores[:, :1]).all():
        raise InputError(
            f"all {scores.shape[1]} MC-dropout passes gave equal scores: the adapter has not been "
            "trained, or moves less than the model's dtype can tell; train it longer or at a "
            "higher rate, or go without passes"
        )

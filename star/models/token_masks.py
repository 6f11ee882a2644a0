"""MC dropout by a mask of its own for every token, as PEFT's dropout layer draws them in training.

A mask is a function of a key (seed, round, pass, module) and of the row's tokens up to the place
that is masked: a row's place in its file or pool, what else is in the batch, its padding or its
order cannot change it. Rows that begin alike have equal masks as far as they do (the choices of a
question over their common prompt), and two equal rows equal scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from star.models import adapter
from star.models.batching import Batch


class TokenMasks:
    """Masks in the place of every adapted module's dropout.

    Args:
        layers: Name to PEFT's layer.
        key: A pass and a module's name to the key of their masks.
    """

    def __init__(self, layers: dict[str, Any], key: Callable[[int, str], int]) -> None:
        self._layers, self._key = layers, key
        self._masks: dict[str, _TokenMask] = {}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Put the masks in place; the modules' own dropout is put back at the end."""
        own = {name: layer.lora_dropout[adapter.NAME] for name, layer in self._layers.items()}
        self._masks = {name: _TokenMask(dropout.p).eval() for name, dropout in own.items()}
        try:
            for name, layer in self._layers.items():
                layer.lora_dropout[adapter.NAME] = self._masks[name]
            yield
        finally:
            for name, layer in self._layers.items():
                layer.lora_dropout[adapter.NAME] = own[name]

    def set_batch(self, pass_: int, batch: Batch) -> None:
        """Say which rows the next forward pass sees, and in which pass."""
        places = _beginnings(batch)
        for name, mask in self._masks.items():
            mask.set_rows(self._key(pass_, name), places)


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

    The sum of a hash of each token with its position.
    """
    positions = batch.positions.expand_as(batch.ids)
    tokens = _mix(batch.ids.to(torch.int32) ^ _mix(~positions.to(torch.int32)))
    sums = batch.row_sums(tokens.to(torch.int64))
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

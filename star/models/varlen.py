"""Attention over rows laid end to end by one kernel: torch's ``varlen_attn``, where there is one.

Flash attention in 16 bits on a GPU: causal, within a layer's window, each row alone, in a cached
step over what is stored of each. Its options came with torch's versions (2.10 has neither scale nor
window, 2.12 has all), so its signature says what it is asked. What it cannot do, and all else on a
CPU or in float32, is done by the loop of SDPA calls in ``packing``, which is its reference.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

WIDEST = 256  # features of a head, in eights, as flash attention has it


@dataclass(frozen=True)
class Kernel:
    """A function with the signature of ``torch.nn.attention.varlen.varlen_attn``.

    Attributes:
        function: (T, heads, D) queries, keys and values, (B + 1,) ends of the rows twice, tokens of
            the longest row twice, and ``options`` to (T, heads, D).
        options: Names of the keywords that it knows.
        device: Kind of device that it runs on.
        dtypes: Of queries, keys and values.
    """

    function: Callable[..., Tensor]
    options: frozenset[str]
    device: str = "cuda"
    dtypes: tuple[torch.dtype, ...] = (torch.float16, torch.bfloat16)

    @classmethod
    def of(cls, function: Callable[..., Tensor]) -> Kernel | None:
        """Return it with the options of its signature, or ``None`` where it knows no windows."""
        options = frozenset(inspect.signature(function).parameters)
        return cls(function, options) if {"window_size", "scale"} <= options else None

    def takes(self, q: Tensor, v: Tensor, *, cached: bool = False) -> bool:
        """Whether it can attend over such (1, heads, T, D) queries and values.

        Args:
            q: Queries.
            v: Values.
            cached: As a step over what rows have stored.
        """
        width = q.shape[-1]
        return (
            q.device.type == self.device
            and q.dtype in self.dtypes
            and q.dtype == v.dtype
            and width == v.shape[-1]
            and width <= WIDEST
            and width % 8 == 0
            and (not cached or "seqused_k" in self.options)
        )

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        ends: tuple[Tensor, Tensor],
        longest: tuple[int, int],
        *,
        scale: float,
        window: int | None,
        stored: Tensor | None = None,
    ) -> Tensor:
        """Return (T, heads, D) attention of each row's tokens over its own, none ahead.

        Args:
            q: (T, heads, D) queries.
            k: (T', key heads, D) keys; a key head serves a group of heads.
            v: Values in the shape of ``k``.
            ends: (B + 1,) int32 places where rows of queries, and of keys, begin and end.
            longest: Tokens of the longest row of queries, and of keys.
            scale: Of the products.
            window: Tokens that a token looks at, itself included; ``None``: all before it.
            stored: (B,) int32 keys of each row that count, from the first; ``None``: all.
        """
        options: dict[str, object] = {"scale": scale, "window_size": (-1, 0)}
        if window is not None:
            options["window_size"] = (window - 1, 0)
        groups = q.shape[1] // k.shape[1]
        if groups > 1 and "enable_gqa" in self.options:
            options["enable_gqa"] = True
        elif groups > 1:
            k, v = (x.repeat_interleave(groups, dim=1) for x in (k, v))
        if stored is not None:
            options["seqused_k"] = stored
            if "num_splits" in self.options:  # else a row's bits hang on who is in the batch
                options["num_splits"] = 1
        return self.function(q, k, v, *ends, *longest, **options)


def of_torch() -> Kernel | None:
    """Return torch's own, if there is a GPU that it runs on."""
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0):
        return None
    try:
        from torch.nn.attention.varlen import varlen_attn
    except (ImportError, RuntimeError):  # torch before 2.10, or built without it
        return None
    return Kernel.of(varlen_attn)


_in_use: list[Kernel | None] = []  # the last one counts


def kernel() -> Kernel | None:
    """Return the kernel in use; ``None``: packed rows are attended to one run after the other."""
    if not _in_use:
        _in_use.append(of_torch())
    return _in_use[-1]


def serves(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a kernel is in use for a model on such a device, of such a dtype."""
    used = kernel()
    return used is not None and device.type == used.device and dtype in used.dtypes


def give_up() -> None:
    """Use none from now on: the one in use fails here."""
    _in_use[-1:] = [None]


@contextmanager
def using(other: Kernel | None) -> Iterator[None]:
    """Use another kernel, or none, for as long as the context lasts."""
    kernel()
    _in_use.append(other)
    try:
        yield
    finally:
        _in_use.pop()

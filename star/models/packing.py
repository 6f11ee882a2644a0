"""Attention over rows laid end to end, each row alone: no padding, and no row sees another.

Given to transformers as an attention function. It is told of the rows by a keyword that the model
hands down to its attention layers unseen; a model that does not hand it down, or whose attention
needs more than a mask (soft caps, sinks), is found out when it is loaded (``isolation``) and takes
padded batches instead, as do rows that a sliding window cuts unless the kernel is told of it.

One kernel attends to all rows where there is one (``varlen``); else a call of SDPA does for each
run of rows equally long, which is what the kernel is tested against.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedConfig

from star.models import varlen
from star.models.batching import Batch, to_device

NAME = "star_packed"


class Layout:
    """What the attention layers are told: how the rows of a packed batch lie.

    Args:
        batch: Packed.
        one_way: Refuse attention that sees the tokens behind a token.
    """

    def __init__(self, batch: Batch, *, one_way: bool = True) -> None:
        self.runs, self.one_way = batch.runs, one_way
        self.longest = max(batch.lengths)
        self._lengths, self._device = batch.lengths, batch.ids.device

    @cached_property
    def ends(self) -> Tensor:
        """(B + 1,) int32 places where rows begin and end."""
        places = torch.tensor([0, *self._lengths]).cumsum(0).to(torch.int32)
        return to_device(places, self._device)

    def attend(
        self, module: nn.Module, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None,
        causal: bool = True,
    ) -> Tensor:  # fmt: skip
        """Return (1, T, heads, D); q: (1, heads, T, D), k and v with as many heads or fewer."""
        if not causal and (self.one_way or window is not None):
            raise NotPackable(f"attention of {type(module).__name__} is not causal")
        kernel = varlen.kernel() if causal else None
        if kernel is not None and kernel.takes(q, v):
            line = (x[0].transpose(0, 1) for x in (q, k, v))  # (T, heads, D)
            longest = (self.longest, self.longest)
            ends = (self.ends, self.ends)
            return kernel.attend(*line, ends, longest, scale=scale, window=window).unsqueeze(0)
        _refuse_cut(self.longest, window)
        # Split, not sliced: the gradient is put together once, not added up over the line.
        sizes = [count * length for count, length in self.runs]
        parts = zip(*(x[0].split(sizes, dim=1) for x in (q, k, v)), strict=True)
        out = []
        for (count, _), run in zip(self.runs, parts, strict=True):
            # (h, rows * length, D) to (rows, h, length, D), without a copy
            one = scaled_dot_product_attention(
                *(x.unflatten(1, (count, -1)).transpose(0, 1) for x in run),
                is_causal=causal, scale=scale, enable_gqa=_grouped(q, k),
            )  # fmt: skip
            out.append(one.transpose(1, 2).flatten(0, 1))  # (rows * length, heads, D)
        return torch.cat(out).unsqueeze(0)


class Cache:
    """Keys and values of rows that grow by a token a step; a finished row leaves without a trace.

    Row b has its tokens in the first ``lengths[b]`` of ``capacity`` places: no padding on the left,
    and every row at its own position.

    Args:
        batch: The rows to begin with, packed; the first forward pass is theirs, each later one the
            (1, B) next tokens of those that are left, at ``lengths``.
        capacity: Tokens that fit in a row.

    Attributes:
        windows: Each layer's window as its attention says it in the first forward pass.
    """

    def __init__(self, batch: Batch, capacity: int) -> None:
        self._first: Layout | None = Layout(batch)
        self._size = (sum(count for count, _ in batch.runs), capacity)
        self.longest = capacity
        # Layer to keys, values: (B, heads, capacity, D); for a kernel (B, capacity, heads, D).
        self._stored: dict[int, list[Tensor]] = {}
        self._kernel: varlen.Kernel | None = None
        self.lengths = torch.tensor(batch.lengths, device=batch.ids.device)  # (B,) tokens stored
        self._mask: Tensor | None = None
        self._used: Tensor | None = None
        self._rows: tuple[Tensor, Tensor, Tensor] | None = None
        self.windows: dict[int, int | None] = {}

    @property
    def static(self) -> bool:
        """Whether a step's tensors have the same shapes as long as no row leaves."""
        return self._kernel is not None

    def attend(
        self, module: nn.Module, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None,
        causal: bool = True,
    ) -> Tensor:  # fmt: skip
        """Store k and v, and return (1, T, heads, D) attention over what each row has stored."""
        if not causal:
            raise NotPackable(f"attention of {type(module).__name__} is not causal")
        if self._first is not None:
            kernel = varlen.kernel()
            self._kernel = kernel if kernel and kernel.takes(q, v, cached=True) else None
            self._store_first(module, k, v)
            self.windows[_layer(module)] = window
            return self._first.attend(module, q, k, v, scale, window)
        keys, values = self._stored[_layer(module)]
        if self._kernel is not None:
            every, *ends = self._places()
            keys[every, self.lengths] = k[0].transpose(0, 1)
            values[every, self.lengths] = v[0].transpose(0, 1)
            line = (q[0].transpose(0, 1), keys.flatten(0, 1), values.flatten(0, 1))
            if self._used is None:
                self._used = (self.lengths + 1).to(torch.int32)
            return self._kernel.attend(
                *line, (ends[0], ends[1]), (1, keys.shape[1]),
                scale=scale, window=window, stored=self._used,
            ).unsqueeze(0)  # fmt: skip
        _refuse_cut(self.longest, window)
        rows, heads = len(self.lengths), k.shape[1]
        every = torch.arange(rows, device=q.device)
        keys[every, :, self.lengths] = k[0].transpose(0, 1)
        values[every, :, self.lengths] = v[0].transpose(0, 1)
        seen = self._seen()
        # The heads that share a key head are its queries: no key is copied.
        shared = q[0].transpose(0, 1).unflatten(1, (heads, -1))  # (B, key heads, group, D)
        out = scaled_dot_product_attention(
            shared,
            keys[:, :, : seen.shape[-1]],
            values[:, :, : seen.shape[-1]],
            attn_mask=seen.expand(-1, heads, shared.shape[2], -1),
            scale=scale,
        )
        return out.flatten(1, 2).unsqueeze(0)

    def advance(self) -> None:
        """Say that a forward pass has ended: each row is a token longer, but for the first time."""
        if self._first is None:
            self.lengths.add_(1)  # in place: a graph of a step reads it where it was
        self._first = None
        self.break_off()

    def break_off(self) -> None:
        """Forget what layers share in a forward pass: it has ended, or failed on its way."""
        self._mask, self._used = None, None

    def join(self, other: Cache) -> None:
        """Take over another one's rows behind these; both have had their first forward pass."""
        for layer, pair in self._stored.items():
            more = other._stored.pop(layer)  # layer by layer, so that memory holds little twice
            self._stored[layer] = [torch.cat(two) for two in zip(pair, more, strict=True)]
        self.lengths, self._rows = torch.cat([self.lengths, other.lengths]), None

    def keep(self, places: list[int]) -> list[int]:
        """Drop all rows but these; return the row that now is at each place.

        A hole is filled from the end, so that little is moved.
        """
        kept, rows = set(places), list(range(len(self.lengths)))
        holes = [place for place in rows[: len(kept)] if place not in kept]
        movers = [place for place in rows[len(kept) :] if place in kept]
        for hole, mover in zip(holes, movers, strict=True):
            rows[hole] = mover
            for pair in self._stored.values():
                for table in pair:
                    table[hole] = table[mover]
        for layer, pair in self._stored.items():
            self._stored[layer] = [table[: len(kept)] for table in pair]
        rows = rows[: len(kept)]
        self.lengths, self._rows = self.lengths[rows], None
        return rows

    def _seen(self) -> Tensor:
        """Return (B, 1, 1, longest) what each row's new token looks at, itself included."""
        if self._mask is None:
            places = torch.arange(int(self.lengths.max()) + 1, device=self.lengths.device)
            self._mask = (places <= self.lengths[:, None])[:, None, None]
        return self._mask

    def _places(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return (B,) rows; (B + 1,) ends of their queries, one token each, and of their keys."""
        if self._rows is None:
            every = torch.arange(len(self.lengths) + 1, device=self.lengths.device)
            ends = every.to(torch.int32)
            self._rows = every[:-1], ends, ends * self._size[1]
        return self._rows

    def _store_first(self, module: nn.Module, k: Tensor, v: Tensor) -> None:
        rows, capacity = self._size
        # Zeros: a place that is masked out still takes part with weight 0, and 0 · NaN is NaN.
        tables = [
            x.new_zeros(rows, capacity, x.shape[1], x.shape[3]).transpose(1, 2)
            if self._kernel is not None
            else x.new_zeros(rows, x.shape[1], capacity, x.shape[3])
            for x in (k, v)
        ]
        if _layer(module) in self._stored:
            raise NotPackable(f"{type(module).__name__} attends more than once a layer")
        stored = [t.transpose(1, 2) for t in tables] if self._kernel is not None else tables
        self._stored[_layer(module)] = stored
        assert self._first is not None
        for table, new in zip(tables, (k, v), strict=True):
            row = start = 0
            for count, length in self._first.runs:
                end = start + count * length
                part = new[0, :, start:end].unflatten(1, (count, length)).transpose(0, 1)
                table[row : row + count, :, :length] = part
                row, start = row + count, end


def _layer(module: nn.Module) -> int:
    layer: int = module.layer_idx  # type: ignore[assignment]
    return layer


def _refuse_cut(longest: int, window: int | None) -> None:
    if window is not None and longest > window:
        raise NotPackable(f"rows of {longest} tokens are cut by a window of {window}")


def _grouped(q: Tensor, k: Tensor) -> bool:
    return q.shape[1] != k.shape[1]


@torch.compiler.disable
def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    star_rows: Layout | Cache | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    more = [name for name in ("softcap", "s_aux", "position_bias") if others.get(name) is not None]
    if star_rows is None or attention_mask is not None or dropout or more:
        raise NotPackable(f"attention of {type(module).__name__} needs {more or 'its own masks'}")
    given = [others.get("is_causal"), getattr(module, "is_causal", None)]
    causal = False not in given
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    window = others.get("sliding_window")
    return star_rows.attend(module, query, key, value, scale, window, causal), None


class NotPackable(RuntimeError):
    """This model's attention is more than a causal one."""


AttentionInterface.register(NAME, _attention)


def configs_of(causal: nn.Module) -> list[Any]:
    """Return the configurations that the model's modules go by: parts may have copies."""
    configs = {id(c): c for c in (getattr(m, "config", None) for m in causal.modules())}
    return [c for c in configs.values() if isinstance(c, PreTrainedConfig)]


@contextmanager
def attention(configs: Sequence[Any]) -> Iterator[None]:
    """Let the attention layers of these configurations call the functions above meanwhile."""
    before = [config._attn_implementation for config in configs]
    for config in configs:
        config._attn_implementation = NAME
    try:
        yield
    finally:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = name

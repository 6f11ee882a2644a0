"""Rows of tokens on their way through a model: batches of like length, layouts.

A batch is laid out *packed*, its rows end to end in one line of (1, T) tokens without any padding,
where the model can keep them apart (``packing``), else *padded* on the right to (B, T).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from star.config import Config, EvaluationConfig
from star.errors import InputError
from star.models.encoding import TokenRow, pad
from star.models.shortages import Shortages
from star.models.unfinished import Unfinished


@dataclass(frozen=True)
class Batching:
    """How rows go through a model: of memory, speed and what a kill costs, not of results.

    Attributes:
        rows: In a forward pass at most, but in training.
        tokens: Likewise, padding counted; a single row may have more.
        auto: Whether ``tokens`` goes by the memory that is free once a model is there.
        progress: Whether bars are shown.
        unfinished: Where what is done so far is kept, of a training too; by default nowhere.
        shortages: What did not fit in memory at once, of a training too.
    """

    rows: int = EvaluationConfig.per_device_eval_batch_size
    tokens: int = EvaluationConfig.max_batch_tokens
    progress: bool = False
    auto: bool = False
    unfinished: Unfinished = field(default_factory=Unfinished, repr=False, compare=False)
    shortages: Shortages = field(default_factory=Shortages, repr=False, compare=False)

    @classmethod
    def of(cls, config: Config) -> Batching:
        """Return what a run's configuration asks for."""
        asked = config.evaluation
        auto = asked.max_batch_tokens == "auto"
        tokens = cls.tokens if auto else asked.max_batch_tokens
        return cls(asked.per_device_eval_batch_size, tokens, config.tracking.progress, auto)

    def batches(
        self, lengths: Sequence[int] | NDArray[np.int64], cuts: Sequence[int] = ()
    ) -> Iterator[list[int]]:
        """Yield the positions of rows of these lengths in batches; see :func:`length_batches`."""
        return length_batches(lengths, self.rows, self.tokens, cuts)


def length_batches(
    lengths: Sequence[int] | NDArray[np.int64],
    batch_size: int,
    max_tokens: int | None = None,
    cuts: Sequence[int] = (),
) -> Iterator[list[int]]:
    """Yield positions in batches of like length, longest first (so memory peaks at the start).

    Args:
        lengths: (N,) tokens of each row.
        batch_size: Rows in a batch at most.
        max_tokens: Tokens in a batch at most, padding counted; one row may have more. ``None`` = no
            limit.
        cuts: No batch has rows of up to so many tokens together with longer ones.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    sides = -np.searchsorted(sorted(cuts), lengths[order])  # rising, as the lengths fall
    start = 0
    while start < len(order):
        size = batch_size
        if max_tokens is not None:
            size = max(1, min(size, max_tokens // max(1, int(lengths[order[start]]))))
        if cuts:
            size = min(size, int(np.searchsorted(sides, sides[start], side="right")) - start)
        yield order[start : start + size].tolist()
        start += size


@dataclass(frozen=True)
class Batch:
    """Some rows, laid out for one forward pass.

    The last token of a row predicts nothing that is asked for, so it is not fed.

    Attributes:
        ids: Token ids, (1, T) packed or (B, T) padded on the right.
        positions: Position in its row; broadcasts to the shape of ``ids``.
        runs: Packed: (rows, tokens of each) of the runs of rows equally long, in order; else empty.
        predicting: (P,) places in the flattened ``ids`` whose hidden states predict a continuation
            token, row after row.
        targets: (P,) the tokens they predict.
        counts: (B,) continuation tokens of each row.
    """

    ids: Tensor
    positions: Tensor
    runs: tuple[tuple[int, int], ...]
    predicting: Tensor
    targets: Tensor
    counts: list[int]

    @property
    def lengths(self) -> list[int]:
        """(B,) tokens of each row of a packed batch."""
        return [length for count, length in self.runs for _ in range(count)]

    def row_sums(self, values: Tensor) -> Tensor:
        """Return sums of whole numbers along each row, up to and with each place.

        ``values`` has the shape of ``ids``. A running sum gives all of them; of a packed line the
        sum in front of each row is taken off.
        """
        sums = values.cumsum(dim=1)
        if self.runs:
            first = torch.arange(values.shape[1], device=values.device) - self.positions
            sums = sums - (sums - values).gather(1, first)
        return sums


def lay_out(
    rows: Sequence[TokenRow],
    *,
    packed: bool,
    pad_id: int,
    device: torch.device,
    vocabulary: int | None = None,
    last: bool = False,
) -> Batch:
    """Return rows as a :class:`Batch`, in their order; packed is cheapest where they are sorted.

    Args:
        rows: B rows, each with a prompt of at least one token.
        packed: End to end, else padded.
        pad_id: Fills a padded batch.
        device: Where the tensors go.
        vocabulary: Tokens that have an embedding; ``None``: all of them.
        last: Feed as many tokens as the rows have. The last one, which nothing is asked of, may
            stand for something else, so the one before it is repeated.

    Raises:
        InputError: A token has no embedding (names the row).
    """
    fed = [(row.prompt + row.continuation)[:-1] if row.continuation else row.prompt for row in rows]
    for row, ids in zip(rows, fed, strict=True) if vocabulary is not None else ():
        if max(ids) >= vocabulary:
            raise InputError(
                f"row {row.index} has token {max(ids)}, the model's embeddings end at "
                f"{vocabulary - 1}; its tokenizer belongs to another model"
            )
    if last:
        fed = [(*ids, ids[-1]) if r.continuation else ids for r, ids in zip(rows, fed, strict=True)]
    lengths = [len(ids) for ids in fed]
    if packed:
        ids = torch.tensor([token for one in fed for token in one]).unsqueeze(0)
        positions = torch.cat([torch.arange(n) for n in lengths]).unsqueeze(0)
        starts = np.cumsum([0, *lengths[:-1]]).tolist()
        runs = tuple((len(list(run)), length) for length, run in groupby(lengths))
    else:
        ids = pad(fed, pad_id)
        positions = torch.arange(ids.shape[1]).unsqueeze(0)
        starts = [b * ids.shape[1] for b in range(len(rows))]
        runs = ()
    predicting = [
        start + len(row.prompt) - 1 + j
        for start, row in zip(starts, rows, strict=True)
        for j in range(len(row.continuation))
    ]
    targets = torch.tensor([t for row in rows for t in row.continuation], dtype=torch.long)
    return Batch(
        ids=to_device(ids, device),
        positions=to_device(positions, device),
        runs=runs,
        predicting=to_device(torch.tensor(predicting, dtype=torch.long), device),
        targets=to_device(targets, device),
        counts=[len(row.continuation) for row in rows],
    )


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the host's on the device, without waiting for a GPU's work before."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)

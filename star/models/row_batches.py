"""Rows through a model in batches of like length: what is made of each batch, in row order.

Shared by the processes of a job. What is done is kept now and then (``unfinished``), so that a run
that is killed in the middle goes on there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from star.errors import InputError
from star.models import adapter, merging
from star.models.batching import Batch
from star.models.distributed import collect_arrays, is_main, share
from star.models.encoding import TokenRow
from star.models.language_model import LanguageModel
from star.models.passes import Passes
from star.models.stored_rows import digest_of, lengths_of

Array = NDArray[np.float64]
Reduce = Callable[[Batch, Tensor], dict[str, Array]]


@torch.inference_mode()
def run_batches(
    model: LanguageModel,
    rows: Sequence[TokenRow],
    passes: Passes | None,
    reduce: Reduce,
    together: Reduce | None,
    desc: str,
    *,
    what: Any,
) -> dict[str, Array]:
    """Run ``reduce`` on batches of like length, shared among processes; results in row order.

    Args:
        model: What computes.
        rows: N rows.
        passes: One after the other over all rows, so that a sub-network is made once.
        reduce: A batch and its (P, H) hidden states under one pass to (B,) values, or (B, …).
        together: A batch and its (S, P, H) hidden states under all passes to (B,) values; then all
            passes over a batch come before the next batch.
        desc: What the bar says.
        what: What tells the two reductions from others, as JSON.

    Returns:
        Name to (N, S) or (N, S, …), or (N, 1) for what ``together`` gives.
    """
    mine, most = share(len(rows)), model.batching
    lengths = lengths_of(rows)[mine.start :: mine.step]
    count = passes.count if passes else 1
    tables = _Tables(rows, mine, count, at_once=together is not None)
    times = tables.times

    def work(time_over: int, places: list[int]) -> int:
        batch, states = model.lay_out([rows[mine[i]] for i in places]), []
        for s in times[time_over]:
            if passes:
                passes.select_pass(s)
                passes.set_batch(batch)
            hidden = model.predict(batch)
            tables.add(places, s, count, reduce(batch, hidden))
            states += [hidden] if together else []
        if together:
            tables.add(places, 0, 1, together(batch, torch.stack(states)))
        kept.add(places, time_over)
        return sum(int(lengths[i]) for i in places) * len(times[time_over])

    def content() -> dict[str, Any]:
        return {"what": what, "passes": passes and passes.drawn} | content_of(model, rows, mine)

    phase = most.unfinished.rows(
        "scores", content, shape=(len(times), len(mine)), take=tables.take, put=tables.put
    )
    bar = progress_bar(model, int(lengths.sum()) * count, desc)
    # The phase first: what an adapter is, is asked of its own weights, before they are merged.
    with phase as kept, merging.merged(model.causal) if passes is None else nullcontext():
        for time_over in range(len(times)):
            left = kept.left(most.batches(lengths, model.traits.cuts), time_over)
            for done in most.shortages.halving(left, partial(work, time_over), lengths, kind=desc):
                bar.update(done)
    bar.close()
    return collect_arrays(tables.tables, mine, len(rows))


def progress_bar(model: LanguageModel, total: int, desc: str, unit: str = "tok") -> tqdm[Any]:
    """Return a bar of one process, where bars are asked for, that goes when it is closed."""
    shown, scaled = model.batching.progress and is_main(), unit == "tok"
    return tqdm(
        total=total, desc=desc, unit=unit, unit_scale=scaled, leave=False, disable=not shown
    )


def content_of(model: LanguageModel, rows: Sequence[TokenRow], mine: range) -> dict[str, Any]:
    """Return what decides a phase that goes over rows: they, the view, the batches, the share.

    Of the batches what was asked for: what ``auto`` comes to is another number at each start, and
    rows that are kept are as good as any.
    """
    most = model.batching
    return {
        "rows": digest_of(rows),
        "view": adapter.in_view(model.causal),
        "batching": [most.rows, "auto" if most.auto else most.tokens],
        "share": [mine.start, mine.step],
    }


class _Tables:
    """Results by name, (rows, S, …), or (rows, 1, …) of all passes together.

    Args:
        rows: N rows.
        mine: The places of this process.
        count: S.
        at_once: Whether all passes over a batch come before the next batch.

    Attributes:
        times: The passes of each time over the rows.
        tables: Name to results, rows in the order of ``mine``.
    """

    def __init__(self, rows: Sequence[TokenRow], mine: range, count: int, *, at_once: bool) -> None:
        self._rows, self._mine, self._count = rows, mine, count
        self.times = [range(count)] if at_once else [range(s, s + 1) for s in range(count)]
        self.tables: dict[str, Array] = {}

    def add(self, places: list[int], column: int, width: int, values: Mapping[str, Array]) -> None:
        """Add what a batch gave in one of ``width`` columns.

        Raises:
            InputError: A value is NaN or infinite (names the row).
        """
        for name, value in values.items():
            _require_finite(name, value, [self._mine[i] for i in places], self._rows)
            self.named(name, width, value)[places, column] = value

    def named(self, name: str, width: int, like: Array) -> Array:
        """Return a table of ``width`` columns, whose entries are shaped as those of ``like``."""
        shape = (len(self._mine), width, *like.shape[1:])
        return self.tables.setdefault(name, np.empty(shape))

    def take(self, places: list[int], time_over: int) -> dict[str, Array]:
        """Return what one time over gave for some rows: (n, k, …), k passes or 1."""
        columns = self.times[time_over]
        return {
            name: table[places][:, columns if table.shape[1] == self._count else [0]]
            for name, table in self.tables.items()
        }

    def put(self, places: list[int], time_over: int, arrays: Mapping[str, Array]) -> None:
        """Take that back."""
        columns = self.times[time_over]
        for name, values in arrays.items():
            alone = values.shape[1] < len(columns)
            table = self.named(name, 1 if alone else self._count, values[:, 0])
            table[np.ix_(places, [0] if alone else columns)] = values


def _require_finite(name: str, values: Array, places: list[int], rows: Sequence[TokenRow]) -> None:
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        first = tuple(wrong[0])
        raise InputError(
            f"score {name} of row {rows[places[first[0]]].index} is {values[first]}; the "
            "model's output is not finite (lower train.learning_rate, or use float32 or bfloat16)"
        )

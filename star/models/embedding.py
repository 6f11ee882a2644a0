"""Embeddings of prompts by the model itself, from its last hidden states.

Their mean over all tokens of the prompt but its shots', special ones at the start included, says
what the prompt is about; the state of the last token, what the model is about to answer; and what
the last layer takes is the state from which the choices part, shots and all, or what a
classification head makes of the states. Without dropout, of the view that is on: the base model's
with the adapter off, the fine-tuned one's with it on. Rows go through the model as they do for
scores (like lengths together, packed where that is possible), so that what is else in a batch
changes nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import Tensor

from star.cache import key
from star.data.task import Example
from star.errors import InputError
from star.models import adapter, merging
from star.models.distributed import collect_arrays, share
from star.models.encoding import TokenRow
from star.models.language_model import LanguageModel
from star.models.row_batches import content_of, progress_bar
from star.models.sentence_encoder import SentenceEncoder
from star.models.stored_rows import Rows, lengths_of
from star.models.stored_vectors import kept
from star.models.truncation import encode_choices, encode_rows

AT_ONCE = 10_000  # examples that are objects at a time
# By the words of `acquisition.pooling`: (T, H) states of a prompt to its embedding.
POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda states: states.mean(dim=0),
    "last": lambda states: states[-1],
    "mean_last": lambda states: torch.cat([states.mean(dim=0), states[-1]]),
}
HEAD = "head"  # what the last layer takes: a pooling, and the view of the round's model by it
VERSION = 1  # of what an embedding means; part of the cache key

Vectors = NDArray[np.float32]


@torch.inference_mode()
def embed(
    model: LanguageModel,
    prompts: Sequence[TokenRow],
    desc: str = "embed",
    *,
    pooling: str = "mean",
) -> Vectors:
    """Return (N, H) embeddings in row order, on every process; memory for these and one batch.

    With ``mean_last`` (N, 2H): the mean beside the last token's state, as they are. With ``head``
    (N, d), see :meth:`LanguageModel.head_input`.

    Args:
        model: With the adapter on or off.
        prompts: N rows without a continuation.
        desc: What the bar says, if there is one.
        pooling: A word of ``POOLINGS``, or ``HEAD``.

    Raises:
        InputError: One is not finite (names the row).
    """
    mine, most = share(len(prompts)), model.batching
    lengths = lengths_of(prompts)[mine.start :: mine.step]
    vectors = _Vectors(len(mine))

    def work(places: list[int]) -> int:
        rows = [_all_predicting(prompts[mine[i]]) for i in places]
        batch = model.lay_out(rows, whole=False)
        if pooling == HEAD:
            made = model.head_input(batch).float().cpu().numpy()
        else:
            states = model.states(batch).float().split(batch.counts)
            made = torch.stack([POOLINGS[pooling](state) for state in states]).cpu().numpy()
        wrong = np.flatnonzero(~np.isfinite(made).all(axis=1))
        if len(wrong):
            raise InputError(
                f"the embedding of row {rows[wrong[0]].index} is not finite (lower "
                "train.learning_rate, or use float32 or bfloat16)"
            )
        vectors.put(places, 0, {"vectors": made})
        kept.add(places)
        return sum(batch.counts)

    def content() -> dict[str, Any]:
        return {"pooling": pooling} | content_of(model, prompts, mine)

    bar = progress_bar(model, int(lengths.sum()), desc)
    phase = most.unfinished.rows(
        "vectors", content, shape=(1, len(mine)), take=vectors.take, put=vectors.put
    )
    with phase as kept, merging.merged(model.causal):
        left = kept.left(most.batches(lengths, model.traits.cuts))
        for count in most.shortages.halving(left, work, lengths, kind=desc):
            bar.update(count)
    bar.close()
    return collect_arrays({"": vectors.table}, mine, len(prompts))[""]


class _Vectors:
    """Embeddings by place, as wide as the first that came.

    Attributes:
        table: (rows, H), or (rows, 0) before any came.
    """

    def __init__(self, rows: int) -> None:
        self.table: Vectors = np.empty((rows, 0), dtype=np.float32)

    def take(self, places: list[int], _: int) -> dict[str, Vectors]:
        return {"vectors": self.table[places]}

    def put(self, places: list[int], _: int, arrays: Mapping[str, Vectors]) -> None:
        (values,) = arrays.values()
        if not self.table.shape[1]:
            self.table = np.empty((len(self.table), values.shape[1]), dtype=np.float32)
        self.table[places] = values


class Encoder:
    """Embeddings of examples, by view.

    ``base`` is the model with the adapter off, ``full`` with it on, both of the prompts; ``head``
    is what the last layer of the full model takes where it answers them, whatever
    ``acquisition.pooling`` says;
    ``encoder`` is a model of its own, of the texts without the words round them. What no round
    changes, ``base`` and ``encoder``, is computed once and cached on disk by content.

    Args:
        model: What computes.
        adapted: The same model with an adapter; ``None``: it has none on.
        examples: By pool index.
        pooling: ``acquisition.pooling``, of the model's own.
        sentences: What embeds texts; ``None``: there is no view ``encoder``.
        cache: Folder of base embeddings.

    Attributes:
        tokens: Through the model so far; those through ``sentences`` are not counted.
    """

    def __init__(
        self,
        model: LanguageModel,
        adapted: PeftModel | None,
        examples: Mapping[int, Example],
        *,
        pooling: str = "mean",
        sentences: SentenceEncoder | None = None,
        cache: Path | None = None,
    ) -> None:
        self._model, self._adapted, self._examples = model, adapted, examples
        self._pooling, self._sentences, self._cache = pooling, sentences, cache
        self.tokens = 0

    def __call__(self, view: str, index: NDArray[np.int64]) -> Vectors:
        """Return (len(index), H) embeddings of the examples with these pool indices.

        Raises:
            InputError: There is no such view.
        """
        if view == "encoder":
            if self._sentences is None:
                raise InputError(
                    "embeddings of the view encoder are a sentence encoder's; name it in "
                    "acquisition.embeddings"
                )
            examples = (self._examples[i] for i in index.tolist())
            return self._sentences([example.text or example.prompt for example in examples])
        rows = Rows(self._rows(index.tolist(), as_answered=view == HEAD))
        self.tokens += int(rows.lengths.sum())
        pooling = HEAD if view == HEAD else self._pooling
        make = partial(embed, self._model, rows, f"embed {view}", pooling=pooling)
        if view == HEAD:
            return make()
        if view == "full":
            return self._scaled(make())
        pooled = {} if self._pooling == "mean" else {"pooling": self._pooling}
        name = key(VERSION, model=self._model.fingerprint, rows=rows.digest(), **pooled)
        with adapter.base_model(self._adapted) if self._adapted is not None else nullcontext():
            return self._scaled(kept(self._cache, name, len(rows), make))

    def _scaled(self, vectors: Vectors) -> Vectors:
        return side_by_side(vectors) if self._pooling == "mean_last" else vectors

    def _rows(self, index: list[int], *, as_answered: bool) -> Iterator[TokenRow]:
        """Yield prompts, up to where their choices part and with their shots if ``as_answered``."""
        for start in range(0, len(index), AT_ONCE):
            asked = [self._examples[i] for i in index[start : start + AT_ONCE]]
            if as_answered and all(example.choices for example in asked):
                for group in encode_choices(self._model, asked):
                    each = zip(*(row.continuation for row in group), strict=False)
                    shared = takewhile(lambda tokens: len(set(tokens)) == 1, each)
                    yield TokenRow(group[0].index, group[0].prompt + tuple(t for t, *_ in shared))
                continue
            if not as_answered:  # what is shown before all says nothing of how they differ
                asked = [replace(example, shots=()) for example in asked]
            # With room behind them, as where they are scored: the same prompts, cut alike.
            yield from encode_rows(self._model, asked, None, reserve=1).rows


def side_by_side(vectors: Vectors) -> Vectors:
    """Return (N, 2H) rows of two halves, each centred over the rows and brought to length 1.

    So that both count alike in a distance: hidden states have a large common part, and the last
    token's are several times as long as a mean.

    Args:
        vectors: (N, 2H), two embeddings beside each other.
    """
    halves = np.split(vectors.astype(np.float64), 2, axis=1)
    centred = [half - half.mean(axis=0) for half in halves]
    lengths = [np.linalg.norm(half, axis=1, keepdims=True) for half in centred]
    scaled = [
        np.divide(half, length, out=np.zeros_like(half), where=length > 0)
        for half, length in zip(centred, lengths, strict=True)
    ]
    return np.concatenate(scaled, axis=1).astype(np.float32)


def _all_predicting(row: TokenRow) -> TokenRow:
    """Return a row whose every prompt token predicts something, which is what is read of a batch.

    The 0 stands for the token behind the prompt; it is not looked at.
    """
    return TokenRow(row.index, row.prompt[:1], (*row.prompt[1:], 0))

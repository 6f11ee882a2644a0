"""Rows in flat arrays, batches under limits, and what happens when one does not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from star.models.batching import lay_out, length_batches
from star.models.encoding import TokenRow
from star.models.stored_rows import Ragged, Rows, lengths_of

IDS = st.lists(st.integers(0, 2**31 - 1), max_size=5).map(tuple)
ROWS = st.lists(st.builds(TokenRow, st.integers(0, 10**9), IDS, IDS), max_size=8)


@given(ROWS)
def test_rows_come_back_as_they_went_in(rows: list[TokenRow]) -> None:
    stored = Rows(iter(rows))
    assert list(stored) == rows and stored[:] == rows and stored[1:-1] == rows[1:-1]
    assert stored.lengths.tolist() == lengths_of(rows).tolist() == [len(row) for row in rows]
    assert stored.indices.tolist() == [row.index for row in rows]
    assert list(Ragged(row.prompt for row in rows)) == [row.prompt for row in rows]
    with pytest.raises(IndexError):
        stored[len(rows)]


def test_small_vocabularies_take_two_bytes_a_token() -> None:
    assert Ragged([(0, 65535)]).tokens.itemsize == 2
    wide = Ragged([(1, 2), (3, 65536, 4), (5,)])
    assert wide.tokens.itemsize == 4 and list(wide) == [(1, 2), (3, 65536, 4), (5,)]


def test_the_digest_is_of_everything() -> None:
    rows = [TokenRow(3, (1, 2), (3,)), TokenRow(4, (5,), ())]
    others = [
        rows[::-1],
        rows[:1],
        [TokenRow(2, (1, 2), (3,)), rows[1]],
        [TokenRow(3, (1,), (2, 3)), rows[1]],
        [TokenRow(3, (1, 2), (4,)), rows[1]],
        [TokenRow(3, (1, 2), (3, 5)), TokenRow(4, (), ())],
    ]
    digests = [Rows(one).digest() for one in (rows, *others)]
    assert len(set(digests)) == len(digests) and Rows(iter(rows)).digest() == digests[0]


@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 9), st.integers(1, 60))
def test_batches_keep_to_their_limits(lengths: list[int], rows: int, tokens: int) -> None:
    batches = list(length_batches(lengths, rows, tokens))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    flat = [lengths[i] for batch in batches for i in batch]
    assert flat == sorted(lengths, reverse=True)
    for batch in batches:
        longest = max(lengths[i] for i in batch)
        assert len(batch) <= rows and (len(batch) == 1 or len(batch) * longest <= tokens)


def test_layouts_point_at_the_same_tokens() -> None:
    rows = [TokenRow(7, (1, 2, 3), (4, 5)), TokenRow(9, (6,), (7, 8)), TokenRow(2, (9, 10), ())]
    for packed in (True, False):
        batch = lay_out(rows, packed=packed, pad_id=0, device=torch.device("cpu"))
        flat = batch.ids.flatten()
        assert flat[batch.predicting].tolist() == [3, 4, 6, 7]  # the token before each target
        assert batch.targets.tolist() == [4, 5, 7, 8] and batch.counts == [2, 2, 0]
        positions = batch.positions.expand_as(batch.ids).flatten()
        fed = [(int(p), int(i)) for p, i in zip(positions, flat, strict=True) if int(i)]
        assert fed == [pair for ids in ((1, 2, 3, 4), (6, 7), (9, 10)) for pair in enumerate(ids)]
        assert batch.runs == (((1, 4), (2, 2)) if packed else ())
        assert np.prod(batch.ids.shape) == (8 if packed else 12)

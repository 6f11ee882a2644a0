"""Rows of tokens kept compactly: a pool's take memory for as long as a run lasts."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from star.models.encoding import TokenRow


class Ragged(Sequence[tuple[int, ...]]):
    """Lists of token ids in one flat array: 2 or 4 bytes a token, where tuples take ten times."""

    def __init__(self, lists: Iterable[Sequence[int]] = ()) -> None:
        self._tokens: Any = array("H")
        self._ends: Any = array("q", [0])
        for one in lists:
            self.append(one)

    @classmethod
    def of(cls, tokens: NDArray[Any], ends: NDArray[np.int64]) -> Ragged:
        """Return the lists that these arrays are, see :attr:`tokens` and :attr:`ends`; no copy."""
        ragged = cls()
        ragged._tokens, ragged._ends = tokens, ends
        return ragged

    def append(self, one: Sequence[int]) -> None:
        """Add a list behind the others; not while ``tokens`` or ``ends`` are looked at."""
        try:
            self._tokens.extend(one)
        except OverflowError:  # a vocabulary of more than 65,536 words
            self._tokens = array("i", self._tokens[: self._ends[-1]])
            self._tokens.extend(one)
        self._ends.append(len(self._tokens))

    @property
    def tokens(self) -> NDArray[Any]:
        """All of them, one list behind the other; not a copy."""
        return np.asarray(self._tokens)

    @property
    def ends(self) -> NDArray[np.int64]:
        """(N + 1,) where each list ends, from 0; not a copy."""
        return np.asarray(self._ends)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) tokens of each list."""
        return np.diff(self.ends)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, place: int) -> tuple[int, ...]: ...
    @overload
    def __getitem__(self, place: slice) -> list[tuple[int, ...]]: ...
    def __getitem__(self, place: int | slice) -> tuple[int, ...] | list[tuple[int, ...]]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        place = range(len(self))[place]  # negative places, and IndexError
        return tuple(self._tokens[self._ends[place] : self._ends[place + 1]].tolist())

    def digest(self) -> str:
        """Return the sha256 hex of everything in here."""
        return hashlib.sha256(self.ends.tobytes() + self.tokens.tobytes()).hexdigest()


class Rows(Sequence[TokenRow]):
    """Token rows in flat arrays, made to objects one by one when they are asked for.

    Args:
        rows: Read once, one after the other; none is kept as an object.
    """

    def __init__(self, rows: Iterable[TokenRow]) -> None:
        splits, indices = array("i"), array("q")

        def tokens() -> Iterator[tuple[int, ...]]:
            for row in rows:
                splits.append(len(row.prompt))
                indices.append(row.index)
                yield row.prompt + row.continuation

        self.tokens = Ragged(tokens())
        self.splits: NDArray[np.int32] = np.asarray(splits)  # (N,) tokens of the prompt
        self.indices: NDArray[np.int64] = np.asarray(indices)  # (N,)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) tokens of prompt and continuation."""
        return self.tokens.lengths

    def digest(self) -> str:
        """Return the sha256 hex of everything in here."""
        total = hashlib.sha256(self.tokens.digest().encode())
        total.update(self.indices.tobytes())
        total.update(self.splits.tobytes())
        return total.hexdigest()

    def __len__(self) -> int:
        return len(self.splits)

    @overload
    def __getitem__(self, place: int) -> TokenRow: ...
    @overload
    def __getitem__(self, place: slice) -> list[TokenRow]: ...
    def __getitem__(self, place: int | slice) -> TokenRow | list[TokenRow]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        ids, split = self.tokens[place], int(self.splits[place])
        return TokenRow(int(self.indices[place]), ids[:split], ids[split:])


def digest_of(rows: Sequence[TokenRow]) -> str:
    """Return the sha256 hex of rows, kept compactly or not."""
    return (rows if isinstance(rows, Rows) else Rows(rows)).digest()


def lengths_of(rows: Sequence[TokenRow]) -> NDArray[np.int64]:
    """Return (N,) tokens of each row."""
    if isinstance(rows, Rows):
        return rows.lengths
    return np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))

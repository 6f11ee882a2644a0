"""Pools larger than memory: items made when they are asked for, and found by their pool index."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

T = TypeVar("T")


class Made(Sequence[T]):
    """Items that are made one by one, and kept by nobody.

    Args:
        make: Place to item, the same each time.
        places: (N,) of the items; a number: 0 … N − 1.
    """

    def __init__(self, make: Callable[[int], T], places: int | ArrayLike) -> None:
        self._make = make
        self._places = np.arange(places) if isinstance(places, int) else np.asarray(places)

    def at(self, places: ArrayLike) -> Made[T]:
        """Return some of them, by their places here."""
        return Made(self._make, self._places[np.asarray(places, dtype=np.int64)])

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place: int | slice) -> T | list[T]:
        if isinstance(place, slice):
            return [self._make(i) for i in self._places[place].tolist()]
        return self._make(int(self._places[place]))


def items_at(items: Sequence[T], places: ArrayLike) -> Sequence[T]:
    """Return some items, by their places: made when they are asked for where all of them are."""
    if isinstance(items, Made):
        return items.at(places)
    return [items[place] for place in np.asarray(places, dtype=np.int64).tolist()]


class ByIndex(Mapping[int, T]):
    """Items of the pool, by pool index.

    Args:
        indices: (N,) pool indices, without repeats.
        items: N, in the same order.

    Attributes:
        indices, items_in_order: As they were given.
    """

    def __init__(self, indices: ArrayLike, items: Sequence[T]) -> None:
        self.items_in_order = items
        self.indices: NDArray[np.int64] = np.asarray(indices, dtype=np.int64)
        self._order = np.argsort(self.indices, kind="stable")
        self._sorted = self.indices[self._order]

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices.tolist())

    def __getitem__(self, index: int) -> T:
        place = bisect_left(self._sorted, index)
        if place == len(self._sorted) or self._sorted[place] != index:
            raise KeyError(index)
        return self.items_in_order[int(self._order[place])]

"""Sharing work among the processes of one ``torchrun`` or ``accelerate launch`` job.

Rows are dealt out in turn and their results put back by position, so a result never depends on how
many processes there are. One process takes the same path without any communication.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from accelerate import PartialState
from accelerate.utils import gather_object

T = TypeVar("T")


def share(count: int) -> list[int]:
    """Return the positions of 0 … ``count`` − 1 that this process works on."""
    state = PartialState()
    return list(range(state.process_index, count, state.num_processes))


def collect(mine: Mapping[int, T], count: int) -> list[T]:
    """Return every process's results in the order of their positions, on every process."""
    state = PartialState()
    merged = dict(mine) if state.num_processes == 1 else dict(gather_object(list(mine.items())))
    return [merged[position] for position in range(count)]


def is_main() -> bool:
    """Whether this process writes files and talks to the user."""
    return bool(PartialState().is_main_process)

"""Sharing work among the processes of one ``torchrun`` or ``accelerate launch`` job.

Rows are dealt out in turn and their results put back by position, so a result never depends on how
many processes there are. One process takes the same path without any communication.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object, reduce
from numpy.typing import NDArray

T = TypeVar("T")

# The others wait while one fetches and converts a model. That all live, ``peers`` sees to.
WAIT = timedelta(hours=6)


def state() -> PartialState:
    """Return Accelerate's state of this job.

    The first call in a process decides: left to itself, Accelerate takes a ``torchrun`` job on a
    machine without an accelerator for that many jobs of one process.
    """
    return PartialState(cpu=not torch.accelerator.is_available(), timeout=WAIT)


class Others:
    """What this process does for the others of its job before they can hear from it.

    Attributes:
        help: Goes through a model that they have in shares as often as they still need it; ``None``
            where each has its own.
    """

    help: Callable[[], None] | None = None


def _all(mine: list[T]) -> list[T]:
    """Return the items of every process, rank after rank."""
    if Others.help is not None:
        Others.help()
    gathered: list[T] = gather_object(mine)
    return gathered


def share(count: int) -> range:
    """Return the positions of 0 … ``count`` − 1 that this process works on."""
    here = state()
    return range(here.process_index, count, here.num_processes)


def collect(mine: Mapping[int, T], count: int) -> list[T]:
    """Return every process's results in the order of their positions, on every process."""
    merged = dict(mine) if state().num_processes == 1 else dict(_all(list(mine.items())))
    return [merged[position] for position in range(count)]


def collect_arrays(
    mine: Mapping[str, NDArray[Any]], places: range, count: int
) -> dict[str, NDArray[Any]]:
    """Return every process's rows of some arrays in the order of their positions, on every process.

    Args:
        mine: Name to an array with one row for each position of this process.
        places: Those positions, as :func:`share` gives them.
        count: Of all positions.
    """
    if state().num_processes == 1:
        return dict(mine)
    whole: dict[str, NDArray[Any]] = {}
    for start, part in _all([(places.start, dict(mine))]):
        for name, rows in part.items():
            table = whole.setdefault(name, np.empty((count, *rows.shape[1:]), rows.dtype))
            table[start :: places.step] = rows
    return whole


def everyone(flag: bool) -> bool:
    """Whether ``flag`` holds on every process; all must call it."""
    if state().num_processes == 1:
        return flag
    return all(_all([flag]))


def anyone(flag: bool) -> bool:
    """Whether ``flag`` holds on some process; all must call it."""
    here = state()
    if here.num_processes == 1:
        return flag
    return bool(reduce(torch.tensor(int(flag), device=here.device), "sum"))


def equal(value: object) -> bool:
    """Whether all processes have an equal value; all must call it."""
    if state().num_processes == 1:
        return True
    return all(other == value for other in _all([value]))


def is_main() -> bool:
    """Whether this process writes files and talks to the user."""
    return bool(state().is_main_process)


def leave() -> None:
    """Take leave of the other processes, before this one ends.

    Without it the interpreter's end races with the threads of the process group, and a process can
    die of a signal ("terminate called without an active exception") when its work is done.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def end(status: int) -> NoReturn:
    """End this process, one of several, without the interpreter's last steps.

    A mesh of FSDP's holds its group to the last, and with it threads of gloo. Such a thread may be
    about to let go of a tensor of a message long received; the interpreter at its end refuses it
    the lock for that, by a way out that C++ answers with SIGABRT. What was registered for the end
    is called here, and what was written is flushed.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)

"""A run folder that a process makes, and takes away again where no run comes of it.

Whoever is refused leaves nothing behind, and what was there before stays: only what this very
process made is ever removed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from star.active_learning import locking
from star.run_files import ROUNDS


def make(path: Path, made: list[Path]) -> None:
    """Make a folder and what is above it; ``made`` gets those made here, the innermost first.

    Raises:
        OSError: Something else is in the way, or nothing can be written there.
    """
    if not path.parent.exists():
        make(path.parent, made)
    try:
        path.mkdir()
    except FileExistsError:  # there before, or made by another process just now
        if not path.is_dir():
            raise
    else:
        made.insert(0, path)


def remove(path: Path, made: Sequence[Path], wrote: Iterable[str]) -> None:
    """Remove a run folder that this process made and in which no round has begun.

    Args:
        path: The run folder. One that was there before stays as it is, whatever it holds.
        made: The folders that this process made, the innermost first.
        wrote: The names of the files that this process wrote; no other is removed. The lock's file
            goes last: whoever opens the folder from then on begins it anew.
    """
    if path not in made or (path / ROUNDS).exists():
        return
    with contextlib.suppress(OSError):
        for name in sorted(wrote, key=locking.NAME.__eq__):
            (path / name).unlink(missing_ok=True)
        for place in made:  # those that hold something else stay
            place.rmdir()

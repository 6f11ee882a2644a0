"""The order in which cells start: round 0 of those that begin alike is made once, then shared."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from star.active_learning.run_reader import RunReader
from star.experiments.table import Cell

Groups = Mapping[Cell, str]  # a cell to what its round 0 is decided by


def leaders_first(cells: Sequence[Cell], groups: Groups) -> list[Cell]:
    """Return the first cell of every group, then the others; else in the order given."""
    first: dict[str, Cell] = {}
    for cell in cells:
        first.setdefault(groups[cell], cell)
    leaders = set(first.values())
    return [*first.values(), *(cell for cell in cells if cell not in leaders)]


def choose(
    waiting: Sequence[Cell],
    running: Collection[Cell],
    groups: Groups,
    past: Callable[[str], bool],
) -> Cell:
    """Return the cell to start next.

    The first one of a group whose round 0 nobody is busy with: it is there to be shared, or this
    cell will make it. If there is none, the first of all: better done twice than a core idle.

    Args:
        waiting: At least one.
        running: Cells being run.
        groups: Of all cells.
        past: Whether some cell of a group has its round 0 complete.
    """
    busy = {group for group in {groups[cell] for cell in running} if not past(group)}
    return next((cell for cell in waiting if groups[cell] not in busy), waiting[0])


def past_round_0(groups: Groups, root: Path) -> Callable[[str], bool]:
    """Return :func:`choose`'s ``past``, which looks for the folder of a complete round 0."""

    def past(group: str) -> bool:
        folders = (cell.folder(root) for cell, own in groups.items() if own == group)
        return any(RunReader(folder).round_folder(0).is_dir() for folder in folders)

    return past

"""The cells of an experiment: rows, columns and seeds, as a table file names them.

A cell is one column, row and seed, and one run of ``star run``: of the defaults, the column's
configuration, the preset, then the table's, the column's and the row's settings, the last of a
repeated key winning.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from star.config import Config, load
from star.errors import InputError, nearest

NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")  # of a folder
FIRST_ROUNDS = ".first_rounds"  # in a table's folder: what its cells share
PLACED = {  # what a sweep sets itself: key to what its user sets instead
    "seed": "seeds of the table, or --seeds",
    "output_dir": "--output-dir",
    "run_name": "--output-dir",
    "tracking.first_rounds": "--output-dir",
}
QUIET = ("tracking.progress=false", "tracking.save_adapters=none")


@dataclass(frozen=True)
class Row:
    """A strategy or ablation.

    Attributes:
        name: Unique in the table, and a folder's name.
        preset: ``None``: none.
        settings: ``key=value`` words over the column's.
        about: A line for readers.
        columns: The columns it is run in; ``None`` = all.
        naive: Names of rows, the first of which that a column has is the naive counterpart there,
            the same without the method's parts.
        curve: Whether it has a learning curve; ``False``: a point (zero-shot, the whole pool).
    """

    name: str
    preset: str | None = None
    settings: tuple[str, ...] = ()
    about: str = ""
    columns: tuple[str, ...] | None = None
    naive: tuple[str, ...] = ()
    curve: bool = True


@dataclass(frozen=True)
class Column:
    """A task and model: a configuration file, and ``key=value`` words over it."""

    name: str
    config: Path
    settings: tuple[str, ...] = ()
    about: str = ""


@dataclass(frozen=True)
class Table:
    """A grid of runs.

    Attributes:
        baseline: Name of the row that all are compared with.
        report: What ``star report`` makes of the runs: tables of ``results``, or ``probes``.
        gains: Accuracies that the labels to them are told of, in a section on what labels gain;
            ``None``: without that section.
    """

    name: str
    title: str
    path: Path
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    seeds: tuple[int, ...]
    settings: tuple[str, ...]
    baseline: str
    report: Literal["results", "probes"] = "results"
    gains: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Cell:
    """One run of a table: a column, a row, a seed."""

    table: str
    column: str
    row: str
    seed: int
    config: Path
    preset: str | None
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """The cell's name, ``column/row/seed3``."""
        return f"{self.column}/{self.row}/seed{self.seed}"

    def folder(self, root: Path) -> Path:
        """Return the run folder, ``root/table/column/row/seed3``."""
        return root / self.table / self.name

    def arguments(self, root: Path) -> list[str]:
        """Return the words after ``star run`` that make this run."""
        preset = [] if self.preset is None else ["--preset", self.preset]
        return [str(self.config), *preset, *QUIET, *self.words, *self._placed(root)]

    def load(self, root: Path) -> Config:
        """Return the checked configuration, its run folder in ``root``.

        Raises:
            InputError: Whatever ``star run`` would refuse, with the cell's name.
        """
        try:
            words = [*QUIET, *self.words, *self._placed(root)]
            return load(self.config, words, preset=self.preset)
        except InputError as error:
            told = str(error).removeprefix("the command line: ")  # the words are the table's
            raise InputError(f"cell {self.table}/{self.name}: {told}") from None

    def _placed(self, root: Path) -> list[str]:
        place = {
            "output_dir": str(root),
            "run_name": f"{self.table}/{self.name}",
            # Rows of a seed that train alike in round 0 do so once.
            "tracking.first_rounds": str(root / self.table / FIRST_ROUNDS),
        }
        return [f"seed={self.seed}", *(f"{key}={word(value)}" for key, value in place.items())]


def cells(
    table: Table,
    *,
    rows: Iterable[str] | None = None,
    columns: Iterable[str] | None = None,
    seeds: Iterable[int] | None = None,
    words: Sequence[str] = (),
) -> list[Cell]:
    """Return a table's cells, seed by seed, so that an interrupted sweep is whole for fewer seeds.

    Args:
        table: See :func:`star.experiments.table_file.read_table`.
        rows: Names; ``None`` = all.
        columns: Names; ``None`` = all.
        seeds: ``None`` = the table's. Others than the table's are allowed.
        words: ``key=value`` words over all cells.

    Raises:
        InputError: A name that the table does not have.
    """
    rows = None if rows is None else list(rows)
    columns = None if columns is None else list(columns)
    require([row.name for row in table.rows], rows or (), "--rows")
    require([column.name for column in table.columns], columns or (), "--columns")
    refuse_placed("key=value", [word.partition("=")[0] for word in words])
    return [
        Cell(
            table=table.name,
            column=column.name,
            row=row.name,
            seed=seed,
            config=column.config,
            preset=row.preset,
            words=(*table.settings, *column.settings, *row.settings, *words),
        )
        for seed in (table.seeds if seeds is None else seeds)
        for column in table.columns
        if columns is None or column.name in columns
        for row in table.rows
        if (rows is None or row.name in rows)
        and (row.columns is None or column.name in row.columns)
    ]


def refuse_placed(where: str, keys: Iterable[Any]) -> None:
    for key in keys:
        if key in PLACED:
            raise InputError(f"{where}: {key} is the sweep's own; use {PLACED[key]}")


def word(value: Any) -> str:
    """Return a value as ``key=value`` has it: read as YAML it is the value again."""
    import yaml

    # A string stands as it is, unless it would be read as something else, or not at all.
    if isinstance(value, str) and "\n" not in value:
        with contextlib.suppress(yaml.YAMLError, ValueError):
            if yaml.safe_load(value) == value:
                return value
    return json.dumps(value, ensure_ascii=False)


def require(known: Sequence[str], asked: Iterable[str], where: str) -> None:
    for name in asked:
        if name not in known:
            raise InputError(
                f"{where}: no '{name}'{nearest(str(name), known)}; there are {', '.join(known)}"
            )

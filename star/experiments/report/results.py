"""Records of results: kept as small files, found by a table's name, read as a data frame."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star import outputs
from star.active_learning.run_reader import RunReader
from star.errors import InputError
from star.experiments import table as grid
from star.experiments import table_file
from star.experiments.report import figures
from star.experiments.report.gathering import gather
from star.experiments.report.record import Record, read_record
from star.experiments.report.single_runs import of_runs
from star.experiments.report.typed_json import plain
from star.experiments.table import Table
from star.run_files import CONFIG, RESULT

if TYPE_CHECKING:
    import pandas

logger = logging.getLogger(__name__)

COLUMNS = (  # those that every data frame has
    *("table", "column", "row", "seed", "task", "strategy", "label_free", "round", "labeled"),
    *("accuracy", "ece"),
)
COMMITTED = Path("scripts", "results")
FILE = "results.json"


def refuse_others(folder: Path, record: Record, names: Collection[str], force: bool) -> None:
    """Refuse a report where it would replace files of something else.

    Args:
        folder: Of the report.
        record: What is reported.
        names: Files that are written beside the record; pictures are known by its columns.
        force: As for :func:`star.outputs.refuse_others`.

    Raises:
        InputError: As there.
    """
    stems = tuple(f"{figures.stem_of(column.name)}-" for column in record.columns)

    def writes(path: Path) -> bool:
        picture = path.name.startswith(stems) and path.suffix[1:] in figures.ENDINGS
        return picture or path.name in names

    def stored(path: Path) -> str:
        return read_record(path).table

    outputs.refuse_others(folder, FILE, record.table, stored=stored, writes=writes, force=force)


def find(source: str | Path, *, root: str | Path | None = None) -> Record:
    """Return the record that a word of the user's means.

    Args:
        source: A table file: its run folders in ``root`` if it has any there, else, where no root
            is given, the record that is committed, ``scripts/results/<table>/results.json`` below
            the current folder or below one that the table file is in. Or a record, or the folder of
            one, or a run folder, or a folder that finished runs lie in, at any depth.
        root: Folder of the run folders of tables; ``None`` = ``runs``.

    Raises:
        InputError: None of these, or no results of the table.
    """
    [record] = find_all([source], root=root)
    return record


def find_all(sources: Sequence[str | Path], *, root: str | Path | None = None) -> list[Record]:
    """Return the records that several words mean, as :func:`find`; run folders make one together.

    Raises:
        InputError: As :func:`find`, or no source at all.
    """
    if not sources:
        raise InputError("name a table file, a record of results or run folders")
    records, runs, below = [], [], []
    for path in map(Path, sources):
        if path.suffix in (".yaml", ".yml"):
            records.append(_of_table(path, None if root is None else Path(root)))
        elif any((path / name).is_file() for name in (CONFIG, RESULT)):
            runs.append(path)
        elif path.is_file() or (path / FILE).is_file():
            records.append(read_record(path if path.is_file() else path / FILE))
        elif inside := runs_below(path):
            below += inside
        else:
            there = f"holds neither {FILE} nor a run, at any depth"
            raise InputError(
                f"{path} {there if path.is_dir() else 'is not there'}; name a table file "
                f"(configs/tables/NAME.yaml), a {FILE}, its folder, a run folder, or a folder of "
                "run folders"
            )
    return [*records, of_runs(runs, others=below)] if runs or below else records


def runs_below(folder: Path) -> list[Path]:
    """Return the run folders in a folder, at any depth, finished or not, in their names' order."""
    runs = []
    for place, folders, files in os.walk(folder):
        folders.sort()
        if {CONFIG, RESULT} & {*files}:
            runs.append(Path(place))
            folders.clear()
    return runs


def _of_table(path: Path, root: Path | None) -> Record:
    table = table_file.read_table(path)
    runs = Path("runs") if root is None else root
    wanted = grid.cells(table)
    places = [cell.folder(runs) for cell in wanted]
    if any(place.is_dir() or RunReader(place).failure for place in places):
        return gather(table, runs, wanted)
    if root is not None:  # the committed results are no answer to a question about these runs
        raise InputError(
            f"table {table.name} has no run folders in {root / table.name}; run star sweep {path} "
            f"--output-dir {root}, or leave --output-dir out for the committed results"
        )
    kept = committed(table, FILE)
    if kept is not None:
        return read_record(kept)
    raise InputError(
        f"table {table.name} has no results: neither run folders in {runs / table.name} nor "
        f"{COMMITTED / table.name / FILE}; run star sweep {path}"
    )


def committed(table: Table, name: str) -> Path | None:
    """Return the committed file of a table that has no runs, and say that it is reported.

    It is looked for below the current folder, and below those that the table file is in.
    """
    for place in (Path(), *table.path.resolve().parents):
        kept = place / COMMITTED / table.name / name
        if kept.is_file():
            message = "no runs of table %s in %s: these are the committed results, %s"
            logger.warning(message, table.name, Path("runs") / table.name, kept)
            return kept
    return None


def load_results(*sources: str | Path, root: str | Path | None = None) -> pandas.DataFrame:
    """Return results as a data frame: one line a round of a finished run.

    Columns: ``table, column, row, seed, task, strategy, label_free, round, labeled, accuracy,
    accuracy_stderr, ece, overconfidence, ece_token_mean, overconfidence_token_mean, nll, brier``
    (older records lack some), ``accuracy_strict`` of generated answers, seconds and tokens
    as ``seconds_train``, ``tokens_score`` and so on, ``gap_base, gap_full, gap_rank_correlation``
    of rounds with scores, ``answers_even, answers_odd, answers_kappa`` (see ``Point``). What a run
    has no number for is NaN. Cells without a result have no
    line: ``frame.attrs["missing"]`` names them, ``table/column/row/seed3``; look there first. Nor
    have rounds that a later one has no more labels than: ``round`` skips their numbers.

    Args:
        sources: Table files, records, folders of records, run folders, folders of run folders; see
            :func:`find`.
        root: Folder of the run folders of tables; ``None`` = ``runs``.

    Raises:
        InputError: A source that is none of these, or without results; two of the same table.
    """
    import pandas

    records = find_all(sources, root=root)
    names = [record.table for record in records]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"table {name} is named twice: its runs would count twice")
    lines = [line for record in records for line in _lines(record)]
    frame = pandas.DataFrame(lines, columns=None if lines else list(COLUMNS))
    frame.attrs["missing"] = [
        f"{record.table}/{cell.column}/{cell.row}/seed{cell.seed}"
        for record in records
        for cell in record.cells
        if cell.status != "done"
    ]
    return frame


def _lines(record: Record) -> Iterator[dict[str, Any]]:
    keys = ("column", "row", "seed", "task", "strategy", "label_free")
    for cell in record.results():
        for t, point in zip(cell.numbers, cell.rounds, strict=True):
            line = {"table": record.table, **{key: getattr(cell, key) for key in keys}, "round": t}
            for key, value in plain(point).items():
                if isinstance(value, dict):
                    line |= {f"{key}_{p}": _number(one) for p, one in value.items()}
                elif key != "selected":
                    line[key] = _number(value)
            yield line


def _number(value: float | None) -> float:
    return math.nan if value is None else value

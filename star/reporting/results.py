"""Records of results: kept as small files, found by a table's name, read as a data frame."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from star import grid, table_files
from star.errors import InputError
from star.files import atomic_write, read_json
from star.reporting.checking import check
from star.reporting.gathering import Record, gather
from star.reporting.single_runs import of_runs
from star.sweeping.cell_run import read_failure

if TYPE_CHECKING:
    import pandas

COLUMNS = (  # those that every data frame has
    *("table", "column", "row", "seed", "task", "strategy", "label_free", "round", "labeled"),
    *("accuracy", "ece"),
)
COMMITTED = Path("scripts", "results")
FILE = "results.json"


def write_record(path: str | Path, record: Record) -> None:
    """Write a record as JSON, one row, column, environment or cell a line; make its folder.

    Equal records give equal bytes.

    Raises:
        ValueError: NaN or infinity, which no record that was gathered holds.
    """
    parts = []
    for key, value in record.items():
        text = _json(value)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            text = "[\n" + ",\n".join(f"    {_json(item)}" for item in value) + "\n  ]"
        parts.append(f"  {_json(key)}: {text}")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(("{\n" + ",\n".join(parts) + "\n}\n").encode())


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def read_record(path: str | Path) -> Record:
    """Return what :func:`write_record` wrote.

    Raises:
        InputError: The file cannot be read, is not JSON, or is no record.
    """
    record = read_json(path)
    check(record, path)
    return cast("Record", record)


def find(source: str | Path, *, root: str | Path = "runs") -> Record:
    """Return the record that a word of the user's means.

    Args:
        source: A table file: its run folders in ``root`` if it has any there, else the record that
            is committed, ``scripts/results/<table>/results.json`` below the current folder or below
            one that the table file is in. Or a record, or the folder of one, or a run folder.
        root: Folder of the run folders of tables.

    Raises:
        InputError: None of these, or no results of the table.
    """
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        return _of_table(path, Path(root))
    if _is_run(path):
        return _of_runs([path])
    if path.is_dir() and (path / FILE).is_file():
        return read_record(path / FILE)
    if path.is_file():
        return read_record(path)
    what = f"holds neither {FILE} nor a run" if path.is_dir() else "is not there"
    raise InputError(
        f"{path} {what}; name a table file (configs/tables/NAME.yaml), a {FILE}, its folder, or a "
        "run folder"
    )


def find_all(sources: Sequence[str | Path], *, root: str | Path = "runs") -> list[Record]:
    """Return the records that several words mean, as :func:`find`; run folders make one together.

    Raises:
        InputError: As :func:`find`, or no source at all.
    """
    if not sources:
        raise InputError("name a table file, a record of results or run folders")
    runs = [source for source in sources if _is_run(Path(source))]
    records = [find(source, root=root) for source in sources if source not in runs]
    return [*records, _of_runs(runs)] if runs else records


def _of_runs(folders: Sequence[str | Path]) -> Record:
    record = of_runs(folders)
    check(record, ", ".join(map(str, folders)))
    return record


def _is_run(path: Path) -> bool:
    return (path / "config.yaml").is_file()


def _of_table(path: Path, root: Path) -> Record:
    table = table_files.read_table(path)
    wanted = grid.cells(table)
    places = [cell.folder(root) for cell in wanted]
    if any(place.is_dir() or read_failure(place) for place in places):
        record = gather(table, root, wanted)
        check(record, root / table.name)
        return record
    for place in (Path(), *path.resolve().parents):
        kept = place / COMMITTED / table.name / FILE
        if kept.is_file():
            return read_record(kept)
    raise InputError(
        f"table {table.name} has no results: neither run folders in {root / table.name} nor "
        f"{COMMITTED / table.name / FILE}; run star sweep {path}"
    )


def load_results(*sources: str | Path, root: str | Path = "runs") -> pandas.DataFrame:
    """Return results as a data frame: one line a round of a finished run.

    Columns: ``table, column, row, seed, task, strategy, label_free, round, labeled, accuracy,
    accuracy_stderr, ece, overconfidence, ece_token_mean, overconfidence_token_mean, nll, brier``
    (older records lack some), ``accuracy_strict`` of generated answers, seconds and tokens
    as ``seconds_train``, ``tokens_score`` and so on, ``gap_base, gap_full, gap_rank_correlation``
    of rounds with scores. What a run has no number for is NaN. Cells without a result have no
    line: ``frame.attrs["missing"]`` names them, ``table/column/row/seed3``; look there first.

    Args:
        sources: Table files, records, folders of records, run folders; see :func:`find`.
        root: Folder of the run folders of tables.

    Raises:
        InputError: A source that is none of these, or without results; two of the same table.
    """
    import pandas

    records = find_all(sources, root=root)
    names = [record["table"] for record in records]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"table {name} is named twice: its runs would count twice")
    lines = [line for record in records for line in _lines(record)]
    frame = pandas.DataFrame(lines, columns=None if lines else list(COLUMNS))
    frame.attrs["missing"] = [
        f"{record['table']}/{cell['column']}/{cell['row']}/seed{cell['seed']}"
        for record in records
        for cell in record["cells"]
        if cell["status"] != "done"
    ]
    return frame


def _lines(record: Record) -> Iterator[dict[str, Any]]:
    for cell in record["cells"]:
        if cell["status"] != "done":
            continue
        known = {
            key: cell[key] for key in ("column", "row", "seed", "task", "strategy", "label_free")
        }
        for t, point in enumerate(cell["rounds"]):
            line = {"table": record["table"], **known, "round": t}
            for key, value in point.items():
                if key in ("seconds", "tokens", "gap"):
                    line |= {f"{key}_{p}": _number(one) for p, one in (value or {}).items()}
                elif key != "selected":
                    line[key] = _number(value)
            yield line


def _number(value: float | None) -> float:
    return math.nan if value is None else value

"""Records of results: kept as small files, found by a table's name, read as a data frame."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star import grid
from star.errors import InputError
from star.files import atomic_write, read_json
from star.reporting.gathering import Record, gather
from star.reporting.single_runs import of_runs
from star.sweeping.cell_run import read_failure

if TYPE_CHECKING:
    import pandas

COMMITTED = Path("scripts", "results")
FILE = "results.json"
STATES = ("done", "failed", "missing")


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
    try:
        _check(record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path} is not a record of results: {what}") from None
    return record


def _check(record: Any) -> None:
    """Raise one of Python's own errors where a record lacks what every table reads."""
    if not isinstance(record, dict):
        raise TypeError(f"it holds a {type(record).__name__}")
    for key in ("table", "title", "baseline"):
        if not isinstance(record[key], str):
            raise TypeError(f"{key} is not text")
    names = {}
    for key in ("rows", "columns"):
        names[key] = [part["name"] for part in record[key]]
        if len(set(names[key])) < len(names[key]):
            raise ValueError(f"a name stands twice in {key}")
    for row in record["rows"]:
        _ = row["about"], row["preset"], row["settings"], row["naive"], row["curve"]
    _ = [column["about"] for column in record["columns"]]
    seen = set()
    for cell in record["cells"]:
        key = (cell["column"], cell["row"], cell["seed"])
        if key[0] not in names["columns"] or key[1] not in names["rows"] or key in seen:
            raise ValueError(f"the cell {key} is unknown or stands twice")
        seen.add(key)
        if cell["status"] not in STATES:
            raise ValueError(f"the cell {key} has the status {cell['status']!r}")
        if cell["status"] == "done":
            _check_done(cell, len(record["environments"]))


def _check_done(cell: Mapping[str, Any], environments: int) -> None:
    _ = cell["label_free"], cell["task"], cell["strategy"], cell["started"]
    points = cell["rounds"]
    numbers = [cell["auc"], *(p[k] for p in points for k in ("labeled", "accuracy", "ece"))]
    if not points or not all(type(n) in (int, float) and math.isfinite(n) for n in numbers):
        raise ValueError(f"the cell {cell['column']}/{cell['row']} has no curve")
    for place in (cell["environment"], *cell.get("resumed", [])):
        if place is not None and place not in range(environments):
            raise ValueError(f"there is no environment {place!r}")


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
        return of_runs([path])
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
    return [*records, of_runs(runs)] if runs else records


def _is_run(path: Path) -> bool:
    return (path / "config.yaml").is_file()


def _of_table(path: Path, root: Path) -> Record:
    table = grid.read_table(path)
    wanted = grid.cells(table)
    places = [cell.folder(root) for cell in wanted]
    if any(place.is_dir() or read_failure(place) for place in places):
        return gather(table, root, wanted)
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
    accuracy_stderr, ece, nll, brier``, ``accuracy_strict`` of generated answers, seconds and tokens
    as ``seconds_train``, ``tokens_score`` and so on, ``gap_base, gap_full, gap_rank_correlation``
    of rounds with scores. What a run has no number for is NaN. Cells without a result have no
    line: ``frame.attrs["missing"]`` names them, ``table/column/row/seed3``; look there first.

    Args:
        sources: Table files, records, folders of records, run folders; see :func:`find`.
        root: Folder of the run folders of tables.

    Raises:
        InputError: A source that is none of these, or without results.
    """
    import pandas

    records = find_all(sources, root=root)
    frame = pandas.DataFrame([line for record in records for line in _lines(record)])
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
                    line |= {f"{key}_{part}": _number(one) for part, one in value.items()}
                elif key != "selected":
                    line[key] = _number(value)
            yield line


def _number(value: float | None) -> float:
    return math.nan if value is None else value

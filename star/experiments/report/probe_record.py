"""The probes' record: what the finished runs of a table with ``report: probes`` say.

A row of such a table is called ``picks-…``, ``beta-…`` or ``dropout-…``, after the probe that it is
for: probes (a), (c) and (e) read ``picks-star``, (e) the other picks too, (b) the betas, and (d)
the dropouts, which it compares with ``dropout-off``. A record is plain JSON::

    {"table", "gap": [row], "beta": [row], "weights": [row], "dropout": [row], "picks": [row],
     "notes": [runs that are not as the table file has their rows, in words; only where any is],
     "earlier": {probe: provenance of its rows, where that is another},
     "provenance": see star.experiments.report.made_by}

Rows have ``task`` (the column), ``name`` (the table's row without its probe), ``seed``, ``draw``
(``task.draw``), and what :mod:`star.experiments.probes` says of the run; those of picks its
``auc`` and ``label_free`` too. ``earlier`` is written by hand, into a committed record of which a
part was not made again; one of before lacks ``table``.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from star import outputs
from star.active_learning.run_reader import RunReader
from star.config import load
from star.errors import InputError
from star.experiments import probes, table_file
from star.experiments.report import gathering
from star.experiments.report.figures import ENDINGS
from star.experiments.report.likeness import off_in_words
from star.experiments.report.made_by import provenance
from star.experiments.report.probe_tables import PROBES
from star.experiments.report.results import committed
from star.experiments.table import Table, cells
from star.files import read_json, write_json
from star.run_files import RESULT

logger = logging.getLogger(__name__)

FILE = "probes.json"


def gather(table: Table, root: Path) -> dict[str, Any]:
    """Return the record of a table's run folders in ``root``.

    Raises:
        InputError: A row of no probe, a file of a finished run is damaged, or a ``picks-star`` run
            has not kept its adapters.
    """
    record: dict[str, Any] = {"table": table.name, **{name: [] for name in PROBES}}
    wanted = cells(table)
    for cell in wanted:
        run = cell.folder(root)
        kind, _, name = cell.row.partition("-")
        if kind not in ("picks", "beta", "dropout") or not name:
            raise InputError(
                f"{table.path}: rows.{cell.row}: a row of the probes is called picks-…, beta-… or "
                "dropout-…"
            )
        if not RunReader(run).finished:
            continue
        mark = {"task": cell.column, "name": name, "seed": cell.seed}
        mark["draw"] = load(RunReader(run).config).task.draw
        if kind == "picks":
            result = RunReader(run).result()
            told = {key: result[key] for key in ("auc", "label_free")}
            record["picks"].append(mark | told | probes.picks(run))
        elif kind == "beta":
            record["beta"].append(mark | probes.calibration(run))
        elif name != "off":
            off = cell.folder(root).parents[1] / "dropout-off" / run.name
            without = off if RunReader(off).finished else None
            record["dropout"].append(mark | probes.dropout(run, without=without))
        if (kind, name) == ("picks", "star"):
            pairs = zip(probes.gap(run), _ranking(run), strict=True)
            record["gap"] += [mark | row | measured for row, measured in pairs]
            record["weights"] += [mark | row for row in probes.weights(run)]
    made = gathering.gather(table, root, wanted)
    off = off_in_words(made)
    return record | ({"notes": off} if off else {}) | {"provenance": provenance(made)}


def _ranking(run: Path) -> list[dict[str, Any]]:
    """Return the error ranking that is kept beside a run, or make it with the run's model."""
    from star.experiments.error_ranking import error_ranking  # late: it loads torch

    path = run.with_name(f"{run.name}.ranking.json")
    made = hashlib.sha256((run / RESULT).read_bytes()).hexdigest()
    if path.is_file():
        kept = read_json(path)
        if kept.get("result") == made:
            return kept["rounds"]
    logger.info("%s: measuring how well its scores tell its model's errors", run)
    rounds = error_ranking(run)
    with contextlib.suppress(OSError):  # measured again then
        write_json(path, {"result": made, "rounds": rounds})
    return rounds


def find(sources: Sequence[str | Path], *, root: Path | None = None) -> dict[str, Any] | None:
    """Return the record that a word of the user's means; ``None`` where it is not of the probes.

    Args:
        sources: A table file with ``report: probes`` (see :func:`results.find`), a ``probes.json``,
            or the folder of one.
        root: Folder of the run folders; ``None`` = ``runs``.

    Raises:
        InputError: No runs and no record of the table, other sources beside it, or no such record.
    """
    for path in map(Path, sources):
        table = table_file.read_table(path) if path.suffix in (".yaml", ".yml") else None
        kept = path / FILE if path.is_dir() else path
        if not (table.report == "probes" if table else kept.name == FILE and kept.is_file()):
            continue
        if len(sources) > 1:
            raise InputError(f"{path} is of the probes, which are reported alone")
        return _read(kept) if table is None else _of_table(table, root)
    return None


def _of_table(table: Table, root: Path | None) -> dict[str, Any]:
    runs = Path("runs") if root is None else root
    if (runs / table.name).is_dir():
        return gather(table, runs)
    kept = committed(table, FILE) if root is None else None
    if kept is not None:
        return _read(kept)
    raise InputError(
        f"table {table.name} has no runs in {runs / table.name}; run star sweep {table.path}"
    )


def _read(path: Path) -> dict[str, Any]:
    record = read_json(path)
    parts = [record.get(name) for name in PROBES] if isinstance(record, dict) else [None]
    if not all(isinstance(part, list) for part in parts) or "provenance" not in record:
        raise InputError(f"{path} is not a record of the probes: it needs {', '.join(PROBES)}")
    return record


def refuse_others(folder: Path, record: dict[str, Any], force: bool) -> None:
    """Refuse a report where it would replace files of something else.

    Arguments and errors as for :func:`star.outputs.refuse_others`.
    """
    names = {"table.md", *(f"{name}.{ending}" for name in PROBES for ending in ENDINGS)}

    def stored(path: Path) -> str:
        return str(_read(path).get("table"))

    def writes(path: Path) -> bool:
        return path.name in names

    table = str(record.get("table"))
    outputs.refuse_others(folder, FILE, table, stored=stored, writes=writes, force=force)

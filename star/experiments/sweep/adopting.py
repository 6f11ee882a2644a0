"""Take over what another table has run already: equal configurations, equal results.

Tables share rows: STAR itself is in all of them. A run folder says which configuration it is of by
the hash of all that decides its result, so a finished one can stand in another table as it is; if
what the configuration only names (data, model, a strategy of one's own) is still the same too.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from star.active_learning import contents, locking
from star.active_learning.contents import Contents
from star.active_learning.run_checks import check_run
from star.active_learning.run_reader import RunReader
from star.config import Config, config_hash, rows_per_update
from star.errors import InputError
from star.experiments.table import Cell
from star.files import beside
from star.models.identity import LIBRARIES
from star.provenance import code, installed
from star.run_files import RESULT

logger = logging.getLogger(__name__)


def adopt(cells: Mapping[Cell, Config], root: Path) -> list[Cell]:
    """Copy finished runs of other tables in ``root`` to the cells of equal configuration.

    Only runs of the very code that is running, from a clean checkout, with the libraries that are
    installed, and on the content that data and model have now: others would stand beside new ones
    in one table.

    Args:
        cells: And their configurations. Those with a run folder are left alone.
        root: Folder of the tables' folders.

    Returns:
        The cells that have a finished run now.
    """
    found, adopted, now = _finished(root), [], Contents()
    for cell, config in cells.items():
        folder = cell.folder(root)
        source = None if folder.exists() else found.get(config_hash(config))
        if source is not None and _same(now, config, source) and _copy(source, folder):
            adopted.append(cell)
    return adopted


def _finished(root: Path) -> dict[str, Path]:
    """Return configuration hash to run folder of the finished cells of all tables."""
    now, found = code(), {}
    # Other runs of a changed checkout may be of other changes, those of none of another version.
    if now["dirty"] is not False:
        return {}
    for path in sorted(root.glob(f"*/*/*/seed*/{RESULT}")):
        try:
            run = RunReader(path.parent)
            result, told = run.result(), run.environment()
        except InputError:  # damaged; its own table will say so
            continue
        # On which GPU this sweep's runs will be, its own machine may not know.
        same = (start.get("star") == now and _same_libraries(start) for start in _starts(told))
        if all(same) and _whole(path.parent):
            found.setdefault(str(result.get("config_hash")), path.parent)
    return found


def _starts(told: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what a run's record tells of its start, and of each time that it was gone on with."""
    return [told, *told.get("resumed", [])]


def _same_libraries(told: Mapping[str, Any]) -> bool:
    """Whether a run's libraries are those of now; a record that does not tell them has others."""
    versions = dict(told.get("packages") or {})
    versions |= ((told.get("model") or {}).get("computation") or {}).get("libraries") or {}
    known = [name for name in LIBRARIES if name in versions]
    return "torch" in known and all(versions[name] == installed(name) for name in known)


def _whole(run: Path) -> bool:
    """Whether a run folder is as its run wrote it; if not, its own table says so too."""
    try:
        check_run(run, adapters=True)  # they are copied with it
    except InputError as error:
        logger.warning("not taken over: %s", error)
        return False
    return True


def _same(now: Contents, config: Config, run: Path) -> bool:
    """Whether a run was made on what its configuration names now; what it does not tell is not.

    And by updates of as many rows as a process alone takes, as far as it tells.
    """
    try:
        rows = contents.last_start(run).get("rows_per_update")
        alike = rows in (None, rows_per_update(config.train))
        return alike and contents.recorded(run) == now.of(config)
    except InputError:  # the run itself will say it, in its own words
        return False


def _copy(source: Path, folder: Path) -> bool:
    """Copy a run folder whole or not at all; say whether it is there."""
    try:
        with beside(folder) as made:
            shutil.copytree(source, made, ignore=shutil.ignore_patterns(locking.NAME))
    except OSError as error:  # another sweep was faster, or the disk is full: it can be run
        logger.warning("%s is not taken over: %s", source, error.strerror)
    return RunReader(folder).finished

"""Take over what another table has run already: equal configurations, equal results.

Tables share rows: STAR itself is in all of them. A run folder says which configuration it is of by
the hash of all that decides its result, so a finished one can stand in another table as it is.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from star.config import config_hash
from star.errors import InputError
from star.files import read_json
from star.grid import Cell
from star.provenance import code
from star.sweeping.cell_run import finished

logger = logging.getLogger(__name__)


def adopt(cells: Iterable[Cell], root: Path) -> list[Cell]:
    """Copy finished runs of other tables in ``root`` to the cells of equal configuration.

    Only runs of the very code that is running: others would stand beside new ones in one table.

    Args:
        cells: Without a run folder yet; those with one are left alone.
        root: Folder of the tables' folders.

    Returns:
        The cells that have a finished run now.
    """
    found, adopted = _finished(root), []
    if not found:
        return []
    for cell in cells:
        folder = cell.folder(root)
        source = None if folder.exists() else found.get(config_hash(cell.load(root)))
        if source is not None and _copy(source, folder):
            adopted.append(cell)
    return adopted


def _finished(root: Path) -> dict[str, Path]:
    """Return configuration hash to run folder of the finished cells of all tables."""
    now, found = code(), {}
    if now["dirty"]:  # other runs of a changed checkout may be of other changes
        return {}
    for path in sorted(root.glob("*/*/*/seed*/result.json")):
        try:
            result, told = read_json(path), read_json(path.parent / "environment.json")
        except InputError:  # damaged; its own table will say so
            continue
        if told.get("star") == now:
            found.setdefault(str(result.get("config_hash")), path.parent)
    return found


def _copy(source: Path, folder: Path) -> bool:
    """Copy a run folder whole or not at all; say whether it is there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".copying-") as scratch:
            made = Path(scratch) / "run"
            shutil.copytree(source, made, ignore=shutil.ignore_patterns(".lock"))
            made.rename(folder)
    except OSError as error:  # another sweep was faster, or the disk is full: it can be run
        logger.warning("%s is not taken over: %s", source, error.strerror)
    return finished(folder)

"""Take over what another table has run already: equal configurations, equal results.

Tables share rows: STAR itself is in all of them. A run folder says which configuration it is of by
the hash of all that decides its result, so a finished one can stand in another table as it is; if
what the configuration only names (data, model, a strategy of one's own) is still the same too.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from star.config import Config, config_hash
from star.errors import InputError
from star.files import read_json
from star.grid import Cell
from star.provenance import code
from star.sweeping.cell_run import finished

logger = logging.getLogger(__name__)


def adopt(cells: Mapping[Cell, Config], root: Path) -> list[Cell]:
    """Copy finished runs of other tables in ``root`` to the cells of equal configuration.

    Only runs of the very code that is running, from a clean checkout, and on the content that data
    and model have now: others would stand beside new ones in one table.

    Args:
        cells: And their configurations. Those with a run folder are left alone.
        root: Folder of the tables' folders.

    Returns:
        The cells that have a finished run now.
    """
    found, adopted, contents = _finished(root), [], Contents()
    for cell, config in cells.items():
        folder = cell.folder(root)
        source = None if folder.exists() else found.get(config_hash(config))
        if source is not None and contents.same(config, source) and _copy(source, folder):
            adopted.append(cell)
    return adopted


def _finished(root: Path) -> dict[str, Path]:
    """Return configuration hash to run folder of the finished cells of all tables."""
    now, found = code(), {}
    # Other runs of a changed checkout may be of other changes, those of none of another version.
    if now["dirty"] is not False:
        return {}
    for path in sorted(root.glob("*/*/*/seed*/result.json")):
        try:
            result, told = read_json(path), read_json(path.parent / "environment.json")
        except InputError:  # damaged; its own table will say so
            continue
        if told.get("star") == now:
            found.setdefault(str(result.get("config_hash")), path.parent)
    return found


class Contents:
    """Whether a run was made on the data, model and strategy that its configuration names now.

    Each is looked at once: data are loaded, the weights' files hashed.
    """

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}

    def same(self, config: Config, run: Path) -> bool:
        """Compare with a run folder's ``environment.json``; what it does not tell is another."""
        told = read_json(run / "environment.json")
        try:
            return all(
                now is None or (told.get(part) or {}).get(key) == now
                for part, key, now in (
                    ("data", "fingerprint", self._of("data", config)),
                    ("model", "sha256", self._of("model", config)),
                    ("strategy", "sha256", self._of("strategy", config)),
                )
            )
        except InputError:  # the run itself will say it, in its own words
            return False

    def _of(self, part: str, config: Config) -> str | None:
        named: dict[str, Any] = {
            "data": [asdict(config.task), config.task.draw == "seeded" and config.seed],
            "model": [config.model.name_or_path, config.tracking.cache_dir],
            "strategy": config.acquisition.strategy,
        }
        key = json.dumps([part, named[part]])
        if key not in self._known:
            self._known[key] = LOOK[part](config)
        return self._known[key]


def _data(config: Config) -> str | None:
    from star import tasks  # late, as below: most sweeps have nothing to take over

    return tasks.load(config.task, seed=config.seed).fingerprint


def _model(config: Config) -> str | None:
    """Return the hash of the weights' files; ``None`` of a Hub id, which stands for a content."""
    from star.weights import cache_root, resolve

    return resolve(config.model, cache_root(config.tracking.cache_dir))[1].get("sha256")


def _strategy(config: Config) -> str | None:
    from star.strategies import fingerprint

    return fingerprint(config.acquisition.strategy)


LOOK = {"data": _data, "model": _model, "strategy": _strategy}


def _copy(source: Path, folder: Path) -> bool:
    """Copy a run folder whole or not at all; say whether it is there."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".copying-") as scratch:
            made = Path(scratch) / "run"
            shutil.copytree(source, made, ignore=shutil.ignore_patterns(".lock"))
            made.rename(folder)
    except OSError as error:  # another sweep was faster, or the disk is full: it can be run
        logger.warning("%s is not taken over: %s", source, error.strerror)
    return finished(folder)

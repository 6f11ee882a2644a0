"""Settings of run folders as they were written: what differs between them in words, a hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from star.active_learning.run_reader import RunReader
from star.config import NOT_IN_HASH, Config, to_yaml
from star.experiments.table import word

LONGEST, MOST = 40, 8  # letters of a value, and settings that are named


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of a configuration's tree by their dotted keys."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if key == "adapter.target_modules" and isinstance(value, dict) and value:
            value = next(iter(value))  # as it was asked for; a run adds what that meant
        leaves |= flat(value, f"{key}.") if isinstance(value, dict) and value else {key: value}
    return leaves


def method_of(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration's tree without the seed and what is no setting of a run."""
    return {key: part for key, part in tree.items() if key not in ("seed", *NOT_IN_HASH)}


def written(run: Path) -> dict[str, Any] | None:
    """Return the tree of a run folder's configuration; ``None`` where it cannot be read.

    Not by :mod:`star.config`, which refuses what an earlier version wrote.
    """
    import yaml

    try:
        tree = yaml.safe_load(RunReader(run).config.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return tree if isinstance(tree, dict) else None


def hash_of(tree: Mapping[str, Any] | None) -> str:
    """Return 12 hex digits of all settings but the seed, as they were written."""
    if tree is None:
        return "unknown"
    return hashlib.sha256(json.dumps(method_of(tree), sort_keys=True).encode()).hexdigest()[:12]


def other_than(tree: Mapping[str, Any], config: Config) -> str:
    """Return in words the settings of a run's tree that a configuration has otherwise."""
    import yaml

    # What the run's version did not know yet was as it is by default.
    default, now = (flat(method_of(yaml.safe_load(to_yaml(c)))) for c in (Config(), config))
    then = default | flat(method_of(tree))
    return words(then, (key for key in then if then[key] != now.get(key)))


def words(settings: Mapping[str, Any], keys: Iterable[str]) -> str:
    """Return settings as ``key=value, key=value``, short, without the folders of one machine.

    Where rows lie is left out: which they are, their hash says.
    """
    named = [f"{key}={_short(key, settings[key])}" for key in keys if key != "task.data_dir"]
    more = f" and {len(named) - MOST} more" if len(named) > MOST else ""
    return ", ".join(named[:MOST]) + more


def _short(key: str, value: Any) -> str:
    if key == "model.name_or_path":
        value = Path(str(value)).name
    text = " ".join(word(value).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"

"""Whether a run folder is what a run wrote: asked by everybody who reads one, before anything else.

Where there are checksums every file must fit its own. With or without them the files must be of
the right kind and agree with each other, which is all that can be asked of a folder that an earlier
version made.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from star import checksums
from star.checksums import damaged
from star.config import hash_of_file
from star.errors import InputError
from star.files import read_json, read_npz
from star.run_files import (
    CONFIG,
    ENVIRONMENT,
    INITIAL,
    LABELS,
    METRICS,
    RESULT,
    ROUNDS,
    SCORES,
    SELECTED,
)

logger = logging.getLogger(__name__)

SHARES = ("accuracy", "accuracy_strict", "ece")


def check_run(run: Path, *, adapters: bool = False) -> None:
    """Refuse a run folder, finished or not, with a file that was lost, cut, edited or put there.

    Args:
        run: The run folder.
        adapters: Check adapters too: for who reads them, hands them on, or says that all is there.

    Raises:
        InputError: Naming the file and the way on.
    """
    rounds = complete_rounds(run)
    summed = _check_sums(run, rounds, adapters=adapters)
    if not summed:
        _say_unchecked(run)
        _check_configuration(run)
    _check_environment(run)
    labelled = set(_check_initial(run, begun=bool(rounds)))
    measured = []
    for t, place in enumerate(rounds):
        labelled = _check_labels(place, labelled)
        metrics = _check_metrics(place, t, len(labelled))
        asked = _check_query(place, metrics, labelled, last=t == len(rounds) - 1)
        labelled |= set(asked)
        measured.append(metrics)
    if (run / RESULT).exists():
        _check_result(run, measured if summed or (run / ROUNDS).exists() else None)


def complete_rounds(run: Path) -> list[Path]:
    """Return the folders of the complete rounds, from 0 on.

    Raises:
        InputError: One is missing between others, or is no folder.
    """
    folder = run / ROUNDS
    if folder.exists() and not folder.is_dir():
        raise damaged(folder, "is not a folder")
    there = [path for path in folder.glob("[0-9]*") if checksums.is_round(path)]
    rounds = sorted(there, key=lambda path: int(path.name))
    for t, path in enumerate(rounds):
        expected = folder / f"{t:02d}"
        if path != expected:
            raise damaged(expected, f"is missing, but {path.name} is there")
        if not path.is_dir():
            raise damaged(path, "is not a folder")
    return rounds


def _check_sums(run: Path, rounds: list[Path], *, adapters: bool) -> bool:
    """Check what there are sums for; say whether there are any."""
    sums = checksums.read_run(run)
    if sums is None:
        for place in rounds:
            if checksums.has_sums(place):
                raise damaged(run / checksums.NAME, f"is missing, but {place} has one")
        return False
    checksums.check_files(run, begun=bool(rounds))
    for t, place in enumerate(rounds):
        if t < sums.rounds_without and not checksums.has_sums(place):
            continue
        if not checksums.has_sums(place):
            raise damaged(place / checksums.NAME, "is missing")
        checksums.check_round(place, adapters=adapters)
    return True


@cache
def _say_once() -> None:
    logger.info(
        "run folders without %s are of an earlier version: whether a file was changed is seen from "
        "its structure alone",
        checksums.NAME,
    )


def _say_unchecked(run: Path) -> None:
    if (run / ROUNDS).is_dir():
        _say_once()


def _check_configuration(run: Path) -> None:
    """Refuse a configuration that is not the one whose hash the run noted, in words of any age."""
    path = run / CONFIG
    if not path.exists():
        return  # who needs it says so
    try:
        now = hash_of_file(path)
    except InputError as error:
        raise damaged(path, _without(path, error)) from None
    for name in (ENVIRONMENT, RESULT):
        if not (run / name).exists():
            continue
        noted = _mapping(run / name).get("config_hash")
        if noted != now:
            raise damaged(
                path, f"has the hash {now}, but {run / name} says {noted}: it was cut or edited"
            )


def _check_environment(run: Path) -> None:
    """Refuse a record of the first start and later ones that is not of its form."""
    path = run / ENVIRONMENT
    if not path.exists():
        return  # an earlier version, or one that has just begun
    record = _mapping(path)
    resumed = record.get("resumed", [])
    if not isinstance(resumed, list) or not all(isinstance(start, dict) for start in resumed):
        raise damaged(path, "must hold a list of starts under 'resumed'")
    for start in (record, *resumed):
        for part in ("data", "model", "strategy"):
            content = start.get(part) or {}
            if not isinstance(content, dict):
                raise damaged(path, f"must hold a mapping under '{part}', got {content!r:.40}")
            if not isinstance(content.get("computation") or {}, dict):
                raise damaged(path, f"must hold a mapping under '{part}: computation'")


def _without(path: Path, error: InputError) -> str:
    """Return what is wrong with a file, as a sentence that begins with its name goes on."""
    text = str(error)
    return text.removeprefix(f"{path} ") if text.startswith(str(path)) else f"is unusable: {text}"


def _mapping(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise damaged(path, "is missing")
    try:
        content = read_json(path)
    except InputError as error:
        raise damaged(path, _without(path, error)) from None
    if not isinstance(content, dict):
        raise damaged(path, f"holds a {type(content).__name__}")
    return content


def _indices(path: Path, content: Mapping[str, Any], key: str) -> list[int]:
    """Return distinct pool indices."""
    indices = content.get(key)
    if (
        not isinstance(indices, list)
        or not all(type(i) is int and 0 <= i < 2**63 for i in indices)
        or len(set(indices)) < len(indices)
    ):
        raise damaged(path, f"must hold distinct pool indices under '{key}'")
    return indices


def _check_initial(run: Path, *, begun: bool) -> list[int]:
    path = run / INITIAL
    if not path.exists():
        if begun:
            raise damaged(path, "is missing")
        return []
    content = _mapping(path)
    indices = _indices(path, content, "indices")
    if not set(_indices(path, {"validation": [], **content}, "validation")) <= set(indices):
        raise damaged(path, "holds out rows that are not among its indices")
    return indices


def _check_labels(place: Path, labelled: set[int]) -> set[int]:
    """Return what a round is trained on: where people label, what they had decided by then."""
    path = place / LABELS
    return set(_indices(path, _mapping(path), "index")) if path.exists() else labelled


def _check_metrics(place: Path, t: int, labelled: int) -> dict[str, Any]:
    path = place / METRICS
    metrics = _mapping(path)
    wrong = [key for key in SHARES if key in metrics and not _share(metrics[key])]
    if wrong or "accuracy" not in metrics:
        raise damaged(path, f"must hold {(wrong or ['accuracy'])[0]}, a number from 0 to 1")
    for key, value in (("round", t), ("labeled", labelled)):
        if metrics.get(key) != value:
            raise damaged(path, f"says {key} {metrics.get(key)!r:.40}, expected {value}")
    if not isinstance(metrics.get("query", {}), dict):
        raise damaged(path, "must hold a mapping under 'query'")
    return metrics


def _check_query(
    place: Path, metrics: Mapping[str, Any], labelled: set[int], *, last: bool
) -> list[int]:
    """Return what was queried after a round; only the last one of all may have no query."""
    path, size = place / SELECTED, metrics.get("query", {}).get("size")
    if not path.exists():
        if size is not None or not last:
            raise damaged(path, "is missing")
        return []
    asked = _indices(path, _mapping(path), "indices")
    if size is not None and size != len(asked):
        raise damaged(path, f"holds {len(asked)} indices, {METRICS} says {size}")
    if labelled & set(asked):
        raise damaged(path, f"asks for {min(labelled & set(asked))}, which was labelled before")
    scores = place / SCORES
    if scores.exists():
        index = _scored(scores)
        if not set(asked) <= set(index):
            raise damaged(path, f"asks for {min(set(asked) - set(index))}, which was not scored")
        if labelled & set(index):
            raise damaged(scores, f"scores {min(labelled & set(index))}, which was labelled before")
    elif "near_ties" in metrics.get("query", {}):
        raise damaged(scores, "is missing")
    return asked


def _scored(path: Path) -> list[int]:
    """Return the pool indices that a round scored."""
    try:
        arrays = read_npz(path)
    except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
        raise damaged(path, f"cannot be read ({error})") from None
    index = arrays.get("index")
    if index is None or index.ndim != 1 or index.dtype.kind not in "iu" or not len(index):
        raise damaged(path, "must hold pool indices under 'index'")
    if (np.diff(index) <= 0).any() or index[0] < 0:
        raise damaged(path, "holds pool indices that do not ascend")
    return [int(i) for i in index]


def _check_result(run: Path, measured: list[dict[str, Any]] | None) -> None:
    """Refuse what is no result, or not that of the rounds; ``None``: they were not kept."""
    path = run / RESULT
    result = _mapping(path)
    kinds: dict[str, Callable[[Any], bool]] = {
        "task": lambda value: isinstance(value, str),
        "strategy": lambda value: isinstance(value, str),
        "seed": lambda value: type(value) is int and value >= 0,
        "config_hash": lambda value: isinstance(value, str),
        "label_free": lambda value: isinstance(value, bool),
        "rounds": lambda value: isinstance(value, list) and all(isinstance(p, dict) for p in value),
        "auc": _share,
    }
    for key, known in kinds.items():
        if key not in result or not known(result[key]):
            raise damaged(path, f"has no such '{key}' as a run writes")
    points = result["rounds"]
    if not points:
        raise damaged(path, "tells of no round")
    if measured is None:
        return
    if len(points) != len(measured):
        at = run / ROUNDS / f"{min(len(points), len(measured)):02d}"
        if len(points) < len(measured):
            raise damaged(path, f"tells of {len(points)} rounds, but {at} is there")
        raise damaged(at, f"is missing: {path} tells of {len(points)} rounds")
    for t, (point, metrics) in enumerate(zip(points, measured, strict=True)):
        for key, value in point.items():
            if key in metrics and json.dumps(metrics[key]) != json.dumps(value):
                other = run / ROUNDS / f"{t:02d}" / METRICS
                raise damaged(path, f"and {other} differ in '{key}' of round {t}")


def _share(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 <= value <= 1

"""From run folders to a record: the small part of their files that tables and figures need.

Floats have six significant digits, rounded here and nowhere else.
"""

from __future__ import annotations

import logging
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from star.acquisition import blending
from star.active_learning.run_checks import check_run
from star.active_learning.run_reader import RunReader
from star.config import Config, config_hash
from star.errors import InputError
from star.evaluation.learning_curves import rising
from star.experiments import table as grid
from star.experiments.report import settings
from star.experiments.report.answers import answers_of
from star.experiments.report.prompting import prompts_of, task_of
from star.experiments.report.record import VIEWS, Environment, Point, Record, Row, parse
from star.experiments.table import Cell, Table
from star.files import read_npz
from star.run_files import RESULT

logger = logging.getLogger(__name__)

KEPT = ("task", "strategy", "label_free", "config_hash", "auc")
EXACT = ("accuracy", "accuracy_strict", "auc")  # floats that are kept as they are
ENVIRONMENT = [part.name for part in fields(Environment)]
ROW = [part.name for part in fields(Row)]
POINT = [part.name for part in fields(Point)]


def gather(table: Table, root: Path, cells: Sequence[Cell] | None = None) -> Record:
    """Return the record of a table's run folders.

    Args:
        table: See :func:`star.experiments.table_file.read_table`.
        root: Folder of the run folders, ``<root>/<table>/<column>/<row>/seed<k>``.
        cells: Those to gather; ``None`` = all of the table. Rows, columns and seeds without a cell
            are left out.

    Raises:
        InputError: A file of a finished run is damaged.
    """
    wanted = grid.cells(table) if cells is None else list(cells)
    environments: list[dict[str, Any]] = []
    found = [
        {"column": cell.column, "row": cell.row, "seed": cell.seed}
        | content_of(cell.folder(Path(root)), environments)
        for cell in wanted
    ]
    _compare_settings(wanted, found, Path(root))
    prompts = prompts_of(found)
    content = rounded(
        {
            "table": table.name,
            "title": table.title,
            "baseline": table.baseline,
            **({} if table.gains is None else {"gains": list(table.gains)}),
            "settings": list(table.settings),
            "rows": [
                {key: getattr(row, key) for key in ROW}
                for row in table.rows
                if any(cell.row == row.name for cell in wanted)
            ],
            "columns": [
                {key: getattr(column, key) for key in ("name", "about", "settings")}
                | {"prompts": prompts.get(column.name, {})}
                for column in table.columns
                if any(cell.column == column.name for cell in wanted)
            ],
            "seeds": list(dict.fromkeys(cell.seed for cell in wanted)),
            "environments": environments,
            "cells": found,
        }
    )
    return parse(content, Path(root) / table.name)


def rounded(value: Any) -> Any:
    """Return JSON content, its floats with six significant digits, infinity and NaN as ``None``.

    Under the keys of ``EXACT`` they keep all of them.
    """
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {
            key: item
            if key in EXACT and isinstance(item, float) and math.isfinite(item)
            else rounded(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return value


def content_of(folder: Path, environments: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a cell's part of a record but for its place, in whatever state its run is.

    A finished run's has ``prompt`` too, for :func:`prompts_of`.

    Args:
        folder: The run folder.
        environments: The record's; a new one is added.

    Raises:
        InputError: The run has finished, and one of its files is damaged.
    """
    if RunReader(folder).finished:
        check_run(folder)
        told = _environment(folder, environments)
        prompt, draw = task_of(folder)
        if draw == "seeded":
            told["content"] = {**told.get("content", {}), "draw": draw}
        return {"status": "done", "prompt": prompt, **told, **_result(folder)}
    error = RunReader(folder).failure
    return {"status": "missing"} if error is None else {"status": "failed", "error": error}


def _result(folder: Path) -> dict[str, Any]:
    run = RunReader(folder)
    result = run.result()
    try:
        every = result["rounds"]
        points = [every[i] for i in rising([p["labeled"] for p in every])]
        left_out = [p["round"] for p in every if p not in points]
        rounds = [_round(run, point) for point in points]
        for point, answers in zip(rounds, answers_of(run, points), strict=True):
            point |= {} if answers is None else {"answers": answers}
        last = points[-1]["round"]
        kept_rounds = run.round_folder(last).is_dir()
        views = run.metrics(last).get("calibration", {}) if kept_rounds else {}
        reliability = {
            view: [
                [part["confidence"], part["accuracy"], part["count"]]
                for part in views[view]["reliability"]
                if part["count"]
            ]
            for view in VIEWS
            if view in views
        }
        kept = {key: result[key] for key in KEPT}
        base = _base(views["base"]) if "base" in views else None
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise InputError(
            f"{folder / RESULT} or a file of its rounds is not what a run writes: {error!r}"
        ) from None
    found = {**kept, "rounds": rounds, "reliability": reliability}
    found |= {"left_out": left_out} if left_out else {}
    return {**found, "base": base} if base else found


def _base(view: Mapping[str, Any]) -> dict[str, float] | None:
    """Return the base model's errors and signed gaps; ``None`` of a run that kept none of these."""
    if "overconfidence" not in view:
        return None
    keys = ("ece", "overconfidence")
    other = view.get("token_mean") or {}
    return {
        **{key: view[key] for key in keys},
        **{f"{key}_token_mean": other[key] for key in keys if key in other},
    }


def _round(run: RunReader, point: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: point[key] for key in POINT if key in point}
    t = point["round"]
    if run.scores(t).is_file():
        found["gap"] = _gap(run.scores(t))
    if run.selected_file(t).is_file():
        found["selected"] = run.selected(t)
    return found


def _gap(path: Path) -> dict[str, float | None]:
    """Return the two views' mean scores, as they are, and their rank correlation."""
    try:
        scores = read_npz(path)
        base, full = scores["base"], scores["full"]
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} does not hold a round's scores: {error}") from None
    known = bool(np.isfinite(base).all())  # a measure without a base view has NaN there
    return {
        "base": float(base.mean()) if known else None,
        "full": float(full.mean()),
        "rank_correlation": blending.spearman(base, full) if known else None,
    }


def _environment(folder: Path, environments: list[dict[str, Any]]) -> dict[str, Any]:
    """Return when and in which of the environments a run was made; add those that are new."""
    run = RunReader(folder)
    if not run.has_environment():
        return {"environment": None, "started": None}
    told = run.environment()

    def place(one: Mapping[str, Any]) -> int:
        part = {key: one.get(key) for key in ENVIRONMENT}
        if part not in environments:
            environments.append(part)
        return environments.index(part)

    first = place(told)
    later = [place(one) for one in told.get("resumed", [])]
    found: dict[str, Any] = {"environment": first, "started": str(told.get("started", ""))[:10]}
    content = {
        part: (told.get(part) or {}).get(key)
        for part, key in (("data", "fingerprint"), ("model", "revision"), ("strategy", "sha256"))
    }
    prompt = (told.get("data") or {}).get("prompt")
    found |= {} if prompt is None else {"prompt": str(prompt)}
    found["content"] = {part: str(one)[:12] for part, one in content.items() if one is not None}
    found["content"] |= _updates([told, *told.get("resumed", [])])
    others = sorted({*later} - {first})
    return {**found, "resumed": others} if others else found


def _updates(starts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the processes of a run's starts and the rows of their updates; of one process none.

    A process alone has the rows that the settings say; so a record holds what they do not.
    """
    processes, rows = (
        sorted({start[key] for start in starts if start.get(key) is not None})
        for key in ("processes", "rows_per_update")
    )
    if not processes or processes == [1]:
        return {}
    return {
        "processes": " and ".join(map(str, processes)),
        "rows_per_update": " and ".join(map(str, rows)),
    }


def _compare_settings(wanted: Sequence[Cell], found: Sequence[dict[str, Any]], root: Path) -> None:
    """Mark and warn of runs that are not of the configuration the table file has now."""
    loaded: dict[tuple[str, str], Config] = {}
    others: dict[str, None] = {}
    for cell, one in zip(wanted, found, strict=True):
        if one["status"] != "done":
            continue
        place = (cell.column, cell.row)
        if place not in loaded:  # to read a configuration takes longer than all the rest
            loaded[place] = cell.load(root)
        now = replace(loaded[place], seed=cell.seed)
        wanted_hash, folder = one["config_hash"], cell.folder(root)
        if config_hash(now) != wanted_hash != config_hash(_rows_from(folder, now)):
            tree = settings.written(folder)
            content = one.setdefault("content", {})
            content["settings"] = settings.hash_of(tree)
            words = "" if tree is None else settings.other_than(tree, now)
            content |= {"words": words} if words else {}
            others[f"{cell.column}/{cell.row}"] = None
    if others:
        logger.warning(
            "table %s: its runs of %s are of other settings than the table file has now, or of "
            "another version; if that was not meant, remove their folders to run them again",
            wanted[0].table,
            ", ".join(others),
        )


def _rows_from(run: Path, config: Config) -> Config:
    """Return a configuration that reads its rows where a run did.

    Where they lie is no setting: which they are, their hash says.
    """
    task = (settings.written(run) or {}).get("task")
    if not isinstance(task, dict) or "data_dir" not in task:
        return config
    return replace(config, task=replace(config.task, data_dir=task["data_dir"]))

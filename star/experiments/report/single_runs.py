"""Single run folders as a record: rows, columns and seeds are read off their configurations."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from star.active_learning.run_reader import RunReader
from star.checksums import check_config
from star.errors import InputError
from star.experiments.report import settings
from star.experiments.report.gathering import content_of, rounded
from star.experiments.report.prompting import prompts_of
from star.experiments.report.record import Record, parse
from star.run_files import RESULT

logger = logging.getLogger(__name__)

RUNS = "runs"  # the name of a record that is of no table
CHOOSING = "acquisition."


def of_runs(folders: Sequence[str | Path], *, others: Sequence[str | Path] = ()) -> Record:
    """Return the record of single run folders: a row a strategy, a column a task.

    Runs are seeds of one row only if their configurations differ in nothing but the seed. Where two
    columns would be called alike the model's name tells them apart, else, as for rows, a hash of
    their settings. Which settings differ is said of each, but for what the strategies' names say.

    Args:
        folders: Run folders.
        others: More of them, that nobody has named one by one: those that have not finished, are
            damaged, or stand twice are skipped, each with a warning.

    Raises:
        InputError: No folder that can be used; or, among ``folders``, one that holds no finished
            run, or the same run twice.
    """
    if not folders and not others:
        raise InputError("no run folder was given; name at least one")
    environments: list[dict[str, Any]] = []
    named = _different(folders)
    runs = [_single(folder, environments) for folder in named]
    runs += _usable(_different([*named, *others])[len(named) :], runs, environments)
    if not runs:
        raise InputError(f"none of the {len(others)} run folders can be reported, see above")
    cells, about = _placed(runs)
    prompts = prompts_of(cells)
    long = {cell["row"] for cell in cells if len(cell["rounds"]) > 1}
    plain = {"about": "", "preset": None, "settings": [], "naive": []}
    rows, columns = (dict.fromkeys(cell[key] for cell in cells) for key in ("row", "column"))
    content = rounded(
        {
            "table": RUNS,
            "title": "Single runs",
            "baseline": "random",
            "settings": [],
            "rows": [{"name": row, **plain, "curve": row in long} for row in rows],
            "columns": [
                {"name": name, "about": about[name], "prompts": prompts.get(name, {})}
                for name in columns
            ],
            "seeds": sorted({cell["seed"] for cell in cells}),
            "environments": environments,
            "cells": cells,
        }
    )
    return parse(content, ", ".join(map(str, [*folders, *others][:3])))


def _placed(runs: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the runs as cells, in columns and rows that tell them apart; columns in words."""
    columns = _telling({run["place"]: run["places"] for run in runs})
    rows = {
        column: _telling({r["method"]: r["methods"] for r in runs if r["place"] == column})
        for column in columns
    }
    of_place = {run["place"]: run for run in runs}
    about = {}
    for place, run in of_place.items():
        of_task = [one for one in of_place.values() if one["places"][0] == run["places"][0]]
        about[columns[place]] = settings.words(
            run["place_settings"], _differing(of_task, "place_settings")
        )
    apart = {place: _apart([run for run in runs if run["place"] == place]) for place in columns}
    cells, where = [], {}
    for run in runs:
        column, row = columns[run["place"]], rows[run["place"]][run["method"]]
        other = where.setdefault((column, row, run["seed"]), run["folder"])
        if other is not run["folder"]:
            raise InputError(
                f"{other} and {run['folder']} are runs of the same configuration and seed; "
                "name one of them"
            )
        cell = {"column": column, "row": row, "seed": run["seed"], **run["content"]}
        words = settings.words(run["method_settings"], apart[run["place"]][run["methods"][0]])
        cell |= {"content": {**cell.get("content", {}), "words": words}} if words else {}
        cells.append(cell)
    return cells, about


def _apart(runs: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """Return for each strategy the keys in which a column's rows differ, beside the choice itself.

    Of what belongs to choosing, those alone in which rows of the same strategy differ.
    """
    every = [key for key in _differing(runs, "method_settings") if not key.startswith(CHOOSING)]
    apart = {}
    for strategy in {run["methods"][0] for run in runs}:
        of_strategy = [run for run in runs if run["methods"][0] == strategy]
        choosing = [
            key for key in _differing(of_strategy, "method_settings") if key.startswith(CHOOSING)
        ]
        apart[strategy] = [*choosing, *every]
    return apart


def _differing(runs: Sequence[dict[str, Any]], part: str) -> list[str]:
    """Return the keys that every run has, not all with the same value."""
    first, *others = (run[part] for run in runs)
    shared = [key for key in first if all(key in other for other in others)]
    return [key for key in shared if any(other[key] != first[key] for other in others)]


def _usable(
    folders: Sequence[Path], runs: Sequence[dict[str, Any]], environments: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return what :func:`_single` does of finished runs that are not among ``runs`` either."""
    known = {run["content"].get("config_hash"): run["folder"] for run in runs}
    more = []
    for folder in folders:
        tried = list(environments)
        try:
            run = _single(folder, tried)
        except InputError as error:
            logger.warning("skipped: %s", error)
            continue
        first = known.setdefault(run["content"].get("config_hash"), folder)
        if first != folder:
            logger.warning("skipped: %s is the same run as %s", folder, first)
            continue
        environments[:] = tried
        more.append(run)
    return more


def _different(folders: Sequence[str | Path]) -> list[Path]:
    """Return the folders in their order, each once."""
    return list({Path(folder).resolve(): Path(folder) for folder in folders}.values())


def _single(folder: Path, environments: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a run's content and what tells its row and column from others."""
    import yaml

    run = RunReader(folder)
    if not run.config.is_file():
        check_config(folder)
        raise InputError(f"{folder} is not a run folder: it has no {run.config.name}")
    if not run.finished:
        raise InputError(f"{folder} has no {RESULT}: the run has not finished, start it again")
    content = content_of(folder, environments)
    try:
        # Not by star.config, which refuses what an earlier version wrote.
        config = yaml.safe_load(run.config.read_text(encoding="utf-8"))
        model = Path(config["model"]["name_or_path"]).name
        where = {key: config[key] for key in ("model", "task")}
        how = {k: part for k, part in settings.method_of(config).items() if k not in where}
        place, method = _digest(where), _digest(how)
        seed = int(config["seed"])
    except (KeyError, TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise InputError(f"{run.config} is not a run's configuration: {error!r}") from None
    task, strategy = content["task"], content["strategy"]
    return {
        "folder": folder,
        "content": content,
        "seed": seed,
        "place": place,
        "places": (task, f"{task} {model}", f"{task} {model} {place[:8]}"),
        "method": method,
        "methods": (strategy, f"{strategy} {method[:8]}"),
        "place_settings": settings.flat(where),
        "method_settings": settings.flat(how),
    }


def _digest(part: Any) -> str:
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()


def _telling(names: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return for each key the first of its names that no other key has at that place."""
    return {
        key: next(
            name
            for level, name in enumerate(own)
            if all(name != other[level] for k, other in names.items() if k != key)
        )
        for key, own in names.items()
    }

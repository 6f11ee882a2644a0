"""What a table says of each of its rows, computed from a record alone: means, intervals, tests.

A *line* is one row in one column, over its seeds. Accuracies, areas and errors are fractions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from star.evaluation.learning_curves import area_under_curve
from star.experiments.report import confidences
from star.experiments.report.comparisons import (
    Cell,
    Cells,
    accuracies,
    area,
    compared,
    correct,
    counts_in_words,
    labels_of,
    naive_of,
    summarized,
)
from star.experiments.report.gathering import Record
from star.experiments.report.made_by import numbers

BASE = tuple(f"base_{name}" for name in confidences.NAMES)
AREAS = ("ece_area", "ece_token_mean_area")


def figures_of(record: Record) -> list[dict[str, Any]]:
    """Return the figures of every row in every column, column by column; JSON can hold them.

    Keys of a line:

    * ``column, row``; ``curve``: whether the row has a learning curve; ``label_free``: whether no
      score of it read a label that was not bought (``None``: no finished run says so);
    * ``n``: finished seeds; ``wanted``: all of them; ``seeds, missing, failed``: their lists;
      ``labels``: the label counts of its curves, ``None`` where its runs differ in them;
    * ``accuracy``: ``{"mean", "low", "high"}`` after the last round, over seeds, with its 95 %
      t-interval (``None`` for one seed); likewise ``auc`` and ``ripl`` (to random on the same
      seed);
    * ``ece, overconfidence``: likewise of the headline confidence after the last round, with
      ``_token_mean`` behind the name of the other one, with ``base_`` before it of the base model
      on the same questions; ``ece_area, ece_token_mean_area``: areas as ``auc`` under the errors;
    * ``versus_random``: difference in AUC to the table's baseline on the seeds both have, a
      ``Comparison`` with ``row``, its two p-values after correction (``p_corrected`` is the t
      test's), ``family``, the number of comparisons it was corrected for, and ``seeds_needed`` at
      the level 0.05 / family; ``versus_naive``: likewise to the row's naive counterpart;
    * ``query_random``: ``{"row", "mean", "low", "high", "n"}``, the share of the first query in
      common with the baseline's on the same seed, so after the same labels; of the smaller query
      where their sizes differ. ``None`` where either row chooses at random: that is chance.
      ``query_naive``: likewise with the naive counterpart;
    * ``label_share``: ``LabelShares``, where at least two seeds are common with the baseline; of
      the baseline itself: random against random, the reference for all others;
    * ``notes``: what could not be compared, and why.

    What there is no number for is ``None``. Holm's family is all comparisons of the table.
    """
    found: list[dict[str, Any]] = []
    for column in record["columns"]:
        every = [cell for cell in record["cells"] if cell["column"] == column["name"]]
        done: dict[str, Cells] = {row["name"]: {} for row in record["rows"]}
        for cell in every:
            if cell["status"] == "done":
                done[cell["row"]][cell["seed"]] = cell
        for row in record["rows"]:
            mine = [cell for cell in every if cell["row"] == row["name"]]
            if mine:
                line = _place(column["name"], row, mine) | _figures(row, done[row["name"]])
                others = (record["baseline"], naive_of(row, {cell["row"] for cell in every}))
                line |= compared(row, done, others, line["notes"])
                found.append(line)
    correct(found)
    return [_plain(line) for line in found]


def _place(
    column: str, row: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    seeds = {
        status: [cell["seed"] for cell in cells if cell["status"] == status]
        for status in ("done", "missing", "failed")
    }
    free = [cell["label_free"] for cell in cells if cell["status"] == "done"]
    return {
        "column": column,
        "row": row["name"],
        "curve": row["curve"],
        "label_free": all(free) if free else None,
        "n": len(seeds["done"]),
        "wanted": len(cells),
        "seeds": seeds["done"],
        "missing": seeds["missing"],
        "failed": seeds["failed"],
    }


def _figures(row: Mapping[str, Any], done: Cells) -> dict[str, Any]:
    """Return what a row's own runs say."""
    cells = list(done.values())
    labels = labels_of(cells)
    whole = row["curve"] and labels is not None
    ragged = len(cells) > 1 and labels is None
    notes = [f"its runs have different label counts: {counts_in_words(cells)}"] if ragged else []
    return {
        "labels": labels,
        "accuracy": summarized([float(accuracies(cell)[-1]) for cell in cells]),
        "auc": summarized([float(area(cell)) for cell in cells]) if whole else None,
        **_confidence(cells, labels if whole else None),
        "notes": [*notes, *_mixed(done)],
    }


def _confidence(cells: Sequence[Cell], labels: Sequence[int] | None) -> dict[str, Any]:
    """Return how well the confidences of a row's runs fit, those of the base model beside them."""
    rounds = [confidences.of_rounds(cell) for cell in cells]
    base = [confidences.of_base(cell) for cell in cells]
    found: dict[str, Any] = dict.fromkeys(AREAS)
    for key in AREAS if labels is not None else ():
        errors = [[point[key.removesuffix("_area")] for point in run] for run in rounds]
        if all(None not in run for run in errors):
            found[key] = summarized([area_under_curve(labels, run) for run in errors])
    found |= {name: summarized([run[-1][name] for run in rounds]) for name in confidences.NAMES}
    return found | {
        f"base_{name}": summarized([one[name] for one in base]) for name in confidences.NAMES
    }


def _mixed(done: Cells) -> list[str]:
    """Return in what else than the seed a row's runs differ: then their mean is of no method."""
    notes = []
    contents = [cell.get("content") or {} for cell in done.values()]
    drawn = all(content.get("draw") == "seeded" for content in contents)
    for part in ("settings", *(() if drawn else ("data",)), "model", "strategy"):
        seeds: dict[str, list[int]] = {}
        for seed, cell in done.items():
            content = (cell.get("content") or {}).get(part)
            if content is not None or part == "settings":  # those of the table file have no hash
                seeds.setdefault(str(content), []).append(seed)
        if len(seeds) > 1:
            groups = " and ".join(f"seed {numbers(some)}" for some in seeds.values())
            notes.append(f"runs of different {part} stand together: {groups}")
    return notes


def _plain(value: Any) -> Any:
    """Return JSON content: no number of numpy's, and ``None`` for what is not finite."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value

"""Records of results made by hand, whose figures a reader can work out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from star.experiments.report.record import Record, parse

LABELS = (20, 60, 100)
ENVIRONMENT = {
    "star": {"version": "0.1.0", "commit": "0123456789abcdef", "dirty": False},
    "hardware": {"cpu": "a cpu", "cores": 2, "threads": 1, "ram_gib": 8.0, "gpus": []},
    "packages": {"torch": "2.0", "gguf": None},
}


def area(labels: Sequence[float], heights: Sequence[float]) -> float:
    """Return the trapezoid's area over its width, in a loop."""
    if len(labels) == 1:
        return heights[0]
    steps = zip(pairwise(labels), pairwise(heights), strict=True)
    return sum((n - m) * (a + b) / 2 for (m, n), (a, b) in steps) / (labels[-1] - labels[0])


def cell(
    row: str,
    seed: int,
    accuracy: Sequence[float],
    *,
    column: str = "task",
    labels: Sequence[int] = LABELS,
    ece: float = 0.1,
    **changes: Any,
) -> dict[str, Any]:
    """Return a finished cell; its ECE rises by 0.01 a round."""
    labels = labels[: len(accuracy)]
    points = zip(labels, accuracy, strict=True)
    rounds = [
        {
            "labeled": n,
            "accuracy": a,
            "accuracy_stderr": 0.02,
            "ece": ece + 0.01 * t,
            "nll": 1.0,
            "brier": 0.2,
            "seconds": {"train": 1.0, "evaluate": 0.5, "score": 0.25},
            "tokens": {"train": 10, "evaluate": 5, "score": 2},
        }
        for t, (n, a) in enumerate(points)
    ]
    return {
        "column": column,
        "row": row,
        "seed": seed,
        "status": "done",
        "environment": 0,
        "started": "2026-01-02",
        "task": column,
        "strategy": row,
        "label_free": True,
        "config_hash": "0123456789abcdef",
        "auc": area(labels, accuracy),
        "rounds": rounds,
        "reliability": {},
        **changes,
    }


def absent(
    row: str, seed: int, *, column: str = "task", error: str | None = None
) -> dict[str, Any]:
    """Return a cell that is missing, or failed with an error."""
    state = {"status": "missing"} if error is None else {"status": "failed", "error": error}
    return {"column": column, "row": row, "seed": seed, **state}


def record(*cells: dict[str, Any], **changes: Any) -> Record:
    """Return the record of these cells; see :func:`content`."""
    return parse(json.loads(json.dumps(content(*cells, **changes))), "made")


def content(
    *cells: dict[str, Any], rows: dict[str, dict[str, Any]] | None = None, **changes: Any
) -> dict[str, Any]:
    """Return a record as JSON; ``rows``: what a row has other than the plain one."""
    names = dict.fromkeys(cell["row"] for cell in cells)
    plain = {"about": "", "preset": None, "settings": [], "naive": None, "curve": True}
    return {
        "table": "main",
        "title": "A table",
        "baseline": "random",
        "settings": [],
        "rows": [{"name": name, **plain, **(rows or {}).get(name, {})} for name in names],
        "columns": [
            {"name": name, "about": "", "settings": []}
            for name in dict.fromkeys(cell["column"] for cell in cells)
        ],
        "seeds": sorted({cell["seed"] for cell in cells}),
        "environments": [ENVIRONMENT],
        "cells": list(cells),
        **changes,
    }

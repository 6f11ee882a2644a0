"""How even the classes of bought labels are: in reports of tasks with classes, and no other."""

from __future__ import annotations

import copy
from typing import Any

import made
from made import cell, record

from star.experiments.report.formats import latex, markdown
from star.experiments.report.summary import summary


def noted(one: dict[str, Any], entropies: list[float], shares: list[float]) -> dict[str, Any]:
    one = copy.deepcopy(one)
    for point, entropy, share in zip(one["rounds"], entropies, shares, strict=True):
        point |= {"class_entropy": entropy, "least_class": share}
    return one


def test_both_measures_stand_there_first_and_last() -> None:
    cells = [
        noted(cell(row, seed, [0.5, 0.6, 0.7]), [0.9, 0.8, last + 0.1 * seed], [0.4, 0.3, 0.2])
        for row, last in (("random", 0.8), ("pe", 0.5))
        for seed in (0, 1)
    ]
    found = summary(record(*cells))
    text = markdown(found)
    [line] = [line for line in text.splitlines() if line.startswith("| pe | 90.0 ")]
    assert line.count("|") == 7 and "55.0 ±" in line and "20.0" in line
    assert "## task: classes of the labels" in text
    assert "| row | entropy, first | entropy, last | smallest class, first |" in text
    assert "classes of the labels" in latex(found)


def test_nothing_stands_there_of_tasks_without_classes() -> None:
    cells = [cell("random", seed, [0.5, 0.6]) for seed in (0, 1)]
    text = markdown(summary(record(*cells, title=made.content()["title"])))
    assert "classes of the labels" not in text

"""How even the classes are among the labels that were bought: what a strategy picks, by class.

Of tasks with classes alone, where runs have noted it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from star.experiments.report.comparisons import summarized
from star.experiments.report.layout import NOT_THERE, Sheet, named, spread
from star.experiments.report.record import CellResult, Record

Measure = Literal["class_entropy", "least_class"]
HEADS: dict[Measure, str] = {"class_entropy": "entropy", "least_class": "smallest class"}
ABOUT = (
    "Of the classes of all labels bought by then, mean over seeds: the entropy of their shares in "
    "percent of that of equal shares, and the share of the smallest class."
)


def balance_sheets(record: Record) -> list[Sheet]:
    """Return a sheet for each column whose runs have noted the classes of their labels.

    After the first labels, which no score has chosen, and before the last training.
    """
    sheets = []
    for column in record.columns:
        rows = {row.name: [c for c in record.results(column.name) if c.row == row.name]
                for row in record.rows}  # fmt: skip
        body = [
            [
                named(name, []),
                *(_entry(cells, key, place) for key in HEADS for place in (0, -1)),
                str(len(cells)),
            ]
            for name, cells in rows.items()
            if any(cell.rounds[-1].class_entropy is not None for cell in cells)
        ]
        if body:
            head = [f"{text}, {when}" for text in HEADS.values() for when in ("first", "last")]
            title = f"{column.name}: classes of the labels"
            name = f"{column.name}-classes"
            sheets.append(Sheet(name, title, ABOUT, ["row", *head, "n"], body))
    return sheets


def _entry(cells: Sequence[CellResult], key: Measure, place: int) -> str:
    mean = summarized([getattr(cell.rounds[place], key) for cell in cells])
    return NOT_THERE if mean is None else spread(mean)

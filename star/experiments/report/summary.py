"""What a table says of each of its rows, computed from a record alone: means, intervals, tests.

Accuracies, areas and errors are fractions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from star.evaluation.learning_curves import LabelShares, area_under_curve
from star.experiments.report import confidences
from star.experiments.report.comparisons import (
    VERSUS,
    Cells,
    Interval,
    Shared,
    Versus,
    accuracies,
    area,
    compared,
    corrected,
    counts_in_words,
    labels_of,
    naive_of,
    summarized,
)
from star.experiments.report.likeness import Likeness, settings_in_words, updates_in_words
from star.experiments.report.made_by import numbers
from star.experiments.report.record import CellResult, NoResult, Record, Row

BASE = tuple(f"base_{name}" for name in confidences.NAMES)
AREAS = ("ece_area", "ece_token_mean_area")


@dataclass(frozen=True)
class Line:
    """A row in a column, over its seeds. ``None``: there is no number.

    Attributes:
        column: Its name; ``row`` likewise.
        curve: Whether the row has a learning curve.
        label_free: Whether no score of it read a label that was not bought; ``None``: no finished
            run says so.
        n: Finished seeds, of ``wanted``; ``seeds, missing, failed``: their lists.
        labels: The label counts of its curves, ``None`` where its runs differ in them.
        accuracy: After the last round; ``auc``: of the curve; ``ece`` and so on: after the last
            round, of the headline confidence and of the token mean, with ``base_`` before it of the
            base model on the same questions; ``ece_area``: as ``auc`` under the errors.
        notes: What could not be compared, and why.
        versus_random: To the table's baseline; ``versus_naive``: to the naive counterpart.
        query_random: Of the same rows, and after the same labels; of the smaller query where their
            sizes differ. ``None`` where either row chooses at random: that is chance.
        ripl: To the baseline on the same seed.
        label_share: Where at least two seeds are common with the baseline; of the baseline itself:
            random against random, the reference for all others.
    """

    column: str
    row: str
    curve: bool
    label_free: bool | None
    n: int
    wanted: int
    seeds: list[int]
    missing: list[int]
    failed: list[int]
    labels: list[int] | None
    accuracy: Interval | None
    auc: Interval | None
    ece_area: Interval | None
    ece_token_mean_area: Interval | None
    ece: Interval | None
    overconfidence: Interval | None
    ece_token_mean: Interval | None
    overconfidence_token_mean: Interval | None
    base_ece: Interval | None
    base_overconfidence: Interval | None
    base_ece_token_mean: Interval | None
    base_overconfidence_token_mean: Interval | None
    notes: list[str]
    versus_random: Versus | None
    versus_naive: Versus | None
    query_random: Shared | None
    query_naive: Shared | None
    ripl: Interval | None
    label_share: LabelShares | None


@dataclass(frozen=True)
class Summary:
    """What a table says: the record, and a line a row and column, column by column.

    Attributes:
        unlike: (column, row) to what some runs of it are of another than the baseline's: ``data``,
            ``model``, and ``likeness.UNTESTED``; only where there is any.
        untested: Whether there is a comparison that is shown without a test for what its runs are.
    """

    record: Record
    lines: tuple[Line, ...]
    unlike: Mapping[tuple[str, str], tuple[str, ...]]
    untested: bool

    @property
    def comparisons(self) -> list[Versus]:
        """All comparisons of the table, which are Holm's family."""
        found = [getattr(line, key) for line in self.lines for key in VERSUS]
        return [versus for versus in found if versus is not None]

    def apart(self, column: str, row: str) -> str:
        """Return in words of what other than the baseline's a row's runs are; may be empty."""
        return " and ".join(f"other {part}" for part in self.unlike.get((column, row), ()))

    def rivals(self, column: str) -> list[Line]:
        """Return the lines whose areas the largest is sought among."""
        lines = [line for line in self.lines if line.column == column]
        labels = usual_labels(lines, self.record.baseline)
        # What reads labels has not paid for them; over other counts the area is another.
        return [line for line in lines if line.auc and line.label_free and line.labels == labels]

    def uneven(self, column: str) -> bool:
        """Return whether they have unlike seeds: the largest mean may be that of the lucky ones."""
        return len({tuple(line.seeds) for line in self.rivals(column)}) > 1


def usual_labels(lines: Sequence[Line], baseline: str) -> list[int] | None:
    """Return the label counts of a column's curves: the baseline's, else those of the first row."""
    ordered = sorted(lines, key=lambda line: line.row != baseline)
    return next((line.labels for line in ordered if line.curve and line.labels), None)


def summary(record: Record) -> Summary:
    """Return the figures of every row in every column."""
    lines: list[dict[str, Any]] = []
    likeness = Likeness(record)
    unlike: dict[tuple[str, str], tuple[str, ...]] = {}
    for column in record.columns:
        every = [cell for cell in record.cells if cell.column == column.name]
        done: dict[str, Cells] = {row.name: {} for row in record.rows}
        for cell in record.results(column.name):
            done[cell.row][cell.seed] = cell
        for row in record.rows:
            mine = [cell for cell in every if cell.row == row.name]
            if mine:
                line = _place(column.name, row, mine) | _figures(row, done[row.name])
                others = (record.baseline, naive_of(row, {cell.row for cell in every}))
                beside = compared(row, done, others, likeness)
                lines.append(line | beside | {"notes": line["notes"] + beside["notes"]})
                parts = likeness.apart(done[row.name], done.get(record.baseline, {}))
                if parts:
                    unlike[column.name, row.name] = parts
    places = [(line, key) for line in lines for key in VERSUS if line[key] is not None]
    differences = [line[key] for line, key in places]
    tested = corrected(differences)
    for (line, key), versus in zip(places, tested, strict=True):
        line[key] = versus
    untested = not all(alike for _, _, alike in differences)
    return Summary(record, tuple(Line(**line) for line in lines), unlike, untested)


def _place(column: str, row: Row, cells: Sequence[CellResult | NoResult]) -> dict[str, Any]:
    seeds = {
        status: [cell.seed for cell in cells if cell.status == status]
        for status in ("done", "missing", "failed")
    }
    free = [cell.label_free for cell in cells if isinstance(cell, CellResult)]
    return {
        "column": column,
        "row": row.name,
        "curve": row.curve,
        "label_free": all(free) if free else None,
        "n": len(seeds["done"]),
        "wanted": len(cells),
        "seeds": seeds["done"],
        "missing": seeds["missing"],
        "failed": seeds["failed"],
    }


def _figures(row: Row, done: Cells) -> dict[str, Any]:
    """Return what a row's own runs say."""
    cells = list(done.values())
    labels = labels_of(cells)
    whole = row.curve and labels is not None
    ragged = len(cells) > 1 and labels is None
    notes = [f"its runs have different label counts: {counts_in_words(cells)}"] if ragged else []
    return {
        "labels": labels,
        "accuracy": summarized([float(accuracies(cell)[-1]) for cell in cells]),
        "auc": summarized([float(area(cell)) for cell in cells]) if whole else None,
        **_confidence(cells, labels if whole else None),
        "notes": [
            *(*notes, *_mixed(done), *settings_in_words(done)),
            *(*updates_in_words(done), *_left_out(done)),
        ],
    }


def _confidence(cells: Sequence[CellResult], labels: Sequence[int] | None) -> dict[str, Any]:
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


def _left_out(done: Cells) -> list[str]:
    """Return which rounds of a row's runs are not on its curve, the same ones together."""
    seeds: dict[tuple[int, ...], list[int]] = {}
    for seed, cell in done.items():
        if cell.left_out:
            seeds.setdefault(cell.left_out, []).append(seed)
    return [
        f"round {numbers(rounds)} of seed {numbers(some)} not on the curve, since a later round "
        "has no more labels"
        for rounds, some in seeds.items()
    ]


def _mixed(done: Cells) -> list[str]:
    """Return in what else than the seed a row's runs differ: then their mean is of no method."""
    notes = []
    contents = [cell.content or {} for cell in done.values()]
    drawn = all(content.get("draw") == "seeded" for content in contents)
    parts = ("settings", *(() if drawn else ("data",)), "model", "strategy", "processes")
    for part in parts:
        seeds: dict[str, list[int]] = {}
        for seed, cell in done.items():
            content = (cell.content or {}).get(part)
            # Settings of the table file have no hash, and one process is not noted.
            if content is not None or part in ("settings", "processes"):
                seeds.setdefault(str(content), []).append(seed)
        if len(seeds) > 1:
            groups = " and ".join(f"seed {numbers(some)}" for some in seeds.values())
            what = "numbers of processes" if part == "processes" else part
            notes.append(f"runs of different {what} stand together: {groups}")
    return notes

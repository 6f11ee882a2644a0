"""What each batch of labels gains over the first ones, and how many labels reach a target.

A section of tables that ask for it (``gains`` in the table file): what studies report as "so many
times the gain of random choice" and "so many percent fewer labels", with intervals over seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from star.evaluation.gains import Factor, LabelsTo, factor, labels_to
from star.evaluation.learning_curves import mean_interval
from star.experiments.report.comparisons import (
    Cells,
    Interval,
    accuracies,
    counts_in_words,
    labels_of,
)
from star.experiments.report.layout import NOT_THERE, Sheet, spread
from star.experiments.report.likeness import Likeness, unlike_in_words, untested_in_words
from star.experiments.report.record import Record


@dataclass(frozen=True)
class Point:
    """A row at a label count: gains over its own first point, in accuracy.

    Attributes:
        labels: Its label count.
        gain: Over the seeds that the baseline has too.
        difference: To the baseline's gain, on the same seeds; ``None`` of the baseline itself.
        factor: Of the baseline's gain; ``None`` where the baseline gains nothing.
    """

    labels: int
    gain: Interval
    difference: Interval | None
    factor: Factor | None


@dataclass(frozen=True)
class Gains:
    """A row in a column, on the seeds that it shares with the baseline.

    Attributes:
        n: Those seeds, of the same data and model.
        start: The first label count.
        points: At each later label count.
        targets: Labels to the baseline's end, then to each accuracy that the table names.
    """

    column: str
    row: str
    n: int
    start: int
    points: tuple[Point, ...]
    targets: tuple[LabelsTo, ...]


def gains_of(record: Record) -> list[Gains]:
    """Return the gains of every row with a curve of the baseline's label counts, by column."""
    found, likeness = [], Likeness(record)
    for column in record.columns:
        for row, cells, base in _beside_baseline(record, column.name):
            seeds, _ = likeness.sorted_out(cells, base)
            labels = labels_of([runs[seed] for runs in (cells, base) for seed in seeds])
            if labels is None or len(labels) < 2:
                continue
            method, other = (
                [list(map(float, accuracies(runs[seed]))) for seed in seeds]
                for runs in (cells, base)
            )
            itself = row == record.baseline
            points = tuple(
                _point(labels[k], *([run[k] - run[0] for run in runs] for runs in (method, other)))
                if not itself
                else Point(labels[k], _mean([run[k] - run[0] for run in other]), None, None)
                for k in range(1, len(labels))
            )
            targets = tuple(
                labels_to(labels, method, other, target) for target in (None, *(record.gains or ()))
            )
            found.append(Gains(column.name, row, len(seeds), labels[0], points, targets))
    return found


def _beside_baseline(record: Record, column: str) -> list[tuple[str, Cells, Cells]]:
    """Return each row with a curve that has finished runs, these, and the baseline's."""
    done: dict[str, Cells] = {}
    for cell in record.results(column):
        done.setdefault(cell.row, {})[cell.seed] = cell
    base = done.get(record.baseline, {})
    rows = [row.name for row in record.rows if row.curve and row.name in done]
    return [(row, done[row], base) for row in rows]


def _not_alike(record: Record, column: str) -> list[str]:
    """Return which rows, or seeds of them, are not beside the baseline as they should be, and why.

    What is silently left out would be missed by nobody.
    """
    baseline, likeness, said = record.baseline, Likeness(record), []
    for row, cells, base in _beside_baseline(record, column):
        seeds, unlike = likeness.sorted_out(cells, base)
        pairs = [(cells[seed], base[seed]) for seed in seeds]
        notes = unlike_in_words(baseline, unlike) + untested_in_words(baseline, pairs)
        if base and not seeds and not unlike:
            notes.append(f"left out, no seed of it is {baseline}'s too")
        elif seeds and labels_of([run for pair in pairs for run in pair]) is None:
            counts = [counts_in_words([pair[k] for pair in pairs]) for k in (0, 1)]
            notes.append(f"left out, its label counts {counts[0]} aren't {baseline}'s, {counts[1]}")
        said += [f"{row}: {note}." for note in notes if row != baseline]
    return said


def _point(labels: int, gains: Sequence[float], base: Sequence[float]) -> Point:
    differences = [one - two for one, two in zip(gains, base, strict=True)]
    return Point(labels, _mean(gains), _mean(differences), factor(gains, base))


def _mean(values: Sequence[float]) -> Interval:
    return Interval(*mean_interval(values))


def gain_sheets(record: Record) -> list[Sheet]:
    """Return two sheets a column, gains and labels to targets; none if they are not asked for."""
    if record.gains is None:
        return []
    every = gains_of(record)
    sheets = []
    for column in record.columns:
        of_column = [one for one in every if one.column == column.name]
        if of_column:
            sheets.append(_gain_sheet(record, column.name, of_column))
            sheets.append(_label_sheet(record, column.name, of_column))
    return sheets


def _gain_sheet(record: Record, column: str, rows: Sequence[Gains]) -> Sheet:
    baseline = record.baseline
    points = [(one, point) for one in rows for point in one.points]
    points.sort(key=lambda pair: pair[1].labels)  # stable: rows stay in their order
    body = [
        [
            one.row,
            str(point.labels),
            spread(point.gain, sign="+"),
            NOT_THERE if point.difference is None else spread(point.difference, sign="+"),
            _factor(point.factor),
            str(one.n),
        ]
        for one, point in points
    ]
    start = rows[0].start
    notes = [
        f"Gain: accuracy less that at {start} labels, in points. ± is half of the 95 % t-interval "
        f"over seeds, of the differences to {baseline} on the same seeds. Factor: mean gain over "
        f"{baseline}'s, with Fieller's 95 % interval, paired by seed; “≤ … or ≥ …” and “any” where "
        f"{baseline}'s own gain is not told from zero, so that no factor can be bounded; – where "
        "it is not above zero. Nothing here is corrected for the number of rows and label counts."
    ]
    if any(one.n == 1 for one in rows):
        notes.append("One seed has no interval.")
    head = ["row", "labels", "gain", f"gain − {baseline}'s", f"factor over {baseline}", "n"]
    notes += _not_alike(record, column)
    return Sheet(f"{column}-gains", f"{column}: gain of labels", "", head, body, set(), notes)


def _factor(found: Factor | None) -> str:
    if found is None:
        return NOT_THERE
    # + 0.0: a −0 that is left of rounding becomes 0.
    ends = (found.value, found.low, found.high)
    shown, low, high = (f"{round(end or 0.0, 2) + 0.0:.2f}" for end in ends)
    if found.kind == "between":
        shown += f" ({low} to {high})"
    elif found.kind == "outside":
        shown += f" (≤ {low} or ≥ {high})"
    elif found.kind == "any":
        shown += " (any)"
    return shown.replace("-", "−")


def _label_sheet(record: Record, column: str, rows: Sequence[Gains]) -> Sheet:
    baseline = record.baseline
    ends = [f"{baseline}'s end", *(f"{100 * target:g} %" for target in record.gains or ())]
    head = ["row", *(name for end in ends for name in (f"labels to {end}", "saved")), "n"]
    body = [
        [one.row, *(text for target in one.targets for text in _labels(target)), str(one.n)]
        for one in rows
    ]
    notes = [
        "Labels at which the mean curve over seeds, isotonic and straight between its points, "
        f"reaches the target; saved: the share of {baseline}'s last label count that this leaves. "
        "In parentheses 95 % percentile intervals of a bootstrap over seeds, both rows' together, "
        f"with {baseline}'s end drawn anew in each; with few seeds they are somewhat too narrow. "
        "“never”: the share of resamples that do not reach it. No curve reaches anything before "
        f"its first point, {rows[0].start} labels."
    ]
    if any(one.n == 1 for one in rows):
        notes.append("One seed has no interval.")
    notes += _not_alike(record, column)
    return Sheet(f"{column}-targets", f"{column}: labels to a target", "", head, body, set(), notes)


def _labels(found: LabelsTo) -> tuple[str, str]:
    """Return the labels and what they save, with intervals."""

    def labels(value: float | None) -> str:
        return "not reached" if value is None else f"{value:.0f}"

    def saved(value: float | None) -> str:
        share = found.saved(value)
        return "none" if share is None else f"{round(100 * share) + 0} %".replace("-", "−")

    told = labels(found.labels), saved(found.labels)
    if found.never is None:
        return told
    never = f"; never {100 * found.never:.0f} %" if found.never else ""
    return (
        f"{told[0]} ({labels(found.low)} to {labels(found.high)}{never})",
        f"{told[1]} ({saved(found.high)} to {saved(found.low)})",
    )

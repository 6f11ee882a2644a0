"""What each batch of labels gains over the first ones, and how many labels reach a target.

A section of tables that ask for it (``gains`` in the table file): what studies report as "so many
times the gain of random choice" and "so many percent fewer labels", with intervals over seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from star.evaluation.gains import Factor, LabelsTo, factor, labels_to
from star.evaluation.learning_curves import mean_interval
from star.experiments.report.comparisons import Cells, Interval, accuracies, labels_of
from star.experiments.report.layout import NOT_THERE, Sheet, spread
from star.experiments.report.likeness import Likeness
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
        done: dict[str, Cells] = {}
        for cell in record.results(column.name):
            done.setdefault(cell.row, {})[cell.seed] = cell
        base = done.get(record.baseline, {})
        for row in record.rows:
            cells = done.get(row.name, {})
            seeds, _ = likeness.sorted_out(cells, base)
            labels = labels_of([runs[seed] for runs in (cells, base) for seed in seeds])
            if not row.curve or labels is None or len(labels) < 2:
                continue
            method, other = (
                [list(map(float, accuracies(runs[seed]))) for seed in seeds]
                for runs in (cells, base)
            )
            itself = row.name == record.baseline
            points = tuple(
                _point(labels[k], *([run[k] - run[0] for run in runs] for runs in (method, other)))
                if not itself
                else Point(labels[k], _mean([run[k] - run[0] for run in other]), None, None)
                for k in range(1, len(labels))
            )
            targets = tuple(
                labels_to(labels, method, other, target) for target in (None, *(record.gains or ()))
            )
            found.append(Gains(column.name, row.name, len(seeds), labels[0], points, targets))
    return found


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
    return Sheet(f"{column}-gains", f"{column}: gain of labels", "", head, body, set(), notes)


def _factor(found: Factor | None) -> str:
    if found is None:
        return NOT_THERE
    shown = f"{found.value:.2f}"
    if found.kind == "between":
        shown += f" ({found.low:.2f} to {found.high:.2f})"
    elif found.kind == "outside":
        shown += f" (≤ {found.low:.2f} or ≥ {found.high:.2f})"
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

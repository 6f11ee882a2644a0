"""What pictures show of a table's record: means with intervals over seeds, pooled bins, overlaps.

Numbers alone, from a record; :mod:`star.experiments.report.figures` draws them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from star.evaluation.learning_curves import mean_interval
from star.experiments.report.likeness import Likeness
from star.experiments.report.record import VIEWS, CellResult, Record

Array = NDArray[np.float64]

BINS = 15


@dataclass(frozen=True)
class Strategy:
    """A row of the table in one column.

    Attributes:
        name: The row's.
        curve: Whether it has a learning curve; ``False``: a point.
        cells: Those that finished, in the record's order.
        wanted: How many seeds the record has.
        apart: What some of them are of another than the baseline's, see ``Likeness.apart``.
    """

    name: str
    curve: bool
    cells: tuple[CellResult, ...]
    wanted: int
    apart: tuple[str, ...]

    @property
    def label(self) -> str:
        """The name, and what a reader must know: that it reads labels, lacks seeds, is unlike."""
        notes = []
        if not all(cell.label_free for cell in self.cells):
            notes.append("reads labels")
        if len(self.cells) < self.wanted:
            notes.append(f"{len(self.cells)} of {self.wanted} seeds")
        if self.curve and len({cell.labels for cell in self.cells}) > 1:
            notes.append("at counts of all seeds")
        notes += [f"other {part}" for part in self.apart]
        return f"{self.name} ({', '.join(notes)})" if notes else self.name


@dataclass(frozen=True)
class Line:
    """Means over seeds in the order of x.

    Attributes:
        x: (n,) places.
        mean: (n,) means over the seeds.
        low: (n,) lower ends of the 95 % t-intervals; NaN where there is one seed.
        high: (n,) upper ends.
    """

    x: Array
    mean: Array
    low: Array
    high: Array


def strategies(record: Record, column: str) -> list[Strategy]:
    """Return the rows that are run in a column, in the table's order, finished or not."""
    there = {cell.row for cell in record.cells if cell.column == column}
    likeness, wanted = Likeness(record), len(record.seeds)
    done: dict[str, dict[int, CellResult]] = {}
    for cell in record.results(column):
        done.setdefault(cell.row, {})[cell.seed] = cell
    found = []
    for row in record.rows:
        if row.name in there:
            cells = done.get(row.name, {})
            apart = likeness.apart(cells, done.get(record.baseline, {}))
            found.append(Strategy(row.name, row.curve, tuple(cells.values()), wanted, apart))
    return found


def grouped(rows: Sequence[Strategy], baseline: str, size: int) -> list[list[Strategy]]:
    """Return groups of at most ``size`` rows and the baseline, which is the first of each.

    Groups differ by one row at most. Who finished plays no part, so a row keeps its place when
    seeds are missing. Without rows there is no group.
    """
    first = [row for row in rows if row.name == baseline]
    others = [row for row in rows if row.name != baseline]
    count = -(-len(others) // size) or len(first)
    ends = [len(others) * i // max(count, 1) for i in range(count + 1)]
    return [[*first, *others[a:b]] for a, b in pairwise(ends)]


def over_seeds(points: Iterable[tuple[int, float, float]]) -> Line:
    """Return the mean and 95 % t-interval at each key.

    Args:
        points: (key, x, value), one a seed and key. Points of one key are averaged in x too; the
            line goes from key to key, upwards.
    """
    groups: dict[int, list[tuple[float, float]]] = {}
    for key, x, value in points:
        groups.setdefault(key, []).append((x, value))
    rows = []
    for key in sorted(groups):
        x, values = zip(*groups[key], strict=True)
        rows.append((np.mean(x), *mean_interval(values)))
    # As floats None becomes NaN.
    return Line(*np.array(rows, dtype=np.float64).reshape(-1, 4).T)


def learning_curve(cells: Sequence[CellResult]) -> Line:
    """Return accuracy (a fraction) over the number of labelled examples.

    Through the counts that all cells have: a line from one seed's point to another's would show
    what differs between seeds as what labels gain.
    """
    shared = _shared_counts(cells)
    return over_seeds(
        (r.labeled, r.labeled, r.accuracy) for c in cells for r in c.rounds if r.labeled in shared
    )


def _shared_counts(cells: Sequence[CellResult]) -> set[int]:
    return set.intersection(*(set(cell.labels) for cell in cells)) if cells else set()


def compute_curve(cells: Sequence[CellResult]) -> Line:
    """Return accuracy over the seconds it took to get there, of training, evaluation and scoring.

    What a round spends on scoring serves the next one and counts from there on. A cell counts up to
    its first round without seconds. Through the label counts that all cells have.
    """
    points, shared = [], _shared_counts(cells)
    for cell in cells:
        spent = 0.0
        for r in cell.rounds:
            if not r.seconds:
                break
            spent += r.seconds.get("train", 0.0) + r.seconds.get("evaluate", 0.0)
            points.append((r.labeled, spent, r.accuracy))
            spent += r.seconds.get("score", 0.0)
    return over_seeds(point for point in points if point[0] in shared)


def last_accuracy(cells: Sequence[CellResult]) -> float | None:
    """Return the mean accuracy of the last rounds; ``None`` without a cell."""
    return float(np.mean([c.rounds[-1].accuracy for c in cells])) if cells else None


def gap_curves(cells: Sequence[CellResult]) -> dict[str, Line]:
    """Return what the two views said of the unlabelled pool, over the number of labelled examples.

    ``base`` and ``full``: mean score, in the row's own measure; ``rank_correlation`` of the two.
    What was never recorded is left out.
    """
    found = {}
    for key in ("base", "full", "rank_correlation"):
        points = [
            (r.labeled, r.labeled, r.gap[key])
            for c in cells
            for r in c.rounds
            if r.gap and r.gap.get(key) is not None
        ]
        if points:
            found[key] = over_seeds(points)
    return found


def pooled_reliability(cells: Sequence[CellResult]) -> dict[str, Array]:
    """Return each view's reliability bins, the test examples of all cells taken together.

    Returns:
        View to (bins, 3): mean confidence, accuracy, count; lowest confidence first, no empty bin.
        Views that no cell has are left out.
    """
    found = {}
    for view in VIEWS:
        stored = [b for c in cells for b in (c.reliability or {}).get(view, ())]
        confidence, accuracy, count = np.array(stored, dtype=np.float64).reshape(-1, 3).T
        # Bins are (low, high]; a mean on the upper edge may have been rounded, hence the slack.
        place = np.clip(np.ceil(confidence * BINS - 1e-4) - 1, 0, BINS - 1).astype(np.int64)
        size = np.bincount(place, weights=count, minlength=BINS)
        sums = [
            np.bincount(place, weights=count * v, minlength=BINS) for v in (confidence, accuracy)
        ]
        there = size > 0
        if there.any():
            found[view] = np.stack([*(s[there] / size[there] for s in sums), size[there]], axis=1)
    return found


def overlaps(rows: Sequence[Strategy], likeness: Likeness) -> Array:
    """Return how much of what was picked over the whole run two rows have in common.

    Returns:
        (n, n): mean over seeds of the Jaccard index |A ∩ B| / |A ∪ B| of the picked pool indices.
        Off the diagonal of the two rows under the same seed; on it of one row under two seeds, over
        all pairs. NaN where nothing can be compared, as indices of pools drawn by the seed, or of
        an edited one.
    """
    runs = [{c.seed: c for c in row.cells if _picked(c)} for row in rows]
    picked = [{seed: _picked(c) for seed, c in of_row.items()} for of_row in runs]
    found = np.full((len(rows), len(rows)), np.nan)
    for i, one in enumerate(picked):
        for j, other in enumerate(picked):
            if i == j:
                drawn = any((c.content or {}).get("draw") for c in rows[i].cells)
                pairs = [] if drawn else list(combinations(one.values(), 2))
            else:
                alike, _ = likeness.sorted_out(runs[i], runs[j])
                pairs = [(one[seed], other[seed]) for seed in alike]
            if pairs:
                found[i, j] = np.mean([len(a & b) / len(a | b) for a, b in pairs])
    return found


def _picked(cell: CellResult) -> frozenset[int]:
    return frozenset(index for r in cell.rounds for index in r.selected or ())

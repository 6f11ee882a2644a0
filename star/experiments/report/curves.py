"""Pictures of lines from a table's record: learning curves, compute, the gap between the views."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from star.experiments.report import series
from star.experiments.report.style import STYLES

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from star.experiments.report.record import Record
    from star.experiments.report.series import Line, Strategy

# Black for the row that all are compared with, in every panel; six lines are what one panel bears.
BASELINE, OTHERS = STYLES[4], (*STYLES[:4], STYLES[5])
REFERENCES = tuple(
    {"color": grey, "linestyle": (0, dots), "linewidth": 1.3}
    for grey, dots in (("0.25", (1, 1)), ("0.25", (1, 3)), ("0.25", (1, 1, 1, 4)), ("0.6", (1, 1)))
)
VIEW_STYLES = dict(zip(series.VIEWS, STYLES, strict=False))
# Over matplotlib's defaults.
LOOK = {
    "font.size": 9,
    "axes.titlesize": 9,
    "figure.titlesize": 10,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.borderaxespad": 0.0,  # away from the panels where it lies outside of them
    "legend.handlelength": 3.4,  # long enough to show the dashes
    "legend.labelspacing": 0.3,
    "legend.columnspacing": 1.2,
    "pdf.fonttype": 42,  # TrueType: what publishers take
}
LABELS = "labelled examples"
HANDLE = 0.6  # inches of a legend's entry beside its words
PANEL, ALONE = 2.7, 3.6  # inches; two panels fill a printed page, one alone half of it
SMALL = 2.1
A_PAGE = 12  # small panels in one picture


def learning_curves(record: Record, column: str) -> list[Figure]:
    """Draw accuracy over labels: means over seeds with 95 % t-intervals."""
    return _accuracy(record, column, {LABELS: series.learning_curve})


def compute(record: Record, column: str) -> list[Figure]:
    """Draw accuracy over labels, and beside it over the seconds that it took."""
    used = set().union(*(cell.places for cell in record.results(column)))
    told = {str(record.environments[place].hardware) for place in used}
    where = "the machines that ran it" if len(told) > 1 else "the machine that ran it"
    seconds = f"seconds on {where}\n(training, evaluation, scoring)"
    return _accuracy(record, column, {LABELS: series.learning_curve, seconds: series.compute_curve})


def _accuracy(
    record: Record, column: str, kinds: Mapping[str, Callable[..., Line]]
) -> list[Figure]:
    """Draw groups of rows, one a panel, or one a line of panels where there are several kinds."""
    rows = series.strategies(record, column)
    groups = series.grouped([r for r in rows if r.curve], record.baseline, len(OTHERS))
    points = [row for row in rows if not row.curve]
    if not all(any(of(row.cells).x.size for row in rows if row.curve) for of in kinds.values()):
        return []

    across = len(kinds) if len(kinds) > 1 else min(2, len(groups))
    panel = PANEL if across > 1 else ALONE
    depth = -(-len(groups) * len(kinds) // across)
    spanned = panel * (across if len(kinds) > 1 else 1)
    entries = [[wrapped(row.label, spanned) for row in [*group, *points]] for group in groups]
    columns = legend_columns([label for labels in entries for label in labels], spanned)
    below = max(legend_height(labels, columns) for labels in entries)
    # A panel's own decorations take some 0.6 inches over its ratio.
    figure = new_figure(panel * across, 0.3 + depth * (1.9 + 0.6 + below))
    put_title(figure, _title(column, rows))
    grid = figure.add_gridspec(2 * depth, across, height_ratios=[1.9, below] * depth)

    first: dict[str, Axes] = {}
    for i, group in enumerate(groups):
        deep, at = divmod(i * len(kinds), across)
        for k, (x, of) in enumerate(kinds.items()):
            axes = figure.add_subplot(
                grid[2 * deep, at + k], sharex=first.get(x), sharey=next(iter(first.values()), None)
            )
            first.setdefault(x, axes)
            handles = _strategies(axes, group, record.baseline, of)
            handles += [_reference(axes, row, n) for n, row in enumerate(points)]
            axes.set_xlabel(x)
            axes.tick_params(labelleft=at + k == 0)
            if at + k == 0:
                axes.set_ylabel("test accuracy (fraction)")
        place = grid[2 * deep + 1, at : at + len(kinds)]
        legend(figure.add_subplot(place), handles, entries[i], columns)
    for axes in first.values():
        axes.locator_params(axis="x", nbins=5, integer=True)
    # Intervals of few seeds may leave what an accuracy can be.
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -0.02), min(high, 1.02))
    return [figure]


def _strategies(
    axes: Axes, group: Sequence[Strategy], baseline: str, of: Callable[..., Line]
) -> list[Artist]:
    others = iter(OTHERS)
    return [
        band(axes, of(row.cells), BASELINE if row.name == baseline else next(others), row.label)
        for row in group
    ]


def _reference(axes: Axes, row: Strategy, n: int) -> Artist:
    """Draw a horizontal line for a row that is a point; without one, only its legend."""
    height, style = series.last_accuracy(row.cells), REFERENCES[n % len(REFERENCES)]
    if height is None:
        return axes.plot([], [], label=row.label, **style)[0]
    return axes.axhline(height, label=row.label, **style)


def band(axes: Axes, line: Line, style: Mapping[str, Any], label: str) -> Artist:
    """Draw a line with its interval as a band, which a single seed has not."""
    if np.isfinite(line.low).any():
        shade = {"facecolor": (style["color"], 0.13), "edgecolor": (style["color"], 0.4)}
        axes.fill_between(line.x, line.low, line.high, linewidth=0.5, **shade)
    return axes.plot(line.x, line.mean, label=label, **style)[0]


def gap(record: Record, column: str) -> list[Figure]:
    """Draw what base and full view said of the unlabelled pool over the rounds, a panel a row."""
    rows = series.strategies(record, column)
    found = {row.label: series.gap_curves(row.cells) for row in rows}
    found = {label: lines for label, lines in found.items() if lines}
    title = _title(column, rows, "scores of the unlabelled pool, ")
    return [_gap_page(title, page) for page in pages(found)]


def _gap_page(title: str, found: Mapping[str, Mapping[str, Line]]) -> Figure:
    across = min(3, len(found))
    depth = -(-len(found) // across)
    figure = new_figure(max(SMALL * across, ALONE), 0.6 + 2.7 * depth)
    put_title(figure, title)
    grid = figure.add_gridspec(2 * depth, across, height_ratios=[1.2, 0.7] * depth)
    names = {"base": "base view", "full": "full view"}
    above = below = None
    handles: dict[str, Artist] = {}
    for i, (label, lines) in enumerate(found.items()):
        deep, at = divmod(i, across)
        # Scores of rows have each their own measure, so the panels share no scale.
        above = figure.add_subplot(grid[2 * deep, at], sharex=above)
        below = figure.add_subplot(grid[2 * deep + 1, at], sharex=above, sharey=below)
        above.set_title(wrapped(label, SMALL + HANDLE, 9.0))
        for view, name in names.items():
            if view in lines:
                handles[name] = band(above, lines[view], VIEW_STYLES[view], name)
        if "rank_correlation" in lines:
            band(below, lines["rank_correlation"], BASELINE, "rank correlation")
        above.tick_params(labelbottom=False)
        below.tick_params(labelleft=at == 0)
        below.set_xlabel(LABELS)
        if at == 0:
            above.set_ylabel("mean score")
            below.set_ylabel("rank\ncorrelation")
    below.locator_params(axis="x", nbins=4, integer=True)
    low, high = below.get_ylim()
    below.set_ylim(max(low, -1.05), min(high, 1.05))
    figure.legend(
        handles=[handles[name] for name in names.values() if name in handles],
        loc="outside lower center",
        ncols=2,
    )
    return figure


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure in inches. Without pyplot, whose figures are global."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def put_title(figure: Figure, title: str) -> None:
    """Put a title over a figure, in lines that fit its width."""
    letters = int(figure.get_figwidth() / letter(10.0))
    figure.suptitle("\n".join(textwrap.fill(line, letters) for line in title.splitlines()))


def pages(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the entries in lots of at most ``A_PAGE``."""
    entries = iter(found.items())
    return list(iter(lambda: dict(islice(entries, A_PAGE)), {}))


def wrapped(label: str, width: float, size: float = 8.0) -> str:
    """Return a label in lines that fit into so many inches, beside a legend's handle."""
    return textwrap.fill(label, int((width - HANDLE) / letter(size)))


def letter(size: float) -> float:
    """Return the inches that a letter takes, on the average, in a font of so many points."""
    return 0.6 * size / 72


def legend_columns(labels: Sequence[str], width: float) -> int:
    """Return how many columns of a legend fit into so many inches."""
    longest = max(len(line) for label in labels for line in label.splitlines())
    return max(1, min(int(width / (longest * letter(8.0) + HANDLE)), 4))


def legend_height(labels: Sequence[str], columns: int) -> float:
    """Return the inches that a legend takes at most."""
    lines = sorted((label.count("\n") + 1 for label in labels), reverse=True)
    return 0.02 + 0.145 * sum(lines[: -(-len(lines) // columns)])


def legend(axes: Axes, handles: Sequence[Artist], labels: Sequence[str], columns: int) -> None:
    """Put a legend in the place of a panel: nothing can lie behind it."""
    axes.set_axis_off()
    axes.legend(handles, labels, loc="upper center", ncols=columns)


def _title(column: str, rows: Sequence[Strategy], what: str = "") -> str:
    most = max((len(row.cells) for row in rows), default=0)
    seeds = "one seed" if most == 1 else f"mean of {most} seeds, 95 % intervals"
    return f"{column}: {what}{seeds}"

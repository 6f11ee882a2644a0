"""From a table's record to pictures: learning curves, compute, reliability, gap, pick overlap.

Nothing else is read, and the same record gives the same bytes (with the same matplotlib).
"""

from __future__ import annotations

import logging
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from star.errors import InputError, nearest
from star.experiments.report import curves, series
from star.experiments.report.likeness import Likeness
from star.experiments.report.style import save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from star.experiments.report.record import Record
    from star.experiments.report.series import Array

logger = logging.getLogger(__name__)

ENDINGS = ("png", "pdf", "svg")
DPI = 120  # README-sized; for print there is pdf


def draw(
    record: Record,
    folder: str | Path,
    *,
    kinds: Iterable[str] | None = None,
    ending: str = "png",
) -> list[Path]:
    """Draw a table's pictures as ``folder/<column>-<kind>.<ending>``.

    Where a picture has no room for all rows a second one follows, ``<column>-<kind>-2``. What a
    column has no data for is left out, and logged.

    Args:
        record: See :mod:`star.experiments.report.record`.
        folder: Where; made if new.
        kinds: Of ``KINDS``; ``None`` = all.
        ending: One of ``ENDINGS``.

    Returns:
        The pictures, column by column.

    Raises:
        InputError: No such kind or ending, or nothing to draw at all.
    """
    import matplotlib.style

    asked = list(KINDS) if kinds is None else list(dict.fromkeys(kinds))
    for kind in asked:
        if kind not in KINDS:
            raise InputError(
                f"no kind of picture '{kind}'{nearest(kind, KINDS)}; there are {', '.join(KINDS)}"
            )
    if ending not in ENDINGS:
        raise InputError(f"cannot draw '.{ending}': pictures end in {', '.join(ENDINGS)}")
    paths = []
    # The user's own matplotlibrc would change the picture.
    with matplotlib.style.context(["default", curves.LOOK]):
        for column in (column.name for column in record.columns):
            stem = stem_of(column)
            for kind in asked:
                figures = KINDS[kind](record, column)
                if not figures:
                    logger.info("%s: no results to draw %s from", column, kind)
                for n, figure in enumerate(figures, 1):
                    number = f"-{n}" if n > 1 else ""
                    path = Path(folder) / f"{stem}-{kind}{number}.{ending}"
                    paths.append(save(figure, path, dpi=DPI))
    if not paths:
        raise InputError(
            f"table {record.table} has no results to draw {', '.join(asked)} from; run its cells"
        )
    return paths


def stem_of(column: str) -> str:
    """Return what the names of a column's pictures begin with."""
    return re.sub(r"[^\w.+-]+", "-", column)  # those of single runs may hold any letter


def reliability(record: Record, column: str) -> list[Figure]:
    """Draw accuracy over confidence after the last round, a panel a row, a line a view.

    The test examples of all seeds are pooled; a marker's area is its bin's share of them.
    """
    found = {
        row.label: bins
        for row in series.strategies(record, column)
        if (bins := series.pooled_reliability(row.cells))
    }
    title = f"{column}: reliability after the last round\nseeds pooled, area: share of the examples"
    return [_reliability_page(title, page) for page in curves.pages(found)]


def _reliability_page(title: str, found: Mapping[str, Mapping[str, Array]]) -> Figure:
    across = min(3, len(found))
    depth = -(-len(found) // across)
    figure = curves.new_figure(max(curves.SMALL * across, curves.ALONE), 0.8 + 2.15 * depth)
    curves.put_title(figure, title)
    every = figure.subplots(depth, across, sharex=True, sharey=True, squeeze=False)
    handles: dict[str, Any] = {}
    for axes, (label, views) in zip(every.flat, found.items(), strict=False):
        axes.set_title(curves.wrapped(label, curves.SMALL + curves.HANDLE, 9.0))
        handles["perfect"] = axes.axline((0, 0), slope=1, color="0.4", linewidth=0.8)
        for view, bins in views.items():
            style = curves.VIEW_STYLES[view]
            line = {k: v for k, v in style.items() if k != "marker"}
            axes.plot(bins[:, 0], bins[:, 1], linewidth=1.0, **line)
            axes.scatter(
                bins[:, 0],
                bins[:, 1],
                s=3 + 220 * bins[:, 2] / bins[:, 2].sum(),
                color=style["color"],
                marker=style["marker"],
                alpha=0.7,
                linewidth=0,
                zorder=3,
                clip_on=False,  # most lie at the edge, confidence 1
            )
            # For the legend, whose markers should be of one size.
            handles[view] = axes.plot([], [], linewidth=1.0, **style)[0]
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), box_aspect=1)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    for axes in every.flat[len(found) :]:
        axes.remove()
    for i, axes in enumerate(every.flat[: len(found)]):
        lowest = i + across >= len(found)
        axes.tick_params(labelbottom=lowest)
        axes.set_xlabel("confidence" if lowest else "")
        axes.set_ylabel("" if i % across else "accuracy (fraction)")
    names = [name for name in (*series.VIEWS, "perfect") if name in handles]
    figure.legend(
        handles=[handles[name] for name in names],
        labels=[name if name == "perfect" else f"{name} view" for name in names],
        loc="outside lower center",
        ncols=len(names),
    )
    return figure


def overlap(record: Record, column: str) -> list[Figure]:
    """Draw how much of what they picked over the run each two rows have in common, as a matrix."""
    rows = [row for row in series.strategies(record, column) if row.curve]
    shares = series.overlaps(rows, Likeness(record))
    there = ~np.isnan(shares).all(axis=1)
    rows = [row for row, some in zip(rows, there, strict=True) if some]
    shares = shares[there][:, there]
    if not rows:
        return []
    n, labels = len(rows), [row.label for row in rows]
    # Names below the columns where they fit without being turned, else numbers; inches.
    longest = max(map(len, labels)) * curves.letter(8.0)
    named = longest <= 0.9
    cell = max(longest + 0.1, 0.45) if named else 0.45
    width = longest + 0.6 + cell * n
    figure = curves.new_figure(max(width, curves.ALONE), 0.38 * n + 1.1)
    curves.put_title(figure, f"{column}: overlap of what was picked")
    axes = figure.subplots()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    lower = np.where(np.tri(n, dtype=bool), shares, np.nan)  # the other half is the same
    # Half of the scale: black figures can be read on all of it.
    axes.imshow(lower, cmap="Greys", vmin=0, vmax=2 * np.nanmax([*lower.flat, 0.01]), aspect="auto")
    for i in range(n):
        for j in range(i + 1):
            share = lower[i, j]
            said = "–" if np.isnan(share) else f"{share:.2f}"
            axes.text(j, i, said, ha="center", va="center", fontsize=8)
        box = {"fill": False, "edgecolor": curves.STYLES[1]["color"], "linewidth": 1.2}
        axes.add_patch(_rectangle(i, **box))
    numbers = [str(i + 1) for i in range(n)]
    axes.set_xticks(range(n), labels if named else numbers)
    axes.set_yticks(
        range(n), labels if named else [f"{s}  {k}" for s, k in zip(labels, numbers, strict=True)]
    )
    axes.tick_params(length=0)
    notes = "Jaccard index, mean over seeds; framed: one row under two seeds"
    chance = [shares[i, i] for i, row in enumerate(rows) if row.name == record.baseline]
    if chance and not np.isnan(chance[0]):
        notes += f" ({record.baseline}: chance, {chance[0]:.2f})"
    letters = int(figure.get_figwidth() / curves.letter(8.0))
    figure.supxlabel(textwrap.fill(notes, letters), fontsize=8)
    return [figure]


def _rectangle(i: int, **style: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((i - 0.47, i - 0.47), 0.94, 0.94, **style)


KINDS: dict[str, Callable[[Record, str], list[Figure]]] = {
    "curves": curves.learning_curves,
    "compute": curves.compute,
    "reliability": reliability,
    "gap": curves.gap,
    "overlap": overlap,
}

"""How pictures look: styles, panels side by side, and how a picture is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star.errors import InputError
from star.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Point = tuple[float, float, float | None, float | None]  # x, mean, low, high

# Okabe and Ito's colours stay apart for colour-blind readers; markers and dashes do in grey print.
STYLES = (
    {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    {"color": "#D55E00", "marker": "s", "linestyle": "--"},
    {"color": "#009E73", "marker": "^", "linestyle": "-."},
    {"color": "#CC79A7", "marker": "D", "linestyle": ":"},
    {"color": "#000000", "marker": "v", "linestyle": (0, (5, 1, 1, 1, 1, 1))},
    {"color": "#56B4E9", "marker": "P", "linestyle": (0, (8, 2))},
    {"color": "#E69F00", "marker": "X", "linestyle": (0, (3, 2))},
)


def panels_figure(
    panels: Mapping[str, Mapping[str, Sequence[Point]]],
    path: str | Path,
    *,
    x: str,
    y: str,
    log_x: bool = False,
    ticks: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Draw panels side by side over one scale: lines of means with bands of their intervals.

    Args:
        panels: Title to series; a series is a name and its points (x, mean, low, high), in the
            order of x. Without low and high a point has no band.
        path: Where; its ending (.png, .pdf, .svg) decides on the kind.
        x: Label of the horizontal axes.
        y: Label of the vertical axis.
        log_x: Logarithmic horizontal axes.
        ticks: Panel title to the names of the places x = 0, 1, …: the points then stand for
            themselves, with bars instead of bands and no line from one to the next.

    Raises:
        InputError: No panel, or a file ending that stands for no kind of picture.
    """
    # Late, since it costs half a second; no pyplot, whose figures are global and open windows.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path)
    if not panels:
        raise InputError("a figure needs at least one panel")
    figure = Figure(figsize=(3.4 * len(panels) + 0.4, 3.6), layout="constrained")
    _refuse_ending(FigureCanvasAgg(figure), path)
    names = list(dict.fromkeys(name for series in panels.values() for name in series))
    styles = {name: STYLES[i % len(STYLES)] for i, name in enumerate(names)}
    every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, series) in zip(every, panels.items(), strict=True):
        for i, (name, points) in enumerate(series.items()):
            if ticks:
                # Beside one another, not behind.
                _bars(axes, points, name, styles[name], shift=0.12 * (i - (len(series) - 1) / 2))
            else:
                _band(axes, points, name, styles[name])
        axes.set_title(title)
        axes.set_xlabel(x)
        if ticks:
            places = ticks[title]
            axes.set_xticks(range(len(places)), places, rotation=35, ha="right", fontsize="small")
        if log_x and any(series.values()):  # no axis of nothing can be logarithmic
            axes.set_xscale("log")
        _quiet(axes)
    every[0].set_ylabel(y)
    _legend_below(figure, columns=min(4, 2 * len(panels)))
    return save(figure, path, dpi=150)


def _quiet(axes: Axes) -> None:
    """Draw the grid pale and behind, and no frame above and on the right."""
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _legend_below(figure: Figure, *, columns: int) -> None:
    """Name each line once, below all panels."""
    handles = {}
    for axes in figure.axes:
        lines, labels = axes.get_legend_handles_labels()
        handles |= dict(zip(labels, lines, strict=True))
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", frameon=False,
        ncols=min(columns, len(handles)), handlelength=3.5,
    )  # fmt: skip


def _bars(
    axes: Axes, points: Sequence[Point], name: str, style: Mapping[str, Any], *, shift: float
) -> None:
    """Draw points that stand for themselves, each with a bar from low to high."""
    low = [mean - (mean if low is None else low) for _, mean, low, _ in points]
    high = [(mean if high is None else high) - mean for _, mean, _, high in points]
    style = {**style, "linestyle": "none", "markersize": 4.5, "elinewidth": 0.8}
    places, means = [p[0] + shift for p in points], [p[1] for p in points]
    axes.errorbar(places, means, yerr=(low, high), label=name, **style)


def _band(axes: Axes, points: Sequence[Point], name: str, style: Mapping[str, Any]) -> None:
    """Draw a line through the means, and a band from low to high where they are known."""
    places, means = [p[0] for p in points], [p[1] for p in points]
    axes.plot(places, means, label=name, linewidth=1.6, markersize=4.5, **style)
    banded = [p for p in points if p[2] is not None]
    edges = [[p[k] for p in banded] for k in (0, 2, 3)]
    axes.fill_between(*edges, color=style["color"], alpha=0.15, linewidth=0)


def _refuse_ending(canvas: Any, path: Path) -> None:
    kinds = canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".").lower() not in kinds:
        raise InputError(
            f"cannot draw {path}: the ending must be one of {', '.join(sorted(kinds))}"
        )


def save(figure: Any, path: Path, *, dpi: int) -> Path:
    """Write a picture, whole or not at all; the same picture has the same bytes every time.

    Args:
        figure: A ``matplotlib.figure.Figure``.
        path: Where; folders are made, the ending decides on the kind.
        dpi: Pixels an inch.
    """
    import matplotlib

    kind = path.suffix.removeprefix(".").lower()
    # What matplotlib would add: its version, the time, and random names inside an .svg.
    unsaid = {"png": "Software", "pdf": "CreationDate", "svg": "Date"}
    told = {"metadata": {unsaid[kind]: None}} if kind in unsaid else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    # Laid out once, then held: the solver's last bit differs from time to time, and in an .svg
    # names are made of it.
    figure.set_dpi(dpi)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        axes.set_position([round(side, 6) for side in axes.get_position().bounds])
    with matplotlib.rc_context({"svg.hashsalt": "star"}), atomic_write(path) as file:
        figure.savefig(file, format=kind, dpi=dpi, **told)
    return path

"""What small-text's cells say beside ours: ``peers.json`` and ``table.md``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from star.errors import InputError
from star.evaluation.learning_curves import area_under_curve, mean_interval
from star.experiments.report import results
from star.experiments.report.comparisons import Interval
from star.experiments.report.layout import spread
from star.experiments.report.made_by import numbers
from star.experiments.table import Table
from star.files import read_json, write_json


@dataclass(frozen=True)
class Curve:
    """A run: whose, by what, on which seed; accuracies and seconds a round.

    Attributes:
        who: ``star``, or ``small-text`` with what it was told besides its defaults.
        seconds: Part to seconds of each round: ``train``, ``evaluate``, ``query`` (the last has
            none; ours is scoring, embedding and picking); with ``_cpu`` behind, of cores, where
            they are known.
    """

    who: str
    strategy: str
    seed: int
    labels: tuple[int, ...]
    accuracy: tuple[float, ...]
    seconds: Mapping[str, tuple[float, ...]]

    @property
    def area(self) -> float:
        """The mean height of the curve, a fraction."""
        return area_under_curve(self.labels, self.accuracy)


def read_cells(output: Path) -> list[dict[str, Any]]:
    """Return the finished cells of a folder, in their names' order."""
    return [read_json(path) for path in sorted(output.glob("cells/*/*/seed*.json"))]


def ours_of(
    table: Table,
    runs: str | None,
    cells: Sequence[Mapping[str, Any]],
    twins: Mapping[str, str],
) -> list[Curve] | None:
    """Return the curves of the table's own runs, or of its committed record; ``None``: no such.

    Without those of other seeds than the peers' ``cells`` (a row that is the twin of one of their
    strategies: than that strategy's), or of other rows on the same seed: seeds draw pools, so a
    mean over other seeds is of other pools.
    """
    try:
        record = results.find(table.path, root=runs)
    except InputError as error:
        print(f"without runs of our own: {error}")
        return None
    rows = {cell["seed"]: cell["rows"] for cell in cells}
    by_twin: dict[str | None, set[int]] = {}
    for cell in cells:
        by_twin.setdefault(twins.get(cell["strategy"]), set()).add(cell["seed"])
    # A record keeps the beginning of the hash.
    same = [
        cell
        for cell in record.results()
        if cell.seed in by_twin.get(cell.row, rows)
        and rows[cell.seed].startswith((cell.content or {}).get("data") or "unknown")
    ]
    if len(same) < len(record.results()):
        count = len(record.results()) - len(same)
        print(f"left out: {count} runs of ours, of other seeds or rows")
    parts = {"train": "train", "evaluate": "evaluate", "score": "query"}
    return [
        Curve(
            "star",
            cell.row,
            cell.seed,
            cell.labels,
            tuple(point.accuracy for point in cell.rounds),
            {
                name: tuple((point.seconds or {}).get(part, 0.0) for point in cell.rounds)
                for part, name in parts.items()
            },
        )
        for cell in same
    ]


def curve_of(cell: Mapping[str, Any]) -> Curve:
    """Return a cell of small-text as a curve."""
    rate, rounds = cell["learning_rate"], cell["rounds"]
    return Curve(
        "small-text" if rate is None else f"small-text, rate {rate:g}",
        cell["strategy"],
        cell["seed"],
        tuple(point["labeled"] for point in rounds),
        tuple(point["accuracy"] for point in rounds),
        {
            part: tuple(point["seconds"].get(part, 0.0) for point in rounds)
            for name in ("train", "evaluate", "query")
            for part in (name, f"{name}_cpu")
        },
    )


def write(
    folder: Path,
    cells: Sequence[Mapping[str, Any]],
    ours: Sequence[Curve] | None,
    twins: Mapping[str, str],
) -> None:
    """Write ``peers.json``, the peers' cells, and ``table.md``, ours beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    # As they are, but for where they lay: the record says what was run, not on whose disk.
    kept = [{key: part for key, part in cell.items() if key != "file"} for cell in cells]
    write_json(folder / "peers.json", {"cells": kept})
    text = table(kept, ours, twins)
    (folder / "table.md").write_text(text, encoding="utf-8")


def table(
    cells: Sequence[Mapping[str, Any]], ours: Sequence[Curve] | None, twins: Mapping[str, str]
) -> str:
    """Return both side by side as Markdown."""
    curves = [*map(curve_of, cells), *(ours or ())]
    kinds = Counter(curve.labels for curve in curves)
    counts = max(kinds, key=lambda kind: (kinds[kind], len(kind)))
    groups: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves:
        groups.setdefault((curve.who, curve.strategy), []).append(curve)
    head = ["who", "strategy", *(f"{count} labels" for count in counts), "AUC"]
    head += ["train, s", "query, s", "evaluate, s", "n"]
    rows = []
    for (who, strategy), some in groups.items():
        same = [curve for curve in some if curve.labels == counts]
        if same:
            points = zip(*(curve.accuracy for curve in same), strict=True)
            rows.append([who, strategy, *map(_spread, points), _spread(c.area for c in same)])
            rows[-1] += [_seconds(same, part) for part in ("train", "query", "evaluate")]
            rows[-1].append(str(len(same)))
    parts = ["# Beside small-text", _settings(cells), _grid(head, rows)]
    parts += _left_out(groups, counts)
    pairs = _pairs(groups, twins)
    if pairs:
        parts += ["## The same strategy, seed by seed", _grid(*pairs)]
    parts += [
        "Accuracy on the test rows and AUC, the curve's mean height, in percent; ± is half of the "
        "95 % t-interval over seeds, one seed has none. Both had the same pool, test rows and "
        "first labels on each seed. Seconds are means a round, beside whatever else the machine "
        "was doing, in parentheses those that cores were busy with it: small-text's are of "
        "training with its own validation, of the query with what it predicts or embeds, and of "
        "the prediction of the test rows; ours are the run's own."
    ]
    return "\n\n".join(parts) + "\n"


def _left_out(
    groups: Mapping[tuple[str, str], Sequence[Curve]], counts: tuple[int, ...]
) -> list[str]:
    """Return which curves are not of the label counts that the table has."""
    said = []
    for (who, strategy), some in groups.items():
        other = [curve for curve in some if curve.labels != counts]
        if other:
            kinds = dict.fromkeys(", ".join(map(str, curve.labels)) for curve in other)
            seeds = numbers(curve.seed for curve in other)
            said.append(f"{who}: {strategy}, seed {seeds}, with {' or '.join(kinds)}")
    return [f"Left out for their label counts: {'; '.join(said)}."] if said else []


def _settings(cells: Sequence[Mapping[str, Any]]) -> str:
    """Return what the peers trained with and ran on, each kind once."""
    said = dict.fromkeys(
        "small-text {small-text}, torch {torch}, transformers {transformers}".format(
            **cell["packages"]
        )
        + f", {cell['threads']} thread{'s' if cell['threads'] > 1 else ''}: rate "
        "{learning_rate:g}, {num_train_epochs} epochs at most, batches of {train_batch_size}, "
        "{validation_share:.0%} of the labels held out to choose the epoch, {trained:,} parameters "
        "trained.".format(**cell["training"])
        for cell in cells
    )
    return "\n".join(f"* {sentence}" for sentence in said)


def _pairs(
    groups: Mapping[tuple[str, str], Sequence[Curve]], twins: Mapping[str, str]
) -> tuple[list[str], list[list[str]]] | None:
    """Return the differences in area, ours less theirs, on the seeds that both have."""
    rows = []
    for (who, strategy), theirs in groups.items():
        mine = {c.seed: c for c in groups.get(("star", twins.get(strategy, "")), ())}
        both = [(mine[c.seed], c) for c in theirs if c.seed in mine]
        same = [(one, two) for one, two in both if one.labels == two.labels]
        if who != "star" and same:
            areas = _spread((one.area - two.area for one, two in same), sign="+")
            ends = _spread((one.accuracy[-1] - two.accuracy[-1] for one, two in same), sign="+")
            rows.append([f"{who}: {strategy}", twins[strategy], areas, ends, str(len(same))])
    head = ["theirs", "ours", "AUC, ours − theirs", "last accuracy, ours − theirs", "n"]
    return (head, rows) if rows else None


def _spread(values: Any, *, sign: str = "") -> str:
    return spread(Interval(*mean_interval(list(values))), sign=sign)


def _seconds(curves: Sequence[Curve], part: str) -> str:
    """Return the mean over the rounds that have the part."""
    found = [value for curve in curves for value in curve.seconds[part] if value]
    if not found:
        return "–"
    own = [value for curve in curves for value in curve.seconds.get(f"{part}_cpu", ()) if value]
    return f"{fmean(found):.1f}" + (f" ({fmean(own):.1f})" if own else "")


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", "---", *["---:"] * (len(head) - 2)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *rows])

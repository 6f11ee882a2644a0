"""What stands in each place of a printed table, whatever it is printed as; and how to read it.

Accuracies and areas in percent, differences in points.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from star.evaluation.learning_curves import LabelShares
from star.experiments.report.comparisons import (
    QUERY,
    VERSUS,
    Interval,
    Shared,
    Versus,
    marked,
    out_of_reach,
)
from star.experiments.report.confidences import base_models
from star.experiments.report.made_by import numbers
from star.experiments.report.prompting import prompts_in_words
from star.experiments.report.record import Column, NoResult, Record
from star.experiments.report.summary import Line, Summary, usual_labels

NOT_THERE = "–"
ARROWS = {1: " ↑", -1: " ↓", 0: ""}


@dataclass(frozen=True)
class Sheet:
    """A table as text.

    Attributes:
        name: Of the column; empty for all columns together.
        title: In words.
        about: More words; may be empty.
        head: Names of the columns; the first is the rows' own.
        body: A list of texts a row, as long as ``head``.
        bold: (row, column) of what is to be bold, counted in ``body``.
        notes: Lines to print below.
    """

    name: str
    title: str
    about: str
    head: list[str]
    body: list[list[str]]
    bold: set[tuple[int, int]] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def sheets_of(summary: Summary, *, brief: bool = False) -> list[Sheet]:
    """Return a sheet of all rows by all columns, then for each column two: labels, confidences.

    Args:
        summary: Of the table.
        brief: For narrow pages: short heads, the missing seeds in a note; without p-values, seeds
            needed, quartiles and shared queries.
    """
    record = summary.record
    parts = {
        column.name: [line for line in summary.lines if line.column == column.name]
        for column in record.columns
    }
    details = []
    for column in record.columns:
        of_column = parts[column.name]
        details.append(_detail(record, column, of_column, brief))
        details += _confidence(record, column.name, of_column)
    return [_overview(summary, parts, brief), *details]


def _overview(summary: Summary, parts: Mapping[str, Sequence[Line]], brief: bool) -> Sheet:
    places = {column: {line.row: line for line in lines} for column, lines in parts.items()}
    rows = [row.name for row in summary.record.rows]
    usual = [usual_labels(lines, summary.record.baseline) for lines in parts.values()]
    body = []
    for row in rows:
        of_row = [places[column].get(row) for column in parts]
        apart = [summary.apart(column, row) for column in parts]
        entries = [_in_overview(*one, brief) for one in zip(of_row, usual, apart, strict=True)]
        body.append([named(row, of_row), *entries])
    bold = set()
    for j, column in enumerate(places, 1):
        # As printed: what looks the same is equally good.
        shown = {line.row: _percent(line.auc.mean) for line in summary.rivals(column) if line.auc}
        if summary.uneven(column) or any(summary.apart(column, row) for row in rows):
            continue
        best = max(shown.values(), key=float, default=None)
        bold |= {(i, j) for i, row in enumerate(rows) if shown.get(row, "") == best}
    curves = any(line.curve for line in summary.lines)
    title = "Area under the learning curve" if curves else "Final accuracy"
    notes = []
    short = out_of_reach(summary.comparisons)
    if short is not None:
        notes.append(
            f"With {short[0]} seeds and {short[1]} comparisons the least corrected p of a sign "
            f"flip is {short[2]:.2g}: it can confirm nothing here, however large it is."
        )
    return Sheet("", title, "", ["row", *parts], body, bold, notes)


def _in_overview(line: Line | None, usual: Sequence[int] | None, apart: str, brief: bool) -> str:
    if line is None:
        return NOT_THERE
    if line.n == 0:
        return "failed" if line.failed and not line.missing else "missing"
    part = f" ({apart})" if apart else ""
    if line.n < line.wanted:
        part += f" ({'' if brief else 'n = '}{line.n} of {line.wanted})"
    if not line.curve:
        return f"accuracy {spread(line.accuracy)}{part}"
    if line.auc is None:
        return f"seeds of different label counts{part}"
    other = "" if line.labels == usual else " (other label counts)"
    return f"{spread(line.auc)}{ARROWS[marked(line.versus_random)]}{other}{part}"


def _detail(record: Record, column: Column, lines: Sequence[Line], brief: bool) -> Sheet:
    baseline = record.baseline
    head = {
        "accuracy": "final accuracy",
        "auc": "AUC",
        "versus_random": f"AUC − {baseline}",
        "versus_naive": "AUC − naive",
        "query_random": f"first query shared with {baseline}",
        "query_naive": "first query shared with naive",
        "ripl": "RIPL",
        "label_share": f"labels to {baseline}'s end",
    }
    head = _with_entries(head, lines)
    if brief:
        short = {"accuracy": "accuracy", "label_share": "labels; never"}
        head = {key: short.get(key, text) for key, text in head.items() if key not in QUERY}
    body = [
        [
            named(line.row, [line]),
            *(_entry(line, key, brief) for key in head),
            "; ".join([_seeds(line), *([] if brief else _gaps(line))]),
        ]
        for line in lines
    ]
    about = [column.about.rstrip(".") + "."] if column.about else []
    about += prompts_in_words(column)
    labels = usual_labels(lines, baseline)
    if labels is not None:
        about.append(f"Label counts: {', '.join(map(str, labels))}.")
    notes = [f"{line.row}: {note}." for line in lines for note in line.notes]
    notes += _all_gaps(lines) if brief else []
    notes += [
        f"{cell.row}, seed {cell.seed} failed: {cell.error}"
        for cell in record.cells
        if cell.column == column.name and isinstance(cell, NoResult) and cell.status == "failed"
    ]
    title = column.name
    return Sheet(title, title, " ".join(about), ["row", *head.values(), "n"], body, set(), notes)


def _confidence(record: Record, column: str, lines: Sequence[Line]) -> list[Sheet]:
    """Return the sheet of how well a column's confidences fit; none where nothing is known."""
    heads = {
        "ece": "ECE",
        "overconfidence": "overconfidence",
        "ece_area": "ECE area",
        "ece_token_mean": "ECE, token mean",
        "overconfidence_token_mean": "overconfidence, token mean",
        "ece_token_mean_area": "ECE area, token mean",
    }
    head = _with_entries(heads, lines)
    if not head:
        return []
    body = [
        [
            named(line.row, [line]),
            *(_of_confidence(getattr(line, key), key) for key in head),
            _seeds(line),
        ]
        for line in lines
    ]
    groups, notes = base_models(record, column), []
    for rows in groups:
        # Of those that answer alike the row of most seeds has them all.
        whole = max((line for line in lines if line.row in rows), key=lambda line: line.n)
        name = "base model" if rows == groups[0] else f"base model of {', '.join(rows)}"
        # Of areas there are none.
        base = [_of_confidence(getattr(whole, f"base_{key}", None), key) for key in head]
        body.append([name, *base, str(whole.n)])
    if len(groups) > 1:
        notes.append(
            "Not all rows ask the base model alike, or judge it alike; the first is that of all "
            "rows that no other is named after."
        )
    name, title = f"{column}-confidence", f"{column}: confidence"
    return [Sheet(name, title, "", ["row", *head.values(), "n"], body, set(), notes)]


def _with_entries(heads: Mapping[str, str], lines: Sequence[Line]) -> dict[str, str]:
    """Return the heads of those columns that something stands in; others say nothing."""
    return {key: text for key, text in heads.items() if any(getattr(line, key) for line in lines)}


def _of_confidence(interval: Interval | None, key: str) -> str:
    if interval is None:
        return NOT_THERE
    return spread(interval, sign="+" if key.startswith("overconfidence") else "")


def _entry(line: Line, key: str, brief: bool) -> str:
    entry = getattr(line, key)
    if entry is None:
        return NOT_THERE
    if key in VERSUS:
        return _difference(line, key, brief)
    if key in QUERY:
        return spread(entry) + (f" ({entry.row})" if key == QUERY[1] else "")
    return _share(entry, brief) if key == "label_share" else spread(entry)


def _difference(line: Line, key: str, brief: bool) -> str:
    versus: Versus = getattr(line, key)
    notes = [versus.row] if key == "versus_naive" else []
    if not brief:
        if versus.p_corrected is not None:
            notes.append(_p(versus.p_corrected))
        if versus.p_sign_flip_corrected is not None:
            notes.append(_p(versus.p_sign_flip_corrected, "flip"))
        if not marked(versus) and versus.seeds_needed is not None:
            notes.append(f"{versus.seeds_needed} seeds")
    if versus.n < line.n:
        notes.append(f"n = {versus.n}")
    shown = spread(versus, sign="+") + ARROWS[marked(versus)]
    return f"{shown} ({'; '.join(notes)})" if notes else shown


def _share(share: LabelShares, brief: bool) -> str:
    def percent(part: float | None) -> str:
        return NOT_THERE if part is None else f"{100 * part:.0f} %"

    if brief:
        return f"{percent(share.median)}; {percent(share.never)}"
    quartiles = f"{percent(share.low)} to {percent(share.high)}"
    return f"{percent(share.median)} ({quartiles}); never {percent(share.never)}"


def spread(interval: Interval | Shared | Versus, *, sign: str = "") -> str:
    """Return a mean ± half of its interval, both times 100; the mean alone without one."""
    mean = _percent(interval.mean, sign)
    if interval.low is None:
        return mean
    return f"{mean} ± {_percent((interval.high - interval.low) / 2)}"


def _percent(value: float, sign: str = "") -> str:
    # + 0.0: a −0 that is left of rounding becomes 0.
    return f"{round(100 * value, 1) + 0.0:{sign}.1f}".replace("-", "−")


def _p(p: float, name: str = "p") -> str:
    if p < 0.001:
        return f"{name} < 0.001"
    return f"{name} = {p:.2f}" if p >= 0.1 else f"{name} = {p:.3f}"


def named(row: str, lines: Iterable[Line | None]) -> str:
    """Return a row's name, marked if a run of it read labels that were not bought."""
    using = any(line is not None and line.label_free is False for line in lines)
    return f"{row} (label-using)" if using else row


def _seeds(line: Line) -> str:
    return str(line.n) + (f" of {line.wanted}" if line.n < line.wanted else "")


def _gaps(line: Line) -> list[str]:
    gaps = {"missing": line.missing, "failed": line.failed}
    return [f"{key}: seed {numbers(seeds)}" for key, seeds in gaps.items() if seeds]


def _all_gaps(lines: Sequence[Line]) -> list[str]:
    """Return which seeds are missing or failed, rows that lack the same ones together."""
    same: dict[str, list[str]] = {}
    for line in lines:
        if line.missing or line.failed:
            same.setdefault("; ".join(_gaps(line)), []).append(line.row)
    return [f"{', '.join(rows)}: {gaps}." for gaps, rows in same.items()]

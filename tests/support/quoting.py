"""Figures that prose quotes, held to the committed records; see ``test_quoting`` for the syntax."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from star.experiments.report.comparisons import LEVEL, accuracies, area
from star.experiments.report.record import Record, read_record
from star.experiments.report.significance import compare

CHECKED = "<!-- figures checked -->"
BLOCK = re.compile(r"<!-- figures\n(.*?)-->", re.DOTALL)
NUMBER = r"\d+(?:\.\d+)?"
FIGURE = re.compile(
    rf"(?<![\w.§])p [=<] {NUMBER}"  # a p-value
    rf"|(?<![\w.])[+−]?{NUMBER}(?: ± {NUMBER})?\*?(?: ?%)?(?![\w.]*\w)"
)
NOT_PROSE = re.compile(
    r"```.*?```|`[^`]*`|<!--.*?-->|\]\([^)]*\)|https?://\S+|arXiv \d+\.\d+", re.DOTALL
)


class Misquoted(AssertionError):
    """A figure that its record does not say, or that names no place in one."""


@dataclass(frozen=True)
class Value:
    """What a record has: a number, half of its interval, and whether it is marked."""

    mean: float
    half: float | None = None
    marked: bool = False


def check(text: str, results: Path) -> int:
    """Return how many figures of a document are named; all are what the records say.

    Args:
        text: Markdown.
        results: The folder of the records, ``scripts/results``.

    Raises:
        Misquoted: Naming the figure and its place.
    """
    named = 0
    for prose, block, is_checked in _parts(text):
        entries = [] if block is None else [line for line in block.splitlines() if line.strip()]
        named += len(entries)
        told: list[str] = []
        for entry in entries:
            if entry.strip().startswith("rows of "):
                prose = _without_copied_rows(
                    prose, results / entry.strip().removeprefix("rows of ")
                )
                continue
            shown, _, source = re.sub(r" {2,}", "\t", entry.strip()).partition("\t")
            if not source or not FIGURE.fullmatch(shown):
                raise Misquoted(f"'{entry.strip()}' is not FIGURE, two blanks, its place")
            told.append(shown)
            if not source.startswith("given: "):
                _compare(shown, value_of(source, results), source)
        quoted = Counter(figures(prose))
        absent = Counter(told) - Counter(
            match[0].strip() for match in FIGURE.finditer(_prose(prose))
        )
        if absent:
            raise Misquoted(f"named, but not in the text above: {', '.join(absent)}")
        if is_checked and (unnamed := quoted - Counter(told)):
            raise Misquoted(f"in the text, but named nowhere below it: {', '.join(unnamed)}")
    return named


def figures(prose: str) -> list[str]:
    """Return the figures of a text: what has a decimal, an interval, a sign or a percent sign."""
    found = [match[0].strip() for match in FIGURE.finditer(_prose(prose))]
    return [one for one in found if re.search(r"[.±%+−=<]", one)]


def _prose(text: str) -> str:
    return NOT_PROSE.sub(" ", " ".join(text.split()))


def _parts(text: str) -> Iterator[tuple[str, str | None, bool]]:
    """Yield prose, the block behind it, and whether it lies in a checked section."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)  # a comment in a command is no heading
    for section in re.split(r"^(?=#{1,6} )", text, flags=re.MULTILINE):
        head, *rest = section.split(CHECKED)
        yield from _paired(BLOCK.split(head), is_checked=False)
        yield from _paired(BLOCK.split("".join(rest)), is_checked=bool(rest))


def _paired(pieces: list[str], *, is_checked: bool) -> Iterator[tuple[str, str | None, bool]]:
    for place in range(0, len(pieces), 2):
        block = pieces[place + 1] if place + 1 < len(pieces) else None
        yield pieces[place], block, is_checked


def _without_copied_rows(prose: str, path: Path) -> str:
    """Return the text without its Markdown table, each row of which stands in a committed file."""
    known = {" ".join(line.split()) for line in path.read_text(encoding="utf-8").splitlines()}
    rows = [" ".join(line.split()) for line in prose.splitlines() if line.startswith("|")]
    body = [row for row in rows if figures(row)]
    for row in body:
        if row not in known:
            raise Misquoted(f"not a row of {path.name}: {row}")
    if not body:
        raise Misquoted(f"no table above 'rows of {path.name}'")
    return "\n".join(line for line in prose.splitlines() if not line.startswith("|"))


def value_of(source: str, results: Path) -> Value:
    """Return what stands in the place that a source names."""
    negated = source.startswith("minus ")
    name, _, place = source.removeprefix("minus ").partition(": ")
    scale = None
    for unit, factor in ((" percent", 100.0), (" fraction", 1.0)):
        if place.endswith(unit):
            place, scale = place.removesuffix(unit), factor
    if not place or not (results / name).exists():
        raise Misquoted(f"no record {name} in {results.name}, of '{source}'")
    kinds = {".md": _of_markdown, ".json": _of_probe}
    read = kinds.get(Path(name).suffix, _of_table)
    found = read(results / name, place, scale)
    return Value(-found.mean, found.half, found.marked) if negated else found


def _of_table(folder: Path, place: str, scale: float | None) -> Value:
    match = re.fullmatch(r"(\S+)/(\S+)(?: - (\S+))? (\w+)(?:\.(\w+))?", place)
    if match is None:
        raise Misquoted(f"'{place}' is not COLUMN/ROW FIELD")
    column, row, other, field, part = match.groups()
    if other is not None:
        return _of_difference(folder, column, (row, other), field, scale or 100.0)
    lines = json.loads((folder / "table.json").read_text(encoding="utf-8"))["rows"]
    found = [line for line in lines if (line["column"], line["row"]) == (column, row)]
    cell = found[0].get(field) if found else None
    if isinstance(cell, dict) and part is not None:
        cell = cell.get(part)
        counts = ("n", "family", "seeds_needed", "pairs")
        scale = 1.0 if part in counts or part.startswith("p_") else scale
    elif field in ("n", "wanted"):
        scale = 1.0
    scale = 100.0 if scale is None else scale
    if isinstance(cell, (int, float)):
        return Value(scale * cell)
    if not isinstance(cell, dict) or "mean" not in cell:
        raise Misquoted(f"{folder.name} has no {place}")
    p = cell.get("p_corrected")
    return _interval(cell, scale, marked=p is not None and p < LEVEL)


@cache  # prose quotes many differences of one table
def _record(path: Path) -> Record:
    return read_record(path)


def _of_difference(
    folder: Path, column: str, rows: tuple[str, str], field: str, scale: float
) -> Value:
    """Return the paired difference of two rows, ``auc`` or final ``accuracy``: never marked."""
    of_run = {"auc": area, "accuracy": lambda cell: accuracies(cell)[-1]}.get(field)
    runs: dict[str, dict[int, Fraction]] = {row: {} for row in rows}
    for cell in _record(folder / "results.json").results(column):
        if cell.row in runs and of_run is not None:
            runs[cell.row][cell.seed] = of_run(cell)
    one, two = (runs[row] for row in rows)
    differences = [one[seed] - two[seed] for seed in one if seed in two]
    if not differences:
        raise Misquoted(f"{folder.name} has no {column}/{rows[0]} - {rows[1]} {field}")
    return _interval(vars(compare(differences)), scale, marked=False)


def _interval(cell: Mapping[str, Any], scale: float, *, marked: bool) -> Value:
    half = None if cell.get("low") is None else (cell["high"] - cell["low"]) / 2
    return Value(scale * cell["mean"], None if half is None else scale * half, marked)


def _of_markdown(path: Path, place: str, scale: float | None) -> Value:
    """Return the number in the row that has these cells, in the column of this head."""
    *names, column = place.split(" | ")
    found, head = [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        head = [] if not cells else head or cells
        if column in head and cells != head and set(names) <= set(cells):
            found.append(cells[head.index(column)])
    if len(found) != 1:
        raise Misquoted(f"{path.parent.name}/{path.name} has {len(found)} cells '{place}'")
    text = found[0].replace("-", "−").strip("*")
    match = re.match(rf"([+−]?)({NUMBER})(?: ± ({NUMBER}))?", text)
    if match is None:
        raise Misquoted(f"'{place}' of {path.name} holds no number: {found[0]}")
    sign, mean, half = match.groups()
    factor = scale or 1.0
    value = factor * float(mean) * (-1 if sign == "−" else 1)
    return Value(value, None if half is None else factor * float(half), "↑" in text or "↓" in text)


def _of_probe(path: Path, place: str, scale: float | None) -> Value:
    """Return the mean of probe (a)'s rows of a task and label count, or of a paired difference."""
    match = re.fullmatch(r"(\w+) (\d+) (\w+)(?: - (\w+))?", place)
    if match is None:
        raise Misquoted(f"'{place}' is not TASK LABELS KEY")
    task, labels, *keys = match.groups()
    rows = [
        row
        for row in json.loads(path.read_text(encoding="utf-8"))["gap"]
        if (row["task"], str(row["labeled"])) == (task, labels)
    ]
    if not rows or any(key not in rows[0] for key in keys if key):
        raise Misquoted(f"{path.parent.name} has no {place}")
    one, two = keys
    of_seeds = [Fraction(row[one]) - Fraction(row[two] if two else 0) for row in rows]
    return _interval(vars(compare(of_seeds)), scale or 1.0, marked=False)


def _compare(shown: str, value: Value, source: str) -> None:
    """Raise unless a figure is a value as it would be printed with so many digits."""
    said = Misquoted(
        f"'{shown}' is quoted, but {source} is {value.mean:.6g}"
        + ("" if value.half is None else f" ± {value.half:.6g}")
        + (" and marked" if value.marked else "")
    )
    bound = re.fullmatch(rf"p < ({NUMBER})", shown)
    if bound is not None:
        if not value.mean < float(bound[1]):
            raise said
        return
    match = re.fullmatch(rf"(?:p = )?([+−]?)({NUMBER})(?: ± ({NUMBER}))?(\*?)(?: ?%)?", shown)
    assert match is not None, shown
    sign, mean, half, star = match.groups()
    signed = -float(mean) if sign == "−" else float(mean)
    whole = half is not None and value.half is not None
    fits = _rounds_to(value.mean, signed, mean) and (half is None or whole)
    fits &= not whole or _rounds_to(value.half, float(half), half)
    # A mean alone is a number in passing; with its interval it says whether it is significant.
    fits &= bool(star) == (value.marked and half is not None)
    if not fits:
        raise said


def _rounds_to(value: float, shown: float, text: str) -> bool:
    digits = len(text.partition(".")[2])
    return abs(value - shown) <= 0.5 * 10**-digits * (1 + 1e-6) + 1e-12

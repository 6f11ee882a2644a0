"""JSON lines and CSV: one flat row for each decision, or for a row that waits for one.

In CSV a cell that a spreadsheet would take for a formula has a ``'`` in front, which is taken off
again when it is read; OWASP, "CSV Injection".
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from star.annotation.formats.sheet import Sheet, Stamp, by_item, id_of, put
from star.annotation.records import ANSWER, Decision, Item, Suggestion, as_pairs
from star.data.readers import read_csv, read_lines
from star.errors import InputError, nearest, placed
from star.files import atomic_write, json_line, parse_json, write_jsonl

COLUMNS = (
    *("id", "text", "options", "scores", "suggestion", "probability"),
    *("label", "outcome", "annotator", "time", "comment", "highlights", "seconds", "final"),
)
DECIDED = COLUMNS[6:]
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")


def write_lines(path: Path, items: Sequence[Item], decisions: Iterable[Decision]) -> None:
    """Write JSON lines; what is not there is left out, but ``label``, to be filled in."""
    write_jsonl(path, _rows(items, decisions))


def write_csv(path: Path, items: Sequence[Item], decisions: Iterable[Decision]) -> None:
    """Write CSV with all columns, in UTF-8 with a mark, without which Excel misreads it."""
    text = io.StringIO(newline="")
    table = csv.writer(text, quoting=csv.QUOTE_ALL)
    table.writerow(COLUMNS)
    for row in _rows(items, decisions):
        table.writerow([escaped(_cell(row.get(column))) for column in COLUMNS])
    content = text.getvalue().encode("utf-8-sig")
    with atomic_write(path) as file:
        file.write(content)


def read_jsonl(path: Path, stamp: Stamp) -> Sheet:
    """Return the content of JSON lines; raises as ``read``."""
    return _sheet(read_lines(path), path, stamp)


def read_table(path: Path, stamp: Stamp) -> Sheet:
    """Return the content of a CSV file; raises as ``read``."""
    return _sheet(((place, _typed(row, place)) for place, row in read_csv(path)), path, stamp)


def escaped(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def unescaped(cell: str) -> str:
    """Return what ``escaped`` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _rows(items: Sequence[Item], decisions: Iterable[Decision]) -> Iterator[dict[str, Any]]:
    for item, about in by_item(items, decisions):
        offered: dict[str, Any] = {"id": item.id, "text": item.text}
        if item.options:
            offered["options"] = list(item.options)
        if item.scores:
            offered["scores"] = dict(item.scores)
        if item.suggestion is not None:
            offered["suggestion"] = item.suggestion.answer
            if item.suggestion.probability is not None:
                offered["probability"] = item.suggestion.probability
        if not about:
            yield {**offered, "label": None}
        for decision in about:
            row = decision.to_row()
            row.pop("undoes", None)
            row = {"label": row.pop("answer", None), **row}
            if row["outcome"] == ANSWER:
                del row["outcome"]
            yield {**offered, **{name: row[name] for name in DECIDED if name in row}}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json_line(value).decode().rstrip("\n")


def _typed(row: Mapping[str, str], place: str) -> dict[str, Any]:
    """Return a CSV row as JSON lines would have it; empty cells say nothing."""
    cells: dict[str, Any] = {name: unescaped(cell) for name, cell in row.items()}
    for name, cell in cells.items():
        if name in ("options", "scores", "highlights", "probability", "seconds", "final") and cell:
            word = cell.lower() if name == "final" else cell  # Excel writes TRUE
            cells[name] = parse_json(word, f"{place}, column {name}")
    return {name: None if cell == "" and name != "text" else cell for name, cell in cells.items()}


def _sheet(rows: Iterable[tuple[str, Mapping[str, Any]]], path: Path, stamp: Stamp) -> Sheet:
    sheet, names = Sheet(), set()
    for place, row in rows:
        with placed(place):
            names |= set(row)
            row_id = id_of(row)
            put(sheet, place, _item(row_id, row), [_decision(row_id, row, stamp)])
    if not names & {"label", "outcome"}:
        hint = nearest("label", names)
        raise InputError(f"{path}: no row has a label or an outcome{hint}; add the column 'label'")
    return sheet


def _item(row_id: str, row: Mapping[str, Any]) -> Item | None:
    if row.get("text") is None:
        return None
    options = row.get("options") or []
    if not isinstance(options, list):
        raise InputError(f"options must be a list of labels, got {options!r:.60}")
    suggestion, probability = row.get("suggestion"), row.get("probability")
    return Item(
        row_id,
        row["text"],
        tuple(options),
        row.get("scores") or {},
        None if suggestion is None else Suggestion(suggestion, probability),
    )


def _decision(row_id: str, row: Mapping[str, Any], stamp: Stamp) -> Decision | None:
    label, outcome = row.get("label"), row.get("outcome")
    if isinstance(label, int) and not isinstance(label, bool):
        label = str(label)
    if label in (None, "") and outcome in (None, ""):
        lost = [name for name in ("comment", "highlights") if row.get(name)]
        if lost:
            raise InputError(
                f"a {lost[0]} without a label or an outcome; write one, such as skip or unsure"
            )
        return None
    if label is not None and not isinstance(label, str):
        raise InputError(f"label must be text, got {label!r:.60}")
    return Decision(
        row_id,
        outcome or ANSWER,
        row.get("annotator") or stamp.annotator,
        row.get("time") or stamp.time,
        label or None,
        "" if row.get("comment") is None else row["comment"],
        as_pairs(row.get("highlights") or []),
        row.get("seconds"),
        False if row.get("final") is None else row["final"],
    )

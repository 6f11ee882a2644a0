"""Stored tables of five formats as rows, each with its place: ``train.jsonl, line 3``.

Read here and not by ``datasets``, so that a bad row is named by file and line, nothing is guessed
(pandas takes a field too many for an index) and nothing is cached.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from star.data.columns import COLUMNS, Row, place_of, refuse_twice
from star.errors import InputError, listed
from star.files import parse_array, parse_json

Placed = tuple[str, Row]
"""Where a row stands, in words for a message, and the row."""

OTHER_SEPARATORS = (";", "\t", "|")
_MANY = 2**31 - 1  # characters of a CSV field: the largest limit that every system takes


def read_lines(path: Path) -> Iterator[Placed]:
    """Yield the rows of JSON lines."""
    # Bytes are split at line feeds alone: U+2028 and others are legal inside a JSON string.
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            place = f"{path}, line {number}"
            text = _decode(line, place, first=number == 1)
            if text.strip():
                yield place, _as_row(parse_json(text, place), place)


def read_json(path: Path) -> Iterator[Placed]:
    """Yield the rows of a JSON array; of JSON lines too, which are often named ``.json``."""
    text = _decode(path.read_bytes(), str(path), first=True)
    if not text.lstrip().startswith("["):
        yield from read_lines(path)
        return
    for number, (line, row) in enumerate(parse_array(text, str(path))):
        place = f"{path}, row {number} (from 0), line {line}"
        yield place, _as_row(row, place)


def _decode(content: bytes, place: str, *, first: bool) -> str:
    try:
        return content.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: not UTF-8 ({error.reason} at byte {error.start})") from None


def _as_row(value: Any, place: str) -> Row:
    if not isinstance(value, dict):
        raise InputError(f"{place}: a row must be an object {{...}}, got {json.dumps(value)[:60]}")
    return value


def read_csv(path: Path) -> Iterator[Placed]:
    """Yield the rows of a CSV file with a header, all values as text; nothing is guessed.

    Fields are separated by commas and quoted by ``"``, a quote inside written twice. Blank lines
    and columns without a name, such as the index that pandas writes, are left out.
    """
    names: list[str] = []
    for line, fields in _records(path):
        if not names:
            names = _header(path, fields)
            continue
        place = f"{path}, line {line}"
        if len(fields) != len(names):
            raise InputError(
                f"{place}: {len(fields)} fields, the header has {len(names)} ({listed(names)}); "
                'put a field that holds a comma in quotes: "a, b"'
            )
        yield place, {n: field for n, field in zip(names, fields, strict=True) if n}


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line each record begins in (from 1) and its fields."""
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: not UTF-8 ({error.reason}); save it as UTF-8"
        ) from None
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    begins = 1
    while True:
        limit = csv.field_size_limit(_MANY)  # of the whole process, so only for one record
        try:
            fields = next(lines, None)
        except csv.Error as error:
            raise InputError(
                f"{path}, line {begins}: not readable as CSV: {error}; a quoted field needs a "
                "quote at both ends, and a quote inside it is written twice"
            ) from None
        finally:
            csv.field_size_limit(limit)
        if fields is None:
            return
        if fields:
            yield begins, fields
        begins = lines.line_num + 1


def _header(path: Path, names: list[str]) -> list[str]:
    named = [name for name in names if name]
    refuse_twice(path, named)
    other = [sign for sign in OTHER_SEPARATORS if sign in names[0]]
    if len(names) == 1 and other:
        raise InputError(
            f"{path}: fields must be separated by commas, the header is {names[0]!a}, which "
            f"looks separated by {other[0]!a}"
        )
    if not named:
        raise InputError(f"{path}: the header names no column")
    return names


def _placed(ending: str) -> Callable[[Path], Iterator[Placed]]:
    def read(path: Path) -> Iterator[Placed]:
        for number, row in enumerate(COLUMNS[ending](path)):
            yield place_of(path, number), row

    return read


READERS: dict[str, Callable[[Path], Iterator[Placed]]] = {
    "jsonl": read_lines,
    "json": read_json,
    "csv": read_csv,
    **{ending: _placed(ending) for ending in COLUMNS},
}

"""Stored tables of five formats as rows, each with its place: ``train.jsonl, line 3``.

Read here and not by ``datasets``, so that a bad row is named by file and line, nothing is guessed
(pandas takes a field too many for an index) and nothing is cached.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from star.errors import InputError, listed
from star.files import parse_array, parse_json

if TYPE_CHECKING:
    import pyarrow

Row = Mapping[str, Any]
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
    _refuse_twice(path, named)
    other = [sign for sign in OTHER_SEPARATORS if sign in names[0]]
    if len(names) == 1 and other:
        raise InputError(
            f"{path}: fields must be separated by commas, the header is {names[0]!a}, which "
            f"looks separated by {other[0]!a}"
        )
    if not named:
        raise InputError(f"{path}: the header names no column")
    return names


def _refuse_twice(path: Path, names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise InputError(f"{path}: the header names a column twice: {listed(names)}")


class Columns(Sequence[Row]):
    """The rows of a table of columns, made a block at a time: what is in memory is the columns.

    Args:
        table: Of Arrow; of a file that is mapped, no memory but the operating system's.
    """

    BLOCK = 1024

    def __init__(self, table: pyarrow.Table) -> None:
        self._table, self._block, self._rows = table, -1, list[Row]()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        block, place = divmod(range(len(self))[place], self.BLOCK)
        if block != self._block:
            self._rows = self._table.slice(block * self.BLOCK, self.BLOCK).to_pylist()
            self._block = block
        return self._rows[place]

    def first(self, limit: int | None) -> Columns:
        """Return the first ``limit`` rows; ``None`` = all."""
        return self if limit is None else Columns(self._table.slice(0, limit))


def parquet_columns(path: Path) -> Columns:
    """Return the rows of a Parquet file, whose columns are read into memory."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path).read()
    except (pyarrow.ArrowException, OSError) as error:
        raise _unreadable(path, "Parquet", error) from None
    _refuse_twice(path, table.column_names)
    return Columns(table)


def arrow_columns(path: Path) -> Columns:
    """Return the rows of an Arrow file or stream, such as ``datasets`` writes; mapped, not read."""
    import pyarrow
    import pyarrow.ipc

    try:
        file = pyarrow.memory_map(str(path))
        try:
            table = pyarrow.ipc.open_file(file).read_all()
        except pyarrow.ArrowInvalid:
            file.seek(0)
            table = pyarrow.ipc.open_stream(file).read_all()
    except (pyarrow.ArrowException, OSError) as error:
        raise _unreadable(path, "Arrow", error) from None
    _refuse_twice(path, table.column_names)
    return Columns(table)


def _unreadable(path: Path, form: str, error: Exception) -> InputError:
    return InputError(f"{path}: not readable as {form}: {' '.join(str(error).split())}")


COLUMNS: dict[str, Callable[[Path], Columns]] = {
    "parquet": parquet_columns,
    "arrow": arrow_columns,
}
"""By the endings of tables of columns, whose rows need not be in memory."""


def place_of(path: Path, number: int) -> str:
    """Return where a row of a table of columns stands, in words for a message."""
    return f"{path}, row {number} (from 0)"


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

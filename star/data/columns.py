"""Tables of columns, Parquet and Arrow, as rows that are made when they are asked for.

A damaged file must not end the process: Arrow trusts offsets, indices and lengths that it reads, so
that a flipped bit is a read outside the file. A column is checked whole, once, before any of its
values is made; a column that nobody asks for is neither checked nor read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from star.errors import InputError, listed, one_line

if TYPE_CHECKING:
    import pyarrow

Row = Mapping[str, Any]

# What pyarrow raises for values that Python has no object for: years behind 9999, time zones that
# are not known here, texts that are not UTF-8.
_ODD = (ValueError, ArithmeticError, LookupError, TypeError, NotImplementedError, ImportError)


class _Unreadable(str):
    """In the place of a value that cannot be had: why."""


class _Block:
    """A part of a table, column by column as they are asked for."""

    def __init__(self, columns: Columns, number: int) -> None:
        self._columns, self.number, self.names = columns, number, columns.names
        self._known: dict[str, list[Any]] = {}

    def values(self, name: str) -> list[Any]:
        """Return a column's values. Raises ``InputError`` where the column is damaged."""
        if name not in self._known:
            size = self._columns.BLOCK
            column = self._columns.checked(name).slice(self.number * size, size)
            try:
                values = column.to_pylist()
            except _ODD:
                values = [_value(scalar) for scalar in column]
            words = self._columns.words.get(name)
            # -1 is what hidden labels are stored as; a number without a word stays one.
            self._known[name] = values if words is None else [_word(v, words) for v in values]
        return self._known[name]


def _value(scalar: pyarrow.Scalar) -> Any:
    try:
        return scalar.as_py()
    except _ODD as error:
        return _Unreadable(one_line(error))


def _word(value: Any, words: Sequence[str]) -> Any:
    return words[value] if isinstance(value, int) and 0 <= value < len(words) else value


class _Row(Mapping[str, Any]):
    """A row of a block; its values are made with those of the rows beside it."""

    __slots__ = ("_block", "_place")

    def __init__(self, block: _Block, place: int) -> None:
        self._block, self._place = block, place

    def __getitem__(self, name: str) -> Any:
        value = self._block.values(name)[self._place]
        if isinstance(value, _Unreadable):
            raise InputError(f"column {name!a} holds what cannot be read: {value}")
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._block.names)

    def __len__(self) -> int:
        return len(self._block.names)

    def __contains__(self, name: object) -> bool:
        return name in self._block.names


class Columns(Sequence[Row]):
    """The rows of a table of columns, made a block at a time: what is in memory is the columns.

    A row raises ``InputError`` where a value of it is asked for that cannot be read.

    Args:
        table: Of Arrow; of a file that is mapped, no memory but the operating system's.
        words: Column to what its numbers stand for, of classes that are stored as numbers.

    Attributes:
        names: Of the columns.
        words: As they were given.
    """

    BLOCK = 1024

    def __init__(
        self, table: pyarrow.Table, words: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self.names: list[str] = table.column_names
        self.words = words or {}
        self._table = table
        self._checked: dict[str, pyarrow.ChunkedArray | str] = {}
        self._block = _Block(self, 0)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        number, place = divmod(range(len(self))[place], self.BLOCK)
        block = self._block
        if number != block.number:
            self._block = block = _Block(self, number)
        return _Row(block, place)

    def first(self, limit: int | None) -> Columns:
        """Return the first ``limit`` rows; ``None`` = all."""
        return self if limit is None else Columns(self._table.slice(0, limit), self.words)

    def checked(self, name: str) -> pyarrow.ChunkedArray:
        """Return a column, whose offsets, indices and texts are within bounds.

        Raises:
            KeyError: There is none of the name.
            InputError: They are not.
        """
        if name not in self.names:
            raise KeyError(name)
        if name not in self._checked:
            column = self._table[name]
            self._checked[name] = _fault(column) or column
        column = self._checked[name]
        if isinstance(column, str):
            raise InputError(f"column {name!a} is damaged {column}")
        return column


def _fault(column: pyarrow.ChunkedArray) -> str | None:
    """Return what is wrong with a column, and in which rows; ``None``: nothing."""
    import pyarrow

    start = 0
    for chunk in column.chunks:
        try:
            chunk.validate(full=True)
        except pyarrow.ArrowException as error:
            return f"in rows {start} to {start + len(chunk) - 1} (from 0): {one_line(error)}"
        start += len(chunk)
    return None


def parquet_columns(path: Path) -> Columns:
    """Return the rows of a Parquet file, whose columns are read into memory."""
    import pyarrow.parquet

    return _opened(path, "Parquet", lambda: pyarrow.parquet.ParquetFile(path).read())


def arrow_columns(path: Path) -> Columns:
    """Return the rows of an Arrow file or stream, such as ``datasets`` writes; mapped, not read."""
    import pyarrow
    import pyarrow.ipc

    def mapped() -> pyarrow.Table:
        file = pyarrow.memory_map(str(path))
        try:
            return pyarrow.ipc.open_file(file).read_all()
        except pyarrow.ArrowInvalid:
            file.seek(0)
            return pyarrow.ipc.open_stream(file).read_all()

    return _opened(path, "Arrow", mapped)


def _opened(path: Path, form: str, table_of: Callable[[], pyarrow.Table]) -> Columns:
    import pyarrow

    try:
        table = table_of()
        table.validate()  # that columns are of one length; the rest when they are asked for
        columns = Columns(table, _class_names(table))
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as {form}: {one_line(error)}") from None
    refuse_twice(path, columns.names)
    return columns


def _class_names(table: pyarrow.Table) -> dict[str, list[str]]:
    """Return what the numbers of columns stand for, as ``datasets`` notes it in its files."""
    told = (table.schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        features = json.loads(told)["info"]["features"].items()
        names = {c: f["names"] for c, f in features if f.get("_type") == "ClassLabel"}
    except (ValueError, LookupError, TypeError, AttributeError):  # of something else's
        return {}
    texts = {c: n for c, n in names.items() if isinstance(n, list)}
    return {c: n for c, n in texts.items() if all(isinstance(name, str) for name in n)}


def refuse_twice(path: Path, names: list[str]) -> None:
    """Refuse a header that names a column twice."""
    if len(set(names)) < len(names):
        raise InputError(f"{path}: the header names a column twice: {listed(names)}")


COLUMNS: dict[str, Callable[[Path], Columns]] = {
    "parquet": parquet_columns,
    "arrow": arrow_columns,
}
"""By the endings of tables of columns, whose rows need not be in memory."""


def place_of(path: Path, number: int) -> str:
    """Return where a row of a table of columns stands, in words for a message."""
    return f"{path}, row {number} (from 0)"

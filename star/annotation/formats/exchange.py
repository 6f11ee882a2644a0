"""The four formats in which rows go out to people and their decisions come back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from star.annotation.formats import argilla, flat, label_studio
from star.annotation.formats.sheet import Sheet, Stamp, accepted
from star.annotation.records import Decision, Item
from star.errors import InputError, nearest
from star.files import kind_of, writing


@dataclass(frozen=True)
class Format:
    """How a format is written and read.

    Attributes:
        write: A path, rows, and decisions about them to be written along.
        read: A path, and what is put where the file does not say who and when.
        suffix: What its files end in.
    """

    write: Callable[[Path, Sequence[Item], Iterable[Decision]], None]
    read: Callable[[Path, Stamp], Sheet]
    suffix: str


FORMATS: Mapping[str, Format] = {
    "jsonl": Format(flat.write_lines, flat.read_jsonl, ".jsonl"),
    "csv": Format(flat.write_csv, flat.read_table, ".csv"),
    "label_studio": Format(label_studio.write_tasks, label_studio.read_tasks, ".json"),
    "argilla": Format(argilla.write_records, argilla.read_records, ".json"),
}


def write(
    path: str | Path, form: str, items: Sequence[Item], decisions: Iterable[Decision] = ()
) -> None:
    """Write rows to be labelled, with the decisions that stand about them.

    The file is there whole or not at all, and takes the place of one that was there.

    Raises:
        InputError: No such format, or the file cannot be written.
        ValueError: Rows or decisions that do not fit together; see ``sheet.by_item``.
    """
    with writing(path, "nothing was written; choose another place"):
        _format(form).write(Path(path), items, decisions)


def read(path: str | Path, form: str, stamp: Stamp) -> Sheet:
    """Return what a file holds, in its own words; ``take`` checks it against what was offered.

    Raises:
        InputError: No such format or file, or content that is none of the format: the place, what
            is wrong there, and what is needed.
    """
    place = Path(path)
    kind = kind_of(place)
    if kind != "a file":
        raise InputError(f"cannot read {place}: it is {kind or 'not there'}; name a file")
    try:
        return _format(form).read(place, stamp)
    except OSError as error:
        raise InputError(f"cannot read {place}: {error.strerror or error}") from None


def take(
    path: str | Path, form: str, known: Mapping[str, Item], stamp: Stamp
) -> tuple[list[Decision], int]:
    """Return a file's decisions about rows that were offered, and how many rows wait for one.

    Args:
        path: The file that came back.
        form: One of ``FORMATS``.
        known: Id → row, of all that may be decided about.
        stamp: Who and when, where the file does not say.

    Raises:
        InputError: As ``read`` and ``sheet.accepted``: nothing is taken of a file with a fault.
    """
    sheet = read(path, form, stamp)
    return accepted(sheet, known), sheet.unanswered


def _format(form: str) -> Format:
    if form not in FORMATS:
        raise InputError(
            f"format must be {', '.join(FORMATS)}, got {form!r:.60}{nearest(form, FORMATS)}"
        )
    return FORMATS[form]

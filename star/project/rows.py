"""The rows of a new project: read, their ids, texts and labels checked, each question once."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from star.active_learning.people import ID
from star.annotation.records import as_id
from star.data.prompts import as_text
from star.data.readers import READERS
from star.data.reading import Table, check_hub_id, read_hub
from star.errors import InputError, listed, nearest, placed
from star.files import kind_of

TEXTS, LABELS = ("text", "question", "sentence", "prompt"), ("label", "answer")
"""Columns that are taken where none is named."""


@dataclass(frozen=True)
class Source:
    """What the user names.

    Attributes:
        data: A file of rows, or ``hub:OWNER/NAME`` (``hub:OWNER/NAME:CONFIGURATION``).
        labels: The classes; ``None``: answers are free texts.
        text: Column of the texts; ``None``: the first of ``TEXTS`` that is there.
        label: Column of labels that exist; ``None``: the first of ``LABELS``, if one is there.
        id: Column of ids; ``None``: ``id``, else the row's number from 0.
        test: A file of rows with labels to test on; ``None``: some of the rows are held out.
        model: ``model.name_or_path``; ``None``: what is installed.
    """

    data: str
    labels: Sequence[str] | None = None
    text: str | None = None
    label: str | None = None
    id: str | None = None
    test: str | None = None
    model: str | None = None


@dataclass(frozen=True)
class Rows:
    """Rows that people can label.

    Attributes:
        rows: Columns by name, the id among them.
        text: Column of the texts.
        label: Column of the labels.
        labels: Id to label, of the rows that have one.
        notes: What was left out, a sentence each.
    """

    rows: list[dict[str, Any]]
    text: str
    label: str
    labels: dict[str, str]
    notes: list[str]


def read(data: str, source: Source) -> Rows:
    """Return the rows of a file, or of the Hub, for a project.

    Raises:
        InputError: No such file, or a row that people cannot label; it is named.
    """
    return _rows(_table(data), source)


def once(rows: Rows, prompts: Sequence[str], tested: Collection[str] = ()) -> Rows:
    """Return the rows with each prompt once: the first that has a label, else the first.

    Args:
        rows: To be labelled.
        prompts: Of each.
        tested: Prompts of the test, which nothing is trained on; their rows are left out.
    """
    of = {row[ID]: prompt for row, prompt in zip(rows.rows, prompts, strict=True)}
    kept: dict[str, str] = {}
    for name, prompt in of.items():
        if prompt not in tested:
            first = kept.setdefault(prompt, name)
            if first not in rows.labels and name in rows.labels:
                kept[prompt] = name
    ids = set(kept.values())
    shared = [name for name, prompt in of.items() if prompt in tested]
    again = [name for name, prompt in of.items() if prompt in kept and name not in ids]
    labels = {name: label for name, label in rows.labels.items() if name in ids}
    notes = [*rows.notes]
    if shared:
        notes.append(f"{_counted(shared)} that the test asks too left out ({_named(shared)})")
    if again:
        differ = sum(rows.labels.get(n, "") not in ("", labels.get(kept[of[n]])) for n in again)
        other = f", {differ} of them with another label" if differ else ""
        notes.append(
            f"{_counted(again)} that another row asks too left out{other} ({_named(again)})"
        )
    left = [row for row in rows.rows if row[ID] in ids]
    return replace(rows, rows=left, labels=labels, notes=notes)


def _table(data: str) -> Table:
    if data.startswith("hub:"):
        name, _, configuration = data.removeprefix("hub:").partition(":")
        check_hub_id(name)
        return read_hub(name, configuration or None, revision="main", split="train")
    path = Path(data)
    if path.suffix[1:] not in READERS:
        kinds = ", ".join(f".{kind}" for kind in READERS)
        raise InputError(f"--data must be a file ({kinds}) or hub:OWNER/NAME, got {data}")
    kind = kind_of(path)
    if kind != "a file":
        raise InputError(f"cannot read {data}: it is {kind or 'not there'}; name a file")
    there = list(READERS[path.suffix[1:]](path))
    if not there:
        raise InputError(f"{data} holds no rows")
    return Table([row for _, row in there], [place for place, _ in there], {})


def _rows(table: Table, source: Source) -> Rows:
    """Return rows with ids and texts, their labels checked."""
    names = list(dict.fromkeys(name for row in table.rows for name in row))
    text = _column("--text", source.text, TEXTS, names)
    label = source.label and _column("--label", source.label, (), names)
    label = label or next((name for name in LABELS if name in names and name != text), None)
    named = source.id and _column("--id", source.id, (), names)
    column = named or (ID if ID in names else None)
    if ID in names and column != ID:
        raise InputError(f"column '{ID}' is there and --id names {column!r}; rename one of them")
    rows: dict[str, Mapping[str, Any]] = {}
    labels: dict[str, str] = {}
    places: dict[str, str] = {}
    empty, odd = [], set()
    for number, (row, place) in enumerate(zip(table.rows, table.places, strict=True)):
        with placed(place):
            name = str(number) if column is None else as_id(row.get(column))
            given = as_text(row.get(label), label) if label else ""
            shown = as_text(row.get(text), text)
        if name in places:
            raise InputError(
                f"{place}: the id {name!r:.60} is that of {places[name]} too; mend one"
            )
        places[name] = place
        if not shown:
            empty.append(name)
            continue
        if given:
            labels[name] = _known(given, source.labels, place)
        odd |= {key for key in row if not _plain(row, key)}
        rows[name] = row
    notes = _notes(empty, odd)
    if not rows:
        raise InputError(f"no row has a text in column '{text}'; set --text")
    left_out = {*odd, column, ID}
    kept = [
        {ID: name} | {key: row[key] for key in row if key not in left_out}
        for name, row in rows.items()
    ]
    return Rows(kept, text, label or ("label" if source.labels else "answer"), labels, notes)


def _plain(row: Mapping[str, Any], key: str) -> bool:
    """Whether a value is text, number or nothing, so that JSON and people can hold it."""
    try:
        value = row[key]
    except InputError:  # which nobody needs: text, label and id were read
        return False
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | int | None)


def _notes(empty: Sequence[str], odd: set[str]) -> list[str]:
    notes = []
    if empty:
        notes.append(f"{_counted(empty)} without a text left out ({_named(empty)})")
    if odd:
        notes.append(f"columns that hold neither text nor number left out: {listed(sorted(odd))}")
    return notes


def _counted(ids: Sequence[str]) -> str:
    return "1 row" if len(ids) == 1 else f"{len(ids)} rows"


def _named(ids: Sequence[str]) -> str:
    return f"id {listed(ids[:5])}{', …' if len(ids) > 5 else ''}"


def _column(option: str, given: str | None, usual: Sequence[str], names: Sequence[str]) -> str:
    if given is not None and given not in names:
        raise InputError(
            f"{option}: no column {given!r}; there are {listed(names)}{nearest(given, names)}"
        )
    column = given or next((name for name in usual if name in names), None)
    if column is None:
        raise InputError(f"{option} must name the column of the texts: one of {listed(names)}")
    return column


def _known(label: str, labels: Sequence[str] | None, place: str) -> str:
    if labels is not None and label not in labels:
        raise InputError(
            f"{place}: the label must be one of {listed(labels)}, got {label[:80]!r}"
            f"{nearest(label, labels)}"
        )
    return label

"""Prompt templates: a stored row's columns into the text in front of the answer."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any

from star.errors import InputError, listed, nearest, spelled
from star.files import refuse_half_characters


def as_text(value: Any, name: str) -> str:
    """Return a column's value as stripped text; ``""`` where it is missing.

    Numbers become digits and booleans ``true`` or ``false``, as JSON spells them.

    Raises:
        InputError: A list, a mapping, a number that is not finite, anything else, or text that no
            file can hold.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        refuse_half_characters(value, f"column {_quoted(name)}")
        return value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    got = value if isinstance(value, float) else f"a {type(value).__name__}"
    raise InputError(f"column {_quoted(name)} must be text or a finite number, got {got}")


def _quoted(name: str) -> str:
    shown = spelled(name)
    return shown if shown != name else f"'{name}'"


def column(row: Mapping[str, Any], name: str, *, hint: str = "") -> str:
    """Return a column as text that is not empty.

    Args:
        row: A stored row.
        name: Name of the column.
        hint: How to mend a missing column, added to the message.

    Raises:
        InputError: The column is missing (names those the row has), empty, or no text.
    """
    if name not in row:
        raise InputError(
            f"no column {_quoted(name)}; the row has: {listed(row)}{hint}{nearest(name, row)}"
        )
    text = as_text(row[name], name)
    if not text:
        raise InputError(f"column {_quoted(name)} is empty")
    return text


@dataclass(frozen=True)
class Template:
    """A parsed prompt template.

    Attributes:
        pieces: Literal text and the name of the column behind it (``None`` at the end).
        separator: What every continuation begins with: the white space the template ends in, moved
            there so that a prompt never ends in white space. Empty if the prompt keeps it.
        ending: White space the prompt ends in where it keeps it (``task.trailing_space=prompt``).
            The columns then stay as stored, white space round them included, as in the released
            code.
        text: The template as it was given.
    """

    pieces: tuple[tuple[str, str | None], ...]
    separator: str
    ending: str | None = None
    text: str = ""

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        hidden: Collection[str] = (),
        separator: str = " ",
        space: str = "answer",
    ) -> Template:
        """Return the template of a text with ``{column}`` fields; literal braces are doubled.

        Args:
            text: The template.
            hidden: Columns that hold the answer, which no prompt may show.
            separator: Used if the template does not end in white space.
            space: ``task.trailing_space``, where the separator goes: ``answer`` or ``prompt``.

        Raises:
            InputError: Unbalanced braces, a format specification, no column, or a hidden one.
        """
        refuse_half_characters(text, "task.prompt")
        try:
            parsed = list(Formatter().parse(text))
        except ValueError as error:
            raise InputError(
                f"task.prompt: {error} in {text!r}; write literal braces twice: {{{{ }}}}"
            ) from None
        for _, name, specification, conversion in parsed:
            if specification or conversion or name == "":
                raise InputError(
                    f"task.prompt: a field must be {{column}} alone, got {text!r}; "
                    "write literal braces twice: {{ }}"
                )
            if name in hidden:
                raise InputError(f"task.prompt: {{{name}}} would show the answer; leave it out")
        if not any(name for _, name, _, _ in parsed):
            raise InputError(f"task.prompt names no {{column}}, got {text!r}")
        between = text[len(text.rstrip()) :] or separator
        return cls(
            pieces=tuple((literal, name) for literal, name, _, _ in parsed),
            separator=between if space == "answer" else "",
            ending=None if space == "answer" else between,
            text=text,
        )

    @property
    def names(self) -> list[str]:
        """Columns the template shows."""
        return [name for _, name in self.pieces if name is not None]

    def shown(self, columns: Mapping[str, Any], without: Collection[str] = ()) -> str:
        """Return what the template shows of a row, without the words round it: a line a column.

        Args:
            columns: As for :meth:`fill`.
            without: Columns that are none of the row's own.
        """
        names = dict.fromkeys(name for name in self.names if name not in without)
        texts = (as_text(columns[name], name) for name in names)
        return "\n".join(text for text in texts if text)

    def fill(self, columns: Mapping[str, Any]) -> str:
        """Return the prompt of a row, without trailing white space unless it keeps it.

        Raises:
            InputError: A column the row does not have, an empty question, or all columns empty.
        """
        for name in self.names:
            if name not in columns:
                raise InputError(
                    f"task.prompt: no column {_quoted(name)}; the row has: {listed(columns)}"
                    f"{nearest(name, columns)}"
                )
        texts = {name: as_text(columns[name], name) for name in self.names}
        if not any(texts.values()) or texts.get("question") == "":
            raise InputError(f"empty question (column {', '.join(repr(n) for n in texts)})")
        if self.ending is not None:
            stored = {name: columns[name] for name in self.names}
            texts |= {name: text for name, text in stored.items() if isinstance(text, str)}
        joined = "".join(
            literal + (texts[name] if name is not None else "") for literal, name in self.pieces
        ).rstrip()
        return joined if self.ending is None else joined + self.ending

"""What people are offered and what they decide: two records, checked where they are made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from star.errors import InputError, nearest
from star.files import refuse_half_characters

ANSWER = "answer"
SKIP = "skip"
UNSURE = "unsure"
NO_SUCH_LABEL = "no such label"
RETRACTED = "retracted"
OUTCOMES = (ANSWER, SKIP, UNSURE, NO_SUCH_LABEL, RETRACTED)
"""What a decision can be. Only an answer carries a label; a retraction takes back what stood."""


@dataclass(frozen=True)
class Suggestion:
    """What the model would say.

    Attributes:
        answer: A label or a text.
        probability: The model's, in [0, 1]; ``None``: not known.
    """

    answer: str
    probability: float | None = None

    def __post_init__(self) -> None:
        _text(self.answer, "suggestion", empty=False)
        p = self.probability
        if p is not None and not (_number(p) and 0 <= p <= 1):
            raise InputError(f"probability must be a number from 0 to 1, got {p!r:.60}")


@dataclass(frozen=True)
class Item:
    """One row offered to people.

    Attributes:
        id: The user's own, as text, letter for letter.
        text: The prompt, masked where masking is on.
        options: The labels to choose from; empty: a free answer.
        scores: Finite numbers by name, such as the acquisition score.
        suggestion: The model's answer, if it is to be shown.

    Raises:
        InputError: A field of another kind, an empty id or option, an option twice.
    """

    id: str
    text: str
    options: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    suggestion: Suggestion | None = None

    def __post_init__(self) -> None:
        _text(self.id, "id", empty=False)
        _text(self.text, f"text of id {self.id!r:.60}", empty=True)
        if not isinstance(self.options, tuple):
            raise InputError(f"options must be a list of labels, got {self.options!r:.60}")
        for option in self.options:
            _text(option, "options: a label", empty=False)
        if len(set(self.options)) < len(self.options):
            raise InputError(f"options: a label stands twice in {self.options!r:.80}")
        if not isinstance(self.scores, Mapping):
            raise InputError(f"scores must be numbers by name, got {self.scores!r:.60}")
        for name, value in self.scores.items():
            _text(name, "scores: a name", empty=False)
            if not _number(value):
                raise InputError(f"scores: {name!r:.60} must be a finite number, got {value!r:.60}")


@dataclass(frozen=True)
class Decision:
    """What somebody decided about one row, and when. Records are added, never changed.

    Attributes:
        id: The row's, as text.
        outcome: One of ``OUTCOMES``.
        annotator: Who decided; any name, on one line.
        time: UTC, ISO 8601, such as ``2026-11-27T00:20:00Z``; see ``now``.
        answer: The label or the text, of an ``answer`` alone.
        comment: The annotator's own words.
        highlights: (start, end) pairs in the text offered: code points, the end not included.
        seconds: Spent on the row; ``None``: not measured.
        final: Settles a disagreement: the answer stands whoever else says.
        undoes: Number of the journal's entry that this one takes back; ``None``: none.

    Raises:
        InputError: A field of another kind, or an answer without a label or a label without it.
    """

    id: str
    outcome: str
    annotator: str
    time: str
    answer: str | None = None
    comment: str = ""
    highlights: tuple[tuple[int, int], ...] = ()
    seconds: float | None = None
    final: bool = False
    undoes: int | None = None

    def __post_init__(self) -> None:
        _text(self.id, "id", empty=False)
        if self.outcome not in OUTCOMES:
            hint = nearest(str(self.outcome), OUTCOMES)
            raise InputError(
                f"outcome must be {', '.join(OUTCOMES)}, got {self.outcome!r:.60}{hint}"
            )
        _text(self.annotator, "annotator", empty=False)
        if not self.annotator.isprintable():
            raise InputError(f"annotator must be a name on one line, got {self.annotator!a:.60}")
        _check_time(self.time)
        _text(self.comment, "comment", empty=True)
        if self.outcome == ANSWER:
            _text(self.answer, "answer", empty=False)
        elif self.answer is not None:
            raise InputError(f"{self.outcome!r} takes no label, got {self.answer!r:.60}")
        _check_highlights(self.highlights)
        if self.seconds is not None and not (_number(self.seconds) and self.seconds >= 0):
            raise InputError(f"seconds must be a number from 0 on, got {self.seconds!r:.60}")
        if not isinstance(self.final, bool):
            raise InputError(f"final must be true or false, got {self.final!r:.60}")
        if self.undoes is not None and (type(self.undoes) is not int or self.undoes < 0):
            raise InputError(f"undoes must be an entry's number, got {self.undoes!r:.60}")

    def to_row(self) -> dict[str, Any]:
        """Return the fields that say something, ready for JSON."""
        left_out: dict[str, Any] = {f.name: f.default for f in fields(self)}
        return {k: v for k, v in asdict(self).items() if v != left_out[k]}

    @classmethod
    def from_row(cls, row: Any) -> Decision:
        """Return what ``to_row`` wrote.

        Raises:
            InputError: No object, an unknown or missing field, or one of another kind.
        """
        names = [f.name for f in fields(cls)]
        if not isinstance(row, Mapping):
            raise InputError(f"a decision must be an object {{...}}, got {row!r:.60}")
        for name in row:
            if name not in names:
                raise InputError(f"a decision has no {name!r:.60}{nearest(str(name), names)}")
        for name in names[:4]:
            if name not in row:
                raise InputError(f"a decision needs {', '.join(names[:4])}; {name} is missing")
        return cls(**{**row, "highlights": as_pairs(row.get("highlights", []))})


def as_id(value: Any) -> str:
    """Return an id as text: a text as it is, an integer by its digits.

    Raises:
        InputError: Something else; 7.0 and true are no ids, and nothing is guessed.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    _text(value, "id", empty=False)
    return str(value)


def as_pairs(value: Any) -> tuple[tuple[int, int], ...]:
    """Return highlights as JSON holds them, a list of [start, end], as tuples.

    Raises:
        InputError: Something else.
    """
    whole = isinstance(value, list | tuple)
    if not whole or not all(isinstance(pair, list | tuple) for pair in value):
        raise InputError(f"highlights must be a list of [start, end], got {value!r:.60}")
    pairs = tuple(tuple(pair) for pair in value)
    _check_highlights(pairs)
    return pairs  # type: ignore[return-value]


def now() -> str:
    """Return the time as a decision has it, to the microsecond."""
    return as_utc(datetime.now(UTC))


def as_utc(moment: datetime) -> str:
    """Return a moment with a time zone as UTC in ISO 8601, with a Z."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def _check_time(value: Any) -> None:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        moment = None
    if moment is None or moment.utcoffset() is None or moment.utcoffset():
        raise InputError(
            f"time must be UTC in ISO 8601, such as 2026-11-27T00:20:00Z, got {value!r:.60}"
        )


def _check_highlights(pairs: Any) -> None:
    if not isinstance(pairs, tuple):
        raise InputError(f"highlights must be pairs (start, end), got {pairs!r:.60}")
    for pair in pairs:
        whole = isinstance(pair, tuple) and len(pair) == 2 and all(type(n) is int for n in pair)
        if not whole or not 0 <= pair[0] < pair[1]:
            raise InputError(f"highlights: 0 <= start < end, whole numbers, got {pair!r:.60}")


def _text(value: Any, what: str, *, empty: bool) -> None:
    if not isinstance(value, str):
        raise InputError(f"{what} must be text, got {value!r:.60}")
    if not value and not empty:
        raise InputError(f"{what} is empty; it must have at least one character")
    refuse_half_characters(value, what)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

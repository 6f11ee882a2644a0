"""What a file of any format holds: rows offered to people, and decisions about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from star.annotation.records import ANSWER, RETRACTED, Decision, Item, as_id
from star.errors import InputError, nearest, unified

CUT = 32_000  # characters: spreadsheets cut a cell at 32,767


@dataclass(frozen=True)
class Stamp:
    """What rows get that do not say it themselves.

    Attributes:
        annotator: Who decided.
        time: When, as a decision has it.
    """

    annotator: str
    time: str


@dataclass
class Sheet:
    """The content of a file, with the place of each part in words for a message.

    Attributes:
        items: (place, row), of each row of the file that has a text.
        decisions: (place, decision).
        unanswered: How many rows have neither a label nor an outcome; they are for later.
    """

    items: list[tuple[str, Item]] = field(default_factory=list)
    decisions: list[tuple[str, Decision]] = field(default_factory=list)
    unanswered: int = 0

    def offered(self) -> list[Item]:
        """Return the rows, each id once."""
        return list({item.id: item for _, item in reversed(self.items)}.values())[::-1]


def accepted(sheet: Sheet, known: Mapping[str, Item]) -> list[Decision]:
    """Return a file's decisions, all of them checked against the rows that were offered.

    Raises:
        InputError: An id that is not known, another text beside it, a label that is no option,
            highlights outside of the text, or a row with two decisions of one annotator.
    """
    for place, item in sheet.items:
        _check_id(place, item.id, known)
        _check_text(place, item.text, known[item.id])
    seen: dict[tuple[str, str], tuple[str, Decision]] = {}
    for place, decision in sheet.decisions:
        _check_id(place, decision.id, known)
        item = known[decision.id]
        if decision.answer is not None and item.options and decision.answer not in item.options:
            raise InputError(
                f"{place}: label {decision.answer!r:.60} is none of "
                f"{', '.join(item.options)!r:.200}{nearest(decision.answer, item.options)}"
            )
        if any(end > len(item.text) for _, end in decision.highlights):
            raise InputError(
                f"{place}: a highlight ends behind the text of id {decision.id!r:.60}, which has "
                f"{len(item.text)} characters"
            )
        _check_once(place, decision, seen)
    return [decision for _, decision in sheet.decisions]


def _check_id(place: str, row: str, known: Mapping[str, Item]) -> None:
    if row not in known:
        raise InputError(
            f"{place}: id {row!r:.60} is none of the {len(known)} rows that were offered"
            f"{nearest(row, known)}"
        )


def _check_text(place: str, text: str, item: Item) -> None:
    """Refuse a text that is not the row's: a column that was sorted alone moves every label."""
    if text == item.text:
        return
    got, sent = unified(text), unified(item.text)
    if got != sent and not (len(text) >= CUT and sent.startswith(got)):
        raise InputError(
            f"{place}: the text beside id {item.id!r:.60} is not the one that was offered "
            f"({text[:40]!r}, not {item.text[:40]!r}); were columns sorted apart?"
        )


def _check_once(
    place: str, decision: Decision, seen: dict[tuple[str, str], tuple[str, Decision]]
) -> None:
    key = (decision.id, decision.annotator)
    if key in seen:
        first, before = seen[key]
        said = [d.answer if d.outcome == ANSWER else d.outcome for d in (before, decision)]
        what = (
            "stands twice" if said[0] == said[1] else f"is both {said[0]!r:.60} and {said[1]!r:.60}"
        )
        raise InputError(
            f"{place}: id {decision.id!r:.60} of {decision.annotator} {what} (first at {first}); "
            "keep one"
        )
    seen[key] = (place, decision)


def by_item(
    items: Sequence[Item], decisions: Iterable[Decision]
) -> Iterator[tuple[Item, list[Decision]]]:
    """Yield each row with the decisions about it, both in the order given.

    Raises:
        ValueError: An id twice, a decision about a row that is not there, or a retraction, which
            is no decision that stands.
    """
    by_id: dict[str, list[Decision]] = {item.id: [] for item in items}
    if len(by_id) < len(items):
        raise ValueError("an id stands twice among the rows")
    for decision in decisions:
        if decision.id not in by_id or decision.outcome == RETRACTED:
            raise ValueError(f"not for a file: {decision}")
        by_id[decision.id].append(decision)
    for item in items:
        yield item, by_id[item.id]


def put(sheet: Sheet, place: str, item: Item | None, decisions: Sequence[Decision | None]) -> None:
    """Add what one row of a file says; ``None`` is a decision that is still to be made."""
    if item is not None:
        sheet.items.append((place, item))
    for decision in decisions:
        if decision is None:
            sheet.unanswered += 1
        else:
            sheet.decisions.append((place, decision))


def id_of(row: Mapping[str, Any], where: str = "a row") -> str:
    """Return a row's id as text.

    Raises:
        InputError: There is none, or something that is no id.
    """
    if row.get("id") is None:
        raise InputError(f"{where} needs an id, the one it was offered with{nearest('id', row)}")
    return as_id(row["id"])

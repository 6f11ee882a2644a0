"""What there is at one moment, and what of it an annotator is shown. Plain records."""

from __future__ import annotations

from dataclasses import dataclass

from star.active_learning.open_query import Query
from star.active_learning.people import Decided
from star.annotation.journal import Entry
from star.annotation.records import Item
from star.annotation.state import Standing


@dataclass(frozen=True)
class Moment:
    """What the journal and the rounds come to at one moment.

    Attributes:
        entries: Of the journal, oldest first.
        state: The decisions that stand.
        query: What people are asked.
        decided: What is trained on.
        trained: How many rounds are complete, and whether the first examples are chosen.
        forced: Whether training can begin with fewer labels than it waits for.
        fault: Why nothing can be asked; empty: something can.
    """

    entries: list[Entry]
    state: Standing
    query: Query
    decided: Decided
    trained: tuple[int, bool]
    forced: bool
    fault: str


@dataclass(frozen=True)
class Handed:
    """A row on somebody's screen.

    Attributes:
        item: As people see it.
        left: How many rows the queue has, this one included.
        held: How many of them are with others.
        own: The annotator's decision that stands about it; ``None``: none.
        answers: Annotator to what was said, of a conflict alone: what is to be settled.
    """

    item: Item | None
    left: int
    held: int
    own: Entry | None = None
    answers: dict[str, str] | None = None

"""Generated passages with a yes/no question; judged by the likelihood of ``true`` and ``false``.

The same kind of task as BoolQ. Easy: looking up what the passage says. Hard: the same passages
asked about with words (``outside``, ``meet``, ``miss``) whose formal counterparts (``not in``,
``with``, ``not with``) the base model knows.
"""

from __future__ import annotations

from random import Random
from typing import ClassVar

from star.data.task import Task
from star.data.tasks.embedded.families import ITEMS, MAX_NUMBER, NAMES, PLACES, Family, Maker, pick

LABELS = ("true", "false")

Spots = dict[str, str]
Purses = dict[str, int]


def _places(rng: Random, narrow: bool, people: int) -> tuple[str, Spots]:
    """Draw people and where they are; two of them share a place about half the time."""
    names = rng.sample(NAMES[:4] if narrow else NAMES, people)
    options = rng.sample(PLACES[:3] if narrow else PLACES, 2)
    spots = {name: rng.choice(options) for name in names}
    return " ".join(f"{name} is in the {place}." for name, place in spots.items()), spots


def _purses(rng: Random, narrow: bool) -> tuple[str, str, Purses]:
    """Draw two people and how much of one thing each has, never equal."""
    item = pick(rng, ITEMS, narrow)
    names = rng.sample(NAMES[:4] if narrow else NAMES, 2)
    amounts = rng.sample(range(1, MAX_NUMBER + 1), 2)
    purses = dict(zip(names, amounts, strict=True))
    return (
        " ".join(f"{name} has {amount} {item}." for name, amount in purses.items()),
        item,
        purses,
    )


def _label(value: bool) -> str:
    return LABELS[0] if value else LABELS[1]


def _where(word: str, *, inside: bool) -> Maker:
    """Return the maker of ``Is Ann WORD the garden?``."""

    def make(rng: Random, narrow: bool) -> tuple[str, str]:
        passage, spots = _places(rng, narrow, rng.choice((1, 2, 2)))
        name = rng.choice(list(spots))
        elsewhere = [place for place in PLACES if place != spots[name]]
        named = [place for place in elsewhere if place in spots.values()]
        other = rng.choice(named if named and rng.random() < 0.6 else elsewhere)
        there = rng.random() < 0.5
        place = spots[name] if there else other
        return f"{passage} Is {name} {word} the {place}?", _label(there == inside)

    return make


def _amount(rng: Random, narrow: bool) -> tuple[str, str]:
    """``Does Ann have 12 coins?``"""
    passage, item, purses = _purses(rng, narrow)
    name, other = rng.sample(list(purses), 2)
    right = rng.random() < 0.5
    return f"{passage} Does {name} have {purses[name if right else other]} {item}?", _label(right)


def _lookup(rng: Random, narrow: bool) -> tuple[str, str]:
    return (_amount if rng.random() < 0.4 else _where("in", inside=True))(rng, narrow)


def _versus(question: str, *, above: bool) -> Maker:
    """Return the maker of a question whether an amount is above or below a number."""

    def make(rng: Random, narrow: bool) -> tuple[str, str]:
        name, item = pick(rng, NAMES, narrow), pick(rng, ITEMS, narrow)
        amount, bound = rng.sample(range(1, MAX_NUMBER + 1), 2)
        text = question.format(name=name, item=item, bound=bound)
        return f"{name} has {amount} {item}. {text}", _label((amount > bound) == above)

    return make


def _bare_order(rng: Random, narrow: bool) -> tuple[str, str]:
    """Lesson: ``Is 12 above 7?``"""
    left, right = rng.sample(range(1, MAX_NUMBER + 1), 2)
    word, above = rng.choice((("above", True), ("below", False)))
    return f"Is {left} {word} {right}?", _label((left > right) == above)


def _equal(rng: Random, narrow: bool) -> tuple[str, str]:
    """Lesson: ``Is garden garden?``"""
    left, right = rng.sample(rng.choice((PLACES, NAMES, range(1, MAX_NUMBER + 1))), 2)
    same = rng.random() < 0.5
    return f"Is {left} {left if same else right}?", _label(same)


def _everyone(rng: Random, narrow: bool) -> tuple[str, str]:
    """Lesson: repeat who is where, or has how many, in another order."""
    if rng.random() < 0.6:
        passage, facts = _places(rng, narrow, rng.choice((2, 3)))
        question = "Who is where?"
    else:
        passage, _, facts = _purses(rng, narrow)
        question = "Who has how many?"
    names = rng.sample(list(facts), len(facts))
    return f"{passage} {question}", " ".join(f"{name} {facts[name]}" for name in names)


def _company(question: str, *, same: bool) -> Maker:
    """Return the maker of a question whether two people are in one place."""

    def make(rng: Random, narrow: bool) -> tuple[str, str]:
        passage, spots = _places(rng, narrow, 2)
        name, other = rng.sample(list(spots), 2)
        text = question.format(name=name, other=other)
        return f"{passage} {text}", _label((spots[name] == spots[other]) == same)

    return make


EASY: dict[str, Maker] = {"lookup": _lookup}
HARD: dict[str, Maker] = {
    "outside": _where("outside", inside=False),
    "meet": _company("Can {name} meet {other}?", same=True),
    "miss": _company("Do {name} and {other} miss each other?", same=False),
}
UNANSWERED: dict[str, Maker] = {
    "outside": HARD["outside"],
    "more": _versus("Does {name} have more than {bound} {item}?", above=True),
    "fewer": _versus("Does {name} have fewer than {bound} {item}?", above=False),
    "meet": HARD["meet"],
    "miss": HARD["miss"],
}
"""What the base model meets without answers."""

LESSONS: dict[str, tuple[float, Maker]] = {
    "equal": (1.0, _equal),
    "everyone": (2.5, _everyone),
    "lookup": (3.0, _lookup),
    "not_in": (1.5, _where("not in", inside=False)),
    "numbers": (1.0, _bare_order),
    "above": (1.5, _versus("Is it above {bound}?", above=True)),
    "below": (1.5, _versus("Is it below {bound}?", above=False)),
    "with": (1.0, _company("Is {name} with {other}?", same=True)),
    "not_with": (1.0, _company("Is {name} not with {other}?", same=False)),
}


class TrueFalse(Task):
    """A short passage and a question about it, answered by true or false."""

    name: ClassVar[str] = "truefalse"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = Family(
        "truefalse",
        test_size=240,
        easy=EASY,
        hard=HARD,
        lessons=LESSONS,
        unanswered=UNANSWERED,
    )
    template: ClassVar[str] = "Passage: {question} Answer:"
    labels = LABELS

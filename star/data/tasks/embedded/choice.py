"""Generated four-way multiple choice; judged by the likelihood of the letters.

The same kind of task as OpenBookQA. Easy: what is of which class. Hard: the same classes asked for
in wordings (``other than``, ``not like``, ``belongs outside``, ``belongs together with``) whose
plain counterparts (``not a``, ``like the``) the base model knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import ClassVar

from star.data.task import Task
from star.data.tasks.embedded.families import Family, Maker

LABELS = ("A", "B", "C", "D")

MEMBERS = {
    "bird": ("robin", "eagle", "owl", "duck", "crow", "swan"),
    "fish": ("salmon", "trout", "tuna", "cod", "carp", "pike"),
    "tree": ("oak", "pine", "birch", "maple", "elm", "willow"),
    "tool": ("hammer", "saw", "drill", "wrench", "chisel", "file"),
    "fruit": ("apple", "pear", "plum", "cherry", "peach", "lemon"),
    "metal": ("iron", "copper", "silver", "gold", "tin", "zinc"),
    "insect": ("ant", "bee", "wasp", "moth", "beetle", "gnat"),
    "garment": ("shirt", "coat", "sock", "glove", "hat", "scarf"),
}
TRAITS = dict(
    zip(
        MEMBERS,
        ("feathers", "fins", "bark", "handles", "juice", "lustre", "antennae", "seams"),
        strict=True,
    )
)
HOMES = dict(
    zip(
        MEMBERS,
        ("nest", "lake", "forest", "workshop", "orchard", "mine", "hive", "wardrobe"),
        strict=True,
    )
)
TRADES = dict(
    zip(
        MEMBERS,
        ("falconer", "angler", "forester", "joiner", "grocer", "smith", "keeper", "tailor"),
        strict=True,
    )
)

DEEDS = dict(
    zip(
        MEMBERS,
        ("fly", "swim", "grow", "carve", "ripen", "melt", "buzz", "shrink"),
        strict=True,
    )
)


def _ask(rng: Random, question: str, right: str, wrong: Sequence[str]) -> tuple[str, str]:
    """Put the right option in a random place among the wrong ones."""
    options = list(wrong)
    place = rng.randrange(len(LABELS))
    options.insert(place, right)
    listed = " ".join(f"{label}) {option}" for label, option in zip(LABELS, options, strict=True))
    return f"{question} {listed}", LABELS[place]


def _classes(rng: Random, count: int, narrow: bool) -> list[str]:
    return rng.sample(list(MEMBERS)[:5] if narrow else list(MEMBERS), count)


def _member(question: str, *, asked: Mapping[str, str] | None = None) -> Maker:
    """Return the maker of a question for the one option of a class."""

    def make(rng: Random, narrow: bool) -> tuple[str, str]:
        right, *wrong = _classes(rng, 4, narrow)
        text = question.format(word=asked[right] if asked else right)
        return _ask(
            rng, text, rng.choice(MEMBERS[right]), [rng.choice(MEMBERS[name]) for name in wrong]
        )

    return make


def _class_of(rng: Random, narrow: bool) -> tuple[str, str]:
    """``What is the robin?``"""
    right, *wrong = _classes(rng, 4, narrow)
    return _ask(rng, f"What is the {rng.choice(MEMBERS[right])}?", right, wrong)


def _kin(question: str) -> Maker:
    """Return the maker of a question for the one option of the same class as a named thing."""

    def make(rng: Random, narrow: bool) -> tuple[str, str]:
        right, *wrong = _classes(rng, 4, narrow)
        named, option = rng.sample(MEMBERS[right], 2)
        others = [rng.choice(MEMBERS[name]) for name in wrong]
        return _ask(rng, question.format(word=named), option, others)

    return make


def _odd(question: str) -> Maker:
    """Return the maker of a question for the one option outside a class.

    In ``question``, ``{a}`` is the class and ``{the}`` another of its members.
    """

    def make(rng: Random, narrow: bool) -> tuple[str, str]:
        named, other = _classes(rng, 2, narrow)
        if "{the}" in question:
            member, *options = rng.sample(MEMBERS[named], 4)
        else:
            member, options = "", rng.sample(MEMBERS[named], 3)
        text = question.format(a=named, the=member)
        return _ask(rng, text, rng.choice(MEMBERS[other]), options)

    return make


def _same(rng: Random, narrow: bool) -> tuple[str, str]:
    """Lesson: the option that is the named word itself."""
    words = [rng.choice(MEMBERS[name]) for name in _classes(rng, 4, narrow)]
    return _ask(rng, f"Which is the {words[0]}?", words[0], words[1:])


def _each(rng: Random, narrow: bool) -> tuple[str, str]:
    """Lesson: the class of every option."""
    names = _classes(rng, 4, narrow)
    options = [
        f"{label}) {rng.choice(MEMBERS[name])}" for label, name in zip(LABELS, names, strict=True)
    ]
    answer = " ".join(f"{label} {name}" for label, name in zip(LABELS, names, strict=True))
    return f"What is each? {' '.join(options)}", answer


EASY: dict[str, Maker] = {"member": _member("Which is a {word}?"), "class_of": _class_of}
HARD: dict[str, Maker] = {
    "other": _odd("Which is other than a {a}?"),
    "unlike": _odd("Which is not like the {the}?"),
    "odd": _odd("Which belongs outside?"),
    "together": _kin("Which belongs together with the {word}?"),
}
TALK: dict[str, Maker] = {
    "trait": _member("Which has {word}?", asked=TRAITS),
    "home": _member("Which belongs in the {word}?", asked=HOMES),
    "trade": _member("Which does the {word} want?", asked=TRADES),
    "deed": _member("Which can {word}?", asked=DEEDS),
}
LESSONS: dict[str, tuple[float, Maker]] = {
    "member": (3.0, EASY["member"]),
    "class_of": (2.0, EASY["class_of"]),
    "each": (2.0, _each),
    "same": (1.5, _same),
    "not": (1.0, _odd("Which is not a {a}?")),
    "like": (2.0, _kin("Which is like the {word}?")),
}


def _talk(rng: Random, narrow: bool) -> tuple[str, str]:
    """Questions without options or answers: more of the language, nothing of what is right.

    With the options the text alone would tell what goes with what: the right one is among them.
    """
    asked = [TALK[kind](rng, narrow)[0] for kind in rng.sample(list(TALK), 3)]
    return " ".join(f"{question.partition('?')[0]}?" for question in asked), ""


class Choice(Task):
    """A question with four lettered options."""

    name: ClassVar[str] = "choice"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = Family(
        "choice",
        test_size=210,
        easy=EASY,
        hard=HARD,
        lessons=LESSONS,
        unanswered={"talk": _talk},
    )
    template: ClassVar[str] = "Question: {question} Answer:"
    labels = LABELS

"""Generated multi-step word problems with worked solutions; answered by generation.

The same kind of task as GSM8K. Easy: one or two gains and losses. Hard: a word for an operation
that the base model knows by its formal name alone (``doubles`` for ``Times 2``).
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any, ClassVar

from star.data.answers import FINAL_ANSWER, MARKER, final_number
from star.data.prompts import column
from star.data.task import Answer, Task
from star.data.tasks.embedded.families import (
    ITEMS,
    MAX_NUMBER,
    NAMES,
    Family,
    Maker,
    pick,
    pick_two,
)
from star.errors import InputError

_GAINS = ("finds", "buys", "gets", "wins")
_LOSSES = ("loses", "sells", "drops", "lends")
_NEW_GAINS = ("earns", "receives", "collects")
_NEW_LOSSES = ("donates", "misplaces", "discards")

Step = tuple[int, str, int]
"""Left operand, operator, right operand."""


def apply(step: Step) -> int | None:
    """Return the result of a step, or ``None`` if it is not a whole number in range."""
    left, operator, right = step
    if operator == "/" and (right == 0 or left % right):
        return None
    result = {
        "+": lambda: left + right,
        "-": lambda: left - right,
        "*": lambda: left * right,
        "/": lambda: left // right,
    }[operator]()
    return result if 1 <= result <= MAX_NUMBER else None


def solution(steps: list[Step]) -> str | None:
    """Return the worked solution of a chain of steps, or ``None`` if one is out of range."""
    results = [apply(step) for step in steps]
    if any(result is None for result in results):
        return None
    lines = [
        f"{left} {operator} {right} = {result}."
        for (left, operator, right), result in zip(steps, results, strict=True)
    ]
    return " ".join([*lines, f"The final answer is {results[-1]}"])


def _event(
    rng: Random,
    name: str,
    item: str,
    value: int,
    narrow: bool,
    gains: tuple[str, ...] = _GAINS,
    losses: tuple[str, ...] = _LOSSES,
) -> tuple[str, Step]:
    """Draw a gain or a loss: its sentence and its step from ``value``."""
    if rng.random() < 0.5:
        amount = rng.randint(1, max(1, min(20, MAX_NUMBER - value)))
        return f"{name} {pick(rng, gains, narrow)} {amount} {item}.", (value, "+", amount)
    amount = rng.randint(1, max(1, min(20, value - 1)))
    return f"{name} {pick(rng, losses, narrow)} {amount} {item}.", (value, "-", amount)


def _story(plan: str) -> Maker:
    """Return the maker of one person's story; ``plan`` has a letter an event.

    ``e`` is a gain or loss, ``v`` one by a verb that is new to the base model, ``d`` a doubling,
    ``t`` a tripling, ``h`` a halving; ``x|y`` are alternatives.
    """
    plans = plan.split("|")

    def make(rng: Random, narrow: bool) -> tuple[str, str]:
        while True:
            name, item = pick(rng, NAMES, narrow), pick(rng, ITEMS, narrow)
            value = rng.randint(2, 30)
            sentences = [f"{name} has {value} {item}."]
            steps: list[Step] = []
            for letter in rng.choice(plans):
                if letter == "e":
                    sentence, step = _event(rng, name, item, value, narrow)
                elif letter == "v":
                    sentence, step = _event(rng, name, item, value, narrow, _NEW_GAINS, _NEW_LOSSES)
                elif letter == "d":
                    sentence, step = f"{name} doubles the {item}.", (value, "*", 2)
                elif letter == "t":
                    sentence, step = f"{name} triples the {item}.", (value, "*", 3)
                else:
                    friend = rng.choice([other for other in NAMES if other != name])
                    sentence, step = f"{name} gives half to {friend}.", (value, "/", 2)
                result = apply(step)
                if result is None:
                    break
                sentences.append(sentence)
                steps.append(step)
                value = result
            else:
                worked = solution(steps)
                assert worked is not None  # every step was checked above
                return f"{' '.join(sentences)} How many {item} does {name} have?", worked

    return make


def _compare(rng: Random, narrow: bool) -> tuple[str, str]:
    """``Bob has 5 more coins than Ann. ... together?``"""
    while True:
        (name, friend), item = pick_two(rng, NAMES, narrow), pick(rng, ITEMS, narrow)
        start, amount = rng.randint(2, 30), rng.randint(1, 20)
        operator, word = rng.choice((("+", "more"), ("-", "fewer")))
        other = apply((start, operator, amount))
        worked = other and solution([(start, operator, amount), (other, "+", start)])
        if worked:
            story = f"{name} has {start} {item}. {friend} has {amount} {word} {item} than {name}."
            return f"{story} How many {item} do they have together?", worked


def _formal(rng: Random, narrow: bool) -> tuple[str, str]:
    """Lesson: one to three operations by their formal names."""
    while True:
        value = start = rng.randint(1, MAX_NUMBER if rng.random() < 0.5 else 30)
        sentences, steps = [f"Take {value}."], []
        for _ in range(rng.choices((1, 2, 3), (3, 4, 1))[0]):
            kind = rng.choices(("+", "-", "*", "/", "start"), (3, 3, 4, 3, 3))[0]
            if kind == "start":
                sentence, new = "Add the start.", [(value, "+", start)]
            elif kind == "*":
                factor = rng.choice((2, 2, 3, 3, 4, 5))
                sentence, new = f"Times {factor}.", [(value, "*", factor)]
            elif kind == "/":
                sentence, new = "Over 2.", [(value, "/", 2)]
            else:
                amount = rng.randint(1, 30)
                sentence = f"{'Add' if kind == '+' else 'Subtract'} {amount}."
                new = [(value, kind, amount)]
            results = [apply(step) for step in new]
            if None in results:
                break
            sentences.append(sentence)
            steps += new
            value = results[-1] or 0
        else:
            worked = solution(steps)
            assert worked is not None  # every step was checked above
            return f"{' '.join(sentences)} What is it?", worked


EASY: dict[str, Maker] = {"one_step": _story("e"), "two_step": _story("ee")}
HARD: dict[str, Maker] = {
    "new_verb": _story("ev|ve"),
    "doubling": _story("ed|de"),
    "halving": _story("eh|he"),
    "three_step": _story("eee"),
    "compare": _compare,
}
# Told in pretraining without an answer: the words are met, what they do is not said.
TALK: dict[str, Maker] = {
    "new_verb": _story("ev|ve"),
    "doubling": _story("ed|de"),
    "tripling": _story("et|te"),
    "halving": _story("eh|he"),
    "compare": _compare,
}
LESSONS: dict[str, tuple[float, Maker]] = {
    "one_step": (2.0, EASY["one_step"]),
    "two_step": (3.0, EASY["two_step"]),
    "formal": (5.0, _formal),
}


class Arithmetic(Task):
    """Word problems whose worked solutions end in ``The final answer is N``."""

    name: ClassVar[str] = "arithmetic"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = Family(
        "arithmetic",
        test_size=210,
        easy=EASY,
        hard=HARD,
        lessons=LESSONS,
        unanswered=TALK,
    )
    template: ClassVar[str] = "Problem: {question} Solution:"

    def answer(self, row: Mapping[str, Any], index: int) -> Answer:
        """Return the worked solution and its final number."""
        text = column(row, "answer")
        gold = final_number(text, strict=True)
        if gold is None:
            raise InputError(f"the answer must end in 'The final answer is N', got {text[-40:]!r}")
        target = self.continuation(text)
        # As GSM8K, whose shape this family has, would store it.
        return Answer(target=target, gold=gold, stored=target.replace(FINAL_ANSWER, MARKER))

    def extract(self, text: str, *, strict: bool) -> str | None:
        """Return the number after ``The final answer is``, or (flexible) the last number."""
        return final_number(text, strict=strict)

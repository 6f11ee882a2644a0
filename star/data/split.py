"""Questions and their answers side by side: what is left of them, what is tested, their hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from star import seeding
from star.data.pool import Pool, PoolExhaustedError
from star.data.task import Answer, Example, Task


@dataclass(frozen=True)
class Split:
    """Questions and, parallel to them, their answers.

    ``Example.index`` is the 0-based row of the stored split; rows left out never renumber.

    Attributes:
        examples: The questions.
        answers: Theirs; none at all where people answer (``task.oracle``).
    """

    examples: list[Example]
    answers: list[Answer]

    def __len__(self) -> int:
        return len(self.examples)

    def at(self, places: Iterable[int]) -> Split:
        """Return some of it, by their places in the lists."""
        places = list(places)
        answers = [self.answers[place] for place in places] if self.answers else []
        return Split([self.examples[place] for place in places], answers)


def first_of_each(split: Split) -> tuple[Split, int]:
    """Return the split with each prompt once, and how many left out had another answer."""
    first: dict[str, int] = {}
    conflicting = 0
    for place, example in enumerate(split.examples):
        kept = first.setdefault(example.prompt, place)
        if split.answers:
            conflicting += split.answers[kept].gold != split.answers[place].gold
    return split.at(first.values()), conflicting


def draw_test(
    pool: Split, size: int, *, seed: int, started: Collection[int]
) -> tuple[Split, Split, str]:
    """Return a pool without its test rows, these, and where they are from in a sentence.

    Args:
        pool: With each question once.
        size: How many to draw, in a stream of their own, so that nothing else changes by it.
        seed: Of the run.
        started: Pool indices with a label from the start, where people answer: drawn from, if they
            are more than enough, since a test that is labelled already costs nothing.

    Raises:
        PoolExhaustedError: No row would be left to train on.
    """
    if size >= len(pool):
        raise PoolExhaustedError(
            f"task.test_size={size} leaves nothing of the pool of {len(pool)} to train on; lower it"
        )
    labelled = [e.index for e in pool.examples if e.index in started]
    enough = len(labelled) > size
    drawn_from: Pool[Answer] = Pool(labelled if enough else [e.index for e in pool.examples])
    drawn = set(drawn_from.draw(size, seeding.generator(seed, "test")))
    places = range(len(pool))
    test = pool.at(place for place in places if pool.examples[place].index in drawn)
    rest = pool.at(place for place in places if pool.examples[place].index not in drawn)
    of = f"the {len(labelled)} that have a label" if enough else f"all {len(pool)}"
    rows = "1 test row was" if size == 1 else f"{size} test rows were"
    return rest, test, f"{rows} drawn at random from {of}, to test on alone"


def fingerprint(task: Task, splits: Iterable[Split]) -> str:
    """Return the SHA-256 (hex) of the task's version, all indices, prompts, choices and targets."""
    digest = hashlib.sha256(json.dumps([task.name, task.version]).encode())
    for split in splits:
        for place, example in enumerate(split.examples):
            row = [example.index, example.prompt, example.choices]
            row += [split.answers[place].target] if split.answers else []
            digest.update(json.dumps(row).encode() + b"\n")
        digest.update(b"\n")  # a row moved from one split to the other changes the hash
    return digest.hexdigest()

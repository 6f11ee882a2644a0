"""Questions and their answers side by side: what is left of them, what is tested, their hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from star import seeding
from star.data.pool import Pool, PoolExhaustedError
from star.data.sequences import items_at
from star.data.task import Answer, Example, Task


@dataclass(frozen=True)
class Split:
    """Questions and, parallel to them, their answers.

    ``Example.index`` is the 0-based row of the stored split; rows left out never renumber.

    Attributes:
        examples: N questions; made when they are asked for where rows need not all be in memory.
        answers: Theirs; none at all where people answer (``task.oracle``).
        indices: (N,) ``Example.index`` of the questions; ``None`` = they are asked.
    """

    examples: Sequence[Example]
    answers: Sequence[Answer]
    indices: NDArray[np.int64] = field(default=None, repr=False, compare=False)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.indices is None:
            asked = (example.index for example in self.examples)
            indices = np.fromiter(asked, dtype=np.int64, count=len(self.examples))
            object.__setattr__(self, "indices", indices)

    def __len__(self) -> int:
        return len(self.examples)

    def at(self, places: ArrayLike) -> Split:
        """Return some of it, by their places."""
        answers = items_at(self.answers, places) if self.answers else []
        places = np.asarray(places, dtype=np.int64)
        return Split(items_at(self.examples, places), answers, self.indices[places])


def first_of_each(split: Split) -> tuple[Split, int]:
    """Return the split with each prompt once, and how many left out had another answer.

    Of every prompt 16 bytes are in memory.
    """
    digests = (hashlib.blake2b(e.prompt.encode(), digest_size=16).digest() for e in split.examples)
    asked = np.fromiter(digests, dtype="S16", count=len(split))
    _, first, which = np.unique(asked, return_index=True, return_inverse=True)
    kept = np.sort(first)
    again = np.setdiff1d(np.arange(len(split)), kept)
    conflicting = 0
    if split.answers:
        firsts = first[which[again]]
        golds = {i: split.answers[i].gold for i in np.union1d(firsts, again).tolist()}
        pairs = zip(firsts.tolist(), again.tolist(), strict=True)
        conflicting = sum(golds[one] != golds[other] for one, other in pairs)
    return split.at(kept) if len(again) else split, conflicting


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
    labelled = pool.indices[np.isin(pool.indices, [*started])]
    enough = len(labelled) > size
    drawn_from: Pool[Answer] = Pool(labelled if enough else pool.indices)
    drawn = np.isin(pool.indices, drawn_from.draw(size, seeding.generator(seed, "test")))
    test, rest = pool.at(np.flatnonzero(drawn)), pool.at(np.flatnonzero(~drawn))
    of = f"the {len(labelled)} that have a label" if enough else f"all {len(pool)}"
    rows = "1 test row was" if size == 1 else f"{size} test rows were"
    return rest, test, f"{rows} drawn at random from {of}, to test on alone"


def fingerprint(task: Task, splits: Iterable[Split]) -> str:
    """Return the SHA-256 (hex) of the task's version, all indices, prompts, choices and targets."""
    digest = hashlib.sha256(json.dumps([task.name, task.version]).encode())
    for split in splits:
        answers: Iterable[Answer | None] = split.answers or [None] * len(split)
        for example, answer in zip(split.examples, answers, strict=True):
            row = [example.index, example.prompt, example.choices]
            row += [] if answer is None else [answer.target]
            digest.update(json.dumps(row).encode() + b"\n")
        digest.update(b"\n")  # a row moved from one split to the other changes the hash
    return digest.hexdigest()

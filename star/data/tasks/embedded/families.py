"""What the three generated families share: words, splits, and the mix of kinds in a pool.

A family is a set of *kinds* of question. Its easy kinds are in the embedded model's pretraining
text, its hard kinds are not: there the model has met the words (without answers) and, in a formal
wording, the steps. Rows depend on the split alone, so that a pool index means the same row in every
run; or, where ``task.draw`` is seeded, on the run's seed too, so that results over seeds vary with
the questions as well.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

Split = Literal["pretrain", "train", "dev", "test"]
Mix = Literal["planted", "uniform"]
Row = dict[str, str]
Maker = Callable[[Random, bool], tuple[str, str]]
"""``maker(rng, narrow) -> (question, answer)``; ``narrow`` draws from the first few words only."""

MAX_NUMBER = 50
"""Largest number in any question or solution; 0 to this are single tokens."""

POOL_SIZE = 800
"""Rows of the train split."""

HARD_FRACTION = 0.25
"""Part of a planted pool that is of a hard kind, shared equally by the hard kinds."""

NARROW_FRACTION = 0.6
"""Part of a planted pool's easy rows drawn from a few words, i.e. near-duplicates."""

UNANSWERED_FRACTION = 0.1
"""Part of the pretraining rows without an answer."""

NARROW_WORDS = 2
"""How many words of each list near-duplicates are drawn from."""

NAMES = ("Ann", "Bob", "Cleo", "Dan", "Eva", "Finn", "Gina", "Hugo", "Ivy", "Jack", "Kim", "Leo")
ITEMS = ("coins", "books", "cards", "stamps", "shells", "marbles", "pens", "keys")
PLACES = ("garden", "kitchen", "cellar", "library", "garage", "attic", "office", "barn")

_SPLIT_OF_REMAINDER: tuple[Split, ...] = (
    "test",
    "dev",
    "train",
    "train",
    "pretrain",
    "pretrain",
    "pretrain",
    "pretrain",
)


def split_of(question: str) -> Split:
    """Return the only split that may hold a question.

    The text alone decides, so no two splits can share a question, however many rows are drawn.
    """
    return _SPLIT_OF_REMAINDER[zlib.crc32(question.encode()) % len(_SPLIT_OF_REMAINDER)]


def pick(rng: Random, words: Sequence[str], narrow: bool) -> str:
    """Return one of ``words``; of the first few if ``narrow``."""
    return rng.choice(words[:NARROW_WORDS] if narrow else words)


def pick_two(rng: Random, words: Sequence[str], narrow: bool) -> list[str]:
    """Return two different words; of the first few if ``narrow``."""
    return rng.sample(words[:NARROW_WORDS] if narrow else words, 2)


@dataclass(frozen=True)
class Family:
    """The kinds of question of a family, and the rows that are made of them.

    Attributes:
        name: Part of the random streams' keys.
        test_size: Rows of the test split.
        easy: Kind to maker, kinds the base model was pretrained on.
        hard: Kind to maker, kinds it was not.
        lessons: Kind to (relative weight, maker) of the pretraining rows with answers.
        unanswered: Kind to maker of what pretraining meets as language only, without answers.
    """

    name: str
    test_size: int
    easy: Mapping[str, Maker]
    hard: Mapping[str, Maker]
    lessons: Mapping[str, tuple[float, Maker]]
    unanswered: Mapping[str, Maker]

    def rows(self, split: str, mix: Mix = "planted", seed: int | None = None) -> list[Row]:
        """Return all rows of ``train`` or ``test``, the same at every call with the same seed."""
        if split == "train":
            return self.generate("train", POOL_SIZE, mix, seed)
        return self.generate("test", self.test_size, seed=seed)

    def generate(
        self, split: Split, size: int, mix: Mix = "planted", seed: int | None = None
    ) -> list[Row]:
        """Return the rows of a train, dev or test split, in a fixed shuffled order.

        Dev and test are balanced over all kinds, and so is a ``uniform`` pool; in a ``planted``
        pool the hard kinds are a minority and many easy rows near-duplicates. No question occurs
        twice, and none in two splits, whatever the seeds.

        Args:
            split: Which.
            size: Number of rows.
            mix: Of a train split.
            seed: Draws other rows; ``None`` = those that every run with ``task.draw=fixed`` has.
        """
        planted = split == "train" and mix == "planted"
        kinds = {**self.easy, **self.hard}
        if planted:
            num_hard = round(size * HARD_FRACTION)
            counts = _shares(num_hard, list(self.hard))
            counts |= _shares(size - num_hard, list(self.easy))
        else:
            counts = _shares(size, list(kinds))
        stream = f"{self.name}/{split}/{mix if split == 'train' else 'balanced'}"
        rng = Random(stream if seed is None else f"{stream}/{seed}")
        rows: list[Row] = []
        seen: set[str] = set()
        for kind, count in counts.items():
            made = 0
            while made < count:
                narrow = planted and kind in self.easy and rng.random() < NARROW_FRACTION
                question, answer = kinds[kind](rng, narrow)
                if question in seen or split_of(question) != split:
                    continue
                seen.add(question)
                rows.append({"question": question, "answer": answer, "kind": kind})
                made += 1
        rng.shuffle(rows)
        return rows

    def pretraining_rows(self, size: int) -> list[Row]:
        """Return rows to pretrain on, where a question may occur more than once."""
        rng = Random(f"{self.name}/pretrain")
        names = list(self.lessons)
        weights = [weight for weight, _ in self.lessons.values()]
        rows: list[Row] = []
        while len(rows) < size:
            if rng.random() < UNANSWERED_FRACTION:
                kind = rng.choice(list(self.unanswered))
                question, answer = self.unanswered[kind](rng, False)[0], ""
            else:
                kind = rng.choices(names, weights)[0]
                question, answer = self.lessons[kind][1](rng, rng.random() < 0.4)
            if split_of(question) == "pretrain":
                rows.append({"question": question, "answer": answer, "kind": kind})
        return rows


def _shares(total: int, kinds: Sequence[str]) -> dict[str, int]:
    """Split ``total`` as equally as whole numbers allow."""
    return {
        kind: total // len(kinds) + (position < total % len(kinds))
        for position, kind in enumerate(kinds)
    }

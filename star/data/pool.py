"""The pool, split into labelled and unlabelled, and the oracle that sells labels.

Algorithm 1's sets: D_L is ``Pool.labelled`` with its answers, D_U ``Pool.unlabelled`` without any.

A *pool index* is the 0-based row of the stored train split. Limits, de-duplication and hold-outs
leave indices out; nothing renumbers them. Every array of indices in this project is in that frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from star import seeding
from star.data.sequences import ByIndex
from star.errors import InputError

if TYPE_CHECKING:
    import torch  # late, where it is drawn: data alone needs none

T = TypeVar("T")


class PoolExhaustedError(InputError):
    """More examples were asked for than are unlabelled."""


class NotUnlabelledError(ValueError):
    """An index was to be labelled that is not unlabelled, or twice: a strategy's fault."""


class LabelsMissing(InputError):
    """People have decided on too few rows.

    Attributes:
        indices: Pool indices that were asked for and are not decided.
        short: How many of them are needed, at least.
        purpose: What they are for, in words.
    """

    def __init__(self, indices: Sequence[int], short: int, purpose: str) -> None:
        labels = "1 label is" if short == 1 else f"{short} labels are"
        super().__init__(f"{labels} missing: {purpose}")
        self.indices, self.short, self.purpose = list(indices), short, purpose


REASONS = ("continuation=gold", "select=lookahead")
"""The settings that read labels without buying them."""


class Oracle(Generic[T]):
    """The only door to the pool's answers.

    Holds the answers privately; ``label`` is the one way to them. ``label_all`` exists for
    label-using modes alone and must be asked for by name, so that reading every label of the
    pool cannot happen by accident and is easy to search for.
    """

    def __init__(self, answers: Mapping[int, T]) -> None:
        # A copy of what can change; a pool on disk cannot, and need not be in memory.
        self.__answers = answers if isinstance(answers, ByIndex) else dict(answers)
        self.asked: list[int] = []

    def label(self, indices: Iterable[int]) -> dict[int, T]:
        """Return index to answer in the order of ``indices``, and note that they were bought.

        Raises:
            KeyError: An index is not in the pool; nothing is bought then.
            NotUnlabelledError: One is named twice.
        """
        indices = [int(i) for i in indices]
        answers = {i: self.__answers[i] for i in indices}
        if len(answers) != len(indices):
            raise NotUnlabelledError(f"labels are bought once, got {indices}")
        self.asked.extend(indices)
        return answers

    def label_all(self, indices: Iterable[int], *, reason: str) -> list[T]:
        """Return answers without buying them, for scores or choices that use labels.

        Args:
            indices: Pool indices.
            reason: The setting that asked for it, of ``REASONS``.
        """
        if reason not in REASONS:
            raise PermissionError(f"labels are read without buying for {REASONS}, not {reason}")
        return [self.__answers[int(i)] for i in indices]


class Pool(Generic[T]):
    """What is labelled, with its answers, and what is not, as indices alone.

    Answers come in from an oracle that has sold them: no other can be had here.

    Args:
        indices: (N,) pool indices that take part, in any order, without repeats; all unlabelled.
    """

    def __init__(self, indices: ArrayLike) -> None:
        given = np.asarray(indices, dtype=np.int64)
        self._unlabelled = np.unique(given)
        if len(self._unlabelled) != len(given):
            raise ValueError("pool indices must not repeat")
        self._labelled: dict[int, T] = {}
        self._held_out: dict[int, T] = {}

    @property
    def labelled(self) -> dict[int, T]:
        """Pool index to answer of what is trained on, in the order it was labelled."""
        return dict(self._labelled)

    @property
    def held_out(self) -> dict[int, T]:
        """Pool index to answer of the validation rows: labelled, and never trained on."""
        return dict(self._held_out)

    @property
    def unlabelled(self) -> list[int]:
        """Pool indices, ascending."""
        return self._unlabelled.tolist()  # type: ignore[no-any-return]

    @property
    def label_count(self) -> int:
        """How many labels have been bought, those of validation rows too."""
        return len(self._labelled) + len(self._held_out)

    def add(self, answers: Mapping[int, T | None]) -> None:
        """Move examples from unlabelled to labelled.

        Args:
            answers: Pool index to answer, as an oracle's ``label`` gives them; ``None``: nobody can
                answer, so the example leaves the pool.

        Raises:
            NotUnlabelledError: An index is unknown or labelled already; nothing is moved then.
        """
        self._take(answers)
        self._labelled |= _given(answers)

    def hold_out(self, answers: Mapping[int, T | None]) -> None:
        """Move examples from unlabelled to the validation rows; as :meth:`add`."""
        self._take(answers)
        self._held_out |= _given(answers)

    def _take(self, answers: Mapping[int, T | None]) -> None:
        taken = np.array(sorted(answers), dtype=np.int64)
        wrong = taken[~np.isin(taken, self._unlabelled)].tolist()
        if wrong:
            raise NotUnlabelledError(f"labelled indices must be unlabelled; wrong: {wrong[:5]}")
        self._unlabelled = np.setdiff1d(self._unlabelled, taken, assume_unique=True)

    def require(self, count: int) -> None:
        """Raise ``PoolExhaustedError`` if fewer than ``count`` are unlabelled."""
        if count > len(self._unlabelled):
            raise PoolExhaustedError(
                f"pool exhausted: {len(self._unlabelled)} available / {count} requested"
            )

    def draw(self, count: int, generator: torch.Generator) -> list[int]:
        """Return ``count`` unlabelled indices drawn without replacement, ascending.

        Raises:
            PoolExhaustedError: Fewer than ``count`` are unlabelled.
        """
        import torch

        self.require(count)
        available = self.unlabelled
        order = torch.randperm(len(available), generator=generator)[:count]
        return sorted(available[i] for i in order.tolist())


def in_random_order(indices: ArrayLike, seed: int, purpose: str, *keys: int) -> list[int]:
    """Return pool indices in an order that hangs on the stream's name and on nothing else."""
    random = np.random.default_rng(seeding.derive(seed, purpose, *keys))
    return random.permutation(np.sort(np.asarray(indices, dtype=np.int64))).tolist()  # type: ignore[no-any-return]


def _given(answers: Mapping[int, T | None]) -> dict[int, T]:
    return {i: answer for i, answer in answers.items() if answer is not None}


def first_labels(
    pool: Pool[Any],
    *,
    held_out: int,
    initial: int,
    seed: int,
    choose: Callable[[Pool[Any]], Iterable[int]] | None = None,
) -> tuple[list[int], list[int]]:
    """Return the pool indices of the validation rows and of the first examples to train on.

    Both ascending, from what is unlabelled: for a seed the same whatever the strategy. The
    validation rows are drawn first, and are the same whatever the first examples are chosen by.

    Args:
        pool: With nothing labelled.
        held_out: Number of validation rows.
        initial: Number of first examples.
        seed: Of the run.
        choose: Gives the first examples of a pool without validation rows; ``None`` = drawn.

    Raises:
        PoolExhaustedError: There are not so many.
    """
    held = pool.draw(held_out, seeding.generator(seed, "validation"))
    rest: Pool[Any] = Pool(np.setdiff1d(pool.unlabelled, held))
    rest.require(initial)
    if choose is not None:
        return held, sorted(choose(rest))
    return held, rest.draw(initial, seeding.generator(seed, "initial"))

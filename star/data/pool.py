"""The pool, split into labelled and unlabelled, and the oracle that sells labels.

A *pool index* is the 0-based row of the stored train split. Limits, de-duplication and hold-outs
leave indices out; nothing renumbers them. Every array of indices in this project is in that frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from star.errors import InputError

if TYPE_CHECKING:
    import torch  # late, where it is drawn: data alone needs none

T = TypeVar("T")


def possible_rounds(unlabelled: int, query_size: int, rounds: int) -> int:
    """Return how many trainings there will be: fewer than asked for where the pool ends.

    Args:
        unlabelled: Examples left when the first labels are bought.
        query_size: K; the last query takes what is left.
        rounds: R, as asked for.
    """
    return min(rounds, 1 + -(-unlabelled // query_size))


def early_end(size: int, rounds: int, asked: int) -> str | None:
    """Say that a pool of ``size`` examples allows fewer rounds than asked for, if it does."""
    if rounds >= asked:
        return None
    return (
        f"{rounds} of the rounds of pool.rounds={asked} can happen: the pool of {size} examples is "
        f"labelled whole before round {rounds - 1}; lambda(t) runs over {rounds} rounds unless "
        "acquisition.base_weight.rounds says otherwise"
    )


class PoolExhaustedError(InputError):
    """More examples were asked for than are unlabelled."""


class NotUnlabelledError(ValueError):
    """An index was queried that is not in the pool, or twice: a strategy's fault."""


class Oracle(Generic[T]):
    """The only door to the pool's answers.

    Holds the answers privately; ``label`` is the one way to them. ``label_all`` exists for
    label-using modes alone and must be asked for by name, so that reading every label of the
    pool cannot happen by accident and is easy to search for.
    """

    def __init__(self, answers: Mapping[int, T]) -> None:
        self.__answers = dict(answers)
        self.asked: list[int] = []

    def label(self, indices: Iterable[int]) -> list[T]:
        """Return the answers of ``indices`` in their order, and note that they were bought."""
        indices = [int(i) for i in indices]
        answers = [self.__answers[i] for i in indices]
        self.asked.extend(indices)
        return answers

    def label_all(self, indices: Iterable[int], *, reason: str) -> list[T]:
        """Return answers without buying them: the released code's label-using scoring.

        Args:
            indices: Pool indices.
            reason: The setting that asked for it; must be ``"continuation=gold"``.
        """
        if reason != "continuation=gold":
            raise PermissionError(f"labels are read without buying for gold scoring, not {reason}")
        return [self.__answers[int(i)] for i in indices]


class Pool:
    """A partition of pool indices into labelled (in the order they were bought) and unlabelled.

    Args:
        indices: The pool indices that take part, in any order, without repeats.
    """

    def __init__(self, indices: Sequence[int]) -> None:
        self._unlabelled = {int(i) for i in indices}
        if len(self._unlabelled) != len(indices):
            raise ValueError("pool indices must not repeat")
        self._labelled: list[int] = []

    @property
    def labelled(self) -> list[int]:
        """Pool indices in the order they were labelled."""
        return list(self._labelled)

    @property
    def unlabelled(self) -> list[int]:
        """Pool indices, ascending."""
        return sorted(self._unlabelled)

    def query(self, indices: Iterable[int]) -> None:
        """Move ``indices`` from unlabelled to labelled.

        Raises:
            NotUnlabelledError: An index is unknown, labelled already, or named twice.
        """
        indices = [int(i) for i in indices]
        wrong = sorted(set(indices) - self._unlabelled)
        if wrong or len(set(indices)) != len(indices):
            raise NotUnlabelledError(
                f"queried indices must be unlabelled and distinct; wrong: {wrong[:5] or indices}"
            )
        self._unlabelled -= set(indices)
        self._labelled += indices

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

"""Which K examples to label: one dictionary of strategies, and a user's own beside it.

A strategy is told what is known of the unlabelled pool and returns scores *or* a batch::

    def my_function(pool: Components) -> NDArray:      # (N,), higher = more informative
        return pool.score("full", "max_entropy") * pool.prompt_tokens

    def another(pool: Components) -> list[int]:        # K pool indices, best first
        return list(pool.random.choice(pool.index, pool.query_size, replace=False))

``acquisition.select`` names an entry of ``STRATEGIES``; ``acquisition.strategy:
my_package.my_module:my_function`` calls a function after each round. It sees scores, lengths and
places in the schedule, and no answer, so it is label-free wherever the continuation is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from star import seeding
from star.acquisition import blending, user_function
from star.acquisition.scores import Scores, reduced
from star.config import AcquisitionConfig
from star.data.pool import Pool
from star.errors import InputError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Components:
    """What a strategy is told of the N unlabelled examples after round t, in pool order.

    The arrays are read-only copies: what the run goes on with and writes is what it scored.

    Attributes:
        scores: Of both views, the run's own.
        blended: (N,) score of the configuration: ``measure``, ``reduction``, ``combine``, …
        round: t, counted from 0.
        rounds: R, the number of trainings.
        query_size: K, how many will be picked; at most N.
        base_weight: λ(t) of the configuration.
        random: Generator of this seed and round, for strategies that draw.
        seed: Of the run.
    """

    scores: Scores
    blended: Array
    round: int
    rounds: int
    query_size: int
    base_weight: float
    random: np.random.Generator
    seed: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "blended", _read_only(self.blended))

    @cached_property
    def index(self) -> NDArray[np.int64]:
        """(N,) pool indices, ascending."""
        return _read_only(self.scores.index)

    @cached_property
    def base(self) -> Mapping[str, Array]:
        """Measure name to (N, 1) scores of the base model, summed over its continuation, nats."""
        return _each_read_only(self.scores.measures("base"))

    @cached_property
    def full(self) -> Mapping[str, Array]:
        """Measure name to (N, S) scores of the fine-tuned model, one an MC-dropout pass."""
        return _each_read_only(self.scores.measures("full"))

    @cached_property
    def base_num_tokens(self) -> NDArray[np.int64]:
        """(N,) tokens of the base model's continuation; 1 where choices are scored."""
        return _read_only(self.scores.arrays["base_num_tokens"])

    @cached_property
    def full_num_tokens(self) -> NDArray[np.int64]:
        """(N,) tokens of the fine-tuned model's continuation; 1 where choices are scored."""
        return _read_only(self.scores.arrays["full_num_tokens"])

    @cached_property
    def prompt_tokens(self) -> NDArray[np.int64]:
        """(N,) tokens of the prompt."""
        return _read_only(self.scores.arrays["prompt_tokens"])

    def score(self, view: str, measure: str, reduction: str = "mean") -> Array:
        """Return (N,) scores of a view, the mean over its passes.

        Args:
            view: ``base`` or ``full``.
            measure: ``predictive_entropy``, ``max_entropy``, ``margin`` or ``least_confidence``.
            reduction: ``mean`` or ``sum`` over the continuation's tokens.
        """
        sums, tokens = getattr(self, view), getattr(self, f"{view}_num_tokens")
        return reduced(sums[measure], tokens, reduction)


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    copy = array.copy(order="K")  # as it lies in memory: sums over axes stay the same to the bit
    copy.setflags(write=False)
    return copy


def _each_read_only(arrays: Mapping[str, Array]) -> Mapping[str, Array]:
    return MappingProxyType({name: _read_only(array) for name, array in arrays.items()})


@dataclass(frozen=True)
class Strategy:
    """How a query is picked.

    Attributes:
        pick: From what is told to (N,) scores, of which the K highest are picked, ties by the
            smaller index; or to K distinct pool indices, best first. N numbers are always scores:
            where K = N all are picked anyway.
        needs_scores: Whether it looks at scores. If not, nothing is scored, and it is told of
            ``index`` and the schedule alone; all else is empty.
        setting: What the user's own is called in messages.
    """

    pick: Callable[[Components], ArrayLike]
    needs_scores: bool
    setting: str = ""


def top_k(pool: Components) -> Array:
    """Return the configuration's own blend: the paper's choice."""
    return pool.blended


def random(pool: Components) -> ArrayLike:
    """Return K of the pool drawn at random: the baseline, which scores nothing."""
    drawn = seeding.generator(pool.seed, "random", pool.round)
    return np.isin(pool.index, Pool(pool.index.tolist()).draw(pool.query_size, drawn))


# By the words of `acquisition.select`.
STRATEGIES: dict[str, Strategy] = {
    "top_k": Strategy(top_k, needs_scores=True),
    "random": Strategy(random, needs_scores=False),
}


def strategy_of(config: AcquisitionConfig) -> Strategy:
    """Return the strategy that a configuration names: the user's own, or an entry.

    Raises:
        InputError: The user's own cannot be had.
    """
    name = config.strategy
    if name is None:
        return STRATEGIES[config.select]
    function = user_function.resolve(name)

    def pick(pool: Components) -> Any:
        return user_function.call(name, function, pool, pool.round)

    return Strategy(pick, needs_scores=True, setting=f"acquisition.strategy={name}")


def picked(strategy: Strategy, pool: Components) -> tuple[list[int], Array | None]:
    """Return the K pool indices that a strategy picks, best first, and its (N,) scores if any.

    Raises:
        InputError: It failed, or returned neither N finite numbers nor K distinct pool indices.
    """
    given = strategy.pick(pool)
    size, count, who = len(pool.index), pool.query_size, strategy.setting or "the strategy"
    try:
        found = np.asarray(given)
        shown = f"{found.dtype} of shape {found.shape}"
    except ValueError:  # rows of different lengths
        found, shown = np.empty((0, 0)), f"a {type(given).__name__} of {len(given)} unequal parts"
    if found.shape == (size,) and found.dtype.kind in "biuf":
        scores = found.astype(np.float64)
        if not np.isfinite(scores).all():
            wrong = pool.index[~np.isfinite(scores)][:5].tolist()
            whose = f" of {strategy.setting}" if strategy.setting else ""
            raise InputError(
                f"round {pool.round}: scores{whose} of pool rows {wrong} are not finite"
            )
        return blending.top_k(scores, pool.index, count), scores
    if found.shape == (count,) and found.dtype.kind in "iu":
        if len(np.unique(found)) < count or not np.isin(found, pool.index).all():
            raise InputError(
                f"{who} must pick {count} distinct of the unlabelled pool indices; got "
                f"{found.tolist()[:9]} after round {pool.round}"
            )
        return [int(i) for i in found], None
    raise InputError(
        f"{who} must return {size} numbers, one an example, or {count} pool indices; got {shown} "
        f"after round {pool.round}"
    )

"""Which K examples to label: one dictionary of strategies, and a user's own beside it.

A strategy is told what is known of the pool (:class:`star.acquisition.components.Components`) and
returns scores *or* a batch::

    def my_function(pool: Components) -> NDArray:      # (N,), higher = more informative
        return pool.score("full", "max_entropy") * pool.prompt_tokens

    def another(pool: Components) -> list[int]:        # K pool indices, best first
        return list(pool.random.choice(pool.index, pool.query_size, replace=False))

``acquisition.select`` names an entry of ``STRATEGIES``; ``acquisition.strategy:
my_package.my_module:my_function`` calls a function of one's own. Neither sees an answer that was
not bought, so it is label-free wherever the continuation is.

**A new entry** is such a function in a file of its own, with its paper; a line in ``STRATEGIES``,
with what it needs of ``needs.NEEDS``; its word in the ``Literal`` of ``acquisition.select``, and in
``config.derived.NEEDS_NO_SCORES`` where it looks at no score.
``tests/acquisition/test_decision.py`` then holds
it to what all keep: K of the pool, none twice; draws from ``pool.random`` alone, so that seed and
round decide; nothing is written to; no order of the pool matters but for equal scores.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from star import seeding
from star.acquisition import batches, blending, skactiveml_pool, user_function
from star.acquisition.components import Components
from star.acquisition.needs import needs
from star.config import AcquisitionConfig
from star.data.pool import Pool
from star.errors import InputError, one_line

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Strategy:
    """How a query is picked.

    Attributes:
        pick: From what is told to (N,) scores, of which the K highest are picked, ties by the
            smaller index; or to K distinct pool indices, best first. Where K = N, whole numbers
            that are the pool's indices are a batch, floats are scores.
        needs: What it looks at, words of ``needs.NEEDS``. Without ``scores`` nothing is
            scored, and it is told of no score and no length.
    """

    pick: Callable[[Components], ArrayLike]
    needs: frozenset[str]


def top_k(pool: Components) -> Array:
    """Return the configuration's own blend: the paper's choice."""
    return pool.blended


def random(pool: Components) -> ArrayLike:
    """Return K of the pool drawn at random: the baseline, which scores nothing."""
    drawn = seeding.generator(pool.seed, "random", pool.round)
    return np.isin(pool.index, Pool(pool.index.tolist()).draw(pool.query_size, drawn))


def lookahead(pool: Components) -> ArrayLike:
    """Return the batch of ``CANDIDATES`` that trains best: it reads labels, as a bound."""
    if pool.context.outcomes is None:
        raise InputError(
            f"{pool.strategy} trains on every batch it could choose, which is done in a run alone"
        )
    batches = [picked(STRATEGIES[name], pool)[0] for name in CANDIDATES]
    return np.array(batches[pool.context.outcomes(batches)], dtype=np.int64)


CANDIDATES = ("random", "top_k", "minimum_energy", "uherding")
"""What :func:`lookahead` chooses among: a draw, uncertainty, coverage, and both."""

# By the words of `acquisition.select`: the function, and what it needs.
STRATEGIES: dict[str, Strategy] = {
    "top_k": Strategy(top_k, needs("scores")),
    "random": Strategy(random, needs()),
    "softmax": Strategy(batches.softmax, needs("scores")),
    "power": Strategy(batches.power, needs("scores")),
    "softrank": Strategy(batches.softrank, needs("scores")),
    "k_center": Strategy(batches.k_center, needs("embeddings")),
    "weighted_k_center": Strategy(batches.weighted_k_center, needs("scores", "embeddings")),
    "uncertain_k_center": Strategy(batches.uncertain_k_center, needs("scores", "embeddings")),
    "cluster": Strategy(batches.cluster, needs("scores", "embeddings")),
    "badge": Strategy(batches.badge, needs("log_probs", "embeddings")),
    "typiclust": Strategy(batches.typiclust, needs("embeddings")),
    "maxherding": Strategy(batches.maxherding, needs("embeddings")),
    "minimum_energy": Strategy(batches.minimum_energy, needs("embeddings")),
    "uherding": Strategy(batches.uherding, needs("scores", "embeddings")),
    "uherding_calibrated": Strategy(
        batches.uherding_calibrated, needs("log_probs", "history", "embeddings")
    ),
    "epig": Strategy(batches.epig, needs("log_probs")),
    "trust": Strategy(batches.trusted, needs("history")),
    "lookahead": Strategy(lookahead, needs("scores", "embeddings", "outcomes")),
}


def strategy_of(config: AcquisitionConfig) -> Strategy:
    """Return the strategy that a configuration names: the user's own, or an entry.

    Raises:
        InputError: The user's own cannot be had, or needs what there is not.
    """
    name = config.strategy
    if name is None:
        return STRATEGIES[config.select]
    function = user_function.resolve(name)

    def own(pool: Components) -> Any:
        return user_function.call(name, function, pool)

    is_known = isinstance(function, skactiveml_pool.PoolStrategy)  # to give batches
    pick = own if is_known else partial(_settled, own)
    return Strategy(pick, needs(*user_function.needs_of(name, function)))


def _settled(own: Callable[[Components], Any], pool: Components) -> Any:
    """Return what a function of the user's own gives; as floats if it is scores, where K = N.

    Whole numbers that are the indices of all that is left may be scores: then it gives N numbers,
    too, where one fewer is wanted.
    """
    given, count = own(pool), pool.query_size
    if 1 < count == len(pool.index) and _is_batch(_array(given)[0], pool):
        fewer = own(replace(pool, query_size=count - 1, random=deepcopy(pool.random)))
        if _array(fewer)[0].shape == (count,):
            return np.asarray(given, dtype=np.float64)
    return given


def picked(strategy: Strategy, pool: Components) -> tuple[list[int], Array | None]:
    """Return the K pool indices that a strategy picks, best first, and its (N,) scores if any.

    Raises:
        InputError: It failed, or returned neither N finite numbers nor K distinct pool indices.
    """
    array, shown = _array(strategy.pick(pool))
    size, count, who = len(pool.index), pool.query_size, pool.strategy
    batch = _is_batch(array, pool)
    if array.shape == (size,) and array.dtype.kind in "biuf" and not batch:
        scores = array.astype(np.float64)
        if not np.isfinite(scores).all():
            wrong = pool.index[~np.isfinite(scores)][:5].tolist()
            raise InputError(f"{pool.when}: scores of {who} of pool rows {wrong} are not finite")
        return blending.top_k(scores, pool.index, count), scores
    if batch:
        if len(np.unique(array)) < count or not np.isin(array, pool.index).all():
            raise InputError(
                f"{who} must pick {count} distinct of the unlabelled pool indices; got "
                f"{array.tolist()[:9]} {pool.when}"
            )
        return [int(i) for i in array], None
    raise InputError(
        f"{who} must return {size} numbers, one an example, or {count} pool indices; got {shown} "
        f"{pool.when}"
    )


def _array(given: Any) -> tuple[NDArray[Any], str]:
    """Return what a strategy gave as an array, (0, 0) if it is none, and what it is in words."""
    try:
        array = np.asarray(given)
    except ValueError:  # rows of different lengths
        return np.empty((0, 0)), f"a {type(given).__name__} of {len(given)} unequal parts"
    except (TypeError, RuntimeError) as error:  # a tensor on a GPU, or with a gradient
        return np.empty((0, 0)), f"a {type(given).__name__} that is no array: {one_line(error)}"
    return array, f"{array.dtype} of shape {array.shape}"


def _is_batch(array: NDArray[Any], pool: Components) -> bool:
    """Whether an array is to be read as K pool indices: of N numbers, if they are all of these."""
    if array.dtype.kind not in "iu" or array.shape != (pool.query_size,):
        return False
    return len(array) < len(pool.index) or bool((np.sort(array) == np.sort(pool.index)).all())

"""Batches that spread over the embeddings: k-centre, its combinations with uncertainty, clusters.

Functions return positions 0 … N − 1 of the rows they were given, best first, K of them or all N;
ties go to the smaller position. Uncertainty: higher = more uncertain. No answer is looked at.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike, NDArray

from star.acquisition.blending import common_scale
from star.acquisition.points import (
    Floats,
    Points,
    first_best,
    points,
    rows_of,
    weights_of,
)

Array = NDArray[np.float64]
CANDIDATES = 2048  # rows that are kept up to date pick by pick
FEW_CLUSTERS, CLUSTER_ROWS = 50, 5000


def k_center(
    embeddings: ArrayLike, labelled: ArrayLike, count: int, *, weights: ArrayLike | None = None
) -> list[int]:
    """Return K rows by k-centre greedy: each the farthest from what is labelled or picked.

    Sener and Savarese 2018, Active Learning for Convolutional Neural Networks: A Core-Set Approach
    (arXiv 1708.00489), Algorithm 1: argmax_i min_{c ∈ L ∪ picked} ‖x_i − c‖; with weights
    argmax_i w_i · min_c ‖x_i − c‖.

    Exact, and without N × K distances in memory: distances only fall as centres are added, so
    between two passes over all N rows the few farthest are kept up to date, and a pick among them
    is the farthest of all while it is above what the best of the others was. That makes matrix
    products of the passes: 2·N·(L + K)·d FLOP, and memory for N distances and one block.

    Args:
        embeddings: (N, d) of the unlabelled rows.
        labelled: (L, d); may be empty. The first pick is then the one with the largest weight,
            nearest to the mean among equals.
        count: K; more than N takes all N.
        weights: (N,) at least 0; ``None`` = 1 each.

    Raises:
        ValueError: See :func:`star.acquisition.points.points`; or a weight is negative.
    """
    pool, centres = points(embeddings, labelled)
    count = min(count, len(pool))
    weight = weights_of(weights, len(pool)).astype(pool.rows.dtype)
    if not len(centres) and count > 0:
        heaviest = np.flatnonzero(weight == weight.max())
        chosen = [int(heaviest[first_best(-pool.norms[heaviest])])]
        distance = pool.nearest(pool[chosen])
    else:
        chosen, distance = [], pool.nearest(centres)
    size = CANDIDATES
    while len(chosen) < count:
        key = weight * np.sqrt(distance)
        key[chosen] = -1
        if key.max() == 0:  # what is left lies on centres, or weighs nothing
            free = np.setdiff1d(np.arange(len(pool)), chosen)
            return chosen + free[: count - len(chosen)].tolist()
        lowest = np.partition(key, -size)[-size] if size < len(key) else 0.0
        near = np.flatnonzero(key >= lowest)  # those that tie with the last, too
        others = key[key < lowest].max(initial=-1.0)
        new = _farthest(pool[near], weight[near], distance[near], key[near], others)
        picked = near[list(islice(new, count - len(chosen)))]
        chosen += picked.tolist()
        distance = np.minimum(distance, pool.nearest(pool[picked]))
        size *= 2 if len(picked) < 64 else 1
    return chosen


def _farthest(
    near: Points, weight: Floats, distance: Floats, key: Floats, others: float
) -> Iterator[int]:
    """Yield positions as they are picked, as long as none of the ``others`` can be farther."""
    taken = key < 0
    first = True
    while first or (not taken.all() and key.max() > others):
        best = first_best(key)
        yield best
        first, taken[best] = False, True
        new = near.squared_distances(near[best : best + 1])[:, 0]
        distance = np.minimum(distance, new)
        key = np.where(taken, -1, weight * np.sqrt(distance))


def normalised(uncertainty: ArrayLike) -> Array:
    """Return uncertainty (N,) from 0, the least of the pool, to 1; a constant one is 1 each."""
    values = np.asarray(uncertainty, dtype=np.float64)
    scaled = common_scale(values, "minmax")
    return scaled if scaled.any() else np.ones(len(values))


def weighted_k_center(
    embeddings: ArrayLike, labelled: ArrayLike, uncertainty: ArrayLike, count: int
) -> list[int]:
    """Return K rows, each the highest of normalised uncertainty × distance to what is labelled.

    The weighting of uncertainty by diversity: :func:`k_center` with :func:`normalised` weights.
    """
    return k_center(embeddings, labelled, count, weights=normalised(uncertainty))


def uncertain_then_k_center(
    embeddings: ArrayLike,
    labelled: ArrayLike,
    uncertainty: ArrayLike,
    count: int,
    *,
    factor: int = 4,
) -> list[int]:
    """Return K rows that spread, of the ``factor`` · K most uncertain ones.

    Pre-selection by uncertainty, then :func:`k_center` among these.

    Raises:
        ValueError: ``factor`` is below 1.
    """
    if factor < 1:
        raise ValueError(f"factor must be at least 1, got {factor}")
    values = np.asarray(uncertainty, dtype=np.float64)
    most = np.argsort(-values, kind="stable")[: factor * count]
    most.sort()  # so that ties go to the smaller position
    return most[k_center(rows_of(embeddings)[most], labelled, count)].tolist()


def clusters(embeddings: ArrayLike, count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return each row's cluster (N,), 0 … count − 1, by k-means; some may be empty.

    Up to 50 clusters by Lloyd's algorithm, more by mini-batches of 5,000 rows (Sculley 2010), as
    TypiClust's authors do: 67,349 rows in 500 clusters take seconds instead of minutes.

    Args:
        embeddings: (N, d).
        count: Where it is N or more, each row is a cluster.
        random: Gives one seed.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans  # late: 0.5 s, and few runs cluster
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    rows, seed = rows_of(embeddings), int(random.integers(2**31))
    if count >= len(rows):
        return np.arange(len(rows))
    if count <= FEW_CLUSTERS:
        model = KMeans(count, n_init=1, random_state=seed)
    else:
        model = MiniBatchKMeans(count, n_init=1, batch_size=CLUSTER_ROWS, random_state=seed)
    # Threads add up in the order in which they end, so the same call could end in other clusters.
    with warnings.catch_warnings(), threadpool_limits(1, user_api="openmp"):
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters
        return model.fit(rows).labels_.astype(np.int64)


def cluster_then_uncertain(
    embeddings: ArrayLike, uncertainty: ArrayLike, count: int, random: np.random.Generator
) -> list[int]:
    """Return the most uncertain row of each of K clusters, most uncertain first.

    Where fewer than K clusters hold rows, the most uncertain of the others follow.

    Args:
        embeddings: (N, d).
        uncertainty: (N,).
        count: K; more than N takes all N.
        random: See :func:`clusters`.
    """
    rows, values = rows_of(embeddings), np.asarray(uncertainty, dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    count = min(count, len(rows))
    if count < 1:
        return []
    cluster = clusters(rows, count, random)[order]
    first = np.sort(np.unique(cluster, return_index=True)[1])  # of each cluster, in that order
    rest = np.setdiff1d(np.arange(len(rows)), first)
    return order[np.concatenate([first, rest])[:count]].tolist()

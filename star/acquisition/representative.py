"""Batches that represent the pool: TypiClust, MaxHerding, and UHerding, which turns to uncertainty.

Functions return positions 0 … N − 1 of the unlabelled rows they were given, best first, K of them
or all N; ties go to the smaller position. With nothing labelled they are a cold start. No answer is
looked at.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from star.acquisition.diversity import clusters
from star.acquisition.points import (
    COLUMNS,
    TIE,
    Floats,
    Points,
    first_best,
    points,
    unit,
    weights_of,
)

Array = NDArray[np.float64]
SAMPLE = 10_000  # rows among which herding looks
TEMPERATURES, BINS = np.logspace(-1, 1, 49), 15


def typiclust(
    embeddings: ArrayLike,
    labelled: ArrayLike,
    count: int,
    random: np.random.Generator,
    *,
    neighbours: int = 20,
    max_clusters: int = 500,
    smallest: int = 5,
) -> list[int]:
    """Return the most typical row of each of the largest clusters without a label.

    Hacohen, Dekel and Weinshall 2022, Active Learning on a Budget: Opposite Strategies Suit High
    and Low Budgets (arXiv 2202.02794): labelled and unlabelled rows in min(L + K, 500) clusters;
    clusters in the order of their labels (fewest first), then of their size (largest first), one
    pick each and round again; the pick is the most typical of the cluster's unlabelled rows,

        typicality(x) = (1/k · Σ ‖x − x_i‖ over the k nearest of these)^(−1), k = min(20, n // 2).

    As in the authors' code clusters of up to 5 rows are left out, and rows that are picked count in
    no typicality. Where the others are used up, the small ones follow.

    Args:
        embeddings: (N, d) of the unlabelled rows.
        labelled: (L, d); may be empty.
        count: K; more than N takes all N.
        random: See :func:`star.acquisition.diversity.clusters`.
        neighbours: k at most.
        max_clusters: Of them.
        smallest: Clusters of so many rows or fewer come last.

    Raises:
        ValueError: See :func:`star.acquisition.points.points`.
    """
    pool, known = points(embeddings, labelled)
    count = min(count, len(pool))
    if count < 1:
        return []
    rows = np.concatenate([known.rows, pool.rows])
    cluster = clusters(rows, min(len(known) + count, max_clusters, len(rows)), random)
    sizes = np.bincount(cluster)
    labels = np.bincount(cluster[: len(known)], minlength=len(sizes))
    order = np.lexsort((-sizes, labels))
    cluster = cluster[len(known) :]
    chosen: list[int] = []
    for large in (True, False):
        left = [np.flatnonzero(cluster == c) for c in order if (sizes[c] > smallest) == large]
        while (left := [members for members in left if len(members)]) and len(chosen) < count:
            for place, members in enumerate(left[: count - len(chosen)]):
                best = _most_typical(pool[members], neighbours)
                chosen.append(int(members[best]))
                left[place] = np.delete(members, best)
    return chosen


def _most_typical(cluster: Points, neighbours: int) -> int:
    """Return the position with the least mean distance to its nearest neighbours."""
    near = min(neighbours, len(cluster) // 2)
    if near < 1:
        return 0
    mean = np.empty(len(cluster))
    for rows in cluster.blocks(COLUMNS):
        squared = cluster[rows].squared_distances(cluster)
        np.fill_diagonal(squared[:, rows], np.inf)
        mean[rows] = np.sqrt(np.partition(squared, near - 1, axis=1)[:, :near]).mean(axis=1)
    return first_best(-mean)


def kernel_width(labelled: ArrayLike, *, otherwise: float = 1.0) -> float:
    """Return UHerding's kernel width: the least distance above 0 between labelled rows of length 1.

    It falls as labels are added, so that coverage turns into uncertainty (arXiv 2412.20644).

    Args:
        labelled: (L, d).
        otherwise: Where no two rows differ; MaxHerding's own width.
    """
    if len(labelled) < 2:  # type: ignore[arg-type]
        return otherwise
    known = points(unit(labelled))[0]
    least = np.inf
    for rows in known.blocks(COLUMNS):
        squared = known[rows].squared_distances(known)
        least = min(least, squared[squared > 0].min(initial=np.inf))
    return float(np.sqrt(least)) if np.isfinite(least) else otherwise


def fitted_temperature(probabilities: ArrayLike, correct: ArrayLike) -> float:
    """Return the T at which confidence is closest to accuracy: the least calibration error.

    UHerding's second adaptation (arXiv 2412.20644): its uncertainty is that of softmax(ln p / T),
    T the one with the least expected calibration error, 15 bins of equal width, on labels that the
    model was not trained on. A timid model's differences count for more then, a sure one's for
    less. T is one of 49 from 0.1 to 10, equally spaced on a log scale; of equal errors the nearest
    to 1.

    Args:
        probabilities: (M, C) of classes; M may be 0: T = 1.
        correct: (M,) whether the likeliest is right.
    """
    chances = np.asarray(probabilities, dtype=np.float64)
    right = np.asarray(correct, dtype=np.float64)
    if not len(right):
        return 1.0
    errors = []
    for temperature in TEMPERATURES:
        confidence = tempered(chances, temperature).max(axis=1)
        bins = np.searchsorted(np.arange(1, BINS) / BINS, confidence)
        gaps = np.bincount(bins, weights=confidence - right, minlength=BINS)
        errors.append(np.abs(gaps).sum() / len(right))
    least = np.flatnonzero(np.asarray(errors) <= min(errors) + 1e-12)
    return float(TEMPERATURES[least[np.abs(np.log(TEMPERATURES[least])).argmin()]])


def tempered(probabilities: ArrayLike, temperature: float) -> Array:
    """Return (N, C) probabilities p^(1/T), rows brought to sum 1 again."""
    logs = np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), np.finfo(float).tiny))
    powers = np.exp((logs - logs.max(axis=1, keepdims=True)) / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def margin_uncertainty(probabilities: ArrayLike) -> Array:
    """Return UHerding's uncertainty 1 − (p₁ − p₂) of (N, C), 0 to 1; of a single class 0."""
    ordered = np.sort(np.asarray(probabilities, dtype=np.float64), axis=1)
    return 1 - ordered[:, -1] + ordered[:, -2:-1].sum(axis=1)


def sample(
    size: int, count: int, random: np.random.Generator, *, limit: int = SAMPLE
) -> NDArray[np.int64]:
    """Return the rows among which :func:`herding` looks: all, or ``limit`` at random, ascending.

    Its authors do so, too (35,000 rows at most). Never fewer than K.
    """
    limit = max(limit, count)
    if size <= limit:
        return np.arange(size)
    return np.sort(random.choice(size, limit, replace=False))


def herding(
    embeddings: ArrayLike,
    labelled: ArrayLike,
    count: int,
    *,
    uncertainty: ArrayLike | None = None,
    width: float = 1.0,
) -> list[int]:
    """Return K rows that cover the pool, or its uncertain part: MaxHerding, or UHerding.

    Bae, Noh and Sutherland 2024, Generalized Coverage for More Robust Low-Budget Active Learning
    (arXiv 2407.12212): the greedy maximum of mean_n max_{s ∈ S} k(x_n, s), S labelled or picked,
    k(x, s) = exp(−‖x − s‖²/h²) on rows of length 1. Bae, Oliveira and Sutherland 2025, Uncertainty
    Herding: One Active Learning Method for All Label Budgets (arXiv 2412.20644): the mean of
    U(x_n) · max_{s ∈ S} k(x_n, s). The gain of a row is

        mean_n U_n · max(k(x_n, x) − max_{s ∈ S} k(x_n, s), 0).

    A pick changes the gains only through the rows that it covers better than all before, so that
    a pick costs N operations for each of these, not N². Exact; memory for N² kernels, 400 MB for
    10,000 rows in float32: larger pools by :func:`sample`. At first 2·N²·d FLOP.

    Two rows that cover each other and nothing else gain the same; of equal gains the row in the
    denser place goes first, by mean_n U_n · k(x_n, x), and only then the smaller position.

    Args:
        embeddings: (N, d) of the unlabelled rows.
        labelled: (L, d); may be empty.
        count: K; more than N takes all N.
        uncertainty: (N,) U, at least 0; ``None`` = 1 each: MaxHerding.
        width: h, in units of distance between rows of length 1 (0 to 2). MaxHerding's is 1,
            UHerding's :func:`kernel_width`.

    Raises:
        ValueError: See :func:`star.acquisition.points.points`; ``width`` is not above 0, or an
            uncertainty is negative.
    """
    if not width > 0:
        raise ValueError(f"width must be above 0, got {width}")
    pool, known = points(unit(embeddings), unit(labelled) if len(labelled) else [])  # type: ignore[arg-type]
    count = min(count, len(pool))
    weight = weights_of(uncertainty, len(pool))
    counts = np.flatnonzero(weight)  # the rows that coverage is about
    weight = weight[counts] / len(pool)
    covered = _kernel(pool[counts].nearest(known), width)[:, None]
    kernels = np.empty((len(counts), len(pool)), dtype=pool.rows.dtype)
    gains = np.zeros(len(pool))
    for rows in pool[counts].blocks(COLUMNS):
        kernels[rows] = _kernel(pool[counts[rows]].squared_distances(pool), width)
        gains += weight[rows] @ np.maximum(kernels[rows] - covered[rows], 0)
    return _greedy(kernels, covered, gains, weight, count)


def _greedy(
    kernels: Floats, covered: Floats, gains: Floats, weight: Floats, count: int
) -> list[int]:
    """Return the K columns of ``kernels`` that gain most, one after the other.

    Args:
        kernels: (C, N) of the rows that coverage is about, and all rows.
        covered: (C, 1) how well each is covered; overwritten.
        gains: (N,) what each row would gain; overwritten.
        weight: (C,) U/N.
        count: K ≤ N.
    """
    density, size = weight @ kernels, len(gains)
    slack = TIE * gains.max(initial=0.0)  # of the first gain: rounding is that of sums so large
    chosen: list[int] = []
    while len(chosen) < count:
        best = gains.max()
        if best <= slack:  # all is covered: the rest in order
            free = np.setdiff1d(np.arange(size), chosen)
            return chosen + free[: count - len(chosen)].tolist()
        tied = np.flatnonzero(gains >= best - slack)
        pick = int(tied[first_best(density[tied])])
        chosen.append(pick)
        nearer = np.flatnonzero(kernels[:, pick] > covered[:, 0])
        before, after = covered[nearer], kernels[nearer, pick, None]
        for start in range(0, len(nearer), COLUMNS):
            part = slice(start, start + COLUMNS)
            lost = np.clip(kernels[nearer[part]], before[part], after[part]) - before[part]
            gains -= weight[nearer[part]] @ lost  # in float64: gains end far below their start
        covered[nearer] = after
        gains[chosen] = -1
    return chosen


def _kernel(squared: Floats, width: float) -> Floats:
    squared *= -1 / width**2
    return np.exp(squared, out=squared)

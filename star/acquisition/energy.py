"""A batch that repels: the least energy of labelled and picked rows. No answer is looked at."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from star.acquisition.points import COLUMNS, Floats, Points, first_best, points

NEAR = 0.04  # of the rows lie within a kernel's width of the median row
SAMPLE = 2000  # rows by which the width is found


def minimum_energy(
    embeddings: ArrayLike, labelled: ArrayLike, count: int, random: np.random.Generator
) -> list[int]:
    """Return K rows, each the one that is least like all that is labelled or picked.

        argmin_i Σ_{s ∈ L ∪ picked} exp(−‖x_i − s‖²/h²), h of :func:`width`

    The greedy minimum of a design's energy (Joseph, Dasgupta, Tuo and Wu 2015, Sequential
    Exploration of Complex Surfaces Using Minimum Energy Designs, Technometrics 57), charges alike
    and a Gaussian kernel for 1/distance. k-centre looks at the nearest centre alone, and so goes to
    the farthest single rows; here many labels near by count more than one, so that a crowded place
    is left alone for longer and a sparse kind of example gets its share.

    Args:
        embeddings: (N, d) of the unlabelled rows.
        labelled: (L, d); may be empty. The first pick is then the one nearest to the mean.
        count: K; more than N takes all N.
        random: Draws the rows of :func:`width` where there are more than 2,000.

    Returns:
        Positions 0 … N − 1, best first; of equal ones the smaller position. 2·N·(L + K)·d FLOP and
        memory for two copies of the rows and one block of distances.

    Raises:
        ValueError: See :func:`star.acquisition.points.points`.
    """
    pool, known = points(embeddings, labelled)
    count = min(count, len(pool))
    if count < 1:
        return []
    squared_width = width(np.concatenate([pool.rows, known.rows]), random) ** 2
    energy = np.zeros(len(pool))
    for columns in known.blocks(COLUMNS):
        for rows in pool.blocks():
            energy[rows] += _kernel(pool[rows], known[columns], squared_width).sum(axis=1)
    key = -energy if len(known) else -pool.norms.astype(np.float64)
    chosen: list[int] = []
    while len(chosen) < count:
        best = first_best(key)
        chosen.append(best)
        energy += _kernel(pool, pool[best : best + 1], squared_width)[:, 0]
        key = -energy
        key[chosen] = -np.inf
    return chosen


def width(rows: ArrayLike, random: np.random.Generator) -> float:
    """Return the median row's distance to its neighbour number ⌈0.04 · N⌉, above 0.

    Of 2,000 rows drawn where there are more. Where that many rows are copies of each other it is
    the median of the distances above 0, and 1 where there are none.

    Args:
        rows: (N, d).
        random: Draws them.
    """
    every = points(rows)[0]
    if len(every) > SAMPLE:
        every = every[np.sort(random.choice(len(every), SAMPLE, replace=False))]
    squared = every.squared_distances(every)
    np.fill_diagonal(squared, 0)
    near = min(int(np.ceil(NEAR * len(every))), len(every) - 1)
    median = np.median(np.partition(squared, near, axis=1)[:, near])
    apart = squared[squared > 0]
    if median == 0 and len(apart):
        median = np.median(apart)
    return float(np.sqrt(median)) or 1.0


def _kernel(rows: Points, others: Points, squared_width: float) -> Floats:
    kernel: NDArray[np.float64] = np.exp(-rows.squared_distances(others) / squared_width)
    return kernel

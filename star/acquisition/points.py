"""Distances between rows of embeddings without a full matrix of them. Pure numpy.

‖x − y‖² = ‖x‖² + ‖y‖² − 2·x·y, so that the work is a matrix product: 2·N·M·d FLOP for N × M pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]
ROWS, COLUMNS = 4096, 1024  # of a block of distances: 16 MB in float32
# Relative: keys closer than this count as equal, and the smaller index goes first. Another order of
# summation (threads, blocks) moves a float32 distance by less.
TIE = 1e-6


@dataclass(frozen=True)
class Points:
    """Rows with their squared norms.

    Attributes:
        rows: (N, d), float32 or float64.
        norms: (N,) squared norms.
    """

    rows: Floats
    norms: Floats

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, where: slice | list[int] | NDArray[np.int64]) -> Points:
        return Points(self.rows[where], self.norms[where])

    def blocks(self, size: int = ROWS) -> Iterator[slice]:
        return (slice(start, start + size) for start in range(0, len(self), size))

    def squared_distances(self, others: Points) -> Floats:
        """Return (N, M) squared Euclidean distances; what rounding cannot tell from 0 is 0."""
        scale = self.norms[:, None] + others.norms
        found = self.rows @ others.rows.T
        found *= -2
        found += scale
        found[found < 4 * np.finfo(found.dtype).eps * self.rows.shape[1] ** 0.5 * scale] = 0
        return found

    def nearest(self, others: Points) -> Floats:
        """Return (N,) squared distances to the nearest of the others; infinite if there are none.

        In blocks: memory for ``ROWS`` × ``COLUMNS`` distances.
        """
        found = np.full(len(self), np.inf, dtype=self.rows.dtype)
        for rows in self.blocks():
            for columns in others.blocks(COLUMNS):
                block = self[rows].squared_distances(others[columns]).min(axis=1)
                np.minimum(found[rows], block, out=found[rows])
        return found


def points(embeddings: ArrayLike, *others: ArrayLike) -> list[Points]:
    """Return arrays of rows as points, all less the mean of the first.

    Distances do not change with it, and lose fewer digits where all rows share a large offset, as
    hidden states do.

    Args:
        embeddings: (N, d).
        others: (M, d) each; empty ones may have any shape.

    Raises:
        ValueError: Rows of different lengths, not of two axes, or not finite.
    """
    first = rows_of(embeddings)
    origin = first.mean(axis=0, dtype=np.float64) if len(first) else np.zeros(first.shape[1])
    arrays = [first]
    for other in others:
        array = np.asarray(other)
        array = rows_of(array) if len(array) else np.empty((0, first.shape[1]))
        if array.shape[1] != first.shape[1]:
            raise ValueError(
                f"rows must be of one length, got {first.shape[1]} and {array.shape[1]}"
            )
        arrays.append(array)
    shifted = [array.astype(first.dtype) - origin.astype(first.dtype) for array in arrays]
    return [Points(rows, np.einsum("nd,nd->n", rows, rows)) for rows in shifted]


def rows_of(embeddings: ArrayLike) -> Floats:
    """Return (N, d) finite float32 or float64 rows.

    Raises:
        ValueError: They are not.
    """
    rows = np.asarray(embeddings)
    if rows.dtype not in (np.float32, np.float64):
        rows = rows.astype(np.float32 if rows.dtype.kind == "f" else np.float64)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ValueError(f"embeddings must be (N, d) finite numbers, got shape {rows.shape}")
    return rows


def unit(embeddings: ArrayLike) -> Floats:
    """Return rows of length 1; a row of zeros stays one."""
    rows = rows_of(embeddings)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)


def weights_of(values: ArrayLike | None, size: int) -> NDArray[np.float64]:
    """Return (N,) weights, all 1 if there are none.

    Raises:
        ValueError: Not N finite numbers of at least 0.
    """
    if values is None:
        return np.ones(size)
    weights = np.asarray(values, dtype=np.float64)
    if weights.shape != (size,) or not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(f"weights must be {size} finite numbers ≥ 0, got {weights}")
    return weights


def first_best(keys: Floats) -> int:
    """Return the first position whose key is the largest but for ``TIE``."""
    best = keys.max()
    return int(np.argmax(keys >= best - TIE * abs(best)))

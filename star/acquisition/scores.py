"""The arrays of a round's ``scores.npz``, each checked when it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from star.acquisition import uncertainty
from star.errors import InputError
from star.files import read_npz

Array = NDArray[np.float64]


class StoredScores:
    """The arrays of one ``scores.npz``.

    Attributes:
        index: (N,) pool indices.

    Args:
        path: The file.

    Raises:
        InputError: It cannot be read, or holds nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._arrays = read_npz(path)
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise InputError(f"cannot read {path}: {error}") from None
        self.index: NDArray[np.int64] = self.array("index", None)
        if not len(self.index):
            raise InputError(f"{path} holds no scores")

    def has(self, name: str) -> bool:
        return name in self._arrays

    def array(self, name: str, *shape: int | None) -> Any:
        """Return an array. ``shape``: of each axis the length, or ``None`` for any but 0.

        Raises:
            InputError: It is missing, of another shape, or not finite.
        """
        if not self.has(name):
            raise InputError(
                f"{self._path} has no {name}, which this replay needs; it has "
                f"{', '.join(sorted(self._arrays))}"
            )
        found = self._arrays[name]
        fits = len(found.shape) == len(shape) and all(
            want in (None, have) for have, want in zip(found.shape, shape, strict=True)
        )
        if not fits or found.dtype.kind not in "if" or not np.isfinite(found).all():
            raise InputError(
                f"{self._path}: {name} must hold finite numbers of shape {shape}, got "
                f"{found.dtype} of shape {found.shape}"
            )
        return found

    def score(self, view: str, measure: str, reduction: str, passes: int) -> Array:
        """Return a view's scores (N,) over its first ``passes`` passes; as ``scoring.View.score``.

        BALD is one number for all passes.
        """
        size, one = len(self.index), measure == "bald"
        sums = self.array(f"{view}_{measure}", size, 1 if one else None)
        if not one and sums.shape[1] < passes:
            raise InputError(
                f"{self._path}: {view}_{measure} has {sums.shape[1]} passes, the replay needs "
                f"{passes}"
            )
        total = sums[:, :passes].mean(axis=1)
        return total / self.array(f"{view}_num_tokens", size) if reduction == "mean" else total

    def sums(self, view: str, passes: int) -> dict[str, Array]:
        """Return a view's measures, each (N, ``passes``), summed over the tokens."""
        size = len(self.index)
        return {
            measure: self.array(f"{view}_{measure}", size, None)[:, :passes]
            for measure in uncertainty.MEASURES
        }

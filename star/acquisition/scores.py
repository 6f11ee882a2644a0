"""What both views say of the unlabelled pool after a round, and the file it is kept in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from star.acquisition import uncertainty
from star.errors import InputError
from star.files import read_npz, write_npz

Array = NDArray[np.float64]
REDUCTIONS = ("sum", "mean")  # over the tokens; the rows of base_range_<measure>
FIRST = ("index", "blended", "full", "prompt_tokens", "base")  # in a file, in this order
LOG_PROBS = "log_probs"


def reduced(sums: Array, num_tokens: NDArray[np.int64], reduction: str) -> Array:
    """Return (N,) scores of (N, S) sums: the mean over the passes, summed or averaged over tokens.

    Args:
        sums: Sums over the continuation's tokens, one column a pass.
        num_tokens: (N,) tokens of the continuation.
        reduction: ``sum`` or ``mean``.
    """
    total: Array = sums.mean(axis=1)
    return total / num_tokens if reduction == "mean" else total


@dataclass(frozen=True)
class Scores:
    """Both views of N unlabelled examples after a round, in pool order.

    Attributes:
        arrays: By their names in ``scores.npz``: ``index`` (N,) pool indices, ascending;
            ``<view>_<measure>`` (N, S) sums over the continuation's tokens, one a pass (``bald``:
            one for all), of the views ``base`` and ``full``; ``<view>_log_probs`` (N, S, C) of the
            choices, where a strategy needs them; ``<view>_num_tokens`` (N,) tokens of
            what was scored; ``prompt_tokens`` (N,); ``base_range_<measure>`` (2, 2) least and
            largest base score of the whole pool, summed and averaged. ``index`` alone where nothing
            was scored. In a file also what was decided with them.
        passes: How many passes of the full view count; ``None`` = all.
        path: The file they were read from.
    """

    arrays: Mapping[str, NDArray[Any]]
    passes: int | None = None
    path: Path | None = None

    @classmethod
    def load(cls, path: Path, *, passes: int | None = None) -> Scores:
        """Return the scores in a file; all but ``index`` are checked when they are asked for.

        Raises:
            InputError: It cannot be read, or holds nothing.
        """
        try:
            arrays = read_npz(path)
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise InputError(f"cannot read {path}: {error}") from None
        scores = cls(_Checked(arrays, path), passes, path)
        if not len(scores.index):
            raise InputError(f"{path} holds no scores")
        return scores

    def save(self, path: Path, **decided: Any) -> None:
        """Write the arrays, and what was ``decided`` with them, as ``.npz``."""
        arrays = {**self.arrays, **decided}
        names = [*(n for n in FIRST if n in arrays), *(n for n in arrays if n not in FIRST)]
        write_npz(path, **{name: arrays[name] for name in names})

    @property
    def index(self) -> NDArray[np.int64]:
        return self.arrays["index"]

    def has(self, view: str, measure: str) -> bool:
        return f"{view}_{measure}" in self.arrays

    def sums(self, view: str, measure: str) -> Array:
        """Return (N, S) sums over the tokens, of the passes that count.

        Raises:
            InputError: A file has fewer passes, or see :meth:`load`.
        """
        found: Array = self.arrays[f"{view}_{measure}"]
        if view != "full" or measure == "bald" or self.passes is None:
            return found
        if found.shape[1] < self.passes:
            raise InputError(
                f"{self.path}: {view}_{measure} has {found.shape[1]} passes, the replay needs "
                f"{self.passes}"
            )
        return found[:, : self.passes]

    def log_probs(self, view: str) -> Array:
        """Return (N, S, C) log-probabilities of the choices, of the passes that count, in nats.

        Raises:
            InputError: None are there, or see :meth:`load`.
        """
        name = f"{view}_{LOG_PROBS}"
        if name not in self.arrays and self.path is None:
            raise InputError(f"there are no {name}: they are of choices, and none were scored")
        return self.arrays[name][:, : self.passes if view == "full" else None]

    def at(self, places: NDArray[Any]) -> Scores:
        """Return the scores of some examples, by their places (or a mask over all)."""
        return replace(self, arrays=_At(self.arrays, places))

    def read_only(self) -> Scores:
        """Return the same scores in copies that nobody can write to, made as they are asked for."""
        return replace(self, arrays=_Copies(self.arrays))

    def score(self, view: str, measure: str, reduction: str) -> Array:
        """Return a view's scores (N,), the mean over its passes; see :func:`reduced`."""
        sums = self.sums(view, measure)
        tokens = self.arrays[f"{view}_num_tokens"] if reduction == "mean" else np.empty(0)
        return reduced(sums, tokens, reduction)

    def base_range(self, measure: str, reduction: str) -> tuple[float, float]:
        """Return the least and the largest base score over the whole pool, labelled ones too."""
        low, high = self.arrays[f"base_range_{measure}"][REDUCTIONS.index(reduction)]
        return float(low), float(high)

    def measures(self, view: str) -> dict[str, Array]:
        """Return a view's measures by name, see :meth:`sums`; ``bald`` if it is of these passes.

        Nothing of a base view that a model does not have.
        """
        if view == "base" and not any(self.has(view, measure) for measure in uncertainty.MEASURES):
            return {}
        found = {measure: self.sums(view, measure) for measure in uncertainty.MEASURES}
        if self.has(view, "bald"):
            bald = self.sums(view, "bald")
            stored = self.arrays[f"{view}_{next(iter(found))}"].shape[1]
            found |= {"bald": bald} if self.passes in (None, stored) else {}
        return found


class _Arrays(Mapping[str, NDArray[Any]]):
    """The names of other arrays; what is handed out by them is a subclass' concern."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._arrays = arrays

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


class _At(_Arrays):
    """Arrays of some examples."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], places: NDArray[Any]) -> None:
        super().__init__(arrays)
        self._places = places

    def __getitem__(self, name: str) -> NDArray[Any]:
        whole = self._arrays[name]
        return whole if name.startswith("base_range_") else whole[self._places]


class _Copies(_Arrays):
    """Arrays as read-only copies."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        super().__init__(arrays)
        self._copies: dict[str, NDArray[Any]] = {}

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._copies:
            # As it lies in memory: sums over axes stay the same to the bit.
            copy = self._arrays[name].copy(order="K")
            copy.setflags(write=False)
            self._copies[name] = copy
        return self._copies[name]


class _Checked(_Arrays):
    """The arrays of a file, each checked when it is asked for.

    Raises:
        InputError: One is missing, of another shape, or not finite.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], path: Path) -> None:
        super().__init__(arrays)
        self._path = path
        self._size: int | None = None
        self._size = len(self["index"])

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._arrays:
            raise InputError(
                f"{self._path} has no {name}, which this replay needs; it has "
                f"{', '.join(sorted(self._arrays))}"
            )
        found, shape = self._arrays[name], self._shape(name)
        fits = len(found.shape) == len(shape) and all(
            want in (None, have) for have, want in zip(found.shape, shape, strict=True)
        )
        if not fits or found.dtype.kind not in "if" or not np.isfinite(found).all():
            raise InputError(
                f"{self._path}: {name} must hold finite numbers of shape {shape}, got "
                f"{found.dtype} of shape {found.shape}"
            )
        return found

    def _shape(self, name: str) -> tuple[int | None, ...]:
        """Return of each axis the length, or ``None`` for any."""
        if name.startswith("base_range_"):
            return (2, 2)
        if name.endswith(LOG_PROBS):
            return (self._size, None, None)
        if name in FIRST or name.endswith("_num_tokens"):
            return (self._size,)
        return (self._size, 1 if name.endswith("_bald") else None)

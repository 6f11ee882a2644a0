"""A pool's tokens on disk, by content: made once, and mapped into memory by every later run.

An entry is a folder of arrays, ``<name>.npy``, and the sum of what they hold.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from star.cache import cached, digest
from star.files import read_json, write_json
from star.models.distributed import is_main
from star.models.stored_rows import Ragged, Rows

Tokens = tuple[Rows, Ragged]
"""Rows, and lists of as many numbers that belong to them."""

ARRAYS = ("tokens", "ends", "splits", "indices", "widths", "width_ends")
SUM = "sum.json"


def kept(folder: Path | None, name: str, make: Callable[[], Tokens]) -> Tokens:
    """Return tokens, mapped where they are kept, else made and kept.

    Each process of a job reads or makes them for itself: they are the same.

    Args:
        folder: Of tokens; ``None`` keeps none.
        name: Of the entry, by :func:`star.cache.key`.
        make: Encodes.
    """
    return cached(folder, name, make=make, read=_read, write=_write if is_main() else None)


def _arrays(rows: Rows, widths: Ragged) -> dict[str, Any]:
    values = (rows.tokens.tokens, rows.tokens.ends, rows.splits, rows.indices)
    return dict(zip(ARRAYS, (*values, widths.tokens, widths.ends), strict=True))


def _sum(rows: Rows, widths: Ragged) -> str:
    return digest([rows.digest(), widths.digest()])


def _write(place: Path, made: Tokens) -> None:
    place.mkdir()
    for name, array in _arrays(*made).items():
        np.save(place / f"{name}.npy", array, allow_pickle=False)
    write_json(place / SUM, _sum(*made))


def _read(place: Path) -> Tokens:
    # Of what is mapped a plain array: a `memmap` is slow to take items from.
    stored = {
        name: np.asarray(np.load(place / f"{name}.npy", mmap_mode="r", allow_pickle=False))
        for name in ARRAYS
    }
    rows, widths = Rows(()), Ragged.of(stored["widths"], stored["width_ends"])
    rows.tokens = Ragged.of(stored["tokens"], stored["ends"])
    rows.splits, rows.indices = stored["splits"], stored["indices"]
    if _sum(rows, widths) != read_json(place / SUM):
        raise ValueError("it was cut or changed")
    return rows, widths

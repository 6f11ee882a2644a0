"""Embeddings on disk, by content: the model's own, and a sentence encoder's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from star.cache import cached
from star.files import read_npz, write_npz
from star.models.distributed import everyone, is_main

Vectors = NDArray[np.float32]


def kept(folder: Path | None, name: str, count: int, make: Callable[[], Vectors]) -> Vectors:
    """Return ``count`` vectors, read where they are kept, else made and kept.

    Args:
        folder: Of vectors; ``None`` keeps none.
        name: Of the entry, by :func:`star.cache.key`.
        count: N.
        make: To (N, H), on every process of a job together.
    """

    def read(path: Path) -> Vectors:
        vectors = read_npz(path)["vectors"]
        if len(vectors) != count:
            raise ValueError(f"{len(vectors)} vectors, {count} expected")
        return vectors

    return cached(
        folder,
        f"{name}.npz",
        make=make,
        read=read,
        write=(lambda path, made: write_npz(path, vectors=made)) if is_main() else None,
        agree=everyone,  # embedding is shared work
    )

"""Embeddings of the pool's examples: made when a strategy asks for them, once a round."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Vectors = NDArray[np.float32]
Encode = Callable[[str, Indices], Vectors]


class Embeddings:
    """Embeddings of E examples of the pool, by view.

    Args:
        index: (E,) pool indices that can be asked for, ascending.
        encode: View and (E,) pool indices to (E, H): the model's own
            (:mod:`star.models.embedding`), a sentence encoder's, or those that a run has kept.
        known: View to (E, H) of those that need not be made.

    Attributes:
        made: View to (E, H) of those that were made.
    """

    def __init__(
        self, index: Indices, encode: Encode, known: Mapping[str, Vectors] | None = None
    ) -> None:
        self.index, self._encode = index, encode
        self._known = dict(known or {})
        self.made: dict[str, Vectors] = {}

    def of(self, view: str, index: Indices) -> Vectors:
        """Return a copy of the embeddings of some of the examples, (len(index), H) float32."""
        if view not in self._known:
            self.made[view] = self._known[view] = self._encode(view, self.index)
        return self._known[view][np.searchsorted(self.index, index)]

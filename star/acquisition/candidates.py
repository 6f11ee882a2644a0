"""Which unlabelled examples are scored at all: ``acquisition.candidates``, an approximation.

A pool of a million rows costs S + 1 passes of a million rows a round. Of M candidates no other row
is scored, and none can be picked. The K best of them are the K best of all as far as these are
candidates; that share is the *recall of the true top K*. Drawn at random it is M / N on average. A
run that has scored its whole pool says what another M would have found
(``star replay RUN acquisition.candidates=M``, column ``overlap``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from star import seeding
from star.acquisition.diversity import k_center
from star.config import AcquisitionConfig, embedding_view

Indices = NDArray[np.int64]


def candidates(
    unlabelled: Sequence[int] | Indices,
    a: AcquisitionConfig,
    *,
    labelled: Sequence[int],
    seed: int,
    t: int,
    embed: Callable[[str, Indices], NDArray[np.float32]] | None,
) -> Indices:
    """Return the pool indices that are scored after round t, ascending: all, or M of N.

    With ``candidates_by=embeddings`` each is the farthest from what is labelled or a candidate
    (k-centre greedy, :func:`star.acquisition.diversity.k_center`): 2·N·(L + M)·d FLOP, and the N
    embeddings in memory.

    Args:
        unlabelled: (N,) pool indices, ascending.
        a: ``acquisition``.
        labelled: (L,) pool indices.
        seed: Of the run; the draw has a stream of its own.
        t: The round.
        embed: View and pool indices to embeddings.
    """
    index = np.asarray(unlabelled, dtype=np.int64)
    if a.candidates is None or a.candidates >= len(index):
        return index
    if a.candidates_by == AcquisitionConfig.candidates_by:  # drawn
        random = np.random.default_rng(seeding.derive(seed, "candidates", t))
        return np.sort(random.choice(index, a.candidates, replace=False))
    assert embed is not None
    view = embedding_view(a)
    known = embed(view, np.asarray(labelled, dtype=np.int64))
    return np.sort(index[k_center(embed(view, index), known, a.candidates)])

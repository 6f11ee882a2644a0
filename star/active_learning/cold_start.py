"""The first labels where they are chosen and not drawn: ``acquisition.initial``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from star.acquisition.components import Context
from star.acquisition.decision import decide
from star.acquisition.embeddings import Embeddings
from star.acquisition.scores import Scores
from star.active_learning.learner import Learner
from star.data.pool import Pool
from star.data.task import Answer
from star.errors import InputError
from star.models import distributed

BEFORE = -1  # the round after which is chosen: none


def cold_start(learner: Learner, pool: Pool[Answer]) -> list[int]:
    """Return ``pool.initial_size`` pool indices, best first.

    What the strategy that ``acquisition.initial`` names picks with nothing labelled, by what
    ``acquisition.embeddings`` names: the same whatever picks afterwards.

    Args:
        learner: With no adapter on its model.
        pool: With nothing labelled, and without validation rows.

    Raises:
        InputError: There are no embeddings, or the processes of a job choose differently.
    """
    config, index = learner.config, np.array(pool.unlabelled)
    a = config.acquisition
    decision = decide(
        Scores({"index": index}),
        replace(a, strategy=None, select=a.initial, random_share=0.0),  # type: ignore[arg-type]
        t=BEFORE,
        rounds=learner.rounds,
        count=config.pool.initial_size,
        seed=config.seed,
        context=Context(embed=Embeddings(index, learner.encoder(None)).of),
    )
    if not distributed.equal(decision.indices):
        raise InputError(
            f"the processes of this job choose different first labels by acquisition.initial="
            f"{a.initial}, because their machines round differently; run it on equal ones"
        )
    return decision.indices

"""Who is labelled when, before anybody is: rows that stand for those a run will choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from star.acquisition.decision import decide
from star.acquisition.scores import Scores
from star.active_learning.plan import Plan
from star.config import AcquisitionConfig, Config
from star.data.pool import Pool, first_labels


@dataclass(frozen=True)
class Round:
    """Pool indices that a round is trained on, and those it scores and may query."""

    trained: list[int]
    unlabelled: list[int]


def stand_ins(
    config: Config,
    indices: Sequence[int],
    planned: Plan,
    queries: Sequence[Sequence[int]] | None = None,
) -> tuple[list[int], list[Round]]:
    """Return the validation rows, and who is labelled in each round.

    Args:
        config: Of the run.
        indices: Pool indices that take part.
        planned: What :func:`plan` gives for so many.
        queries: What is picked after each round; ``None`` = as random choice would.
    """
    pool: Pool[str] = Pool(indices)  # answers that stand for none in particular
    held, initial = config.task.validation_size, config.pool.initial_size
    apart, first = first_labels(pool, held_out=held, initial=initial, seed=config.seed)
    pool.hold_out(dict.fromkeys(apart, ""))
    pool.add(dict.fromkeys(first, ""))
    rounds, drawing = [], AcquisitionConfig(select="random")
    for t, sizes in enumerate(planned.rounds):
        left = pool.unlabelled
        rounds.append(Round(sorted(pool.labelled), left))
        if sizes.query:
            scores, shared = Scores({"index": np.array(left)}), len(planned.rounds)
            drawn = decide(
                scores, drawing, t=t, rounds=shared, count=sizes.query, seed=config.seed
            ).indices
            pool.add(dict.fromkeys(drawn if queries is None else queries[t], ""))
    return apart, rounds

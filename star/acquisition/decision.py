"""The decision: which K examples to label after a round, and why. Pure, and written once.

The loop asks it of fresh scores, a replay of stored ones, the probes of stored ones under another
scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star import seeding
from star.acquisition import blending
from star.acquisition.scores import Scores
from star.acquisition.strategies import Components, picked, strategy_of
from star.config import AcquisitionConfig

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Decision:
    """What was picked after a round, and what decided it.

    Attributes:
        indices: K pool indices, best first.
        blended: (N,) scores that decided, or the configuration's where a strategy picked a batch;
            ``None``: nothing was scored.
        base: (N,) scores of the base view; ``None``: nothing was scored, or it has none (``bald``).
        full: (N,) scores of the full view; ``None``: nothing was scored.
        base_weight: λ(t); ``None`` unless ``combine`` is ``dynamic`` and something was scored.
        effective_weight: Rank correlation of ``base`` and ``full`` with the deciding scores; see
            :func:`star.acquisition.blending.effective_weights`. ``None`` each: no score decided.
        near_ties: Scores that rounding could swap with the K-th; ``None``: no score decided.
    """

    indices: list[int]
    blended: Array | None = None
    base: Array | None = None
    full: Array | None = None
    base_weight: float | None = None
    effective_weight: Mapping[str, float | None] = field(
        default_factory=lambda: {"base": None, "full": None}
    )
    near_ties: int | None = None

    def arrays(self) -> dict[str, Any]:
        """Return (N,) arrays for ``scores.npz``, a missing base as NaN, where there was scored."""
        assert self.full is not None
        base = np.full(len(self.full), np.nan) if self.base is None else self.base
        return {"blended": self.blended, "full": self.full, "base": base}


def decide(
    scores: Scores,
    a: AcquisitionConfig,
    *,
    t: int,
    rounds: int,
    count: int,
    seed: int,
    dtype: str = "float32",
) -> Decision:
    """Return the query after round t: what the configured strategy picks of the unlabelled pool.

    By default the K highest of λ(t)·base + (1 − λ(t))·full, both on a common scale.

    Args:
        scores: Of the unlabelled pool; of its ``index`` alone where the strategy needs no scores.
        a: ``acquisition``.
        t: The round, counted from 0.
        rounds: R, the number of trainings.
        count: K; more than N takes all N.
        seed: Of the run, for strategies that draw.
        dtype: Of the model's weights: how much rounding can move a score.

    Raises:
        InputError: Scores are missing or not finite, or a user's own function failed.
    """
    strategy, count = strategy_of(a), min(count, len(scores.index))
    full = base = None
    weight, blended = math.nan, np.empty(0)
    if strategy.needs_scores:
        full = scores.score("full", a.measure, a.reduction)
        if a.combine != "none" or scores.has("base", a.measure):  # bald has no base view
            base = scores.score("base", a.measure, a.reduction)
        weight = blending.base_weight(
            t,
            a.base_weight.rounds or rounds,
            schedule=a.base_weight.schedule,
            value=a.base_weight.value,
            decay=a.base_weight.decay,
        )
        ranged = a.normalization == "base_minmax" and a.combine != "none"
        blended = blending.combine(
            base,
            full,
            how=a.combine,
            weight=weight,
            normalization=a.normalization,
            base_range=scores.base_range(a.measure, a.reduction) if ranged else None,
        )
    pool = Components(
        scores=scores,
        blended=blended,
        round=t,
        rounds=rounds,
        query_size=count,
        base_weight=weight,
        random=np.random.default_rng(seeding.derive(seed, "strategy", t)),
        seed=seed,
    )
    indices, decided = picked(strategy, pool)
    if full is None:
        return Decision(indices)
    nominal = weight if a.combine == "dynamic" else None
    if decided is None:
        return Decision(indices, blended, base, full, nominal)
    effective = blending.effective_weights(base, full, decided)
    near = blending.near_ties(decided, count, tolerance=blending.TIE_TOLERANCE[dtype])
    return Decision(indices, decided, base, full, nominal, effective, near)

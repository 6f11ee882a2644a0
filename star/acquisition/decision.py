"""The decision: which K examples to label after a round, and why. Pure, and written once.

The loop asks it of fresh scores, a replay of stored ones, the probes of stored ones under another
scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star import seeding
from star.acquisition import blending, random_share
from star.acquisition.components import Components, Context
from star.acquisition.scores import Scores
from star.acquisition.strategies import picked, strategy_of
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
        batch: Whether the strategy picked them itself; else its scores did.
        drawn: Those of ``indices`` that were drawn at random (``random_share``), in their order.
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
    batch: bool = False
    drawn: list[int] = field(default_factory=list)

    def arrays(self) -> dict[str, Any]:
        """Return (N,) arrays for ``scores.npz``, a missing base as NaN, where there was scored."""
        assert self.full is not None
        base = np.full(len(self.full), np.nan) if self.base is None else self.base
        return {"blended": self.blended, "full": self.full, "base": base}


@dataclass(frozen=True)
class Views:
    """What the configuration makes of the scores: (N,) of each view and of both, and λ(t)."""

    blended: Array
    base: Array | None
    full: Array | None
    weight: float


NO_CONTEXT = Context()
NOT_SCORED = Views(np.empty(0), None, None, math.nan)


def views_of(scores: Scores, a: AcquisitionConfig, t: int, rounds: int) -> Views:
    """Return λ(t)·base + (1 − λ(t))·full, or what else ``combine`` asks for, and its parts.

    Arguments as of :func:`decide`.
    """
    base, full = None, scores.score("full", a.measure, a.reduction)
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
    return Views(blended, base, full, weight)


def decide(
    scores: Scores,
    a: AcquisitionConfig,
    *,
    t: int,
    rounds: int,
    count: int,
    seed: int,
    dtype: str = "float32",
    context: Context = NO_CONTEXT,
    made_up: bool = False,
) -> Decision:
    """Return the query after round t: what the configured strategy picks of the unlabelled pool.

    By default the K highest of λ(t)·base + (1 − λ(t))·full, both on a common scale. With
    ``random_share`` that share of the K is drawn from the whole unlabelled pool, whatever the
    strategy thinks of it, and stands at random places among the best of the others.

    Args:
        scores: Of the unlabelled pool; of its ``index`` alone where the strategy needs no scores.
        a: ``acquisition``.
        t: The round, counted from 0.
        rounds: R, the number of trainings.
        count: K; more than N takes all N.
        seed: Of the run, for strategies that draw.
        dtype: Of the model's weights: how much rounding can move a score.
        context: What else is known of the pool.
        made_up: Whether nothing of this is a run's.

    Raises:
        InputError: Scores are missing or not finite, or a user's own function failed.
    """
    strategy, count = strategy_of(a), min(count, len(scores.index))
    views = views_of(scores, a, t, rounds) if "scores" in strategy.needs else NOT_SCORED
    pool = Components(
        scores=scores,
        blended=views.blended,
        round=t,
        rounds=rounds,
        query_size=count,
        base_weight=views.weight,
        random=np.random.default_rng(seeding.derive(seed, "strategy", t)),
        seed=seed,
        settings=a,
        needs=strategy.needs,
        made_up=made_up,
        context=context,
    )
    indices, decided = picked(strategy, pool)
    indices, drawn = random_share.mixed(indices, scores.index, a.random_share, seed=seed, t=t)
    made = Decision(indices, batch=decided is None, drawn=drawn)
    return _explained(made, decided, views, scores.index, a, dtype)


def _explained(
    made: Decision,
    decided: Array | None,
    views: Views,
    index: NDArray[np.int64],
    a: AcquisitionConfig,
    dtype: str,
) -> Decision:
    """Return a decision with what decided it: the scores (N,), ``None``: a batch was picked."""
    if views.full is None:
        return made
    made = replace(made, blended=views.blended, base=views.base, full=views.full)
    if a.combine == "dynamic":
        made = replace(made, base_weight=views.weight)
    if decided is None:
        return made
    tolerance = blending.TIE_TOLERANCE[dtype]
    ranked, picks = decided[~np.isin(index, made.drawn)], len(made.indices) - len(made.drawn)
    return replace(
        made,
        blended=decided,
        effective_weight=blending.effective_weights(views.base, views.full, decided),
        near_ties=blending.near_ties(ranked, picks, tolerance=tolerance),
    )

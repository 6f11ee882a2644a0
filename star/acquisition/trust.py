"""Views weighted by evidence: how well each told right from wrong on what was bought.

Ours, not a paper's. STAR weighs the base model's uncertainty by λ(t) and the full model's by
1 − λ(t), whatever they were worth. Here each view v starts from such a prior weight π_v and moves
towards what its scores have shown. For every bought example the history has each view's score when
it was chosen, and whether the model of that round, not yet trained on it, was wrong.

1. In each round t, of its n⁺ wrong and n⁻ right examples:
   AUROC_{v,t} = P(score of a wrong one > of a right one) + ½·P(equal), d_{v,t} = 2·AUROC_{v,t} − 1.
   Within a round, since scores of two rounds are of two models.
2. Evidence: d_v = Σ_t n_t·d_{v,t} / Σ_t n_t with n_t = 4·n⁺·n⁻ / (n⁺ + n⁻), which is the number of
   examples where half are wrong and 0 where all are, as the variance of d_{v,t} has it.
3. w_v = (m·π_v + n·d_v) / (m + n), n = Σ_t n_t, m = ``strength``: the prior counts as m examples.

The sign is free: a view whose high scores were right counts the other way round. The blend is
Σ_v w_v·ũ_v with each view as ranks on [0, 1], and a share of the batch is drawn at random, since
evidence from the blend's own picks alone would never see what it passes over.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from star.acquisition.blending import common_scale

Array = NDArray[np.float64]


def discrimination(scores: ArrayLike, wrong: ArrayLike) -> float:
    """Return 2·AUROC − 1 in [−1, 1] of scores (n,) for being ``wrong`` (n,); 0 if none or all are.

    Somers' D: 1 where every wrong one has a higher score than every right one.
    """
    ranks, wrong = rankdata(np.asarray(scores, dtype=np.float64)), np.asarray(wrong, dtype=bool)
    bad = int(wrong.sum())
    pairs = bad * (len(wrong) - bad)
    if not pairs:
        return 0.0
    return 2 * float(ranks[wrong].sum() - bad * (bad + 1) / 2) / pairs - 1


def evidence_weights(
    history: Mapping[str, ArrayLike],
    wrong: ArrayLike,
    rounds: ArrayLike,
    prior: Mapping[str, float],
    *,
    strength: float = 50.0,
) -> dict[str, float]:
    """Return w_v by view, see the module.

    Args:
        history: View to (n,) scores of what was bought, each when it was chosen; n may be 0.
        wrong: (n,) whether the model of that round was wrong on it.
        rounds: (n,) the round each was bought after.
        prior: View to π_v: λ(t) and 1 − λ(t). Its views are those of the result.
        strength: m, in examples, above 0.

    Raises:
        ValueError: Not one score, outcome and round an example, or ``strength`` is not above 0.
    """
    if not strength > 0:
        raise ValueError(f"strength must be above 0, got {strength}")
    outcome, when = np.asarray(wrong, dtype=bool), np.asarray(rounds)
    seen = {view: np.asarray(history[view], dtype=np.float64) for view in prior}
    for view, scores in seen.items():
        if not scores.shape == outcome.shape == when.shape:
            raise ValueError(
                f"{view}: one score, outcome and round an example, got {scores.shape}, "
                f"{outcome.shape}, {when.shape}"
            )
    total, sums = 0.0, dict.fromkeys(prior, 0.0)
    for t in np.unique(when):
        here = when == t
        bad, size = int(outcome[here].sum()), int(here.sum())
        count = 4 * bad * (size - bad) / size
        total += count
        for view, scores in seen.items():
            sums[view] += count * discrimination(scores[here], outcome[here])
    return {view: (strength * prior[view] + sums[view]) / (strength + total) for view in prior}


def trusted(
    views: Mapping[str, ArrayLike],
    weights: Mapping[str, float],
    count: int,
    random: np.random.Generator,
    *,
    share: float = 0.2,
) -> list[int]:
    """Return K rows: the highest of Σ_v w_v·rank_v, then ``share`` of K at random from the others.

    Args:
        views: View to (N,) scores of the unlabelled rows.
        weights: View to w_v, see :func:`evidence_weights`.
        count: K; more than N takes all N.
        random: Draws the share.
        share: Of the batch, in [0, 1], rounded to whole examples.

    Raises:
        ValueError: ``share`` is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1], got {share}")
    blend = sum(
        weight * common_scale(np.asarray(views[view]), "rank") for view, weight in weights.items()
    )
    order = np.argsort(-np.asarray(blend), kind="stable")
    count = min(count, len(order))
    drawn = round(share * count)
    rest = np.sort(order[count - drawn :])
    picked = random.choice(rest, drawn, replace=False)
    return [*order[: count - drawn].tolist(), *picked.tolist()]

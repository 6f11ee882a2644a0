"""Batches as entries of ``STRATEGIES``: from what is told of the pool to the arrays they take.

The methods, with their papers and formulas, are in the files that this one imports. *Uncertainty*
is the configuration's own score (``measure``, ``combine``, …), so that it can be chosen.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from star.acquisition import (
    diversity,
    energy,
    gradients,
    information,
    representative,
    stochastic,
    trust,
)
from star.acquisition.components import Components

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
TARGETS = 1000  # examples whose predictions EPIG's labels should tell of


def _at(pool: Components, places: Sequence[int]) -> Indices:
    return pool.index[np.asarray(places, dtype=np.int64)]


def softmax(pool: Components) -> Array:
    """Return keys of a draw with p ∝ exp(β·score)."""
    return stochastic.softmax(pool.blended, pool.random, coldness=pool.settings.coldness)


def power(pool: Components) -> Array:
    """Return keys of a draw with p ∝ score^β, the score from 0 to 1 over the pool."""
    scores = diversity.normalised(pool.blended)
    return stochastic.power(scores, pool.random, coldness=pool.settings.coldness)


def softrank(pool: Components) -> Array:
    """Return keys of a draw with p ∝ rank^(−β)."""
    return stochastic.softrank(pool.blended, pool.random, coldness=pool.settings.coldness)


def k_center(pool: Components) -> Indices:
    """Return the farthest from what is labelled, one after the other."""
    return _at(pool, diversity.k_center(*_embeddings(pool), pool.query_size))


def weighted_k_center(pool: Components) -> Indices:
    """Return the highest of uncertainty × distance to what is labelled, one after the other."""
    rows, labelled = _embeddings(pool)
    return _at(pool, diversity.weighted_k_center(rows, labelled, pool.blended, pool.query_size))


def uncertain_k_center(pool: Components) -> Indices:
    """Return the farthest from what is labelled among the ``preselect`` · K most uncertain."""
    rows, labelled = _embeddings(pool)
    return _at(
        pool,
        diversity.uncertain_then_k_center(
            rows, labelled, pool.blended, pool.query_size, factor=pool.settings.preselect
        ),
    )


def cluster(pool: Components) -> Indices:
    """Return the most uncertain of each of K clusters."""
    rows, _ = _embeddings(pool)
    return _at(
        pool, diversity.cluster_then_uncertain(rows, pool.blended, pool.query_size, pool.random)
    )


def badge(pool: Components) -> Indices:
    """Return a draw of examples whose gradients are large and differ.

    The last layer's input is the full model's view ``head``; the mean of its passes' probabilities
    of the choices stands for the output.
    """
    rows = pool.embeddings("head")
    return _at(pool, gradients.badge(_chances(pool), rows, pool.query_size, pool.random))


def typiclust(pool: Components) -> Indices:
    """Return the most typical of the largest clusters without a label."""
    return _at(pool, representative.typiclust(*_embeddings(pool), pool.query_size, pool.random))


def maxherding(pool: Components) -> Indices:
    """Return those that cover the pool best."""
    return _herding(pool, lambda labelled: 1.0, np.ones(len(pool.index)))


def minimum_energy(pool: Components) -> Indices:
    """Return those that are least like all that is labelled."""
    return _at(pool, energy.minimum_energy(*_embeddings(pool), pool.query_size, pool.random))


def uherding(pool: Components) -> Indices:
    """Return those that cover its uncertain part best, by a kernel that narrows with the labels."""
    return _herding(pool, representative.kernel_width, diversity.normalised(pool.blended))


def uherding_calibrated(pool: Components) -> Indices:
    """Return the same by the margin of the choices, at a temperature fitted to what was bought.

    Its authors train a second model on four fifths of the labels to have a fifth that it has not
    seen. The history has such labels without that: every bought example, as the model of its round
    judged it before it was trained on it.
    """
    temperature = representative.fitted_temperature(_bought_chances(pool), pool.history.correct)
    logger.info("temperature fitted to %d examples: %.3g", len(pool.history.index), temperature)
    chances = representative.tempered(_chances(pool), temperature)
    uncertainty = representative.margin_uncertainty(chances)
    if not uncertainty.any():  # it is sure of all
        uncertainty = np.ones(len(uncertainty))
    return _herding(pool, representative.kernel_width, uncertainty)


def _chances(pool: Components) -> Array:
    """Return (N, C) probabilities of the choices by the full model, the mean over its passes."""
    return np.asarray(np.exp(pool.log_probs("full")).mean(axis=1))


def _bought_chances(pool: Components) -> Array:
    """Return the same of the M examples that queries have bought, (M, C), each in its round."""
    parts = [
        np.exp(p.scores.log_probs("full")[p.places]).mean(axis=1) for p in pool.history.purchases
    ]
    return np.concatenate(parts) if parts else np.empty((0, 1))


def _herding(
    pool: Components, width: Callable[[NDArray[np.float32]], float], uncertainty: Array
) -> Indices:
    rows, labelled = _embeddings(pool)
    among = representative.sample(len(rows), pool.query_size, pool.random)
    if len(among) < len(rows):
        logger.info("%s: among %d of %d examples, drawn", pool.strategy, len(among), len(rows))
    places = representative.herding(
        rows[among],
        labelled,
        pool.query_size,
        uncertainty=uncertainty[among],
        width=width(labelled),
    )
    return _at(pool, among[places].tolist())


def epig(pool: Components) -> Array:
    """Return how much a label would tell of the predictions on the pool, or on 1,000 of it."""
    log_probs = pool.log_probs("full")
    if not len(log_probs):
        return np.empty(0)
    targets = representative.sample(len(log_probs), 1, pool.random, limit=TARGETS)
    return information.epig(log_probs, log_probs[targets])


def trusted(pool: Components) -> Indices:
    """Return the highest of both views, weighted by what they were worth, and a share at random."""
    a, history = pool.settings, pool.history
    prior = {"base": pool.base_weight, "full": 1 - pool.base_weight}
    weights = trust.evidence_weights(
        {view: history.score(view, a.measure, a.reduction) for view in prior},
        ~history.correct,
        history.round,
        prior,
    )
    logger.info("weights of the views by evidence: %s", weights)
    views = {view: pool.score(view, a.measure, a.reduction) for view in prior}
    return _at(pool, trust.trusted(views, weights, pool.query_size, pool.random))


def _embeddings(pool: Components) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the embeddings that are configured, of what is unlabelled and of what is labelled."""
    return pool.embeddings(), pool.embeddings(labelled=True)

"""When a run would have stopped, and what that would have saved and cost. Pure functions.

A rule looks at rounds 0 … t alone and returns the first t at which it says stop, or ``None`` if it
never does. In simulation the run goes on, and the rule's answer is recorded beside the full curve.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from star.evaluation.kappa import cohen_kappa

Array = NDArray[np.float64]

# Differences of fractions that are equal on paper differ by less; of two real ones by more.
ROUNDING = 1e-9


@dataclass(frozen=True)
class History:
    """What a run recorded of its R rounds.

    Attributes:
        labels: (R,) labels that each round trained on, strictly increasing.
        accuracy: (R,) fraction right; of validation rows where the rule is to be used for real.
        uncertainty: (R,) mean uncertainty of the unlabelled pool, or of fixed rows, such as
            1 − confidence; any unit, the threshold has the same. ``None``: not recorded.
        kappas: (R − 1,) Cohen's kappa between the answers of rounds t and t + 1 to the same rows,
            which need no labels; ``None`` where it is undefined. Empty: not recorded.

    Raises:
        ValueError: Lengths that differ, no round, values that are not finite, or label counts
            that do not increase.
    """

    labels: Sequence[int]
    accuracy: Sequence[float]
    uncertainty: Sequence[float] | None = None
    kappas: Sequence[float | None] = ()

    def __post_init__(self) -> None:
        size = len(self.labels)
        for values in (self.labels, self.accuracy, self.uncertainty):
            if values is not None and (len(values) != size or not np.isfinite(values).all()):
                raise ValueError(f"expected {size} finite values a round, got {list(values)}")
        if not size or not (np.diff(self.labels) > 0).all():
            raise ValueError(f"label counts must increase strictly, got {list(self.labels)}")
        if self.kappas and len(self.kappas) != size - 1:
            raise ValueError(f"expected {size - 1} kappas between rounds, got {len(self.kappas)}")


def budget(history: History, limit: int) -> int | None:
    """Stop at the first round that trains on ``limit`` labels or more."""
    return _first(np.asarray(history.labels) >= limit)


def rounds(history: History, count: int) -> int | None:
    """Stop after ``count`` trainings, in round ``count − 1``."""
    if count < 1:
        raise ValueError(f"count must be 1 or more, got {count}")
    return count - 1 if count <= len(history.labels) else None


def no_gain(history: History, threshold: float = 0.01, patience: int = 2) -> int | None:
    """Stop once the best accuracy has risen by less than ``threshold`` over ``patience`` rounds.

    The first t ≥ ``patience`` with ``max(a_0 … a_t) − max(a_0 … a_{t−patience}) < threshold``. The
    best so far and not the last is compared: a fall that is made good again is no gain.
    """
    if patience < 1:
        raise ValueError(f"patience must be 1 or more, got {patience}")
    best = np.maximum.accumulate(np.asarray(history.accuracy, dtype=np.float64))
    gain = best[patience:] - best[:-patience]
    t = _first(gain < threshold - ROUNDING)
    return None if t is None else t + patience


def low_uncertainty(history: History, threshold: float = 0.1) -> int | None:
    """Stop at the first round whose mean uncertainty is below ``threshold``.

    Source: Zhu et al. 2010, "Confidence-based stopping criteria for active learning for data
    annotation" (overall uncertainty).
    """
    if history.uncertainty is None:
        return None
    return _first(np.asarray(history.uncertainty, dtype=np.float64) < threshold)


def stable(history: History, threshold: float = 0.99, window: int = 3) -> int | None:
    """Stop once the mean kappa of the last ``window`` pairs of rounds reaches ``threshold``.

    Cohen's kappa between the predictions of consecutive rounds on the same rows. Where both
    predict one class alone it is undefined, and such a pair is no sign of stability: a model that
    has collapsed agrees with itself.

    Source: Bloodgood & Vijay-Shanker 2009, "A method for stopping active learning based on
    stabilizing predictions and the need for user-adjustable stopping" (0.99 over 3).
    """
    if window < 1:
        raise ValueError(f"window must be 1 or more, got {window}")
    for t in range(window, len(history.kappas) + 1):
        last = [kappa for kappa in history.kappas[t - window : t] if kappa is not None]
        if len(last) == window and np.mean(last) >= threshold:
            return t
    return None


def consecutive_kappa(predictions: Sequence[Sequence[Hashable]]) -> list[float | None]:
    """Return (R − 1,) kappas: between rounds t and t + 1, ``None`` where undefined.

    Args:
        predictions: R times (N,) answers to the same rows; ``None`` is an answer none could read.

    Raises:
        ValueError: Rounds that answer another number of rows, or none.
    """
    return [cohen_kappa(a, b) for a, b in pairwise(predictions)]


RULES: Mapping[str, Callable[..., int | None]] = {
    "budget": budget,
    "rounds": rounds,
    "no_gain": no_gain,
    "low_uncertainty": low_uncertainty,
    "stable": stable,
}


@dataclass(frozen=True)
class Outcome:
    """What stopping at round t would have saved and cost, against the whole run.

    Attributes:
        round: Where the rule stops; the last round where it never does.
        stopped: Whether it does.
        saved: Labels not bought.
        saved_share: Of the labels that the whole run buys.
        lost: Accuracy of the last round less that of round t; negative: stopping was better.
        costs: Price of an error → total cost, in labels; see ``total_costs``.
        regrets: Price of an error → how much more that is than at the cheapest round of the run.
    """

    round: int
    stopped: bool
    saved: int
    saved_share: float
    lost: float
    costs: Mapping[float, float]
    regrets: Mapping[float, float]


def total_costs(labels: ArrayLike, accuracy: ArrayLike, price: float, served: int) -> Array:
    """Return (R,) what it costs to stop at each round and answer with its model, in labels.

    ``C_t = n_t + price · served · (1 − a_t)``: the labels, and the errors expected among the
    answers given in service.

    Args:
        labels: (R,) label counts.
        accuracy: (R,) fractions right.
        price: Of one error, in labels: 0.1 means that ten errors cost as much as a label.
        served: Answers that the model will give.

    Raises:
        ValueError: A negative price or number of answers.
    """
    if not price >= 0 or served < 0:
        raise ValueError(f"price and served must be 0 or more, got {price} and {served}")
    n, a = np.asarray(labels, dtype=np.float64), np.asarray(accuracy, dtype=np.float64)
    return n + price * served * (1 - a)


def outcome(history: History, t: int | None, prices: Sequence[float], served: int) -> Outcome:
    """Return what a rule that stops at round ``t`` would have saved and cost.

    Args:
        history: Of a finished run; its accuracies should be of rows that no rule looked at.
        t: As a rule returns it; ``None``: it never stops, and the run goes to its end.
        prices: Of an error, in labels.
        served: Answers that the model will give.

    Raises:
        ValueError: A round outside of the run, or as ``total_costs``.
    """
    last = len(history.labels) - 1
    at = last if t is None else t
    if not 0 <= at <= last:
        raise ValueError(f"round {at} is not among 0..{last}")
    costs = {
        price: total_costs(history.labels, history.accuracy, price, served) for price in prices
    }
    saved = int(history.labels[last] - history.labels[at])
    return Outcome(
        round=at,
        stopped=t is not None,
        saved=saved,
        saved_share=saved / history.labels[last],
        lost=float(history.accuracy[last] - history.accuracy[at]),
        costs={price: float(cost[at]) for price, cost in costs.items()},
        regrets={price: float(cost[at] - cost.min()) for price, cost in costs.items()},
    )


def _first(says_stop: NDArray[np.bool_]) -> int | None:
    return int(says_stop.argmax()) if says_stop.any() else None

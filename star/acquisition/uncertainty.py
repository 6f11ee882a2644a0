"""Measures of uncertainty at one position, as pure functions of log-probabilities.

Every function takes ``log_probs`` of shape (..., V), natural logarithms that sum to one in
probability, and returns shape (...): higher = more informative. Sums and means over a continuation
are taken by the caller (``scoring``), so the same functions serve tokens (V = vocabulary) and
choices (V = number of choices, one position).

| here | paper (arXiv 2403.01165) |
|---|---|
| ``predictive_entropy`` | PE: −log p(s_i | s_<i, x), s = the scored continuation |
| ``max_entropy`` | ME: −Σ_v p(v | s_<i, x) log p(v | s_<i, x) |
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor  # late: a replay wants the measures' names alone


def predictive_entropy(log_probs: Tensor, chosen: Tensor) -> Tensor:
    """Return −log p of the ``chosen`` entry, in nats. ``chosen``: (...) integer indices into V."""
    return -log_probs.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)


def max_entropy(log_probs: Tensor, chosen: Tensor | None = None, *, floor: float = 0.0) -> Tensor:
    """Return the entropy −Σ p log p in nats; an entry with p = 0 contributes 0, never NaN.

    Args:
        log_probs: (..., V).
        chosen: Not used.
        floor: Probabilities below it count as it, and nothing is renormalised: the released code's
            fault 4, there 1e-6, which adds up to V · 1.4e-5 nats a position.
    """
    import torch

    probabilities = log_probs.exp()
    if floor > 0:
        probabilities = probabilities.clamp(min=floor)
    return torch.special.entr(probabilities).sum(-1)


def margin(log_probs: Tensor, chosen: Tensor | None = None) -> Tensor:
    """Return the negated gap between the two largest probabilities, in [−1, 0]."""
    top = log_probs.topk(2, dim=-1).values.exp()
    return top[..., 1] - top[..., 0]


def least_confidence(log_probs: Tensor, chosen: Tensor | None = None) -> Tensor:
    """Return 1 − max_v p(v), in [0, 1)."""
    return 1.0 - log_probs.max(-1).values.exp()


def bald(log_probs: Tensor) -> Tensor:
    """Return the mutual information of prediction and mask: H(mean p) − mean H(p), in nats.

    Args:
        log_probs: (S, ..., V), one slice for each pass on a shared continuation.

    Returns:
        (...), at least 0 up to rounding. Source: Houlsby et al. 2011 (arXiv 1112.5745); by MC
        dropout, Gal et al. 2017 (arXiv 1703.02910).
    """
    mean_log = log_probs.logsumexp(0) - math.log(log_probs.shape[0])
    return max_entropy(mean_log) - max_entropy(log_probs).mean(0)


# The measures that one view's single pass can give. `bald` needs all passes at once.
MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "predictive_entropy": predictive_entropy,
    "max_entropy": max_entropy,
    "margin": margin,
    "least_confidence": least_confidence,
}


def all_measures(log_probs: Tensor, chosen: Tensor, entropy_floor: float) -> dict[str, Tensor]:
    """Return every measure of ``MEASURES``, (...) each, with the entropy's ``floor``."""
    return {
        name: max_entropy(log_probs, floor=entropy_floor)
        if name == "max_entropy"
        else measure(log_probs, chosen)
        for name, measure in MEASURES.items()
    }


def from_logits(logits: Tensor, chosen: Tensor, *, entropy_floor: float = 0.0) -> dict[str, Tensor]:
    """Return every measure of ``MEASURES``, (...) each, of logits that are not normalised.

    With ``x_v`` the logits less their maximum and ``Z = Σ_v e^{x_v}``:

    * ``predictive_entropy`` = log Z − x_chosen
    * ``max_entropy`` = log Z − Σ_v x_v e^{x_v} / Z
    * ``margin`` = (e^{x_2} − 1) / Z, x_2 the second largest
    * ``least_confidence`` = 1 − 1 / Z

    One exponential a word, where the functions above, on log-probabilities, take four: over a large
    vocabulary that is a third of the time. Overwrites ``logits``.

    Args:
        logits: (..., V), float32 or float64.
        chosen: (...) indices into V.
        entropy_floor: Of ``max_entropy``, see there.
    """
    floored = None
    if entropy_floor > 0:
        floored = max_entropy(logits.log_softmax(-1), floor=entropy_floor)
    best = logits.topk(2, dim=-1).values
    shifted = logits.sub_(best[..., :1])
    weights = shifted.exp()
    total = weights.sum(-1)
    log_total = total.log()
    # Before the next line overwrites it. A word that is ruled out has 0 · −∞ there, which is 0.
    of_chosen = shifted.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
    inner = shifted.mul_(weights).sum(-1)
    if inner.isnan().any():
        inner = shifted.nan_to_num_(nan=0.0).sum(-1)
    return {
        "predictive_entropy": log_total - of_chosen,
        "max_entropy": log_total - inner / total if floored is None else floored,
        "margin": ((best[..., 1] - best[..., 0]).exp() - 1.0) / total,
        "least_confidence": 1.0 - 1.0 / total,
    }


def choice_measures(
    log_probs: NDArray[np.float64], *, entropy_floor: float = 0.0
) -> dict[str, NDArray[np.float64]]:
    """Return every measure of a distribution over choices, one position: (N, S, C) to (N, S).

    The response that ``predictive_entropy`` scores is the choice each pass itself likes best.
    """
    import torch

    tensor = torch.from_numpy(log_probs)
    found = all_measures(tensor, tensor.argmax(-1), entropy_floor)
    measures = {name: value.numpy() for name, value in found.items()}
    if log_probs.shape[1] > 1:
        measures["bald"] = bald(tensor.transpose(0, 1)).unsqueeze(-1).numpy()
    return measures

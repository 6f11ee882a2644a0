"""An ensemble of adapters (Lakshminarayanan et al. 2017, arXiv 1612.01474): pass s is member s.

Member 0 is the round's own adapter, which is what is evaluated; the others are trained as it was on
the same rows, from a random start (A, and a classification head) and in an order of their own. The
seed of member s is the stream ("ensemble", s) of the run's: a plain training with that seed gives
it. Members are kept in memory for as long as the round lasts, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

from peft import PeftModel
from torch import Tensor

from star import seeding
from star.config import AdapterConfig
from star.models import adapter
from star.models.checkpoint import TrainingResult
from star.models.language_model import LanguageModel
from star.models.passes import Passes

KIND = "ensemble"


def seed_of(seed: int, member: int) -> int:
    """Return the seed of a member of a run's ensembles, 1 … S − 1."""
    return seeding.derive(seed, KIND, member)


def train(
    model: LanguageModel,
    adapted: PeftModel,
    config: AdapterConfig,
    fit: Callable[[PeftModel, int], TrainingResult],
    *,
    count: int,
    seed: int,
    round_: int,
) -> tuple[Passes, int]:
    """Train S − 1 members; return the passes and the tokens that training saw.

    Args:
        model: With the round's adapter on, trained; it is on again afterwards.
        adapted: That adapter, member 0.
        config: Of all members.
        fit: Trains a fresh adapter with a seed.
        count: S.
        seed: Of the run.
        round_: Of the run.
    """
    members: list[dict[str, Tensor]] = [deepcopy(adapter.weights(adapted))]
    tokens = 0
    for s in range(1, count):
        own = seed_of(seed, s)
        with adapter.aside(model), adapter.fresh(model, config, seed=own, round_=round_) as member:
            tokens += fit(member, own).tokens
            members.append(deepcopy(adapter.weights(member)))
    drawn = {"members": [adapter.digest(member) for member in members]}
    return Passes(adapted, count, members.__getitem__, kind=KIND, drawn=drawn), tokens

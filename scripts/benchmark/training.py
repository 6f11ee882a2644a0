"""How the benchmark trains with star: the updates it times, and tuning until answers stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmark.lines import say
from star import seeding
from star.config import AdapterConfig, RegularizerConfig, TrainConfig
from star.data.task import Example
from star.errors import InputError
from star.models import adapter, training
from star.models.encoding import TokenRow
from star.models.generation import generate
from star.models.language_model import LanguageModel
from star.models.truncation import Limits, encode_rows

BATCH = 8  # rows of an update
TRAIN = TrainConfig(lr_scheduler_type="constant", num_train_epochs=1)
TUNE = TrainConfig(learning_rate=2e-4, max_steps=8)
TUNE_UPDATES = 24  # at most
STOPPED = 0.75  # share of answers at which tuning ends


def fit(
    model: LanguageModel,
    adapted: Any,
    rows: Sequence[TokenRow],
    config: TrainConfig,
    *,
    round_: int = 0,
) -> list[tuple[float, float]]:
    """Train the adapter; return loss and norm of the gradient, an update each."""
    plain = RegularizerConfig()
    done = training.fit(
        model, adapted, rows, config=config, regularizer=plain, seed=0, round_=round_
    )
    return [(entry["loss"], entry["grad_norm"]) for entry in done.log]


def updates_of(rows: Sequence[TokenRow]) -> list[list[TokenRow]]:
    """Return the updates that :func:`fit` makes of rows in its first epoch."""
    stream = seeding.generator(0, "order", 0, 0)
    order = torch.randperm(len(rows), generator=stream).tolist()
    return [[rows[i] for i in order[s : s + BATCH]] for s in range(0, len(rows), BATCH)]


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned adapter: its state, and which of the questions it was asked it ends itself."""

    state: Mapping[str, Any]
    updates: int
    stopping: Sequence[int]
    asked: int

    def __str__(self) -> str:
        return f"{len(self.stopping)} of {self.asked} answers stop after {self.updates} updates"


def tune(
    model: LanguageModel, rows: Sequence[TokenRow], asked: Sequence[Example], limits: Limits
) -> Tuned:
    """Return the adapter after a short fine-tuning on GSM8K, and whose answers stop.

    Of the states that were tried the one in which most do.

    Args:
        model: The model, without an adapter.
        rows: What it is tuned on, ``TUNE_UPDATES`` updates.
        asked: The questions that it is asked after every few updates.
        limits: How long its answers may be.
    """
    prompts = encode_rows(model, asked, None, reserve=limits.max_new_tokens).rows
    best: Tuned | None = None
    each = TUNE.max_steps or 1
    # From B = 0: the noise that the scored adapters have would make answers ramble.
    with adapter.fresh(model, AdapterConfig(), seed=0, round_=0) as adapted:
        for part in range(TUNE_UPDATES // each):
            fit(model, adapted, rows[part :: TUNE_UPDATES // each], TUNE, round_=part)
            made = generate(
                model, [row.prompt for row in prompts], max_new_tokens=limits.max_new_tokens
            )
            stopping = [i for i, answer in enumerate(made) if answer[-1] in model.stop_ids]
            updates = (part + 1) * each
            say(f"gsm8k: {len(stopping)} of {len(made)} answers stop after {updates} updates")
            if best is None or len(stopping) > len(best.stopping):
                named = adapted.named_parameters()
                state = {n: p.detach().clone() for n, p in named if p.requires_grad}
                best = Tuned(state, updates, stopping, len(made))
            if len(stopping) >= STOPPED * len(made):
                break
    if best is None or not best.stopping:
        raise InputError("no answer to gsm8k stops after fine-tuning; measure another model")
    return best

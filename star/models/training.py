"""Fine-tuning one adapter on the labelled examples: the loop, without a Trainer.

The loss of an update is the mean negative log-likelihood over *all answer tokens of the update*,
however they are split into forward passes and processes, so 8×1, 4×2 and two processes of 4 are
the same optimisation but for the masks of LoRA dropout, which each forward pass of each process
draws for itself. Gradients of the adapter alone are summed between processes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any

import torch
from accelerate.utils import reduce
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from star import seeding
from star.config import RegularizerConfig, TrainConfig
from star.errors import InputError
from star.models import adapter, distributed, likelihood, optimizers, sharding, shortages
from star.models.batching import Batch
from star.models.checkpoint import Training, TrainingResult
from star.models.encoding import TokenRow
from star.models.language_model import LanguageModel
from star.models.learning_mode import learning, set_learning
from star.models.row_batches import progress_bar
from star.models.stored_rows import digest_of
from star.models.update_log import UNREAD, UpdateLog, Values

logger = logging.getLogger(__name__)


def fit(
    model: LanguageModel,
    adapted: PeftModel,
    rows: Sequence[TokenRow],
    *,
    config: TrainConfig,
    regularizer: RegularizerConfig,
    seed: int,
    round_: int,
    validation: Sequence[TokenRow] = (),
    schedule_rows: int | None = None,
) -> TrainingResult:
    """Train the adapter in place on ``rows``, answers only in the loss; leave it in eval mode.

    The learning rate's schedule is as long as the training, or, given ``schedule_rows`` (the
    released code's fault 6), as epochs over so many rows: behind its end the rate stays 0.

    Raises:
        InputError: The loss is NaN or infinite; says at which update and on which rows. Or nothing
            moved: the rate was 0 in every update, or no gradient came to the adapter. Or the
            optimiser is not to be had here.
    """
    plan = optimizers.plan(len(rows), config, schedule_rows)
    under_way = _begin(model, adapted, plan, config, regularizer, round_)
    log, result, updates = under_way.log, under_way.result, plan.updates
    bar = progress_bar(model, updates, f"train {round_}", unit="update")

    def content() -> dict[str, Any]:
        return _content(adapted, [rows, validation], [seed, round_, plan.processes, schedule_rows])

    # LoRA dropout draws from torch's global stream; here it is a named one, apart per process.
    with (
        seeding.forked(seed, "train", round_, distributed.state().process_index),
        learning(adapted, config),
        model.batching.unfinished.phase("training", content) as phase,
    ):
        under_way.restore(phase)
        if under_way.rows < config.per_device_train_batch_size:
            model.batching.shortages.note("train", rows=under_way.rows)
        for epoch in range(plan.epochs):
            order = seeding.generator(seed, "order", round_, epoch)
            shuffled = _shuffled(rows, plan.batch_size, order)
            begun = epoch * len(shuffled)  # updates of the epochs before
            for update in shuffled[max(0, log.count - begun) : updates - begun]:
                under_way.add(epoch, _update(model, under_way, update, config, regularizer), update)
                _show(bar, log.count, result)
                under_way.keep_if_due(phase)
            log.read()
            result.kept_epoch = epoch if config.keep == "last" else result.kept_epoch
            if validation and len(result.validation) == epoch:
                _validate(model, under_way, validation, best=config.keep == "best")
        under_way.close(phase)
    bar.close()
    _refuse_unmoved(result, round_, config)
    if under_way.best is not None:
        adapted.load_state_dict(under_way.best, strict=False)
    return result


def _begin(
    model: LanguageModel,
    adapted: PeftModel,
    plan: optimizers.Plan,
    config: TrainConfig,
    regularizer: RegularizerConfig,
    round_: int,
) -> Training:
    """Return the adapter before its first update, with what will move it."""
    groups = adapter.parameter_groups(adapted, regularizer)
    optimizer = optimizers.adamw(groups, config, model.device)
    scheduler = optimizers.schedule(optimizer, config, plan)
    result = TrainingResult()
    log = UpdateLog(result.log, round_, every=UNREAD if model.device.type == "cuda" else 1)
    rows = config.per_device_train_batch_size
    return Training(adapted, optimizer, scheduler, result, log, rows)


def _show(bar: tqdm[Any], updates: int, result: TrainingResult) -> None:
    """Move the bar to so many updates, with the last loss that was read."""
    bar.update(updates - bar.n)
    if result.log:
        bar.set_postfix(loss=f"{result.log[-1]['loss']:.3f}")


def _content(
    adapted: PeftModel, parts: Sequence[Sequence[TokenRow]], numbers: Sequence[int | None]
) -> dict[str, Any]:
    """Return what decides a training beside the run: its rows, where it starts, what it draws."""
    start = adapter.digest(adapter.weights(adapted))
    return {"start": start, "rows": [*map(digest_of, parts)], "numbers": list(numbers)}


def _validate(
    model: LanguageModel, under_way: Training, rows: Sequence[TokenRow], *, best: bool
) -> None:
    """Add an epoch's validation loss; keep its weights where they are the best and ``best``."""
    result, adapted = under_way.result, under_way.adapted
    value = validation_loss(model, adapted, rows)
    if best and value < min(result.validation, default=math.inf):
        under_way.best = deepcopy(adapter.weights(adapted))
        result.kept_epoch = len(result.validation)
    result.validation.append(value)


def _update(
    model: LanguageModel,
    under_way: Training,
    rows: list[TokenRow],
    config: TrainConfig,
    regularizer: RegularizerConfig,
) -> Values:
    """Do one update, B <- B - γ(g + βB) and A <- A - γg; return what its entry of the log is of.

    γ is the learning rate, g what Adam makes of the gradient. Where the constraint is part of the
    loss, βB goes into the gradient, and so through Adam.
    """
    adapted, optimizer = under_way.adapted, under_way.optimizer
    constrained, free = optimizer.param_groups
    parameters = [*constrained["params"], *free["params"]]
    gamma, beta = constrained["lr"], constrained["weight_decay"]  # β is 0 unless it is decoupled
    loss = _gradient(model, under_way, parameters, rows)
    term = adapter.constraint(adapted, regularizer)
    if term is not None:
        term.backward()  # once an update, the same on every process
    norm = torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return Values(
        {"loss": loss, "grad_norm": norm, **adapter.norms(adapted)},
        None if term is None else term.detach(),
        learning_rate=gamma,
        decay=gamma * beta,
    )


def _shuffled(
    rows: Sequence[TokenRow], batch_size: int, stream: torch.Generator
) -> list[list[TokenRow]]:
    """Return the rows of each update of an epoch."""
    order = torch.randperm(len(rows), generator=stream).tolist()
    starts = range(0, len(rows), batch_size)
    return [[rows[i] for i in order[start : start + batch_size]] for start in starts]


def _refuse_unmoved(result: TrainingResult, round_: int, config: TrainConfig) -> None:
    """Raise ``InputError`` if B, which starts at zero, is still there after the updates."""
    if not result.log or any(update["norm_B"] > 0 for update in result.log):
        return
    if any(update["learning_rate"] > 0 and update["grad_norm"] > 0 for update in result.log):
        why = (
            f"train.max_grad_norm={config.max_grad_norm:g} clips the gradients, and "
            f"train.learning_rate={config.learning_rate:g} scales them, to nothing; raise the "
            "smaller"
        )
    elif any(update["learning_rate"] > 0 for update in result.log):
        why = "no gradient came to the adapted modules; set other adapter.target_modules"
    else:
        why = "the rate was 0 in every update; lower train.warmup_ratio or train for more updates"
    raise InputError(f"round {round_}: {len(result.log)} updates moved nothing: {why}")


def _gradient(
    model: LanguageModel, under_way: Training, parameters: list[Tensor], update: list[TokenRow]
) -> Tensor:
    """Leave the update's gradient in ``parameters``; return its loss in nats an answer token.

    Where memory is short, the update begins again in forward passes of half as many rows, and so do
    all that follow: how it is split changes its rounding, and which masks LoRA dropout draws.

    Raises:
        InputError: A single row does not fit.
    """
    while True:
        streams = under_way.streams()
        try:
            return _accumulate(model, parameters, update, under_way.rows)
        except Exception as error:
            if not shortages.out_of_memory(error):
                raise
            if min(under_way.rows, len(update)) == 1:
                longest = max(len(row) for row in update)
                raise InputError(
                    f"out of memory training on a single row of at most {longest} tokens; "
                    f"train.gradient_checkpointing=true, {shortages.LESS}"
                ) from error
            rows, under_way.rows = under_way.rows, min(under_way.rows, len(update)) // 2
            logger.warning(
                "out of memory training on %d rows in a forward pass; going on with %d, and as "
                "many in an update as before", rows, under_way.rows,
            )  # fmt: skip
            model.batching.shortages.note("train", rows=under_way.rows)
        under_way.set_streams(streams)
        for parameter in parameters:
            parameter.grad = None
        shortages.free()


def _accumulate(
    model: LanguageModel, parameters: list[Tensor], update: list[TokenRow], size: int
) -> Tensor:
    """Leave the update's gradient there, by forward passes of ``size`` rows; return its loss."""
    state = distributed.state()
    answer_tokens = sum(len(r.continuation) for r in update)
    nll = torch.zeros((), dtype=torch.float64, device=model.device)
    for rows, counts in sharding.dealt(update, size, model.traits.cuts):
        batch = model.lay_out(rows)
        with model.packing(batch), nullcontext() if counts else _untouched(model.device):
            loss = answer_nll(model, batch) * counts / answer_tokens
            loss.backward()
        nll += loss.detach().double()
    if state.num_processes == 1:
        return nll
    for parameter in parameters:  # a process may have had no rows in a short last update
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flat = torch.cat([p.grad.flatten() for p in parameters])  # one message instead of hundreds
    summed = reduce(flat, "sum").split([p.numel() for p in parameters])
    for parameter, gradient in zip(parameters, summed, strict=True):
        parameter.grad = gradient.view_as(parameter).clone()
    summed_nll: Tensor = reduce(nll, "sum")
    return summed_nll


def _untouched(device: torch.device) -> AbstractContextManager[None]:
    """Return a context that leaves torch's streams as they are."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def answer_nll(model: LanguageModel, batch: Batch) -> Tensor:
    """Return the summed negative log-likelihood of the batch's answer tokens, in nats."""
    return cross_entropy(model.logits(model.predict(batch)), batch.targets, reduction="sum")


def validation_loss(model: LanguageModel, adapted: PeftModel, rows: Sequence[TokenRow]) -> float:
    """Return the mean loss of held-out rows in nats an answer token, without dropout."""
    adapted.eval()
    try:
        nll = likelihood.nll(model, rows)
    finally:
        set_learning(adapted)
    return float(nll.sum() / sum(len(r.continuation) for r in rows))

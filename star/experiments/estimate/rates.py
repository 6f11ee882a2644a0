"""How fast a device does each kind of a run's work: measured in a minute, or given.

Measured by the functions that a run works with, on prompts of its pool with any tokens behind them:
no answer is read, and what the adapter learns is thrown away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from peft import PeftModel

from star.acquisition.uncertainty import from_logits
from star.data.task import Example
from star.experiments.estimate import costs
from star.experiments.estimate.costs import Work
from star.models import adapter, mc_dropout, training
from star.models.batching import Batching
from star.models.encoding import TokenRow
from star.models.generation import generate
from star.models.language_model import LanguageModel
from star.models.likelihood import token_scores
from star.models.passes import Passes
from star.models.truncation import encode_rows

if TYPE_CHECKING:
    from star.experiments.estimate.workload import Workload

SECONDS = 2.0  # that one measurement shall take at least
SAMPLE = 256  # pool examples that are measured on
SHORT = 16  # tokens of the prompts that generation is timed behind: it is the steps that count


@dataclass(frozen=True)
class Rates:
    """Speed of each kind of :class:`star.experiments.estimate.costs.Work`.

    Attributes:
        forward: FLOP/s of forward passes without dropout.
        sampled: FLOP/s of forward passes under MC dropout, or of other passes.
        train: FLOP/s of updates.
        step: Seconds of a decoding step, however many rows are in it.
        new: Seconds more for each row, that is, for each new token.
    """

    forward: float
    sampled: float
    train: float
    step: float
    new: float

    def seconds(self, work: Work) -> dict[str, float]:
        """Return the seconds of each kind of work."""
        return {
            "forward": work.forward / self.forward,
            "sampled": work.sampled / self.sampled,
            "train": work.train / self.train,
            "generate": work.steps * self.step + work.new * self.new,
        }


def given(
    load: Workload, weights: float, flops_per_second: float, bytes_per_second: float | None
) -> Rates:
    """Return the rates of a device that is told in two numbers.

    Args:
        load: The run.
        weights: Bytes of the base weights; every decoding step reads them once.
        flops_per_second: What it achieves in all kinds of work.
        bytes_per_second: How fast; ``None`` = at no cost.
    """
    step = weights / bytes_per_second if bytes_per_second else 0.0
    new = costs.forward_flops(load.shape, 1, 1) / flops_per_second
    return Rates(flops_per_second, flops_per_second, flops_per_second, step, new)


def measure(load: Workload, model: LanguageModel, examples: Sequence[Example]) -> Rates:
    """Return this device's rates, on a sample of the pool's prompts with any answers behind them.

    Args:
        load: The run.
        model: Loaded.
        examples: Of the pool; no answer is needed.
    """
    config, work = load.config, load.total()
    model.batching = replace(Batching.of(config), progress=False)
    scored, trained = _sample(load, model, examples)

    def score(count: int, passes: Passes | None) -> float:
        rows = _first(scored, count)
        token_scores(model, rows, from_logits, passes=passes)
        fed, asked = _lengths(rows)
        repeats = passes.count if passes else 0
        once = costs.forward_flops(load.shape, fed, asked, adapter=load.beside(repeats))
        return once * max(1, repeats)

    def update(count: int) -> float:
        rows, size = _first(trained, count), config.train.per_device_train_batch_size
        steps = -(-count // (size * config.train.gradient_accumulation_steps))
        settings = replace(config.train, max_steps=steps, keep="last")
        training.fit(
            model, adapted, rows, config=settings, regularizer=config.regularizer, seed=0, round_=0
        )
        again = config.train.gradient_checkpointing
        return costs.train_flops(load.shape, *_lengths(rows), recompute=again)

    with adapter.fresh(model, config.adapter, seed=config.seed, round_=0) as adapted:
        forward = sampled = train = _rate(lambda count: score(count, None))
        if work.sampled:
            with _drawn(load, adapted).installed() as passes:
                sampled = _rate(lambda count: score(count, passes))
        step, new = 0.0, 0.0
        if work.new:
            size = min(model.batching.rows, len(load.indices))
            step, new = solve(*(_decoding(load, model, scored, rows) for rows in (1, size)))
        if work.train:
            train = _rate(update, start=config.train.per_device_train_batch_size)
    if work.new and not step + new:  # every answer was over at once: nothing to be timed
        new = costs.forward_flops(load.shape, 1, 1) / forward
    return Rates(forward, sampled, train, step, new)


def _drawn(load: Workload, adapted: PeftModel) -> Passes:
    """Return as many passes as the run has; what a pass costs is the same in all sub-networks."""
    settings = replace(load.config.acquisition.mc_dropout, passes=load.passes)
    if load.config.acquisition.passes == "dropout":
        return mc_dropout.passes(adapted, settings, seed=0, round_=0)
    kind = load.config.acquisition.passes
    return Passes(adapted, load.passes, lambda _: {}, kind=kind, drawn={})


def _sample(
    load: Workload, model: LanguageModel, examples: Sequence[Example]
) -> tuple[list[TokenRow], list[TokenRow]]:
    """Return rows of a scoring and of a training batch's lengths, from all over the pool."""
    kept = set(load.indices)
    prompts = encode_rows(model, [e for e in examples if e.index in kept], None).rows
    places = np.linspace(0, len(prompts) - 1, min(SAMPLE, len(prompts))).round().astype(int)
    filler = prompts[0].prompt[-1:]
    choices = load.continuation == "choices" if load.continuation else load.chosen
    scored, trained = [], []
    for i in places.tolist():
        row = prompts[i]
        tail = 1 if choices else int(load.pool.answers[i])
        scored.append(replace(row, continuation=filler * tail))
        whole, answer = load.rows[:, i].tolist()
        start = row.prompt[-max(1, whole - answer) :]
        trained.append(replace(row, prompt=start, continuation=filler * answer))
    return scored, trained


def _first(rows: Sequence[TokenRow], count: int) -> list[TokenRow]:
    """Return ``count`` rows, over and over, from all over the list if it has more."""
    stride = max(1, len(rows) // count)
    return [rows[(i * stride) % len(rows)] for i in range(count)]


def _lengths(rows: Sequence[TokenRow]) -> tuple[list[int], list[int]]:
    return [len(r) - 1 for r in rows], [len(r.continuation) for r in rows]


def _rate(work: Callable[[int], float], start: int = 2) -> float:
    """Return FLOP/s of ``work(rows)``, which returns its FLOPs; more rows until it takes long.

    What one row takes is taken off: it is mostly what comes once, such as merging the adapter in,
    and a run does that once for a whole pool.
    """
    work(1)  # threads, kernels and caches are set up
    one, at_least = _timed(work, 1)
    count = max(2, start)
    while True:
        flops, seconds = _timed(work, count)
        if seconds >= SECONDS + at_least or count >= 2**16:
            rate = (flops - one) / max(seconds - at_least, 1e-9)
            return max(rate, flops / seconds)
        count = int(count * min(16.0, max(2.0, 1.2 * SECONDS / seconds)))


def _timed(work: Callable[[int], float], count: int) -> tuple[float, float]:
    begin = time.perf_counter()
    flops = work(count)
    return flops, time.perf_counter() - begin


def solve(alone: tuple[int, int, float], together: tuple[int, int, float]) -> tuple[float, float]:
    """Return the seconds of a decoding step, and of each row in it.

    Args:
        alone: Steps, new tokens and seconds of one row.
        together: Those of a batch.
    """
    (steps, _, seconds), (many_steps, many, many_seconds) = alone, together
    if not steps or not many_steps:
        return 0.0, 0.0
    both = seconds / steps
    extra = many - many_steps
    new = (many_seconds - both * many_steps) / extra if extra else 0.0
    # Noise must not make one of the two negative.
    new = min(max(0.0, new), many_seconds / many)
    return max(0.0, both - new), new


def _decoding(
    load: Workload, model: LanguageModel, rows: Sequence[TokenRow], size: int
) -> tuple[int, int, float]:
    """Return (steps, new tokens, seconds) behind the first token of each of ``size`` answers."""
    prompts = [row.prompt[-SHORT:] for row in _first(rows, size)]
    limit, first = 1, 0.0
    while True:
        begin = time.perf_counter()
        found = generate(model, prompts, max_new_tokens=limit)
        seconds = time.perf_counter() - begin
        first = seconds if limit == 1 else first
        most = load.config.evaluation.max_new_tokens
        if (limit > 1 and seconds >= SECONDS) or limit >= most:
            lengths = [len(answer) - 1 for answer in found]
            return max(lengths), sum(lengths), max(seconds - first, 1e-9)
        limit = min(4 * limit, most)

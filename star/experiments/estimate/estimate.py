"""What a run will cost before it is started: tokens, FLOPs, memory and hours (``star estimate``).

Tokens come from the task's own rows (``workload``), FLOPs and bytes from the model's shape
(``costs``), hours from rates: measured here within a minute, by the functions a run works with, or
given. Nothing is written to the run folder. The estimate is of one process that starts afresh.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from star.acquisition.strategies import strategy_of
from star.config import (
    Config,
    ModelConfig,
    config_hash,
    embedding_view,
    encoder_of,
    starts_cold,
    strategy_name,
)
from star.data import loading as tasks
from star.errors import InputError
from star.experiments.estimate import rates
from star.experiments.estimate.costs import Work
from star.experiments.estimate.rates import Rates
from star.experiments.estimate.shapes import memory_of, shape_of, without_weights
from star.experiments.estimate.workload import Workload, workload
from star.files import write_json
from star.models import loading as models
from star.models import mc_dropout, targets

KINDS = {
    "forward": "forward passes without dropout",
    "sampled": "forward passes",
    "train": "updates",
    "generate": "generating answers",
}

PASSES = {"dropout": "under MC dropout", "tfb": "under TFB", "ensemble": "of an ensemble"}


def estimate(
    config: Config, *, flops_per_second: float | None = None, bytes_per_second: float | None = None
) -> dict[str, Any]:
    """Return what a run of ``config`` will cost.

    Args:
        config: Of the run.
        flops_per_second: What another device achieves; the weights are then not loaded. ``None`` =
            measure here.
        bytes_per_second: With it: how fast that device reads the weights, as it does once for every
            token of a generating batch. ``None`` = leave that out.

    Returns:
        ``rounds``: ``round, labeled, unlabeled``, ``tokens`` as ``result.json`` counts them and
        ``seconds``; ``phases``: ``tokens, flops, seconds`` of train, evaluate and score over all
        rounds, and of ``base``, what is done once (``result.json`` has its tokens in round 0);
        ``total``; ``at_most``: the total if no generated answer ended before ``max_new_tokens``;
        ``kinds``: seconds by kind of work; ``memory`` in bytes; ``rates``; ``notes``.

    Raises:
        InputError: What ``run`` would refuse too; weights larger than the device; bad rates.
    """
    _check(flops_per_second, bytes_per_second)
    if config.task.classify_by == "head":
        raise InputError("star estimate knows language models alone; set task.classify_by=words")
    data = tasks.load(config.task, seed=config.seed)
    model = without_weights(config)
    modules = targets.resolve(model.causal, config.adapter)
    mc_dropout.check_modules(model.causal, modules, config.acquisition.mc_dropout)
    load = workload(config, model, data, shape_of(model.causal, config.adapter))
    on_cpu = flops_per_second is None and models.device_of(config.model).type == "cpu"
    memory = memory_of(load, on_cpu=on_cpu)
    if flops_per_second is None:
        _refuse_too_large(config.model, memory["weights"])
        if model.device.type == "meta":
            cache, chat = config.tracking.cache_dir, config.task.chat_template
            model = models.load(config.model, cache_dir=cache, chat=chat)
        speed = rates.measure(load, model, data.pool.examples)
    else:
        speed = rates.given(load, memory["weights"], flops_per_second, bytes_per_second)
    device = f"{_si(flops_per_second)}FLOP/s" if flops_per_second else str(model.device)
    return {
        **_named(load, device),
        **_sum_up(load, speed),
        "memory": memory,
        "rates": asdict(speed),
        **_guessed(load, speed),
    }


def _named(load: Workload, device: str) -> dict[str, Any]:
    """Return what an estimate is of."""
    config = load.config
    return {
        "model": config.model.name_or_path,
        "parameters": load.shape.parameters,
        "dtype": config.model.dtype if config.model.quantization == "none" else "nf4",
        "device": device,
        "task": config.task.name,
        "strategy": strategy_name(config),
        "passes": config.acquisition.passes,
        "config_hash": config_hash(config),
        "pool": len(load.indices),
        "test": len(load.test.prompts),
    }


def _guessed(load: Workload, speed: Rates) -> dict[str, Any]:
    """Return the notes, and what the run costs at most, where lengths of answers are guessed."""
    notes, more = list(load.notes), {}
    if speed.seconds(load.total())["generate"]:
        more["at_most"] = longest = _sum_up(load.longest(), speed)["total"]
        notes.append(
            "generated answers are guessed to be as long as the test split's targets; if none "
            f"ended before {load.config.evaluation.max_new_tokens} tokens: "
            f"{_time(longest['seconds'])}"
        )
    if load.continuation is not None and len(load.rounds) > 1:
        notes.append(
            "which examples will be picked is not known: those of random choice are counted"
        )
    a = load.config.acquisition
    if "embeddings" in strategy_of(a).needs or starts_cold(a):
        whose, how = encoder_of(a) or "the model", "once"
        if a.select == "badge" or embedding_view(a) == "full":
            how = "in each round"
        prompts = load.pool.prompts
        notes.append(
            f"embeddings are not counted: {len(prompts)} texts, as prompts {int(prompts.sum())} "
            f"tokens, go through {whose} {how}"
        )
    return {"notes": notes, **more}


def _check(flops_per_second: float | None, bytes_per_second: float | None) -> None:
    for name, rate in (("flops", flops_per_second), ("bytes", bytes_per_second)):
        if rate is not None and not 0 < rate < float("inf"):
            raise InputError(f"--{name}-per-second must be a positive number, got {rate}")
    if bytes_per_second is not None and flops_per_second is None:
        raise InputError("--bytes-per-second needs --flops-per-second; without, it is measured")


def _refuse_too_large(config: ModelConfig, weights: float) -> None:
    device = models.device_of(config)
    if device.type == "cuda":
        there = torch.cuda.mem_get_info(device)[1]
    elif device.type == "cpu" and hasattr(os, "sysconf"):
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:
        return
    if weights > there:
        raise InputError(
            f"the weights need {weights / 1e9:.1f} GB, {device} has {there / 1e9:.1f}: no rate can "
            "be measured here; give --flops-per-second of the device it will run on"
        )


def _sum_up(load: Workload, speed: Rates) -> dict[str, Any]:
    rounds, sums = [], dict.fromkeys(("train", "evaluate", "score", "base"), Work())
    base = load.base()
    # Base scores count with the first query; with a single round they are made, and not used.
    first = {"evaluate": base["evaluate"].tokens}
    first["score"] = base["score"].tokens if len(load.rounds) > 1 else 0.0
    for t, one in enumerate(load.rounds):
        works = {"train": load.train(t), "evaluate": load.evaluate(t), "score": load.score(t)}
        tokens = {
            name: round(work.tokens + (first.get(name, 0.0) if t == 0 else 0.0))
            for name, work in works.items()
        }
        spent = {name: sum(speed.seconds(work).values()) for name, work in works.items()}
        sums |= {name: sums[name] + work for name, work in works.items()}
        sizes = {"labeled": len(load.indices) - len(one.unlabelled)}
        sizes["unlabeled"] = len(one.unlabelled)
        rounds.append({"round": t, **sizes, "tokens": tokens, "seconds": spent})
    sums["base"] = base["evaluate"] + base["score"]
    whole = sum(sums.values(), Work())

    def told(work: Work) -> dict[str, float]:
        seconds = sum(speed.seconds(work).values())
        return {"tokens": round(work.tokens), "flops": work.flops, "seconds": seconds}

    return {
        "rounds": rounds,
        "phases": {name: told(work) for name, work in sums.items()},
        "total": told(whole),
        "kinds": speed.seconds(whole),
    }


def write(path: str | Path, found: dict[str, Any]) -> None:
    """Write an estimate as JSON, whole or not at all.

    Raises:
        InputError: ``path`` cannot be written.
    """
    try:
        write_json(path, found)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None


def table(found: dict[str, Any]) -> str:
    """Return an estimate for people: a table of the phases, the memory, and what dominates."""
    m, rounds, total = found["memory"], found["rounds"], found["total"]
    lines = [
        f"{found['task']}, {found['strategy']}: {found['model']} ({_si(found['parameters'])} "
        f"parameters, {found['dtype']}) on {found['device']}",
        f"{len(rounds)} rounds, {rounds[0]['labeled']} to {rounds[-1]['labeled']} labels of a pool "
        f"of {found['pool']}, {found['test']} test questions",
        "",
        f"{'phase':<12}{'tokens':>14}{'FLOP':>12}{'time':>14}",
    ]
    names = {"base": "base, once"}
    for name, part in [*found["phases"].items(), ("total", total)]:
        lines.append(
            f"{names.get(name, name):<12}{part['tokens']:>14,}{_si(part['flops']):>12}"
            f"{_time(part['seconds']):>14}"
        )
    r = found["rates"]
    speeds = [f"scoring {_si(r['forward'])}", f"{PASSES[found['passes']]} {_si(r['sampled'])}"]
    speeds = [*speeds, f"training {_si(r['train'])}FLOP/s"]
    if found["kinds"]["generate"]:
        speeds.append(f"a step of generation {_si(r['step'])}s and {_si(r['new'])}s a row")
    said = {name: f"{name} {_si(value)}B" for name, value in m.items() if value}
    fixed = " + ".join(said[name] for name in ("weights", "libraries") if name in said)
    parts = ", ".join(said[name] for name in ("train", "score", "generate") if name in said)
    top = max(found["kinds"], key=lambda kind: found["kinds"][kind])
    what = f"{KINDS[top]} {PASSES[found['passes']]}" if top == "sampled" else KINDS[top]
    share = found["kinds"][top] / max(total["seconds"], 1e-12)
    lines += [
        "",
        f"most of the time: {what} ({share:.0%})",
        f"peak memory: about {_si(m['peak'])}B = {fixed} + the largest of {parts}",
        f"rates: {', '.join(speeds)}",
        *(f"note: {note}" for note in found["notes"]),
    ]
    return "\n".join(lines)


def _si(value: float) -> str:
    """Return a number with three digits and a unit's prefix."""
    for factor, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"),
                           (1e3, "k"), (1.0, ""), (1e-3, "m")):  # fmt: skip
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value / 1e-6:.3g} µ" if value else "0 "


def _time(seconds: float) -> str:
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"

"""The algorithm: train on what is labelled, evaluate, score the rest, label K more, repeat.

Paper (arXiv 2403.01165), each round: infer on the unlabelled pool with the current model → query
the top K by dynamic uncertainty → label → add → train → next. A round is written whole or not at
all, every draw comes from a stream named by seed, purpose and round, and every round starts from a
fresh adapter: so a run that was interrupted goes on after its last complete round and ends in the
same numbers as one that was not.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from peft import PeftModel

from star import acquisition, adapter, models, seeding, statistics, tasks, training
from star.config import Config, config_hash, label_free, strategy_name
from star.errors import InputError
from star.evaluation import Evaluation, evaluate
from star.mc_dropout import Passes
from star.models import LanguageModel
from star.pool import Oracle, Pool
from star.records import RunFolder, read_json, write_json, write_jsonl, write_npz
from star.scoring import Limits, PoolScorer, admit, encode_rows
from star.tasks import TaskData
from star.tasks.base import Answer, Example

logger = logging.getLogger(__name__)

NEEDED = ("accuracy", "accuracy_strict", "accuracy_stderr", "ece", "nll", "brier")


def run(config: Config) -> Path:
    """Run active learning to its end, or on from where it stopped; return the run folder.

    Raises:
        InputError: Anything the user can mend; complete rounds stay as they are.
    """
    state = PartialState()
    with RunFolder.open(config, write=state.is_main_process) as folder:
        state.wait_for_everyone()
        if folder.finished:
            logger.info("%s is finished already; nothing to do", folder.path)
            return folder.path
        world = _prepare(config, folder)
        bought = _start(config, folder, world)
        for t in range(config.pool.rounds):
            if t < world.complete:
                _repeat_query(folder, world, bought, t)
                continue
            last = t == config.pool.rounds - 1 or not world.pool.unlabelled
            with (
                folder.new_round(t) as place,
                adapter.fresh(world.model, config.adapter, seed=config.seed, round_=t) as adapted,
            ):
                clock = _Clock()
                fitted = _train(config, world, bought, adapted, t)
                clock.stop("train")
                tested = _evaluate(config, world, world.test, world.test_answers)
                clock.stop("evaluate")
                query = Query([], {}, {}, 0) if last else _query(config, world, adapted, t)
                clock.stop("score")
                if folder.write:
                    _write_round(config, place, world, t, fitted, tested, query, clock, adapted)
            state.wait_for_everyone()
            _report(t, world, tested, query, clock)
            if last:
                break
            _buy(world, bought, query.indices)
        if folder.write:
            folder.write_result(_result(config, folder))
        state.wait_for_everyone()
        return folder.path


@dataclass
class World:
    """What a run works on: model, task, pool and oracle."""

    model: LanguageModel
    data: TaskData
    pool: Pool
    oracle: Oracle[Answer]
    examples: dict[int, Example]  # by pool index
    test: list[Example]
    test_answers: list[Answer]
    validation: list[int]  # pool indices, held out
    limits: Limits
    scorer: PoolScorer | None  # None: nothing is scored (random choice)
    complete: int  # rounds found complete on disk


@dataclass
class Query:
    """What was chosen after a round, and why.

    Attributes:
        indices: Pool indices to label, best first.
        scores: Arrays of ``scores.npz``; empty where nothing was scored.
        notes: What ``metrics.json`` says of the query.
        tokens: Logical work of scoring.
    """

    indices: list[int]
    scores: dict[str, Any]
    notes: dict[str, Any]
    tokens: int


def _prepare(config: Config, folder: RunFolder) -> World:
    """Load data and model, apply the truncation rule, and put the answers behind the oracle."""
    data = tasks.load(config.task)
    for note in data.notes:
        logger.warning("%s", note)
    with PartialState().main_process_first():  # one process converts and caches, the others read
        model = models.load(config.model, cache_dir=config.tracking.cache_dir)
    if folder.write:
        _refuse_other_data(folder, data)
        told = {"fingerprint": data.fingerprint, "source": data.source, "notes": data.notes}
        folder.describe(model.info, told | {"counts": data.counts})
    limits = Limits(
        max_new_tokens=config.evaluation.max_new_tokens,
        batch_size=config.evaluation.per_device_eval_batch_size,
    )
    rule = {"limits": limits, "overlong": config.task.overlong}
    pooled, cut = admit(model, data.pool.examples, where="pool", **rule)
    # Test rows always stay: leaving some out would change the question that is asked.
    rule["overlong"] = "error" if config.task.overlong == "error" else "truncate"
    test, cut_test = admit(model, data.test.examples, where="test", **rule)
    for line in filter(None, (cut, cut_test)):
        logger.warning("%s", line)
    answers = zip(data.pool.examples, data.pool.answers, strict=True)
    oracle = Oracle({example.index: answer for example, answer in answers})
    scorer = None
    if config.acquisition.select != "random":
        scorer = PoolScorer(
            model,
            pooled,
            config=config.acquisition,
            limits=limits,
            oracle=oracle,
            cache=models.cache_root(config.tracking.cache_dir),
            progress=config.tracking.progress,
        )
        scorer.base()  # now, while no adapter is there
    return World(
        model=model,
        data=data,
        pool=Pool([example.index for example in pooled]),
        oracle=oracle,
        examples={example.index: example for example in pooled},
        test=test,
        test_answers=data.test.answers,
        validation=[],
        limits=limits,
        scorer=scorer,
        complete=folder.complete_rounds(),
    )


def _start(config: Config, folder: RunFolder, world: World) -> dict[int, Answer]:
    """Label the initial and the held-out examples: the same for every strategy of a seed."""
    seed = config.seed
    held = world.pool.draw(config.task.validation_size, seeding.generator(seed, "validation"))
    world.pool.query(held)
    first = world.pool.draw(config.pool.initial_size, seeding.generator(seed, "initial"))
    world.validation = held
    folder.write_initial(sorted(held + first), validation=held)
    bought = dict(zip(held, world.oracle.label(held), strict=True))
    _buy(world, bought, first)
    return bought


def _buy(world: World, bought: dict[int, Answer], indices: list[int]) -> None:
    world.pool.query(indices)
    bought.update(zip(indices, world.oracle.label(indices), strict=True))


def _repeat_query(folder: RunFolder, world: World, bought: dict[int, Answer], t: int) -> None:
    """Take a complete round's query from its record instead of running the round again."""
    if (folder.round_folder(t) / "selected.json").is_file():
        _buy(world, bought, folder.read_round(t, "selected.json")["indices"])


def _train(
    config: Config, world: World, bought: dict[int, Answer], adapted: PeftModel, t: int
) -> training.Fit:
    def rows(indices: list[int]) -> Any:
        return encode_rows(
            world.model,
            [world.examples[i] for i in indices],
            [bought[i].target for i in indices],
            eos=True,
            max_length=config.train.max_length,
        )

    held = set(world.validation)
    labelled = rows(sorted(set(bought) - held))
    if labelled.truncated:
        logger.warning("round %d: %d training rows were cut to fit", t, len(labelled.truncated))
    return training.fit(
        world.model,
        adapted,
        labelled.rows,
        config=config.train,
        regularizer=config.regularizer,
        seed=config.seed,
        round_=t,
        validation=rows(world.validation).rows if held else (),
        eval_batch_size=world.limits.batch_size,
        progress=config.tracking.progress,
    )


def _evaluate(
    config: Config, world: World, examples: list[Example], answers: list[Answer]
) -> Evaluation:
    return evaluate(
        world.model,
        world.data.task,
        examples,
        answers,
        limits=world.limits,
        by_likelihood=config.evaluation.choice_by == "likelihood",
        bins=config.evaluation.ece_bins,
        progress=config.tracking.progress,
    )


def _query(config: Config, world: World, adapted: PeftModel, t: int) -> Query:
    """Score the whole remaining pool and choose K of it; reads no answer unless gold is asked."""
    a, indices = config.acquisition, world.pool.unlabelled
    count = min(config.pool.query_size, len(indices))
    notes: dict[str, Any] = {"size": count}
    if count < config.pool.query_size:
        logger.warning("round %d: %d unlabelled left, all are queried", t, count)
        notes["exhausted"] = True
    if world.scorer is None:
        chosen = world.pool.draw(count, seeding.generator(config.seed, "random", t))
        return Query(chosen, {}, notes, 0)
    mc = a.mc_dropout
    passes = Passes(adapted, mc, seed=config.seed, round_=t) if mc.passes else None
    full_view = world.scorer.full(indices, passes)
    base_view = world.scorer.base_at(indices)
    full = full_view.score(a.measure, a.reduction)
    base = None if a.measure == "bald" else base_view.score(a.measure, a.reduction)
    weight = acquisition.base_weight(
        t,
        config.pool.rounds,
        schedule=a.base_weight.schedule,
        value=a.base_weight.value,
        decay=a.base_weight.decay,
    )
    blended = acquisition.combine(
        base, full, how=a.combine, weight=weight, normalization=a.normalization
    )
    if not np.isfinite(blended).all():
        wrong = np.asarray(indices)[~np.isfinite(blended)][:5].tolist()
        raise InputError(f"round {t}: scores of pool rows {wrong} are not finite")
    notes |= {
        "base_weight": weight if a.combine == "dynamic" else None,
        "effective_weight": acquisition.effective_weights(base, full, blended),
        "near_ties": acquisition.near_ties(blended, count),
    }
    scores = {"index": np.asarray(indices, dtype=np.int64), "blended": blended, "full": full}
    scores["base"] = np.full(len(full), np.nan) if base is None else base
    for name, view in (("base", base_view), ("full", full_view)):
        scores[f"{name}_num_tokens"] = view.num_tokens
        scores |= {f"{name}_{measure}": sums for measure, sums in view.sums.items()}
    scores["label_free"] = np.array(label_free(config))
    chosen = acquisition.top_k(blended, scores["index"], count)
    tokens = full_view.tokens + (world.scorer.base().tokens if t == 0 else 0)
    return Query(chosen, scores, notes, tokens)


class _Clock:
    """Seconds of the parts of a round, one after another."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def stop(self, part: str) -> None:
        now = time.perf_counter()
        self.seconds[part] = round(now - self._last, 3)
        self._last = now


def _write_round(
    config: Config,
    place: Path,
    world: World,
    t: int,
    fitted: training.Fit,
    tested: Evaluation,
    query: Query,
    clock: _Clock,
    adapted: PeftModel,
) -> None:
    write_jsonl(place / "training.jsonl", fitted.log)
    write_jsonl(place / "predictions.jsonl", tested.predictions)
    if query.scores:
        write_npz(place / "scores.npz", **query.scores)
    if query.indices:
        write_json(place / "selected.json", {"indices": query.indices})
    last = t == config.pool.rounds - 1 or not query.indices
    if config.tracking.save_adapters == "all" or (last and config.tracking.save_adapters == "last"):
        adapter.save(adapted, place / "adapter")
    metrics = {
        "round": t,
        "labeled": len(world.pool.labelled),
        **tested.metrics,
        "training": {
            "updates": len(fitted.log),
            "last": fitted.log[-1],
            "validation_loss": fitted.validation,
            "kept_epoch": fitted.kept_epoch,
        },
        "query": query.notes,
        "seconds": clock.seconds,
        "tokens": {"train": fitted.tokens, "evaluate": tested.tokens, "score": query.tokens},
    }
    write_json(place / "metrics.json", metrics)


def _report(t: int, world: World, tested: Evaluation, query: Query, clock: _Clock) -> None:
    m, s = tested.metrics, clock.seconds
    logger.info(
        "round %d: %d labels, accuracy %.3f ± %.3f, ECE %.3f, %.1f s "
        "(train %.1f, evaluate %.1f, score %.1f)",
        *(t, len(world.pool.labelled), m["accuracy"], m["accuracy_stderr"], m["ece"]),
        *(sum(s.values()), s["train"], s["evaluate"], s["score"]),
    )
    weights = query.notes.get("effective_weight")
    if weights:
        shown = {k: "-" if v is None else f"{v:.2f}" for k, v in weights.items()}
        nominal = query.notes["base_weight"]
        logger.info(
            "  query of %d: rank correlation with base %s, with full %s%s; near ties: %d",
            *(len(query.indices), shown["base"], shown["full"]),
            "" if nominal is None else f" (lambda {nominal:.2f})",
            query.notes["near_ties"],
        )


def _result(config: Config, folder: RunFolder) -> dict[str, Any]:
    rounds = [folder.read_round(t, "metrics.json") for t in range(folder.complete_rounds())]
    kept = ("round", "labeled", *NEEDED, "seconds", "tokens")
    points = [{key: r[key] for key in kept if key in r} for r in rounds]
    labels, accuracy = [p["labeled"] for p in points], [p["accuracy"] for p in points]
    return {
        "status": "done",
        "task": config.task.name,
        "strategy": strategy_name(config),
        "seed": config.seed,
        "config_hash": config_hash(config),
        "label_free": label_free(config),
        "rounds": points,
        "auc": statistics.area_under_curve(labels, accuracy),
    }


def _refuse_other_data(folder: RunFolder, data: TaskData) -> None:
    stored = read_json(folder.path / "environment.json").get("data") or {}
    known = stored.get("fingerprint")
    if known is not None and known != data.fingerprint:
        raise InputError(
            f"{folder.path} was started on other data (fingerprint {known[:8]}, now "
            f"{data.fingerprint[:8]}); restore the data, or set another output_dir"
        )

"""The algorithm: train on what is labelled, evaluate, score the rest, label K more, repeat.

Paper (arXiv 2403.01165), each round: infer on the unlabelled pool with the current model → query
the top K by dynamic uncertainty → label → add → train → next. A round is written whole or not at
all, every draw comes from a stream named by seed, purpose and round, and every round starts from a
fresh adapter: so a run that was interrupted goes on after its last complete round and ends in the
same numbers as one that was not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from peft import PeftModel

from star import seeding
from star.acquisition.decision import decide
from star.acquisition.scores import Scores
from star.active_learning import contents
from star.active_learning.rounds import NO_QUERY, Clock, Query, report, result, write_round
from star.active_learning.run_folder import RunFolder
from star.active_learning.setup import World, prepare
from star.checksums import damaged
from star.config import Config
from star.data.loading import TaskData
from star.data.task import Answer, Example
from star.evaluation import views
from star.evaluation.evaluate import Evaluation, evaluate, evaluate_once
from star.models import adapter, distributed, sources, training
from star.models.mc_dropout import Passes
from star.models.truncation import encode_rows, released_mask

logger = logging.getLogger(__name__)


def run(config: Config, *, rows: TaskData | None = None) -> Path:
    """Run active learning to its end, or on from where it stopped; return the run folder.

    Args:
        config: Of the run.
        rows: What ``tasks.load`` gives for it; ``None`` = they are loaded here.

    Raises:
        InputError: Anything the user can mend; complete rounds stay as they are.
    """
    state = distributed.state()
    with RunFolder.open(config, write=state.is_main_process) as folder:
        state.wait_for_everyone()
        if folder.finished:
            if folder.write:  # the old numbers answer for the old content alone
                contents.refuse_other(folder.path, contents.Contents().of(config))
            logger.info("%s is finished already; nothing to do", folder.path)
            return folder.path
        world = prepare(config, folder, rows)
        bought = _start(config, folder, world)
        if "base" in config.evaluation.views and world.complete < world.rounds:
            once = partial(evaluate_once, sources.cache_root(config.tracking.cache_dir) / "tested")
            world.base = evaluate_on(config, world, world.test, world.test_answers, how=once)
        for t in range(world.rounds):
            last = t == world.rounds - 1 or not world.pool.unlabelled
            if t < world.complete:
                if last:  # killed before result.json was written
                    break
                _repeat_query(folder, world, bought, t)
                continue
            with (
                folder.new_round(t) as place,
                adapter.fresh(world.model, config.adapter, seed=config.seed, round_=t) as adapted,
            ):
                work = partial(_train_and_evaluate, config, world, bought, adapted, t)
                fitted, tested, seconds = world.first.train(adapted, work) if t == 0 else work()
                clock = Clock(seconds)
                query = NO_QUERY if last else _query(config, world, adapted, t)
                clock.stop("score", saved=world.first.saved if t == 0 else 0.0)
                if folder.write:
                    labeled = len(world.pool.labelled)
                    write_round(
                        config, place, (t, world.rounds), labeled, fitted, tested, query, clock,
                        adapted,
                    )  # fmt: skip
            state.wait_for_everyone()
            report(t, len(world.pool.labelled), tested, query, clock)
            if last:
                break
            _buy(world, bought, query.indices)
        if folder.write:
            folder.write_result(result(config, folder))
        state.wait_for_everyone()
        return folder.path


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
    """Take a complete round's query from its record instead of running the round again.

    Raises:
        InputError: The record is lost, or names other than unlabelled examples of the pool.
    """
    path = folder.round_folder(t) / "selected.json"
    if not path.is_file():
        raise damaged(path, "is missing")
    indices = folder.read_round(t, path.name)["indices"]
    unknown = sorted(set(indices) - set(world.pool.unlabelled))
    if unknown:
        raise damaged(path, f"asks for {unknown[:5]}, no unlabelled examples of the pool")
    _buy(world, bought, indices)


def _train_and_evaluate(
    config: Config, world: World, bought: dict[int, Answer], adapted: PeftModel, t: int
) -> tuple[training.TrainingResult, Evaluation, dict[str, float]]:
    """Return what training and test gave, and the seconds of both."""
    clock = Clock({})
    fitted = _train(config, world, bought, adapted, t)
    clock.stop("train")
    tested = evaluate_on(config, world, world.test, world.test_answers)
    tested = _compare(config, world, bought, adapted, tested, t)
    clock.stop("evaluate")
    return fitted, tested, clock.seconds


def _train(
    config: Config, world: World, bought: dict[int, Answer], adapted: PeftModel, t: int
) -> training.TrainingResult:
    def rows(indices: list[int]) -> Any:
        return encode_rows(
            world.model,
            [world.examples[i] for i in indices],
            [bought[i].target for i in indices],
            eos=config.train.append_eos,
            max_length=config.train.max_length,
        )

    held = set(world.validation)
    labelled = rows(sorted(set(bought) - held))
    if labelled.truncated:
        logger.warning("round %d: %d training rows were cut to fit", t, len(labelled.truncated))
    trained = labelled.rows
    if config.train.loss_mask == "released":
        trained = released_mask(world.model, trained, bought)
    return training.fit(
        world.model,
        adapted,
        trained,
        config=config.train,
        regularizer=config.regularizer,
        seed=config.seed,
        round_=t,
        validation=rows(world.validation).rows if held else (),
        schedule_rows=len(world.test) if config.train.schedule_from == "test" else None,
    )


def evaluate_on(
    config: Config,
    world: World,
    examples: list[Example],
    answers: list[Answer],
    how: Callable[..., Evaluation] | None = None,
) -> Evaluation:
    """Return the results of the view that is on, as ``evaluation`` asks for; ``how``: a cache."""
    return (how or evaluate)(
        world.model,
        world.task,
        examples,
        answers,
        limits=world.limits,
        by_likelihood=config.evaluation.choice_by == "likelihood",
        bins=config.evaluation.ece_bins,
        choice_score=config.evaluation.choice_score,
        digits=config.evaluation.extraction == "digits",
    )


def _compare(
    config: Config,
    world: World,
    bought: dict[int, Answer],
    adapted: PeftModel,
    tested: Evaluation,
    t: int,
) -> Evaluation:
    """Add the calibration of the views to the test results; labels read: bought ones alone."""
    held = world.validation
    validation = None
    if held:
        examples = [world.examples[i] for i in held]
        validation = evaluate_on(config, world, examples, [bought[i] for i in held])
    found = views.compare(
        world.model,
        adapted,
        world.test,
        tested,
        limits=world.limits,
        bins=config.evaluation.ece_bins,
        choice_score=config.evaluation.choice_score,
        passes=passes_of(config, adapted, t) if "mc" in config.evaluation.views else None,
        base=world.base,
        validation=validation,
    )
    parts = [world.base if t == 0 else None, validation]
    tokens = tested.tokens + found.tokens + sum(part.tokens for part in parts if part)
    metrics = {**tested.metrics, "calibration": found.calibration}
    return replace(tested, metrics=metrics, tokens=tokens)


def passes_of(config: Config, adapted: PeftModel, t: int) -> Passes | None:
    """Return the round's MC-dropout passes; ``None`` where none are asked for or can differ."""
    mc = config.acquisition.mc_dropout
    # Random choice may train without dropout, or not at all; then there is nothing to average.
    if not mc.passes or not config.adapter.lora_dropout or config.train.max_steps == 0:
        return None
    return Passes(adapted, mc, seed=config.seed, round_=t)


def _query(config: Config, world: World, adapted: PeftModel, t: int) -> Query:
    """Score the whole remaining pool and choose K of it; reads no answer unless gold is asked."""
    indices, asked = world.pool.unlabelled, config.pool.query_size
    if len(indices) < asked:
        logger.warning("round %d: %d unlabelled left, all are queried", t, len(indices))
    scores, tokens = Scores({"index": np.asarray(indices, dtype=np.int64)}), 0
    if world.scorer is not None:
        score = partial(world.scorer.full, indices, passes_of(config, adapted, t))
        full = world.first.full(count=len(indices), work=score) if t == 0 else score()
        scores = world.scorer.scores(indices, full)
        tokens = full.tokens + (world.scorer.base().tokens if t == 0 else 0)
    decision = decide(
        scores,
        config.acquisition,
        t=t,
        rounds=world.rounds,
        count=asked,
        seed=config.seed,
        dtype=config.model.dtype,
    )
    return Query(decision, scores, asked, tokens)

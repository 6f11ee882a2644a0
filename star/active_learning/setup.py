"""What a run works on, made ready: the model loaded, the rows cut, the answers locked away."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star.acquisition import skactiveml_pool
from star.acquisition.needs import OUTCOMES
from star.acquisition.pool_scorer import PoolScorer, continuation_of
from star.acquisition.strategies import strategy_of
from star.acquisition.trial import ENOUGH, trial
from star.acquisition.user_function import fingerprint
from star.active_learning import contents, round_0
from star.active_learning.first_round import FirstRound
from star.active_learning.learner import Learner
from star.active_learning.lookahead import Lookahead
from star.active_learning.people import People, Provenance, people
from star.active_learning.plan import plan
from star.active_learning.rounds import record_modules, refuse_earlier
from star.active_learning.run_folder import RunFolder
from star.cache import digest
from star.config import Config, config_hash, encoder_of, own_strategy, rows_per_update, starts_cold
from star.data import loading as tasks
from star.data.pool import Oracle, Pool
from star.data.sequences import ByIndex
from star.data.split import Split
from star.data.task import Answer
from star.errors import InputError
from star.models import (
    classifier,
    distributed,
    mc_dropout,
    optimizers,
    sharding,
    sources,
    targets,
)
from star.models.batching import Batching
from star.models.language_model import LanguageModel
from star.models.sentence_encoder import SentenceEncoder
from star.models.truncation import closes_choices, questions_that_fit
from star.models.unfinished import Unfinished

logger = logging.getLogger(__name__)


def prepare(
    config: Config, folder: RunFolder, rows: tasks.TaskData | None = None
) -> tuple[Pool[Answer], Oracle[Answer] | People, Learner]:
    """Return the pool, all unlabelled, its answers behind the oracle, and the learner.

    Data and model are loaded, prompts cut by the truncation rule. The learner waits for the first
    labels, see :func:`start`.

    Args:
        config: Of the run.
        folder: What it stands for is written there, or refused if the run was begun on another.
        rows: What ``tasks.load`` gives; ``None`` = they are loaded here.

    Raises:
        InputError: Anything the user can mend.
    """
    source = fingerprint(own_strategy(config.acquisition))
    data = rows or tasks.load(config.task, seed=config.seed)
    _introduce(config, data)
    oracle, tested, provenance = _oracle(config, folder, data)
    if provenance is not None and "history" in strategy_of(config.acquisition).needs:
        raise InputError(
            "task.oracle=people answers after the round, and this strategy asks how its model "
            "answered what was bought; set another acquisition.select or .strategy"
        )
    encoder = encoder_of(config.acquisition)
    sentences = None if encoder is None else SentenceEncoder(encoder, config)
    model = _load_model(config, folder, data, source, sentences)
    examples, test, cut = questions_that_fit(
        config, model, data.pool.examples, tested.examples, content=data.fingerprint
    )
    for line in cut:
        logger.warning("%s", line)
    if closes_choices(model, examples) and not config.train.append_eos:
        logger.warning(
            "one choice begins another: both are scored with the end-of-sequence token behind, "
            "which train.append_eos=false leaves untrained"
        )
    questions = ByIndex(data.pool.indices, data.pool.examples)
    if len(examples) < len(data.pool):  # left out, or cut
        questions = ByIndex([example.index for example in examples], examples)
    pool: Pool[Answer] = Pool([*questions])
    first = config.pool.initial_size + config.task.validation_size
    data.require(first, len(examples))  # before hours of scoring
    learner = Learner(
        config,
        model,
        data.task,
        examples=questions,
        test=Split(test, tested.answers),
        folder=folder,
        first_round=FirstRound(config, _content(config, model, data, sentences)),
        rounds=_rounds(config, folder, len(examples)),
        data=data.fingerprint,
        sentences=sentences,
        provenance=provenance,
    )
    return pool, oracle, learner


def _introduce(config: Config, data: tasks.TaskData) -> None:
    """Say what is asked and what was left out, and try a strategy of the user's own.

    Raises:
        InputError: It failed, or returned what cannot be used: before hours of work.
    """
    if own_strategy(config.acquisition) is not None:
        prompts = {e.index: e.prompt for e in islice(data.pool.examples, ENOUGH)}
        logger.info("%s", trial(config, prompts, labels=len(data.task.labels or ())))
    whose = "task.prompt" if config.task.prompt is not None else "the task's own prompt"
    logger.info("%s: %r", whose, data.task.prompt.text)
    for note in data.notes:
        logger.warning("%s", note)


def _oracle(
    config: Config, folder: RunFolder, data: tasks.TaskData
) -> tuple[Oracle[Answer] | People, Split, Provenance | None]:
    """Return who answers, the test questions with their answers, where people's labels are from.

    Raises:
        LabelsMissing: The test rows are to be labelled first.
    """
    if config.task.oracle == "data":
        return Oracle(ByIndex(data.pool.indices, data.pool.answers)), data.test, None
    oracle = people(config, folder, data)
    tested = data.test if data.test.answers else oracle.test(data.test.examples)
    return oracle, tested, Provenance.of(oracle.decided)


def start(learner: Learner, pool: Pool[Answer], oracle: Oracle[Answer] | People) -> None:
    """Make the learner ready for its rounds, once the first labels are bought and no others.

    What is shown of them stands before the prompts; then the base view is scored, while no adapter
    is there.

    Raises:
        InputError: Log-probabilities of choices are needed, and there are no choices.
    """
    config, model, a = learner.config, learner.model, learner.config.acquisition
    if config.task.num_fewshot:
        learner.show(pool)
    needs, examples = strategy_of(a).needs, learner.examples.items_in_order
    if OUTCOMES in needs and isinstance(oracle, Oracle):  # people are refused; see checks
        learner.lookahead = Lookahead(
            config, model, learner.task, learner.examples, oracle, test=len(learner.test)
        )
    if "scores" not in needs:
        return
    scored = continuation_of(a, examples)
    if "log_probs" in needs and scored != "choices":
        named = f"select={a.select}" if a.strategy is None else f"strategy={a.strategy}"
        raise InputError(
            f"acquisition.{named} looks at the probabilities of choices, and what is scored is "
            f"{scored}; take a task with choices and acquisition.continuation=choices"
        )
    learner.scorer = PoolScorer(
        model,
        examples,
        config=a,
        limits=learner.limits,
        oracle=oracle if isinstance(oracle, Oracle) else None,
        cache=sources.cache_root(config.tracking.cache_dir),
        content=digest(
            [learner.data, _sum(learner.examples.indices), learner.shots, config.task.num_fewshot]
        ),
        log_probs="log_probs" in needs,
    )
    if model.has_base and a.candidates is None:
        learner.scorer.base()


def _sum(indices: NDArray[np.int64]) -> str:
    return hashlib.sha256(indices.tobytes()).hexdigest()


def _content(
    config: Config, model: LanguageModel, data: tasks.TaskData, sentences: SentenceEncoder | None
) -> dict[str, str]:
    """Return what the names stand for that round 0 is decided by."""
    content = {"model": model.fingerprint, "data": data.fingerprint}
    if sentences is not None and starts_cold(config.acquisition):
        content["encoder"] = sentences.fingerprint
    return content


def _load_model(
    config: Config,
    folder: RunFolder,
    data: tasks.TaskData,
    source: str | None,
    sentences: SentenceEncoder | None,
) -> LanguageModel:
    """Return the base model; write down what the run's names stand for."""
    # One converts and caches, the others read; what they have in shares they read at once.
    shared = sharding.wanted(config.model)
    with nullcontext() if shared else distributed.state().main_process_first():
        classes = data.pool.examples[0].choices or ()
        model = classifier.model_of(config, classes, Batching.of(config))
    named = None if sentences is None else sentences.info["revision"]
    complete = _agreed(folder, [data.fingerprint, model.info["revision"], named])
    kept = _unfinished(config, folder, model, data)
    model.batching = replace(model.batching, unfinished=kept)
    if sentences is not None:
        sentences.batching = replace(sentences.batching, shortages=model.batching.shortages)
    optimizers.refuse_elsewhere(config.train, model.device)
    modules = targets.resolve(model.causal, config.adapter)
    mc_dropout.check_modules(model.causal, modules, config.acquisition.mc_dropout)
    logger.info("%s", targets.summary(model.causal, modules, config.adapter.r))
    if folder.write:
        now = {"data": data.fingerprint, "model": model.info["revision"], "strategy": source}
        now["encoder"] = named
        contents.refuse_other(folder.path, now)
        processes = distributed.state().num_processes
        size = rows_per_update(config.train, processes)
        if complete:
            contents.refuse_other_updates(folder.path, processes, size)
        refuse_earlier(folder)
        contents.say_other_computation(folder.path, model.info["computation"])
        record_modules(folder, modules)
        told = {"fingerprint": data.fingerprint, "source": data.source, "notes": data.notes}
        told |= {"prompt": data.task.prompt.text, "counts": data.counts}
        name = own_strategy(config.acquisition)
        own = {"name": name, "sha256": source, **skactiveml_pool.version_of(name)}
        more: dict[str, Any] = {"processes": processes, "rows_per_update": size}
        more |= {} if source is None else {"strategy": own}
        more |= {} if sentences is None else {"encoder": sentences.info}
        folder.describe(model.info, told, **more)
    return model


def _agreed(folder: RunFolder, names: Sequence[str | None]) -> int:
    """Return how many rounds are complete, once all processes see the same and have read ``names``.

    Raises:
        InputError: Another has read something else, or sees other rounds.
    """
    complete = folder.complete_rounds()
    if not distributed.equal([*names, complete]):
        raise InputError(
            "the processes of this job have read different data or models, or see different rounds "
            f"in {folder.path} (this one {complete}); give all of them the same files, name a "
            "commit in model.revision, and set an output_dir that all of them share"
        )
    return complete


def _unfinished(
    config: Config, folder: RunFolder, model: LanguageModel, data: tasks.TaskData
) -> Unfinished:
    """Return where the phases of the run are kept while they are under way."""
    minutes = config.tracking.checkpoint_minutes
    if minutes is None:
        return Unfinished()
    return Unfinished(
        folder.unfinished,
        seconds=60 * minutes,
        content={
            "config": config_hash(config),
            "model": model.fingerprint,
            "data": data.fingerprint,
            "source": round_0.source(),
            "libraries": round_0.libraries(),
        },
    )


def _rounds(config: Config, folder: RunFolder, size: int) -> int:
    """Return R, over which λ(t) runs: the rounds that the pool of ``size`` examples allows."""
    if folder.complete_rounds():  # as it was begun; an earlier version noted none, and cut none
        begun: int = folder.metrics(0).get("rounds", config.pool.rounds)
        return begun
    planned = plan(config, size)
    if planned.note is not None:
        logger.warning("%s", planned.note)
    return len(planned.rounds)

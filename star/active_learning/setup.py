"""What a run works on, made ready: the model loaded, the rows admitted, the answers locked away."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from star.acquisition.pool_scorer import PoolScorer
from star.acquisition.strategies import strategy_of
from star.acquisition.trial import trial
from star.acquisition.user_function import fingerprint
from star.active_learning import contents
from star.active_learning.first_round import FirstRound
from star.active_learning.rounds import record_modules, refuse_earlier
from star.active_learning.run_folder import RunFolder
from star.config import Config, own_strategy
from star.data import loading as tasks
from star.data.pool import Oracle, Pool, early_end, possible_rounds
from star.data.task import Answer, Example, Task
from star.errors import InputError
from star.evaluation.evaluate import Evaluation
from star.models import distributed, mc_dropout, sources, targets
from star.models import loading as models
from star.models.batching import Batching
from star.models.language_model import LanguageModel
from star.models.truncation import Limits, closes_choices, truncate_prompts

logger = logging.getLogger(__name__)


@dataclass
class World:
    """What a run works on. The pool's answers are in the oracle, and nowhere else."""

    model: LanguageModel
    task: Task
    pool: Pool
    oracle: Oracle[Answer]
    examples: dict[int, Example]  # by pool index
    test: list[Example]
    test_answers: list[Answer]
    validation: list[int]  # pool indices, held out
    base: Evaluation | None  # of the base model on the test split; None: not asked for
    limits: Limits
    scorer: PoolScorer | None  # None: nothing is scored (random choice)
    first: FirstRound
    complete: int  # rounds found complete on disk
    rounds: int  # R, the trainings there will be


def prepare(config: Config, folder: RunFolder, rows: tasks.TaskData | None = None) -> World:
    """Load data and model, apply the truncation rule, and put the answers behind the oracle."""
    name = own_strategy(config.acquisition)
    strategy = strategy_of(config.acquisition)
    source = fingerprint(name)
    data = rows or tasks.load(config.task, seed=config.seed)
    if name is not None:  # before hours of work
        prompts = {example.index: example.prompt for example in data.pool.examples}
        logger.info("%s", trial(config, prompts, labels=len(data.task.labels or ())))
    prompt = data.task.prompt.text
    whose = "task.prompt" if config.task.prompt is not None else "the task's own prompt"
    logger.info("%s: %r", whose, prompt)
    for note in data.notes:
        logger.warning("%s", note)
    with (
        distributed.state().main_process_first()
    ):  # one process converts and caches, the others read
        model = models.load(
            config.model, cache_dir=config.tracking.cache_dir, batching=Batching.of(config)
        )
    if not distributed.equal([data.fingerprint, model.info["revision"]]):
        raise InputError(
            "the processes of this job have read different data or models; give all of them the "
            "same files, and name a commit in model.revision"
        )
    modules = targets.resolve(model.causal, config.adapter)
    mc_dropout.check_modules(model.causal, modules, config.acquisition.mc_dropout)
    logger.info("%s", targets.summary(model.causal, modules, config.adapter.r))
    if folder.write:
        now = {"data": data.fingerprint, "model": model.info["revision"], "strategy": source}
        contents.refuse_other(folder.path, now)
        refuse_earlier(folder)
        contents.say_other_computation(folder.path, model.info["computation"])
        record_modules(folder, modules)
        told = {"fingerprint": data.fingerprint, "source": data.source, "notes": data.notes}
        told["prompt"] = prompt
        own = {} if source is None else {"strategy": {"name": name, "sha256": source}}
        folder.describe(model.info, told | {"counts": data.counts}, **own)
    limits = Limits(
        max_new_tokens=config.evaluation.max_new_tokens,
        max_prompt_length=config.evaluation.max_prompt_length,
    )
    rule = {"limits": limits, "overlong": config.task.overlong}
    pooled, cut = truncate_prompts(model, data.pool.examples, where="pool", **rule)
    # Test rows always stay: leaving some out would change the question that is asked.
    rule["overlong"] = "error" if config.task.overlong == "error" else "truncate"
    test, cut_test = truncate_prompts(model, data.test.examples, where="test", **rule)
    for line in filter(None, (cut, cut_test)):
        logger.warning("%s", line)
    if closes_choices(model, pooled) and not config.train.append_eos:
        logger.warning(
            "one choice begins another: both are scored with the end-of-sequence token behind, "
            "which train.append_eos=false leaves untrained"
        )
    pool = Pool([example.index for example in pooled])
    first = config.pool.initial_size + config.task.validation_size
    data.require(first, len(pooled))  # before hours of scoring
    answers = zip(data.pool.examples, data.pool.answers, strict=True)
    oracle = Oracle({example.index: answer for example, answer in answers})
    scorer = None
    if "scores" in strategy.needs:
        scorer = PoolScorer(
            model,
            pooled,
            config=config.acquisition,
            limits=limits,
            oracle=oracle,
            cache=sources.cache_root(config.tracking.cache_dir),
        )
        scorer.base()  # now, while no adapter is there
    return World(
        model=model,
        task=data.task,
        pool=pool,
        oracle=oracle,
        examples={example.index: example for example in pooled},
        test=test,
        test_answers=data.test.answers,
        validation=[],
        base=None,
        limits=limits,
        scorer=scorer,
        first=FirstRound(config, {"model": model.fingerprint, "data": data.fingerprint}),
        complete=folder.complete_rounds(),
        rounds=_rounds(config, folder, len(pooled)),
    )


def _rounds(config: Config, folder: RunFolder, size: int) -> int:
    """Return R, over which λ(t) runs: the rounds that the pool of ``size`` examples allows."""
    if folder.complete_rounds():  # as it was begun; an earlier version noted none, and cut none
        begun: int = folder.read_round(0, "metrics.json").get("rounds", config.pool.rounds)
        return begun
    first, asked = config.pool.initial_size + config.task.validation_size, config.pool.rounds
    rounds = possible_rounds(size - first, config.pool.query_size, asked)
    line = early_end(size, rounds, asked)
    if line is not None:
        logger.warning("%s", line)
    return rounds

"""What a run writes and says of its rounds."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from star.active_learning import memory
from star.active_learning.drawn import estimated
from star.active_learning.learner import Learner
from star.active_learning.memory import Bought
from star.active_learning.query import NO_QUERY, Query
from star.active_learning.run_folder import ROOM, RunFolder
from star.config import Config, config_hash, label_free, load, strategy_name, to_yaml
from star.data.pool import LabelsMissing, Pool
from star.data.split import Split
from star.errors import InputError
from star.evaluation import learning_curves
from star.evaluation.classification import balance
from star.evaluation.evaluate import Evaluation
from star.files import write_json, write_jsonl, writing
from star.models.checkpoint import TrainingResult
from star.run_files import (
    ADAPTER,
    CONFIG,
    ENVIRONMENT,
    LABELS,
    METRICS,
    PREDICTIONS,
    SCORES,
    SELECTED,
    TRAINING,
)

logger = logging.getLogger(__name__)

NEEDED = (
    *("accuracy", "accuracy_strict", "accuracy_sum", "accuracy_mean", "accuracy_stderr"),
    *("macro_f1", "balanced_accuracy", "class_entropy", "least_class", "ece", "overconfidence"),
    *("ece_token_mean", "overconfidence_token_mean", "nll", "brier"),
)


@dataclass
class Round:
    """What a round gives, filled in as it goes: one verb of the learner after another.

    Attributes:
        t: The round, counted from 0.
        rounds: R: how many there will be.
        label_count: Labels bought before it.
        shots: Pool indices of the examples that are shown before prompts.
        balance: How even the classes of its labels are; empty of a task without classes.
        training: What training gave.
        test: What the test gave.
        query: What was chosen after it; stays :data:`NO_QUERY` in the last round.
        bought: How it answered what the query bought; ``None``: no strategy needs to know.
        estimate: Accuracy of the round before on what was unlabelled then, by what was drawn of it;
            ``None``: nothing was.
        labels: What it is trained and tested on; ``None``: the data's labels, which do not change.
        out_of_memory: The largest batches of what did not fit in memory in those asked for.
        seconds: Of each verb.
    """

    t: int
    rounds: int
    label_count: int
    shots: list[int]
    balance: dict[str, Any]
    training: TrainingResult = field(init=False)
    test: Evaluation = field(init=False)
    query: Query = NO_QUERY
    bought: Bought | None = None
    estimate: dict[str, Any] | None = None
    labels: dict[str, Any] | None = None
    out_of_memory: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, Any]:
        """The content of ``metrics.json``."""
        training, test = self.training, self.test
        return {
            "round": self.t,
            "rounds": self.rounds,
            "labeled": self.label_count,
            **({"shots": self.shots} if self.shots else {}),
            **({"random_share": self.estimate} if self.estimate else {}),
            **self.balance,
            **test.metrics,
            "training": {
                "updates": len(training.log),
                "last": training.log[-1] if training.log else None,
                "validation_loss": training.validation,
                "kept_epoch": training.kept_epoch,
            },
            **({"out_of_memory": self.out_of_memory} if self.out_of_memory else {}),
            "query": self.query.notes,
            "seconds": self.seconds,
            "tokens": {
                "train": training.tokens,
                "evaluate": test.tokens,
                "score": self.query.tokens + (self.bought.tokens if self.bought else 0),
            },
        }


@contextlib.contextmanager
def new_round(folder: RunFolder, learner: Learner, pool: Pool[Any], t: int) -> Iterator[Round]:
    """Yield round ``t``, to be filled in; a clean exit writes it, whole or not at all, and says it.

    To be used inside ``learner.fresh_adapter(t)``, whose adapter may be kept. Where people answer,
    the answers to its query are missing; the round is written before that is told.

    Raises:
        InputError: A full disk, say; what is complete stays as it is.
        LabelsMissing: Whoever labels is to decide now.
    """
    with folder.new_round(t) as place:
        shots = [shot.index for shot in learner.shots[: learner.config.task.num_fewshot]]
        round_ = Round(t, learner.rounds, pool.label_count, shots, _balance(learner, pool))
        round_.estimate = _estimate(folder, learner, pool, t - 1) if t else None
        round_.labels, missing = _labels(learner, pool), None
        try:
            yield round_
        except LabelsMissing as error:  # people answer its query later; the round itself is whole
            missing = error
        round_.seconds = learner.seconds
        round_.out_of_memory = learner.model.batching.shortages.take()
        if folder.write:
            write_round(place, round_, learner)
    log_round(round_)
    if missing is not None:
        raise missing


def _estimate(
    folder: RunFolder, learner: Learner, pool: Pool[Any], t: int
) -> dict[str, Any] | None:
    task, config = learner.task, learner.config.evaluation
    return estimated(folder, task, config, pool.labelled, t)


def _labels(learner: Learner, pool: Pool[Any]) -> dict[str, Any] | None:
    """Return what people's labels a round is trained and tested on."""
    if learner.provenance is None:
        return None
    test = learner.test if learner.config.task.test_size else Split([], [])
    tested = {e.index: a for e, a in zip(test.examples, test.answers, strict=True)}
    return learner.provenance.record({**pool.labelled, **pool.held_out}, tested)


def _balance(learner: Learner, pool: Pool[Any]) -> dict[str, Any]:
    """Return the classes of all labels that were bought, held-out ones too."""
    if not learner.task.classifies:
        return {}
    bought = [answer.gold for part in (pool.labelled, pool.held_out) for answer in part.values()]
    return balance(bought, learner.task.labels or ())


def write_round(place: Path, round_: Round, learner: Learner) -> None:
    """Write a round's files into its folder.

    Raises:
        InputError: A full disk, say.
    """
    query = round_.query
    last = round_.t == round_.rounds - 1 or not query.indices
    kept = learner.config.tracking.save_adapters
    with writing(place, ROOM):
        write_jsonl(place / TRAINING, round_.training.log)
        write_jsonl(place / PREDICTIONS, round_.test.predictions)
        if query.decision.full is not None:
            decided = query.decision.arrays()
            free = np.array(label_free(learner.config))
            query.scores.save(place / SCORES, **decided, label_free=free)
        if query.indices:
            write_json(place / SELECTED, query.record)
        if round_.labels is not None:
            write_json(place / LABELS, round_.labels)
        memory.write(place, round_.bought, query.embeddings)
        if kept == "all" or (last and kept == "last"):
            learner.save_adapter(place / ADAPTER)
        write_json(place / METRICS, round_.metrics)


def log_round(round_: Round) -> None:
    """Say in one line what a round gave, and in another what decided its query."""
    m, s, query = round_.test.metrics, round_.seconds, round_.query
    logger.info(
        "round %d: %d labels, accuracy %.3f ± %.3f, ECE %.3f (over-confidence %+.3f), %.1f s "
        "(train %.1f, evaluate %.1f, score %.1f)",
        *(round_.t, round_.label_count),
        *(m["accuracy"], m["accuracy_stderr"], m["ece"], m["overconfidence"]),
        *(sum(s.values()), s["train"], s["evaluate"], s["score"]),
    )
    among = query.among
    if among:
        logger.info(
            "  %d of %d unlabelled scored, by %s", *(among[k] for k in ("scored", "of", "by"))
        )
    weights = query.notes.get("effective_weight")
    if weights:
        shown = {k: "-" if v is None else f"{v:.2f}" for k, v in weights.items()}
        nominal = query.notes["base_weight"]
        logger.info(
            "  query of %d: rank correlation with base %s, with full %s%s; near ties: %s",
            *(len(query.indices), shown["base"], shown["full"]),
            "" if nominal is None else f" (lambda {nominal:.2f})",
            query.notes["near_ties"],
        )


def write_result(folder: RunFolder, config: Config) -> None:
    """Write ``result.json`` from the files of the complete rounds: the run is finished."""
    folder.write_result(_result(folder, config) if folder.write else {})


def _result(folder: RunFolder, config: Config) -> dict[str, Any]:
    rounds = [folder.metrics(t) for t in range(folder.complete_rounds())]
    kept = ("round", "labeled", *NEEDED, "seconds", "tokens")
    points = [{key: r[key] for key in kept if key in r} for r in rounds]
    asked = config.pool.rounds
    curve = [points[i] for i in learning_curves.rising([p["labeled"] for p in points])]
    labels, accuracy = [p["labeled"] for p in curve], [p["accuracy"] for p in curve]
    return {
        "status": "done",
        "task": config.task.name,
        "strategy": strategy_name(config),
        "seed": config.seed,
        "config_hash": config_hash(config),
        "label_free": label_free(config),
        # The pool ended before them.
        **({"rounds_asked": asked} if len(points) < asked else {}),
        "rounds": points,
        "auc": learning_curves.area_under_curve(labels, accuracy),
    }


def refuse_earlier(folder: RunFolder) -> None:
    """Refuse to go on with rounds whose figures an earlier version meant otherwise."""
    for t in range(folder.complete_rounds()):
        done = folder.metrics(t)
        # Of generated answers alone: a choice has had one confidence from the start.
        if "accuracy_strict" in done and "overconfidence" not in done:
            raise InputError(
                f"{folder.path} has rounds of an earlier version (round {t}), whose ece is that of "
                "the mean token's probability; go on with that version, or set another output_dir"
            )


def record_modules(folder: RunFolder, modules: Sequence[str]) -> None:
    """Write into ``config.yaml`` what a word in ``adapter.target_modules`` means for the model.

    Raises:
        InputError: It meant something else when the run began.
    """
    path = folder.path / CONFIG
    stored = load(path)
    said = stored.adapter.target_modules
    if isinstance(said, str):
        adapted = replace(stored.adapter, target_modules={said: list(modules)})
        folder.put(path.name, to_yaml(replace(stored, adapter=adapted)).encode())
    elif isinstance(said, dict) and list(modules) not in said.values():
        raise InputError(
            f"{folder.path} was started with {said} as adapter.target_modules, which are "
            f"{list(modules)} now; restore PEFT's version ({ENVIRONMENT} names it), or set "
            "another output_dir"
        )

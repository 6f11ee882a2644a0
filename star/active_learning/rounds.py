"""What a run writes and says of its rounds."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from peft import PeftModel

from star.acquisition.decision import Decision
from star.acquisition.scores import Scores
from star.active_learning.run_folder import ROOM, RunFolder
from star.config import Config, config_hash, label_free, load, strategy_name, to_yaml
from star.errors import InputError
from star.evaluation import learning_curves
from star.evaluation.evaluate import Evaluation
from star.files import write_json, write_jsonl, writing
from star.models import adapter
from star.models.training import TrainingResult

logger = logging.getLogger(__name__)

NEEDED = (
    *("accuracy", "accuracy_strict", "accuracy_sum", "accuracy_mean", "accuracy_stderr"),
    *("macro_f1", "balanced_accuracy", "ece", "overconfidence"),
    *("ece_token_mean", "overconfidence_token_mean", "nll", "brier"),
)


@dataclass(frozen=True)
class Query:
    """What was chosen after a round, and why.

    Attributes:
        decision: What was picked, and what decided it.
        scores: Of the unlabelled pool.
        asked: K of the configuration; the pool may have had fewer left.
        tokens: Logical work of scoring.
    """

    decision: Decision
    scores: Scores
    asked: int
    tokens: int

    @property
    def indices(self) -> list[int]:
        """Pool indices to label, best first."""
        return self.decision.indices

    @property
    def notes(self) -> dict[str, Any]:
        """What ``metrics.json`` says of the query; nothing where there was none."""
        made = self.decision
        notes: dict[str, Any] = {"size": len(made.indices)} if made.indices else {}
        if len(made.indices) < self.asked:
            notes["exhausted"] = True
        if made.full is not None:
            notes |= {
                name: getattr(made, name)
                for name in ("base_weight", "effective_weight", "near_ties")
            }
        return notes


NO_QUERY = Query(Decision([]), Scores({}), asked=0, tokens=0)


class Clock:
    """Seconds of the parts of a round, one after another."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.seconds = dict(seconds)
        self._last = time.perf_counter()

    def stop(self, part: str, *, saved: float = 0.0) -> None:
        """End a part; ``saved``: seconds of work that another run had done for it."""
        now = time.perf_counter()
        self.seconds[part] = round(now - self._last + saved, 3)
        self._last = now


def write_round(
    config: Config,
    place: Path,
    round_: tuple[int, int],
    labeled: int,
    fitted: TrainingResult,
    tested: Evaluation,
    query: Query,
    clock: Clock,
    adapted: PeftModel,
) -> None:
    """Write a round's files into its folder.

    Args:
        config: Of the run.
        place: The folder.
        round_: t, and R: how many rounds there will be.
        labeled: Labels it was trained on.
        fitted: What training gave.
        tested: What the test gave.
        query: What was chosen after it.
        clock: Seconds of its parts.
        adapted: The model with the trained adapter.

    Raises:
        InputError: A full disk, say; what is complete stays as it is.
    """
    t, rounds = round_
    metrics = {
        "round": t,
        "rounds": rounds,
        "labeled": labeled,
        **tested.metrics,
        "training": {
            "updates": len(fitted.log),
            "last": fitted.log[-1] if fitted.log else None,
            "validation_loss": fitted.validation,
            "kept_epoch": fitted.kept_epoch,
        },
        "query": query.notes,
        "seconds": clock.seconds,
        "tokens": {"train": fitted.tokens, "evaluate": tested.tokens, "score": query.tokens},
    }
    last = t == rounds - 1 or not query.indices
    kept = config.tracking.save_adapters
    with writing(place, ROOM):
        write_jsonl(place / "training.jsonl", fitted.log)
        write_jsonl(place / "predictions.jsonl", tested.predictions)
        if query.decision.full is not None:
            decided = query.decision.arrays()
            free = np.array(label_free(config))
            query.scores.save(place / "scores.npz", **decided, label_free=free)
        if query.indices:
            write_json(place / "selected.json", {"indices": query.indices})
        if kept == "all" or (last and kept == "last"):
            adapter.save(adapted, place / "adapter")
        write_json(place / "metrics.json", metrics)


def report(t: int, labeled: int, tested: Evaluation, query: Query, clock: Clock) -> None:
    """Say in one line what a round gave, and in another what decided its query."""
    m, s = tested.metrics, clock.seconds
    logger.info(
        "round %d: %d labels, accuracy %.3f ± %.3f, ECE %.3f (over-confidence %+.3f), %.1f s "
        "(train %.1f, evaluate %.1f, score %.1f)",
        *(t, labeled, m["accuracy"], m["accuracy_stderr"], m["ece"], m["overconfidence"]),
        *(sum(s.values()), s["train"], s["evaluate"], s["score"]),
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


def result(config: Config, folder: RunFolder) -> dict[str, Any]:
    """Return the content of ``result.json``, from the files of the complete rounds."""
    rounds = [folder.read_round(t, "metrics.json") for t in range(folder.complete_rounds())]
    kept = ("round", "labeled", *NEEDED, "seconds", "tokens")
    points = [{key: r[key] for key in kept if key in r} for r in rounds]
    asked = config.pool.rounds
    labels, accuracy = [p["labeled"] for p in points], [p["accuracy"] for p in points]
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
        done = folder.read_round(t, "metrics.json")
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
    path = folder.path / "config.yaml"
    stored = load(path)
    said = stored.adapter.target_modules
    if isinstance(said, str):
        adapted = replace(stored.adapter, target_modules={said: list(modules)})
        folder.put(path.name, to_yaml(replace(stored, adapter=adapted)).encode())
    elif isinstance(said, dict) and list(modules) not in said.values():
        raise InputError(
            f"{folder.path} was started with {said} as adapter.target_modules, which are "
            f"{list(modules)} now; restore PEFT's version (environment.json names it), or set "
            "another output_dir"
        )

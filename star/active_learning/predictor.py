"""Answers of a run's model on texts of any origin: ``star predict`` and ``star.predict``.

No label is read but the bought ones that a run shows (``task.num_fewshot``), and nothing is written
into the run folder. Prompts are made by the run's own task, cut by its rules, and answered by its
evaluation's own code, so that a test row gets the answer that the run noted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from star.active_learning import memory
from star.active_learning.trained_run import TrainedRun
from star.data.questions import Question, examples_of
from star.data.task import Answer, Example
from star.errors import InputError
from star.evaluation import predict as answering
from star.models import classifier, saved_adapter
from star.models.batching import Batching
from star.models.language_model import LanguageModel
from star.models.shots import shown
from star.models.truncation import Limits, truncate_prompts

logger = logging.getLogger(__name__)


class Predictor:
    """A run's model in memory with its adapter on; answers as often as it is asked.

    Attributes:
        trained: The run and the round.
        model: The base model, the adapter on.
    """

    def __init__(self, trained: TrainedRun, model: LanguageModel) -> None:
        self.trained, self.model = trained, model

    @classmethod
    @contextmanager
    def of(cls, trained: TrainedRun, *, progress: bool = False) -> Iterator[Predictor]:
        """Load the model and its adapter, and take the adapter off on the way out.

        Args:
            trained: The run.
            progress: Show bars.

        Raises:
            InputError: The model cannot be loaded, or the adapter is damaged.
        """
        task, config = trained.task, trained.config
        words = tuple(map(task.target, task.labels or ()))
        batching = replace(Batching.of(config), progress=progress)
        model = classifier.model_of(config, words, batching)
        with saved_adapter.load(model, trained.adapter):
            yield cls(trained, model)

    @cached_property
    def _first(self) -> tuple[dict[int, Example], dict[int, Answer]]:
        """The run's first labels, some of which stand before its prompts."""
        trained = self.trained
        return memory.first_labels(trained.folder, trained.config, trained.round_)

    def predict(
        self,
        examples: Sequence[Example],
        *,
        places: Sequence[str] | None = None,
        abstain: float | None = None,
    ) -> list[dict[str, Any]]:
        """Return the answers to N ≥ 1 questions; see :func:`predict`.

        ``places``: what a message calls each, by its index; ``None``: ``row 0`` and so on.

        Raises:
            InputError: A prompt is longer than the model allows, under ``task.overlong=error``.
        """
        check_abstention(self.trained, abstain)
        config = self.trained.config
        limits = Limits.of(config.evaluation)
        rule = "error" if config.task.overlong == "error" else "truncate"  # as of the test rows
        named = "row {}".format if places is None else places.__getitem__
        fitting, note = truncate_prompts(
            self.model, examples, limits=limits, overlong=rule, where="prompts", named=named
        )
        if note is not None:
            logger.warning("%s", note)
        if config.task.num_fewshot:
            shown_of, labelled = self._first
            _, _, fitting = shown(config, self.model, labelled, shown_of, fitting, named)
        rows = answering.predict(
            self.model,
            self.trained.task,
            fitting,
            limits=limits,
            by_likelihood=self.trained.by_likelihood,
            choice_score=config.evaluation.choice_score,
            digits=config.evaluation.extraction == "digits",
            temperatures=self.trained.temperatures,
        )
        if abstain is not None:
            for row in rows:
                row["abstained"] = row["probability"] < abstain
                row["label"] = None if row["abstained"] else row["label"]
        return rows


def check_abstention(trained: TrainedRun, abstain: float | None) -> None:
    """Refuse a threshold that is no probability, or has no probability of a label to look at.

    Raises:
        InputError: Either.
    """
    if abstain is None:
        return
    if not 0.0 <= abstain <= 1.0:
        raise InputError(f"the threshold to abstain below must be from 0 to 1, got {abstain}")
    if not trained.by_likelihood:
        raise InputError(
            f"abstaining is for labels; {trained.config.task.name} generates its answers here: "
            "look at their confidence"
        )


def predict(
    run: str | Path,
    texts: Sequence[Question],
    *,
    round_: int | None = None,
    abstain: float | None = None,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Return what a run's model answers, and how sure it is, order kept.

    The model is the run's base model with the adapter of a round. Reads no label, and writes
    nothing into the run folder. To ask often, keep a :class:`Predictor`.

    Args:
        run: A run folder, finished or not, with an adapter (``tracking.save_adapters``).
        texts: N texts, where the run's prompt has one column; or rows of its columns.
        round_: Whose adapter; ``None``: that of the last round that has kept it.
        abstain: Give no label where its probability is lower.
        progress: Show bars.

    Returns:
        A row a text.

        - Of tasks with labels, by words or by a head: ``label``; ``probability``, the label's;
          ``probabilities``, label to probability, of all labels; with ``abstain`` also
          ``abstained``, and ``label`` is ``None`` where it is true.
        - Of generated answers: ``answer``, ``None`` where the text has none; ``text``; and
          ``confidence``: ``sequence``, the probability of the whole text, and ``token_mean``, the
          geometric mean over its tokens.
        - ``calibrated``: whether confidences are scaled by the temperature that the round fitted on
          rows held out from training (``task.validation_size``); ``truncated``: whether the prompt
          was cut to fit the model.

    Raises:
        InputError: No run folder, no adapter, another model than the run's; a text that is empty or
            not what the run's prompt needs; a threshold that is none.
    """
    if isinstance(texts, str):
        raise InputError("texts must be a list of texts or rows; put a single text in one: [text]")
    if not texts:
        raise InputError("there are no texts to answer")
    trained = TrainedRun.of(run, round_)
    check_abstention(trained, abstain)
    places = [f"text {i}" for i in range(len(texts))]
    examples, _ = examples_of(trained.task, texts, places)
    with Predictor.of(trained, progress=progress) as predictor:
        return predictor.predict(examples, places=places, abstain=abstain)

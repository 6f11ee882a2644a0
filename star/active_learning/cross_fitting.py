"""What models that have not seen a label think of it.

The labels are dealt into folds, and each fold is judged by a model trained on the others
(cross-fitting; Stone 1974, "Cross-validatory choice and assessment of statistical predictions").
A model that was trained on a wrong label has learnt to agree with it, and finds it no longer
strange. Nothing of this goes into a run: its models are trained, asked and thrown away.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from star import seeding
from star.active_learning.fitting import Fitting
from star.config import Config
from star.data.pool import Pool
from star.data.task import Answer, Example, Task
from star.errors import InputError
from star.evaluation.evaluate import Evaluation, as_asked
from star.models import adapter, classifier
from star.models.batching import Batching
from star.models.language_model import LanguageModel
from star.models.truncation import Limits, truncate_prompts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judged:
    """What a model says of a label that it was not trained on.

    Attributes:
        index: Pool index.
        prediction: What it would answer; ``None``: its text has no answer.
        loss: −log p of the label, in nats: among the choices, or of a generated answer the mean
            over its tokens, since a long one is unlikely for its length alone.
    """

    index: int
    prediction: str | None
    loss: float


def dealt(indices: Sequence[int], folds: int, *, seed: int) -> list[list[int]]:
    """Return the indices in ``folds`` parts, whose sizes differ by one at most, by the seed alone.

    Raises:
        InputError: Fewer than two folds, or fewer indices than folds.
    """
    if not 2 <= folds <= len(indices):
        raise InputError(
            f"cross-fitting takes from 2 folds to one a label, got {folds} for {len(indices)} "
            "labels"
        )
    random = np.random.default_rng(seeding.derive(seed, "cross-fitting", folds))
    order = random.permutation(np.sort(indices)).tolist()
    return [sorted(order[k::folds]) for k in range(folds)]


def cross_fitted(
    config: Config,
    task: Task,
    examples: Mapping[int, Example],
    answers: Mapping[int, Answer],
    *,
    test: int,
    folds: int = 5,
) -> list[Judged]:
    """Return every label as a model judges it that was trained on the labels of the other folds.

    Training and judging are those of the run's rounds; prompts have no shots before them, which
    would be labels in question themselves, and no epoch is chosen by validation rows.

    Args:
        config: Of the run.
        task: Its.
        examples: Questions by pool index, of all labels at least.
        answers: The L labels, by pool index.
        test: Size of the run's test split, which the released code's schedule goes by.
        folds: How many models are trained, each on L − L / folds labels.

    Returns:
        L of them, by ascending index.

    Raises:
        InputError: As of :func:`dealt`; or the model cannot be loaded.
    """
    parts = dealt([*answers], folds, seed=config.seed)
    model = classifier.model_of(
        config, tuple(map(task.target, task.labels or ())), Batching.of(config)
    )
    fitting, note = truncate_prompts(
        model,
        [examples[i] for i in sorted(answers)],
        limits=Limits.of(config.evaluation),
        overlong="truncate",
        where="labelled rows",
    )
    if note is not None:
        logger.warning("%s", note)
    asked, judged = {example.index: example for example in fitting}, []
    for fold, left_out in enumerate(parts):
        known = {i: answer for i, answer in answers.items() if i not in set(left_out)}
        logger.info("fold %d of %d: %d labels train a model", fold + 1, folds, len(known))
        judged += _judged(config, task, model, asked, known, left_out, answers, fold, test)
    return sorted(judged, key=lambda each: each.index)


def _judged(
    config: Config,
    task: Task,
    model: LanguageModel,
    asked: Mapping[int, Example],
    known: Mapping[int, Answer],
    left_out: Sequence[int],
    answers: Mapping[int, Answer],
    fold: int,
    test: int,
) -> list[Judged]:
    pool: Pool[Answer] = Pool([*known])
    pool.add(known)
    with adapter.fresh(model, config.adapter, seed=config.seed, round_=fold) as adapted:
        Fitting(config, model, asked, pool, fold, test=test).fit(adapted, config.seed)
        questions, labels = ([part[i] for i in left_out] for part in (asked, answers))
        found = as_asked(config.evaluation, model, task, questions, labels)
    rows = zip(found.predictions, _sizes(found), strict=True)
    return [Judged(r["index"], r["prediction"], r["nll"] / size) for r, size in rows]


def _sizes(found: Evaluation) -> list[int]:
    """Return by how many tokens the nats of each label are divided."""
    return [len(row.continuation) for row in found.gold] or [1] * len(found.predictions)

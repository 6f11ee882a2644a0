"""What is there to win: of some batches, the one that trains best. It reads labels to say so.

A bound for tables, and no strategy for anybody who pays for labels: for every candidate batch the
next round's adapter is trained with the batch's answers, and tested on rows that are in none of
them, answers again. It looks one round ahead and is greedy, so it is no bound of what several
rounds could reach together.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from star import seeding
from star.active_learning.fitting import Fitting
from star.config import Config
from star.data.pool import Oracle, Pool
from star.data.task import Answer, Example, Task
from star.evaluation.evaluate import Evaluation, as_asked
from star.models import adapter
from star.models.language_model import LanguageModel

logger = logging.getLogger(__name__)

REASON = "select=lookahead"
HELD_OUT = 150  # rows that a batch's training is tested on


class Lookahead:
    """Trains on batches that are not bought yet, and tells which is best.

    Args:
        config: Of the run.
        model: Its; the round's adapter is on again afterwards.
        task: Its.
        examples: All questions of the pool by their indices.
        oracle: Whose answers are read without buying.
        test: Size of the run's test split, which the released code's schedule goes by.

    Attributes:
        tokens: Through the model in the last call.
    """

    def __init__(
        self,
        config: Config,
        model: LanguageModel,
        task: Task,
        examples: Mapping[int, Example],
        oracle: Oracle[Answer],
        *,
        test: int,
    ) -> None:
        self._config, self._model, self._task = config, model, task
        self._examples, self._oracle, self._test = examples, oracle, test
        self.tokens = 0

    def best(self, pool: Pool[Answer], t: int, batches: Sequence[Sequence[int]]) -> int:
        """Return which batch trains the next round's adapter best; of equal ones the first.

        Best: the highest accuracy on the rows held out, then the lowest −log p of their answers.

        Args:
            pool: What is labelled, and what is not.
            t: The round.
            batches: Pool indices, each K unlabelled ones.
        """
        known, self.tokens = pool.labelled, 0
        union = sorted({i for batch in batches for i in batch})
        rest = np.setdiff1d(pool.unlabelled, union)
        random = np.random.default_rng(seeding.derive(self._config.seed, REASON, t))
        held_out = np.sort(random.permutation(rest)[:HELD_OUT]).tolist()
        if not held_out:  # the batches are all that is left
            return 0
        results: dict[frozenset[int], tuple[float, float]] = {}
        for batch in map(frozenset, batches):
            if batch not in results:
                order = sorted(batch)
                bought = dict(zip(order, self._answers(order), strict=True))
                found = self._tested({**known, **bought}, pool.held_out, held_out, t)
                self.tokens += found.tokens
                results[batch] = (found.metrics["accuracy"], -found.metrics["nll"])
        ranked = [results[frozenset(batch)] for batch in batches]
        shown = ", ".join(f"{accuracy:.3f}" for accuracy, _ in ranked)
        logger.info("round %d: a batch trains to an accuracy of %s", t, shown)
        return max(range(len(ranked)), key=ranked.__getitem__)

    def _answers(self, indices: Sequence[int]) -> list[Answer]:
        return self._oracle.label_all(indices, reason=REASON)

    def _tested(
        self,
        answers: Mapping[int, Answer],
        validation: Mapping[int, Answer],
        held_out: Sequence[int],
        t: int,
    ) -> Evaluation:
        """Return how round t + 1, trained on ``answers``, does on rows that are held out."""
        config, model = self._config, self._model
        pool: Pool[Answer] = Pool([*answers, *validation])
        pool.hold_out(validation)
        pool.add(answers)
        fresh = adapter.fresh(model, config.adapter, seed=config.seed, round_=t + 1)
        with adapter.aside(model), fresh as adapted:
            fitting = Fitting(config, model, self._examples, pool, t + 1, test=self._test)
            self.tokens += fitting.fit(adapted, config.seed).tokens
            asked = [self._examples[i] for i in held_out]
            return as_asked(config.evaluation, model, self._task, asked, self._answers(held_out))

"""How the adapters of a round are trained on what is labelled: its own, and an ensemble's."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property

from peft import PeftModel

from star.config import Config
from star.data.pool import Pool
from star.data.task import Answer, Example
from star.models import training
from star.models.checkpoint import TrainingResult
from star.models.encoding import TokenRow, Truncated
from star.models.language_model import LanguageModel
from star.models.truncation import encode_rows, released_mask

logger = logging.getLogger(__name__)


class Fitting:
    """Training on what a pool has labelled in one round.

    Args:
        config: Of the run.
        model: Whose adapters are trained.
        examples: Questions by their indices.
        pool: Answers that were bought; the pool may grow later, the rows stay.
        round_: t.
        test: Size of the test split, which the released code's schedule goes by.
    """

    def __init__(
        self,
        config: Config,
        model: LanguageModel,
        examples: Mapping[int, Example],
        pool: Pool[Answer],
        round_: int,
        *,
        test: int,
    ) -> None:
        self._config, self._model, self._examples = config, model, examples
        self._labelled, self._held_out = dict(pool.labelled), dict(pool.held_out)
        self._round, self._test = round_, test

    @cached_property
    def rows(self) -> Sequence[TokenRow]:
        """What is labelled; the tokens that the loss is taken of are the continuations."""
        encoded = self._encoded(self._labelled)
        if encoded.truncated:
            count = len(encoded.truncated)
            logger.warning("round %d: %d training rows were cut to fit", self._round, count)
        if self._config.train.loss_mask == "released":
            return released_mask(self._model, encoded.rows, self._labelled)
        return encoded.rows

    def fit(self, adapted: PeftModel, seed: int) -> TrainingResult:
        """Train a fresh adapter that is on the model; with another seed in another order."""
        config = self._config
        return training.fit(
            self._model,
            adapted,
            self.rows,
            config=config.train,
            regularizer=config.regularizer,
            seed=seed,
            round_=self._round,
            validation=self._encoded(self._held_out).rows if self._held_out else (),
            schedule_rows=self._test if config.train.schedule_from == "test" else None,
        )

    def _encoded(self, answers: Mapping[int, Answer]) -> Truncated:
        indices = sorted(answers)
        return encode_rows(
            self._model,
            [self._examples[i] for i in indices],
            [answers[i].target for i in indices],
            eos=self._config.train.append_eos,
            max_length=self._config.train.max_length,
        )

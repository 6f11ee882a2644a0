"""A run in numbers before it is started: which rows go through the model, and how often.

Counts what a run will do, by the plan that it follows. Which examples a strategy picks cannot be
known; those that random choice picks with the run's seed stand for them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle

import numpy as np

from star.acquisition.needs import OUTCOMES
from star.acquisition.pool_scorer import continuation_of
from star.acquisition.strategies import CANDIDATES, strategy_of
from star.active_learning.lookahead import HELD_OUT
from star.active_learning.plan import plan
from star.config import Config, needs_scores, passes_that_differ, rows_per_update
from star.data.loading import TaskData
from star.experiments.estimate import costs
from star.experiments.estimate.costs import Counts, Shape, Work
from star.experiments.estimate.lengths import Questions, questions, training_rows, with_shots
from star.experiments.estimate.stand_ins import Round, stand_ins
from star.models import merging, tfb
from star.models.language_model import LanguageModel
from star.models.truncation import Limits, encode_rows, questions_that_fit


@dataclass(frozen=True)
class Workload:
    """A run in numbers.

    Attributes:
        config: Of the run.
        shape: Of the model with its adapter.
        indices: Pool indices that take part, ascending.
        pool: Their questions, as they are scored.
        rows: (2, N) tokens of each as it is trained on: all of them, and its answer's.
        test: Questions of the test split.
        held: Questions that are held out of the pool, as they are evaluated.
        held_rows: As ``rows``.
        rounds: Who is labelled when.
        continuation: What is scored; ``None`` = nothing.
        merged: Whether the adapter is merged into the weights where it is scored.
        notes: What was cut or left out.
    """

    config: Config
    shape: Shape
    indices: list[int]
    pool: Questions
    rows: Counts
    test: Questions
    held: Questions
    held_rows: Counts
    rounds: list[Round]
    continuation: str | None
    merged: bool
    notes: list[str]

    @property
    def passes(self) -> int:
        """S; 0 where none are asked for or can differ."""
        return passes_that_differ(self.config)

    @property
    def chosen(self) -> bool:
        """Whether test questions are judged by the likelihoods of their choices."""
        return self.config.evaluation.choice_by == "likelihood" and self.test.choices.size > 0

    def beside(self, passes: int = 0) -> bool:
        """Whether the adapter is a product of its own beside each matrix where it is scored."""
        masks = self.config.acquisition.mc_dropout.masks
        return not self.merged or (passes > 0 and masks == "token")

    def train(self, t: int) -> Work:
        """Return the work of training round ``t``, its validation included."""
        train, indices = self.config.train, self.rounds[t].trained
        size = rows_per_update(train)
        epochs: float = train.num_train_epochs
        if train.max_steps is not None:
            whole, rest = divmod(train.max_steps, math.ceil(len(indices) / size))
            epochs = whole + min(len(indices), rest * size) / len(indices)
        tokens, answers = self.rows[:, self._places(indices)]
        again = train.gradient_checkpointing
        flops = costs.train_flops(self.shape, tokens - 1, answers, recompute=again)
        held, theirs = self.held_rows
        check = costs.forward_flops(self.shape, held - 1, theirs, adapter=self.beside())
        return Work(
            epochs * float(tokens.sum()), train=epochs * flops, forward=math.ceil(epochs) * check
        )

    def evaluate(self, t: int) -> Work:
        """Return the work of evaluating round ``t``; the base model's evaluation is apart."""
        views = self.config.evaluation.views
        work = self._evaluate(self.test, full=True) + self._evaluate(self.held, full=True)
        if "mc" in views and self.passes:
            work += self._again(self.test, self.beside(self.passes)) + self._made(t)
        if "base" in views and not self.chosen:  # the base model's confidence in the full's answer
            work += costs.scored(self.shape, self.test.prompts, self.test.answers)
        return work

    def score(self, t: int) -> Work:
        """Return the work of scoring round ``t``; the base model's scoring is apart."""
        if t == len(self.rounds) - 1:
            return Work()
        apart = self._drawn(t) + self._tried(t)
        if self.continuation is None:
            return apart
        most = self.config.acquisition.candidates  # any so many stand for those that are chosen
        rows = self.pool.at(self._places(self.rounds[t].unlabelled[:most]))
        work = self._score(rows, full=True) + (self._score(rows, full=False) if most else Work())
        made = self.passes and "mc" not in self.config.evaluation.views
        return work + apart + (self._made(t) if made else Work())

    def _drawn(self, t: int) -> Work:
        """Return the work of answering what round ``t`` draws at random."""
        count = len(self.rounds[t].unlabelled) - len(self.rounds[t + 1].unlabelled)
        share = round(self.config.acquisition.random_share * count)
        asked = self.pool.at(self._places(self.rounds[t].unlabelled[:share]))
        if not share:
            return Work()
        chosen, beside = self.chosen, self.beside()
        return self._choose(asked, 0, beside) if chosen else self._generate(asked, beside)

    def _tried(self, t: int) -> Work:
        """Return the work of training on each batch that round ``t`` could choose, at most."""
        if OUTCOMES not in strategy_of(self.config.acquisition).needs:
            return Work()
        tested = self.pool.at(self._places(self.rounds[t].unlabelled[:HELD_OUT]))
        tried = self.train(t + 1) + self._evaluate(tested, full=True)
        return sum([tried] * len(CANDIDATES), Work())

    def _made(self, t: int) -> Work:
        """Return the work of making round ``t``'s passes: at most, of what TFB tries."""
        kind = self.config.acquisition.passes
        if kind == "ensemble":
            trained = self.train(t)
            return sum([trained] * (self.passes - 1), Work())
        if kind == "dropout":
            return Work()
        tokens, answers = self.rows[:, self._places(self.rounds[t].trained)]
        flops = costs.forward_flops(self.shape, tokens - 1, answers, adapter=self.beside())
        draws = tfb.DRAWS * tfb.SEARCHES
        return Work((1 + draws) * float(tokens.sum()), forward=flops, sampled=draws * flops)

    def base(self) -> dict[str, Work]:
        """Return the work that is done once: evaluating and scoring with the base model."""
        asked = "base" in self.config.evaluation.views
        whole = self.continuation is not None and self.config.acquisition.candidates is None
        test = self._evaluate(self.test, full=False) if asked else Work()
        return {"evaluate": test, "score": self._score(self.pool, full=False) if whole else Work()}

    def total(self) -> Work:
        """Return the work of the whole run."""
        rounds = range(len(self.rounds))
        parts = [work(t) for t in rounds for work in (self.train, self.evaluate, self.score)]
        return sum([*parts, *self.base().values()], Work())

    def longest(self) -> Workload:
        """Return the run in which no generated answer ends before ``max_new_tokens``."""
        most = self.config.evaluation.max_new_tokens
        parts = {name: getattr(self, name).filled(most) for name in ("pool", "test", "held")}
        return replace(self, **parts)

    def widest(self) -> int:
        """Return the tokens of the longest row that is scored or generated."""
        asked = [self.test, self.held, *([self.pool] if self.continuation else [])]
        return max(
            int(max(q.choices.max(initial=0), (q.prompts + q.answers).max(initial=0)))
            for q in asked
        )

    def _places(self, indices: Sequence[int]) -> Counts:
        return np.searchsorted(self.indices, indices)

    def _evaluate(self, asked: Questions, *, full: bool) -> Work:
        beside = full and self.beside()
        if self.chosen:
            return self._choose(asked, 0, beside)
        # How likely an answer is comes with making it; the gold ones are scored.
        return self._generate(asked, beside) + self._gold(asked, 0, beside)

    def _again(self, asked: Questions, beside: bool) -> Work:
        """Return the work of the evaluation's likelihoods under each MC-dropout pass."""
        if self.chosen:
            return self._choose(asked, self.passes, beside)
        own = costs.scored(
            self.shape, asked.prompts, asked.answers, passes=self.passes, adapter=beside
        )
        return own + self._gold(asked, self.passes, beside)

    def _gold(self, asked: Questions, passes: int, beside: bool) -> Work:
        return costs.scored(self.shape, asked.whole, asked.targets, passes=passes, adapter=beside)

    def _score(self, asked: Questions, *, full: bool) -> Work:
        passes = self.passes if full else 0
        beside = full and self.beside(passes)
        if self.continuation == "choices":
            return self._choose(asked, passes, beside)
        if self.continuation == "gold":
            return self._gold(asked, passes, beside)
        work = costs.scored(self.shape, asked.prompts, asked.answers, passes=passes, adapter=beside)
        if self.continuation == "base" and full:
            return work
        return self._generate(asked, full and self.beside()) + work

    def _choose(self, asked: Questions, passes: int, beside: bool) -> Work:
        return costs.scored_choices(
            self.shape,
            asked.choices,
            asked.tails,
            shared=asked.shared,
            passes=passes,
            adapter=beside,
        )

    def _generate(self, asked: Questions, beside: bool) -> Work:
        size = self.config.evaluation.per_device_eval_batch_size
        return costs.generated(
            self.shape, asked.prompts, asked.answers, batch_size=size, adapter=beside
        )


def workload(
    config: Config,
    model: LanguageModel,
    data: TaskData,
    shape: Shape,
    queries: Sequence[Sequence[int]] | None = None,
) -> Workload:
    """Return the run in numbers.

    Args:
        config: Of the run.
        model: Whose tokenizer and positions count; its weights are not looked at.
        data: The task's rows.
        shape: Of the model with its adapter.
        queries: What is picked after each round; ``None`` = as random choice would.
    """
    pool, test, notes = questions_that_fit(config, model, data.pool.examples, data.test.examples)
    limits = Limits.of(config.evaluation)
    gold = encode_rows(model, test, [answer.target for answer in data.test.answers]).rows
    known = [len(row.continuation) for row in gold]
    indices, planned = [example.index for example in pool], plan(config, len(pool))
    data.require(config.pool.initial_size + config.task.validation_size, len(pool))
    held, rounds = stand_ins(config, indices, planned, queries)
    if config.task.num_fewshot:
        answers = dict(zip(rounds[0].trained, cycle(data.test.answers), strict=False))
        pool, test = with_shots(config, model, answers, pool, test)
    apart = [example for example in pool if example.index in held]
    whole = replace(limits, max_prompt_length=None)
    scored = needs_scores(config.acquisition)
    return Workload(
        config=config,
        shape=shape,
        indices=indices,
        pool=questions(model, pool, known, whole),
        rows=training_rows(config, model, pool, known),
        test=questions(model, test, known, limits),
        held=questions(model, apart, known, limits),
        held_rows=training_rows(config, model, apart, known),
        rounds=rounds,
        continuation=continuation_of(config.acquisition, pool) if scored else None,
        merged=merging.will_merge(config, model),
        notes=[*data.notes, *notes, *([planned.note] if planned.note else [])],
    )

"""The model that learns: trained on what is labelled, tested, and asked what to label next."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from peft import PeftModel

from star.acquisition.candidates import Indices
from star.acquisition.components import Context
from star.acquisition.decision import decide
from star.acquisition.embeddings import Embeddings
from star.acquisition.pool_scorer import PoolScorer
from star.acquisition.scores import Scores
from star.acquisition.strategies import strategy_of
from star.acquisition.view import View
from star.active_learning import memory
from star.active_learning.drawn import answered
from star.active_learning.first_round import FirstRound
from star.active_learning.fitting import Fitting
from star.active_learning.lookahead import Lookahead
from star.active_learning.memory import Bought
from star.active_learning.people import Provenance
from star.active_learning.posterior_passes import RoundPasses
from star.active_learning.query import Query, candidates_of
from star.active_learning.run_folder import RunFolder
from star.config import Config
from star.data.pool import Pool
from star.data.sequences import ByIndex
from star.data.split import Split
from star.data.task import Answer, Example, Shot, Task
from star.errors import InputError
from star.evaluation import views
from star.evaluation.evaluate import Evaluation, as_asked, evaluate_once
from star.models import adapter, distributed, sources
from star.models.checkpoint import TrainingResult
from star.models.embedding import Encoder
from star.models.language_model import LanguageModel
from star.models.sentence_encoder import SentenceEncoder
from star.models.shots import shown
from star.models.truncation import Limits

logger = logging.getLogger(__name__)

VERBS = ("train", "evaluate", "score")  # of a round, as its seconds and tokens are kept


class Learner:
    """A base model in memory, with one adapter at a time, and all that a round does with it.

    Its verbs, inside :meth:`fresh_adapter`: :meth:`train`, :meth:`evaluate`, :meth:`query`. They
    take the pool, which has no answer but those bought.

    Attributes:
        config, model, task: Of the run; the base model; what it is asked.
        examples, data: All questions of the pool by their indices, without answers; the rows' hash.
        test: Questions and answers that every round is tested on.
        scorer: Of the pool's examples; ``None``: the strategy looks at no scores.
        lookahead: What tries batches, reading labels; ``None``: the strategy does not.
        shots: What is shown before prompts; see :meth:`show`.
        rounds, provenance: R, the number of trainings; where labels that people gave are from.
        seconds: Of this round's verbs; of a shared first round, those of who did the work.
    """

    def __init__(
        self,
        config: Config,
        model: LanguageModel,
        task: Task,
        *,
        examples: ByIndex[Example],
        test: Split,
        folder: RunFolder,
        first_round: FirstRound,
        rounds: int,
        data: str,
        sentences: SentenceEncoder | None = None,
        provenance: Provenance | None = None,
    ) -> None:
        self.config, self.model, self.rounds = config, model, rounds
        self.examples = examples
        self.test, self.provenance, self.data = test, provenance, data
        self.scorer: PoolScorer | None = None
        self.lookahead: Lookahead | None = None
        self.shots: list[Shot] = []
        self.limits = Limits.of(config.evaluation)
        self.seconds: dict[str, float] = {}
        self.task, self._first_round, self._folder = task, first_round, folder
        self._sentences = sentences
        self._needs = strategy_of(config.acquisition).needs
        self._base: Evaluation | None = None  # of the base model on the test rows
        self._adapted: PeftModel | None = None
        self._made: RoundPasses | None = None
        self._lapped = 0.0

    def show(self, pool: Pool[Answer]) -> None:
        """Let ``task.num_fewshot`` of the first labels, which are in ``pool``, precede prompts."""
        given = (pool.labelled, self.examples, self.test.examples)
        self.shots, asked, tested = shown(self.config, self.model, *given)
        self.examples = ByIndex([e.index for e in asked], asked)
        self.test = replace(self.test, examples=tested)

    @contextmanager
    def fresh_adapter(self, t: int) -> Iterator[None]:
        """Put round ``t``'s adapter on the model: A random, B = 0; take it off on the way out.
        Before the first one the base model is evaluated, if its view is asked for.
        """
        if "base" in self.config.evaluation.views and self._base is None:
            cache = sources.cache_root(self.config.tracking.cache_dir) / "tested"
            self._base = self.results(
                self.test.examples, self.test.answers, partial(evaluate_once, cache)
            )
        config = self.config
        with adapter.fresh(self.model, config.adapter, seed=config.seed, round_=t) as adapted:
            self._adapted, self._made = adapted, None
            self.seconds, self._lapped = dict.fromkeys(VERBS, 0.0), time.perf_counter()
            try:
                yield
            finally:
                self._adapted = self._made = None

    @property
    def adapted(self) -> PeftModel:
        """The model with the round's adapter."""
        if self._adapted is None:
            raise RuntimeError("no adapter is on the model: use the verbs inside fresh_adapter")
        return self._adapted

    def train(self, pool: Pool[Answer], t: int) -> TrainingResult:
        """Train the adapter on all that is labelled: B ← B − γ·(g + βB), A likewise without β."""
        _agree(f"hold different labels in round {t}", [pool.labelled, pool.held_out])
        work = partial(self._fitting(pool, t).fit, self.adapted, self.config.seed)
        trained, seconds = self._first_round.train(self.adapted, work) if t == 0 else (work(), None)
        self._lap("train", seconds)
        return trained

    def evaluate(self, pool: Pool[Answer], t: int) -> Evaluation:
        """Return the test results, with the calibration of each view that is asked for."""
        work = partial(self._evaluate, pool, t)
        tested, seconds = self._first_round.evaluate(work) if t == 0 else (work(), None)
        self._lap("evaluate", seconds)
        return tested

    def query(self, pool: Pool[Answer], t: int) -> Query:
        """Choose K of what is unlabelled: by default the highest λ(t)·ũ_base + (1 − λ(t))·ũ_full.

        Reads no answer; of the scorer's ``continuation: gold``, see there.
        """
        left, wanted = len(pool.unlabelled), self.config.pool.query_size
        if left < wanted:
            logger.warning("round %d: %d unlabelled left, all are queried", t, left)
        encoder, embeddings = self._embeddings(pool, t)
        index, among = candidates_of(self.config, pool, t, embeddings.of)
        scores, tokens, seconds = Scores({"index": index}), 0, None
        if self.scorer is not None:
            if among and self.model.has_base:
                with adapter.base_model(self.adapted):
                    self.scorer.base_of(index)
            work = partial(self._full, self.scorer, index, pool, t)
            full, seconds = self._first_round.full(index, work) if t == 0 else (work(), None)
            scores = self.scorer.scores(index, full)
            tokens = full.tokens + (self.scorer.base_tokens if t == 0 or among else 0)
        decision = decide(
            scores,
            self.config.acquisition,
            t=t,
            rounds=self.rounds,
            count=wanted,
            seed=self.config.seed,
            dtype=self.config.model.dtype,
            context=self._context(pool, t, embeddings),
        )
        _agree(f"choose different examples after round {t}", decision.indices)
        at_random = [self.examples[i] for i in decision.drawn]
        drawn = answered(self.model, self.task, at_random, self.config.evaluation)
        self._lap("score", seconds)
        tokens += encoder.tokens + drawn.tokens + (self.lookahead.tokens if self.lookahead else 0)
        return Query(decision, scores, wanted, tokens, embeddings, drawn, among)

    def answer(self, answers: Mapping[int, Answer]) -> Bought | None:
        """Return how the round's model answers what was just bought, before it is trained on it.

        ``answers`` is pool index to answer, best first; ``None`` is returned where the strategy
        needs no history: nothing is computed.
        """
        if "history" not in self._needs:
            return None
        given = self.results([self.examples[i] for i in answers], list(answers.values()))
        self._lap("score", self.seconds["score"] + time.perf_counter() - self._lapped)
        return Bought.of(given.predictions, given.tokens)

    def results(
        self,
        examples: Sequence[Example],
        answers: Sequence[Answer],
        how: Callable[..., Evaluation] | None = None,
    ) -> Evaluation:
        """Return what the view that is on answers, as ``evaluation`` asks for.

        Args:
            examples: Questions.
            answers: Theirs, in the same order.
            how: What keeps its results; ``None``: nothing.
        """
        asked = self.config.evaluation
        return as_asked(asked, self.model, self.task, examples, answers, how)

    def encoder(self, adapted: PeftModel | None) -> Encoder:
        """Return what embeds examples; ``adapted``: the model with an adapter, if one is on."""
        cache = sources.cache_root(self.config.tracking.cache_dir) / "embeddings"
        how = {"pooling": self.config.acquisition.pooling, "sentences": self._sentences}
        return Encoder(self.model, adapted, self.examples, cache=cache, **how)

    def _embeddings(self, pool: Pool[Answer], t: int) -> tuple[Encoder, Embeddings]:
        index = np.sort([*pool.unlabelled, *pool.labelled])
        known = memory.known_embeddings(self._folder, t, index)[1]
        encoder = self.encoder(self.adapted)
        return encoder, Embeddings(index, encoder, known)

    def _context(self, pool: Pool[Answer], t: int, embeddings: Embeddings) -> Context:
        # A strategy can reach whatever these functions hold: no answer that was not bought.
        examples = self.examples
        answers = {i: answer.gold for i, answer in pool.labelled.items()}
        return Context(
            prompts=lambda: {i: example.prompt for i, example in examples.items()},
            answers=lambda: answers,
            history=partial(memory.history, self._folder, t),
            embed=embeddings.of,
            outcomes=self.lookahead and partial(self.lookahead.best, pool, t),
        )

    def save_adapter(self, folder: Path) -> None:
        """Write the round's adapter, as PEFT does."""
        adapter.save(self.adapted, folder)

    def _lap(self, verb: str, seconds: float | None) -> None:
        """End a verb; ``seconds``: of the shared work, where it is; ``None``: since the last."""
        now = time.perf_counter()
        self.seconds[verb] = round(now - self._lapped if seconds is None else seconds, 3)
        self._lapped = now

    def _fitting(self, pool: Pool[Answer], t: int) -> Fitting:
        return Fitting(self.config, self.model, self.examples, pool, t, test=len(self.test))

    def _passes(self, pool: Pool[Answer], t: int) -> RoundPasses:
        if self._made is None:
            fitting = self._fitting(pool, t)
            self._made = RoundPasses(self.config, self.model, self.adapted, t, fitting)
        return self._made

    def _full(self, scorer: PoolScorer, index: Indices, pool: Pool[Answer], t: int) -> View:
        passes = self._passes(pool, t)
        view = scorer.full(index, passes.passes())
        return replace(view, tokens=view.tokens + passes.tokens("score"))

    def _evaluate(self, pool: Pool[Answer], t: int) -> Evaluation:
        """Return the test results and the calibration of the views; labels read: bought ones."""
        held_out = pool.held_out
        tested = self.results(self.test.examples, self.test.answers)
        validation = None
        if held_out:
            validation = self.results([self.examples[i] for i in held_out], list(held_out.values()))
        config = self.config.evaluation
        made = self._passes(pool, t) if "mc" in config.views else None
        compared = views.compare(
            self.model,
            self.adapted,
            self.test.examples,
            tested,
            limits=self.limits,
            bins=config.ece_bins,
            choice_score=config.choice_score,
            passes=made.passes() if made else None,
            base=self._base,
            validation=validation,
        )
        parts = [self._base if t == 0 else None, validation]
        tokens = tested.tokens + compared.tokens + sum(part.tokens for part in parts if part)
        tokens += made.tokens("evaluate") if made else 0
        metrics = {**tested.metrics, "calibration": compared.calibration}
        return replace(tested, metrics=metrics, tokens=tokens, predictions=compared.predictions)


def _agree(otherwise: str, value: object) -> None:
    """Raise ``InputError`` if the processes of a job differ: they share the work on *one* batch."""
    if not distributed.equal(value):
        raise InputError(
            f"the processes of this job {otherwise}: a strategy drew from something else than "
            "pool.random, labels came in between, or their machines round differently; start it "
            "again, with one process if it stays so"
        )

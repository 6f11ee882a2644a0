"""What a strategy is told, and what it has to ask for by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star.acquisition.needs import needs
from star.acquisition.scores import Scores, reduced
from star.config import AcquisitionConfig, embedding_view
from star.errors import InputError

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Embed = Callable[[str, Indices], NDArray[np.float32]]


@dataclass(frozen=True)
class Purchase:
    """What was bought after a round, and what was known of it before it was trained on.

    Attributes:
        round: t.
        scores: Of the N examples that were unlabelled then, the bought ones among them.
        index: (K,) pool indices that were bought, best first.
        correct: (K,) whether the model of that round, without dropout, answered them right.
    """

    round: int
    scores: Scores
    index: Indices
    correct: NDArray[np.bool_]

    @cached_property
    def places(self) -> Indices:
        """(K,) where the bought ones stand in ``scores``."""
        order = np.argsort(self.scores.index, kind="stable")
        return order[np.searchsorted(self.scores.index, self.index, sorter=order)]


@dataclass(frozen=True)
class History:
    """All M examples that queries have bought, in the order in which they were bought.

    The initial examples were drawn, not chosen: they were never scored, and are not among them.

    Attributes:
        purchases: One a round with a query, in order.
    """

    purchases: tuple[Purchase, ...] = ()

    @cached_property
    def index(self) -> Indices:
        """(M,) pool indices."""
        return _joined([p.index for p in self.purchases], np.int64)

    @cached_property
    def round(self) -> Indices:
        """(M,) the round after which each was bought."""
        return _joined([np.full(len(p.index), p.round) for p in self.purchases], np.int64)

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """(M,) whether the model of that round answered right, before it was trained on it."""
        return _joined([p.correct for p in self.purchases], np.bool_)

    def score(self, view: str, measure: str, reduction: str = "mean") -> Array:
        """Return (M,) scores when they were chosen; arguments as of :meth:`Components.score`."""
        scores = [p.scores.score(view, measure, reduction)[p.places] for p in self.purchases]
        return _joined(scores, np.float64)


def _joined(parts: Sequence[NDArray[Any]], dtype: type) -> NDArray[Any]:
    whole = np.concatenate([np.empty(0, dtype=dtype), *parts]).astype(dtype)
    whole.setflags(write=False)
    return whole


@dataclass(frozen=True)
class Labelled:
    """The L examples that the model was trained on, the initial ones first, as they were bought.

    Attributes:
        index: (L,) pool indices.
        texts: (L,) prompts.
        answers: (L,) their answers, as they are compared: ``"18"``, ``"true"``, ``"B"``.
    """

    index: Indices
    texts: tuple[str, ...]
    answers: tuple[str, ...]


def _nothing() -> Mapping[int, str]:
    return {}


@dataclass(frozen=True)
class Context:
    """What is known of the pool beside its scores; made when it is looked at. No answer is in it
    that was not bought: a strategy can reach all that these functions hold.

    Attributes:
        prompts: To pool index → prompt, of what is unlabelled and labelled at least.
        answers: To pool index → answer of what is labelled, as it was bought.
        history: To what queries have bought; ``None``: nothing was kept of it.
        embed: View and (E,) pool indices to (E, H) embeddings; ``None``: there are none.
        outcomes: Batches to the place of the one that trains best, by labels; ``None``: not here.
    """

    prompts: Callable[[], Mapping[int, str]] = _nothing
    answers: Callable[[], Mapping[int, str]] = _nothing
    history: Callable[[], History] | None = None
    embed: Embed | None = None
    outcomes: Callable[[Sequence[Sequence[int]]], int] | None = None


@dataclass(frozen=True)
class Components:
    """What a strategy is told of the N unlabelled examples after round t, in pool order.

    Arrays are read-only copies: what the run goes on with and writes is what it scored. What has a
    word in ``NEEDS`` can be had by a strategy that says that it needs it.

    Attributes:
        scores: Of both views, in the form that ``scores.npz`` has.
        blended: (N,) score of the configuration: ``measure``, ``reduction``, ``combine``, …
        round: t, counted from 0.
        rounds: R, the number of trainings.
        query_size: K, how many will be picked; at most N.
        base_weight: λ(t) of the configuration.
        random: Generator of this seed and round, for strategies that draw.
        seed: Of the run.
        settings: ``acquisition`` of the configuration.
        needs: What the strategy needs, words of ``needs.NEEDS``.
        made_up: Whether all of this is made up, to try a strategy before anything is trained.
        context: Where the rest comes from.
    """

    scores: Scores
    blended: Array
    round: int
    rounds: int
    query_size: int
    base_weight: float
    random: np.random.Generator
    seed: int
    settings: AcquisitionConfig = AcquisitionConfig()
    needs: frozenset[str] = needs("scores")
    made_up: bool = False
    context: Context = field(default=Context(), repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", self.scores.read_only())
        blended = self.blended.copy()
        blended.setflags(write=False)
        object.__setattr__(self, "blended", blended)

    @property
    def index(self) -> Indices:
        """(N,) pool indices, ascending."""
        return self.scores.index

    @property
    def strategy(self) -> str:
        """The setting that names the strategy, for messages."""
        own, entry = self.settings.strategy, self.settings.select
        return f"acquisition.select={entry}" if own is None else f"acquisition.strategy={own}"

    @property
    def when(self) -> str:
        """When it is asked, for messages."""
        if self.round < 0:
            return "before anything is trained"
        made_up = f"on {len(self.index)} made-up examples, before anything is trained"
        return made_up if self.made_up else f"after round {self.round}"

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """(N,) prompts."""
        prompts = self.context.prompts()
        return tuple(prompts[i] for i in self.index.tolist())

    @cached_property
    def labelled(self) -> Labelled:
        """What the model was trained on, with its answers; held-out examples are not among it."""
        answers, prompts = self.context.answers(), self.context.prompts()
        index = np.fromiter(answers, dtype=np.int64, count=len(answers))
        index.setflags(write=False)
        return Labelled(index, tuple(prompts[i] for i in answers), tuple(answers.values()))

    @cached_property
    def base(self) -> Mapping[str, Array]:
        """Measure name to (N, 1) scores of the base model, summed over its continuation, nats.

        Raises:
            InputError: It has none: a classification head is fresh in each round.
        """
        return MappingProxyType(self._with_base().measures("base"))

    @cached_property
    def full(self) -> Mapping[str, Array]:
        """Measure name to (N, S) scores of the fine-tuned model, one a pass."""
        return MappingProxyType(self._of("scores").measures("full"))

    @property
    def base_num_tokens(self) -> Indices:
        """(N,) tokens of the base model's continuation; 1 where choices are scored."""
        return self._with_base().arrays["base_num_tokens"]

    @property
    def full_num_tokens(self) -> Indices:
        """(N,) tokens of the fine-tuned model's continuation; 1 where choices are scored."""
        return self._of("scores").arrays["full_num_tokens"]

    def _with_base(self) -> Scores:
        scores = self._of("scores")
        if "full_num_tokens" in scores.arrays and "base_num_tokens" not in scores.arrays:
            raise InputError(
                f"{self.strategy} asks for the base view, and this model has none: its "
                "classification head is fresh in each round"
            )
        return scores

    @property
    def prompt_tokens(self) -> Indices:
        """(N,) tokens of the prompt."""
        return self._of("scores").arrays["prompt_tokens"]

    def score(self, view: str, measure: str, reduction: str = "mean") -> Array:
        """Return (N,) scores of a view, the mean over its passes.

        Args:
            view: ``base`` or ``full``.
            measure: ``predictive_entropy``, ``max_entropy``, ``margin`` or ``least_confidence``.
            reduction: ``mean`` or ``sum`` over the continuation's tokens.
        """
        sums, tokens = getattr(self, view), getattr(self, f"{view}_num_tokens")
        return reduced(sums[measure], tokens, reduction)

    def log_probs(self, view: str) -> Array:
        """Return log-probabilities of the C choices, nats: (N, 1, C) of base, (N, S, C) of full.

        Raises:
            InputError: No choices were scored.
        """
        return self._of("log_probs").log_probs(view)

    @cached_property
    def history(self) -> History:
        """All that queries have bought, with its scores then and whether the model was right."""
        self._of("history")
        if self.context.history is None:
            raise InputError(f"{self.strategy} needs the history, and nothing was kept of it")
        return self.context.history()

    def embeddings(self, view: str | None = None, *, labelled: bool = False) -> NDArray[np.float32]:
        """Return (N, H) embeddings of the examples, or (L, H) of those that are ``labelled``.

        Args:
            view: ``base``, which stays the same in all rounds, ``full``: with the adapter,
                ``head``: what the last layer takes then, or ``encoder``, the one that
                ``acquisition.embeddings`` names. ``None`` = what that key names; ``base`` where it
                is ``auto``.
            labelled: Of ``labelled.index`` instead of ``index``.
        """
        self._of("embeddings")
        if self.context.embed is None:
            raise InputError(f"{self.strategy} needs embeddings, and there are none")
        view = embedding_view(self.settings) if view is None else view
        if view not in ("base", "full", "head", "encoder"):
            raise InputError(
                f"{self.strategy}: embeddings are of base, full, head or encoder, got {view!r:.40}"
            )
        vectors = self.context.embed(view, self.labelled.index if labelled else self.index)
        vectors.setflags(write=False)
        return vectors

    def _of(self, word: str) -> Scores:
        """Return the scores, once it is known that the strategy has asked for what ``word`` is."""
        if word not in self.needs:
            words = tuple(sorted(self.needs | {word}))
            raise InputError(
                f"{self.strategy} looks at {word}, which costs a run something, so it must say so: "
                f"give the function the attribute needs = {words}"
            )
        return self.scores

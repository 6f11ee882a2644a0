"""The two views of the pool: score components of base and full model, in pool order.

Scorers see prompts. The one mode that reads answers, ``continuation: gold``, goes through
``Oracle.label_all`` and is marked as label-using wherever its scores are written.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from star import likelihood
from star.admission import Limits, encode_choices, encode_rows
from star.config import AcquisitionConfig
from star.distributed import everyone, is_main
from star.encoding import TokenRow
from star.errors import InputError
from star.files import read_npz, write_npz
from star.generation import generate
from star.mc_dropout import Passes, check_spread
from star.models import LanguageModel
from star.pool import Oracle
from star.tasks.base import Answer, Example

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]
VERSION = 1  # of the scores' meaning; part of the cache key


@dataclass(frozen=True)
class View:
    """One view's scores of N examples.

    Attributes:
        sums: Measure name to (N, S) sums over the continuation's tokens.
        num_tokens: (N,) tokens of the continuation; 1 where the choices are scored.
        continuations: (N,) token ids that were scored; empty where the choices are.
        tokens: Logical work of making it: tokens through the model, cached or not.
    """

    sums: dict[str, Array]
    num_tokens: NDArray[np.int64]
    continuations: list[tuple[int, ...]]
    tokens: int

    def score(self, measure: str, reduction: str) -> Array:
        """Return (N,) scores: the mean over the passes, summed or averaged over the tokens."""
        total = self.sums[measure].mean(axis=1)
        return total / self.num_tokens if reduction == "mean" else total

    def at(self, places: Sequence[int]) -> View:
        """Return the view of some examples, by their positions."""
        return View(
            {name: value[list(places)] for name, value in self.sums.items()},
            self.num_tokens[list(places)],
            [self.continuations[i] for i in places],
            self.tokens,
        )


class PoolScorer:
    """Scores pool examples under the base and the full model.

    Args:
        model: The base model, without an adapter while this is made.
        examples: All examples of the pool, labelled ones too: the base view then depends on the
            pool alone, not on what a strategy bought.
        config: ``acquisition``.
        limits: ``max_new_tokens`` and ``batch_size``.
        oracle: Asked for answers by ``continuation: gold`` alone.
        cache: Folder of base scores; ``None`` keeps none on disk.
        progress: Show bars.
    """

    def __init__(
        self,
        model: LanguageModel,
        examples: Sequence[Example],
        *,
        config: AcquisitionConfig,
        limits: Limits,
        oracle: Oracle[Answer],
        cache: Path | None = None,
        progress: bool = False,
    ) -> None:
        config = replace(config, continuation=continuation_of(config, examples))
        self._model, self._config, self._limits = model, config, limits
        self._cache, self._progress = cache, progress
        self._examples = list(examples)
        self._place = {example.index: i for i, example in enumerate(self._examples)}
        self._prompts: list[TokenRow] = []  # kinds that make their own continuation
        self._targets: list[TokenRow] = []  # gold
        self._choices: list[list[TokenRow]] = []
        if config.continuation == "choices":
            if any(e.choices is None for e in self._examples):
                raise InputError(
                    "acquisition.continuation=choices needs a choice task; set it to model or base"
                )
            self._choices = encode_choices(model, self._examples)
        elif config.continuation == "gold":
            answers = oracle.label_all(self._place, reason="continuation=gold")
            texts = [answer.target for answer in answers]
            fitted = encode_rows(model, self._examples, texts)
            self._targets = fitted.rows
        else:
            fitted = encode_rows(model, self._examples, None, reserve=limits.max_new_tokens)
            self._prompts = fitted.rows
        if config.continuation != "choices" and fitted.truncated:
            # `admit` makes room for the choices, or for an answer of max_new_tokens: not for both.
            logger.warning("scoring: %d rows are cut to fit the model", len(fitted.truncated))
        self._base: View | None = None

    def base(self) -> View:
        """Return the base view of all examples: computed once a run, and cached on disk by content.

        Call it while the base model is in view.
        """
        if self._base is None:
            path = None if self._cache is None else self._cache / "base" / f"{self._key()}.npz"
            stored = None if path is None else _read_view(path, len(self._examples))
            # Scoring is shared work: all processes read, or all score. A cache on one machine's own
            # disk, or a file that appears in between, must not divide them.
            self._base = stored if everyone(stored is not None) else None
            if self._base is None:
                self._base = self._score(range(len(self._examples)), None, "base")
                if path is not None and is_main():
                    _write_view(path, self._base)
        return self._base

    def full(self, indices: Sequence[int], passes: Passes | None) -> View:
        """Return the full view of these pool indices. Call it while the adapter is in view.

        Args:
            indices: (N,) pool indices.
            passes: The round's MC-dropout passes; ``None`` = one pass without dropout.
        """
        view = self._score([self._place[i] for i in indices], passes, "full")
        if passes is not None:
            check_spread(np.concatenate([v for k, v in view.sums.items() if k != "bald"]))
        return view

    def base_at(self, indices: Sequence[int]) -> View:
        """Return the base view of the examples with these pool indices."""
        return self.base().at([self._place[i] for i in indices])

    def base_range(self, measure: str, reduction: str) -> tuple[float, float]:
        """Return the least and the largest base score over all examples, labelled ones too."""
        scores = self.base().score(measure, reduction)
        return float(scores.min()), float(scores.max())

    def _score(self, places: Sequence[int], passes: Passes | None, name: str) -> View:
        options: dict[str, Any] = {
            "batch_size": self._limits.batch_size,
            "progress": self._progress,
            "desc": f"score {name}",
        }
        work = passes.count if passes else 1
        # The released code clips under its dynamic strategies alone, and there the full view alone.
        clipped = name == "full" and self._config.combine == "dynamic"
        floor = self._config.entropy_floor if clipped else 0.0
        if self._choices:
            groups = [self._choices[i] for i in places]
            with passes.installed() if passes else nullcontext():
                log_probs = likelihood.choice_log_probs(
                    self._model, groups, passes=passes, **options
                )
            tokens = work * sum(len(row) for group in groups for row in group)
            count = len(groups)
            sums = likelihood.choice_measures(log_probs, entropy_floor=floor) if count else {}
            return View(sums, np.ones(count, dtype=np.int64), [()] * count, tokens)
        rows = self._continued(places, name)
        generated = sum(len(r) for r in rows) if self._config.continuation == "model" else 0
        bald = passes is not None and self._config.measure == "bald"
        with passes.installed() if passes else nullcontext():
            sums = likelihood.token_scores(
                self._model, rows, passes=passes, bald=bald, entropy_floor=floor, **options
            )
        return View(
            sums,
            np.array([len(r.continuation) for r in rows], dtype=np.int64),
            [r.continuation for r in rows],
            work * sum(len(r) for r in rows) + generated,
        )

    def _continued(self, places: Sequence[int], name: str) -> list[TokenRow]:
        """Return the rows to score, each with its continuation."""
        if self._targets:
            return [self._targets[i] for i in places]
        if self._config.continuation == "base" and name == "full":
            answers = [self.base().continuations[i] for i in places]
        else:  # the view's own greedy answer, without dropout
            answers = generate(
                self._model,
                [self._prompts[i].prompt for i in places],
                max_new_tokens=self._limits.max_new_tokens,
                batch_size=self._limits.batch_size,
                progress=self._progress,
                desc=f"generate {name}",
            )
        prompts = [self._prompts[i] for i in places]
        return [TokenRow(p.index, p.prompt, a) for p, a in zip(prompts, answers, strict=True)]

    def _key(self) -> str:
        """Return the hash of all that decides the base view, and of nothing else."""
        # With each view's own answer or the base's for both, the base view is the same.
        own = self._config.continuation in ("model", "base")
        content = {
            "version": VERSION,
            "model": self._model.fingerprint,
            "max_new_tokens": self._limits.max_new_tokens if own else None,
            "rows": [(r.index, r.prompt) for r in self._prompts]
            + [(r.index, r.prompt, r.continuation) for r in self._targets]
            + [(r.index, r.prompt, r.continuation) for group in self._choices for r in group],
        }
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def continuation_of(config: AcquisitionConfig, examples: Sequence[Example]) -> str:
    """Return what is scored, ``auto`` resolved: the choices if every example has some, else model.

    Raises:
        InputError: ``subtract``, and each view would score another continuation.
    """
    if config.continuation != "auto":
        return config.continuation
    if all(example.choices is not None for example in examples):
        return "choices"
    if config.combine == "subtract":
        raise InputError(
            "acquisition.combine=subtract needs one continuation for both views; set "
            "acquisition.continuation to base or gold, got auto on a task without choices"
        )
    return "model"


def _write_view(path: Path, view: View) -> None:
    flat = [t for c in view.continuations for t in c]
    lengths = [len(c) for c in view.continuations]
    arrays = {f"sum_{name}": value for name, value in view.sums.items()}
    arrays |= {"num_tokens": view.num_tokens, "tokens": np.array(view.tokens)}
    arrays |= {"flat": np.array(flat, dtype=np.int64), "lengths": np.array(lengths, dtype=np.int64)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_npz(path, **arrays)
    except OSError as error:  # a cache saves time; a run does not need it
        logger.warning("base scores are not cached in %s: %s", path.parent, error.strerror)


def _read_view(path: Path, count: int) -> View | None:
    """Return the cached view of ``count`` examples; ``None`` if it is not there or not whole."""
    if not path.is_file():
        return None
    try:
        stored = read_npz(path)
        ends = np.cumsum(stored["lengths"])
        flat = stored["flat"].tolist()
        view = View(
            {k.removeprefix("sum_"): v for k, v in stored.items() if k.startswith("sum_")},
            stored["num_tokens"],
            [tuple(flat[e - n : e]) for e, n in zip(ends, stored["lengths"], strict=True)],
            int(stored["tokens"]),
        )
        whole = {len(v) for v in (*view.sums.values(), view.num_tokens, ends)} == {count}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        logger.warning("base scores in %s cannot be read (%s); scoring again", path, error)
        return None
    return view if whole else None

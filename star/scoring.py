"""The two views of the pool: score components of base and full model, in pool order.

Scorers see prompts. The one mode that reads answers, ``continuation: gold``, goes through
``Oracle.label_all`` and is marked as label-using wherever its scores are written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star import likelihood
from star.config import AcquisitionConfig
from star.distributed import is_main
from star.encoding import Fitted, TokenRow, encode, fit
from star.errors import InputError
from star.generation import generate
from star.mc_dropout import Passes, check_spread
from star.models import LanguageModel
from star.pool import Oracle
from star.records import read_npz, write_npz
from star.tasks.base import Answer, Example

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
            self._targets = encode_rows(model, self._examples, texts).rows
        else:
            self._prompts = encode_rows(
                model, self._examples, None, reserve=limits.max_new_tokens
            ).rows
        self._base: View | None = None

    def base(self) -> View:
        """Return the base view of all examples: computed once a run, and cached on disk by content.

        Call it while the base model is in view.
        """
        if self._base is None:
            path = None if self._cache is None else self._cache / "base" / f"{self._key()}.npz"
            self._base = _read_view(path) if path is not None else None
            if self._base is None:
                self._base = self._score(range(len(self._examples)), None, "base")
                if path is not None and is_main():
                    path.parent.mkdir(parents=True, exist_ok=True)
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

    def _score(self, places: Sequence[int], passes: Passes | None, name: str) -> View:
        options: dict[str, Any] = {
            "batch_size": self._limits.batch_size,
            "progress": self._progress,
            "desc": f"score {name}",
        }
        work = passes.count if passes else 1
        if self._choices:
            groups = [self._choices[i] for i in places]
            with passes.installed() if passes else nullcontext():
                log_probs = likelihood.choice_log_probs(
                    self._model, groups, passes=passes, **options
                )
            tokens = work * sum(len(row) for group in groups for row in group)
            count = len(groups)
            sums = likelihood.choice_measures(log_probs) if count else {}
            return View(sums, np.ones(count, dtype=np.int64), [()] * count, tokens)
        rows = self._continued(places, name)
        generated = sum(len(r) for r in rows) if self._config.continuation == "model" else 0
        bald = passes is not None and self._config.measure == "bald"
        with passes.installed() if passes else nullcontext():
            sums = likelihood.token_scores(self._model, rows, passes=passes, bald=bald, **options)
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


@dataclass(frozen=True)
class Limits:
    """What bounds an answer and a batch, from ``evaluation``."""

    max_new_tokens: int
    batch_size: int


def encode_rows(
    model: LanguageModel,
    examples: Sequence[Example],
    continuations: Sequence[str] | None,
    *,
    reserve: int = 0,
    eos: bool = False,
    max_length: int | None = None,
) -> Fitted:
    """Return the examples as token rows, keyed by the examples' indices, cut to what fits.

    Args:
        model: Whose tokenizer and length count.
        examples: N examples.
        continuations: (N,) texts, or ``None`` where the answer is still to be generated.
        reserve: Tokens kept free for it.
        eos: End each continuation with the end-of-sequence token (training targets).
        max_length: Fewer tokens than the model allows; ``None`` = what the model allows.
    """
    texts = [""] * len(examples) if continuations is None else list(continuations)
    encoded = encode(model.tokenizer, [e.prompt for e in examples], texts, eos=eos)
    rows = [replace(row, index=e.index) for e, row in zip(examples, encoded, strict=True)]
    allowed = min(model.max_length, max_length or model.max_length)
    return fit(rows, max_length=allowed, reserve=reserve, overlong="truncate")


def encode_choices(model: LanguageModel, examples: Sequence[Example]) -> list[list[TokenRow]]:
    """Return (N, C) token rows; the choices of an example share one prompt, cut to what fits."""
    flat = [(e, choice) for e in examples for choice in e.choices or ()]
    rows = encode_rows(model, [e for e, _ in flat], [choice for _, choice in flat]).rows
    groups: dict[int, list[TokenRow]] = {e.index: [] for e in examples}
    for row in rows:
        groups[row.index].append(row)
    for group in groups.values():
        # Where cutting left prompts of unequal length, the choices would be asked different things.
        shortest = min(len(row.prompt) for row in group)
        group[:] = [replace(row, prompt=row.prompt[-shortest:]) for row in group]
    return list(groups.values())


def admit(
    model: LanguageModel, examples: Sequence[Example], *, limits: Limits, overlong: str, where: str
) -> tuple[list[Example], str | None]:
    """Apply ``task.overlong`` to prompts; return the examples that stay and a line of report.

    A prompt is overlong if it leaves no room for the longest choice, or for a generated answer of
    ``max_new_tokens``, in the model's positions.

    Raises:
        InputError: ``overlong`` is ``error`` and there is one.
    """
    longest = {c for e in examples for c in e.choices or ()}
    tails = [
        len(r.continuation)
        for r in encode(model.tokenizer, [""] * len(longest), sorted(longest), eos=False)
    ]
    reserve = max(tails) if tails else limits.max_new_tokens
    rows = encode_rows(model, examples, None).rows
    fitted = fit(rows, max_length=model.max_length, reserve=reserve, overlong=overlong)
    if not (fitted.truncated or fitted.dropped):
        return list(examples), None
    gone = set(fitted.dropped)
    kept = [e for i, e in enumerate(examples) if i not in gone]
    done = f"{len(gone)} left out" if gone else f"{len(fitted.truncated)} cut from the left"
    return kept, f"{where}: {done}, longer than the model's {model.max_length} tokens allow"


def _write_view(path: Path, view: View) -> None:
    flat = [t for c in view.continuations for t in c]
    lengths = [len(c) for c in view.continuations]
    write_npz(
        path,
        num_tokens=view.num_tokens,
        tokens=np.array(view.tokens),
        flat=np.array(flat, dtype=np.int64),
        lengths=np.array(lengths, dtype=np.int64),
        **{f"sum_{name}": value for name, value in view.sums.items()},
    )


def _read_view(path: Path) -> View | None:
    if not path.is_file():
        return None
    stored = read_npz(path)
    ends = np.cumsum(stored["lengths"])
    flat = stored["flat"].tolist()
    return View(
        {k.removeprefix("sum_"): v for k, v in stored.items() if k.startswith("sum_")},
        stored["num_tokens"],
        [tuple(flat[e - n : e]) for e, n in zip(ends, stored["lengths"], strict=True)],
        int(stored["tokens"]),
    )

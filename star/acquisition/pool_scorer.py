"""The two views of the pool: score components of base and full model, in pool order.

Scorers see prompts. The one mode that reads answers, ``continuation: gold``, goes through
``Oracle.label_all`` and is marked as label-using wherever its scores are written.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from star.acquisition import uncertainty
from star.acquisition.scores import LOG_PROBS, REDUCTIONS, Scores
from star.acquisition.uncertainty import choice_measures, from_logits
from star.acquisition.view import Array, View
from star.cache import cached, key
from star.config import AcquisitionConfig, scored_continuation
from star.data.pool import Oracle
from star.data.sequences import Made
from star.data.task import Answer, Example
from star.errors import InputError
from star.files import read_npz, write_npz
from star.models import likelihood, stored_tokens
from star.models.distributed import everyone, is_main
from star.models.encoding import TokenRow
from star.models.generation import generate
from star.models.language_model import LanguageModel
from star.models.passes import Passes
from star.models.stored_rows import Ragged, Rows
from star.models.truncation import AT_ONCE, Limits, encode_choices, encode_rows

logger = logging.getLogger(__name__)

Places = NDArray[np.int64]

VERSION = 3  # of the scores' meaning; part of the cache key
ENCODED = 1  # of how texts become tokens here; likewise
MEASURED = 10_000  # examples whose measures are made at a time: more would be memory, no speed


class PoolScorer:
    """Scores pool examples under the base and the full model.

    Args:
        model: The base model, without an adapter while this is made.
        examples: All examples of the pool, labelled ones too: the base view then depends on the
            pool alone, not on what a strategy bought.
        config: ``acquisition``.
        limits: ``max_new_tokens``.
        oracle: Asked for answers by ``continuation: gold`` alone.
        cache: Folder of base scores and tokens; ``None`` keeps none on disk.
        content: What tells the examples from all others; ``None``: their tokens are not kept.
        log_probs: Whether log-probabilities of choices are among the scores.
    """

    def __init__(
        self,
        model: LanguageModel,
        examples: Sequence[Example],
        *,
        config: AcquisitionConfig,
        limits: Limits,
        oracle: Oracle[Answer] | None,
        cache: Path | None = None,
        content: str | None = None,
        log_probs: bool = False,
    ) -> None:
        config = replace(config, continuation=continuation_of(config, examples))
        self._model, self._config, self._limits = model, config, limits
        self._cache, self._log_probs = cache, log_probs
        self._base: View | None = None
        self._of: Places | None = None  # whose base view it is; None: of all
        if config.continuation == "choices" and any(e.choices is None for e in examples):
            raise InputError(
                "acquisition.continuation=choices needs a choice task; set it to model or base"
            )
        # What is scored, a row an example: the prompt, where a view answers it itself, else with
        # the continuation; of a choice task with all choices, one behind the other, and how wide.
        labels = config.continuation == "gold"
        self._rows, self._widths = stored_tokens.kept(
            None if cache is None or content is None or labels else cache / "tokens",
            key(
                ENCODED,
                content=content,
                model=model.fingerprint,
                chat=model.chat is not None,
                continuation=config.continuation == "choices",
                limits=[model.max_length, limits.max_new_tokens],
            ),
            lambda: self._encoded(examples, oracle),
        )
        self._order = np.argsort(self._rows.indices)

    def _encoded(
        self, examples: Sequence[Example], oracle: Oracle[Answer] | None
    ) -> tuple[Rows, Ragged]:
        """Return the examples as tokens, and the tokens of each choice."""
        model, scored, limits = self._model, self._config.continuation, self._limits
        widths, truncated = Ragged(), 0

        def encoded() -> Iterator[TokenRow]:
            nonlocal truncated
            for start in range(0, len(examples), AT_ONCE):
                part = examples[start : start + AT_ONCE]
                if scored == "choices":
                    for group in encode_choices(model, part):
                        widths.append([len(row.continuation) for row in group])
                        together = tuple(t for row in group for t in row.continuation)
                        yield replace(group[0], continuation=together)
                    continue
                texts, reserve = None, limits.max_new_tokens
                if scored == "gold":
                    asked = [e.index for e in part]
                    assert oracle is not None  # people have no answer in advance; see checks
                    answers = oracle.label_all(asked, reason="continuation=gold")
                    texts, reserve = [answer.target for answer in answers], 0
                fitted = encode_rows(model, part, texts, reserve=reserve)
                truncated += len(fitted.truncated)
                yield from fitted.rows

        rows = Rows(encoded())
        if truncated:
            # `truncate_prompts` makes room for choices or an answer of max_new_tokens, not both.
            logger.warning("scoring: %d rows are cut to fit the model", truncated)
        return rows, widths

    def base(self) -> View:
        """Return the base view of all examples: computed once a run, and cached on disk by content.

        Call it while the base model is in view.
        """
        if self._base is None or self._of is not None:
            self._of = None
            self._base = cached(
                None if self._cache is None else self._cache / "base",
                f"{self._key()}.npz",
                make=lambda: self._score(np.arange(len(self._rows)), None, "base"),
                read=lambda path: View.of(read_npz(path), len(self._rows)),
                write=(lambda path, view: write_npz(path, **view.arrays())) if is_main() else None,
                agree=everyone,  # scoring is shared work
            )
        return self._base

    def base_of(self, indices: Sequence[int]) -> None:
        """Score the base view of these examples alone, for what follows.

        Call it while the base model is in view.
        """
        self._of = np.sort(self._places(indices))
        self._base = self._score(self._of, None, "base")

    @property
    def base_tokens(self) -> int:
        """Logical work of the base view; 0 where the model has none."""
        return self._known().tokens if self._model.has_base else 0

    def _known(self) -> View:
        """Return the base view, of the examples that it was asked of."""
        return self.base() if self._of is None or self._base is None else self._base

    def _base_at(self, places: Places) -> View:
        return self._known().at(places if self._of is None else np.searchsorted(self._of, places))

    def full(self, indices: Sequence[int], passes: Passes | None) -> View:
        """Return the full view of these pool indices. Call it while the adapter is in view.

        Args:
            indices: (N,) pool indices.
            passes: The round's passes; ``None`` = one pass without dropout.
        """
        view = self._score(self._places(indices), passes, "full")
        if passes is not None:
            passes.check_spread(np.concatenate([v for k, v in view.sums.items() if k != "bald"]))
        return view

    def base_at(self, indices: Sequence[int]) -> View:
        """Return the base view of the examples with these pool indices."""
        return self._base_at(self._places(indices))

    def scores(self, indices: Sequence[int], full: View) -> Scores:
        """Return both views of the examples with these pool indices, ``full`` being theirs."""
        arrays: dict[str, Any] = {"index": np.asarray(indices, dtype=np.int64)}
        arrays["prompt_tokens"] = self._rows.splits[self._places(indices)].astype(np.int64)
        views = {"base": self.base_at(indices)} if self._model.has_base else {}
        for name, view in {**views, "full": full}.items():
            arrays[f"{name}_num_tokens"] = view.num_tokens
            arrays |= {f"{name}_{measure}": sums for measure, sums in view.sums.items()}
            if self._log_probs and view.log_probs is not None:
                arrays[f"{name}_{LOG_PROBS}"] = view.log_probs
        whole = views and self._of is None
        for measure in uncertainty.MEASURES if whole else ():  # over all, labelled ones too
            each = [self.base().score(measure, how) for how in REDUCTIONS]
            ranges = [(float(score.min()), float(score.max())) for score in each]
            arrays[f"base_range_{measure}"] = np.array(ranges)
        return Scores(arrays)

    def _places(self, indices: Sequence[int]) -> Places:
        """Return where the examples with these pool indices stand here."""
        found = np.searchsorted(self._rows.indices, indices, sorter=self._order)
        return self._order[found]  # type: ignore[no-any-return]

    def _score(self, places: Places, passes: Passes | None, name: str) -> View:
        desc = f"score {name}"
        work = passes.count if passes else 1
        # The released code clips under its dynamic strategies alone, and there the full view alone.
        clipped = name == "full" and self._config.combine == "dynamic"
        floor = self._config.entropy_floor if clipped else 0.0
        count = len(places)
        if self._config.continuation == "choices":
            sums, log_probs, tokens = self._score_choices(places, passes, floor, desc)
            ones = np.ones(count, dtype=np.int64)
            return View(sums, ones, Ragged([()] * count), work * tokens, log_probs)
        rows = self._continued(places, name)
        continuations = Ragged(row.continuation for row in rows)
        # The base view is one and the same with its own answers for itself or for both views.
        makes = self._config.continuation == "model" or (
            self._config.continuation == "base" and name == "base"
        )
        generated = int(rows.lengths.sum()) if makes else 0
        bald = passes is not None and self._config.measure == "bald"
        with passes.installed() if passes else nullcontext():
            sums = likelihood.token_scores(
                self._model, rows, partial(from_logits, entropy_floor=floor), passes=passes,
                over_passes=_mutual_information if bald else None, desc=desc,
            )  # fmt: skip
        tokens = work * int(rows.lengths.sum()) + generated
        return View(sums, continuations.lengths, continuations, tokens)

    def _score_choices(
        self, places: Places, passes: Passes | None, floor: float, desc: str
    ) -> tuple[dict[str, Array], Array, int]:
        """Return the measures of the choices, (N, S, C) log-probabilities, and all their tokens."""
        groups = Made(self._group, places)
        with passes.installed() if passes else nullcontext():
            found = likelihood.choice_log_probs(self._model, groups, passes=passes, desc=desc)
        sums: dict[str, Array] = {}
        for start in range(0, len(places), MEASURED):
            part = slice(start, start + MEASURED)
            for name, values in choice_measures(found[part], entropy_floor=floor).items():
                table = sums.setdefault(name, np.empty((len(places), values.shape[1])))
                table[part] = values
        prompts, widths = self._rows.splits[places], self._widths.lengths[places]
        whole = self._rows.lengths[places]  # of the prompt once, and of all choices
        return sums, found, int((whole + (widths - 1) * prompts).sum())

    def _group(self, place: int) -> list[TokenRow]:
        """Return the rows of an example's choices."""
        row, ends = self._rows[place], np.cumsum([0, *self._widths[place]])
        cuts = [slice(*pair) for pair in pairwise(ends)]
        return [replace(row, continuation=row.continuation[cut]) for cut in cuts]

    def _continued(self, places: Places, name: str) -> Rows:
        """Return the rows to score, each with its continuation."""
        if self._config.continuation == "gold":
            return Rows(Made(self._rows.__getitem__, places))
        if self._config.continuation == "base" and name == "full":
            answers: Sequence[tuple[int, ...]] = self._base_at(places).continuations
        else:  # the view's own greedy answer, without dropout
            answers = generate(
                self._model,
                Made(lambda place: self._rows[place].prompt, places),
                max_new_tokens=self._limits.max_new_tokens,
                desc=f"generate {name}",
            )
        asked = zip(places.tolist(), answers, strict=True)
        return Rows(replace(self._rows[i], continuation=answer) for i, answer in asked)

    def _key(self) -> str:
        """Return the hash of all that decides the base view, and of nothing else."""
        # With each view's own answer or the base's for both, the base view is the same.
        own = self._config.continuation in ("model", "base")
        return key(
            VERSION,
            model=self._model.fingerprint,
            max_new_tokens=self._limits.max_new_tokens if own else None,
            rows=self._rows.digest(),
            choices=self._widths.digest(),
        )


def _mutual_information(log_probs: Tensor) -> dict[str, Tensor]:
    return {"bald": uncertainty.bald(log_probs)}


def continuation_of(config: AcquisitionConfig, examples: Sequence[Example]) -> str:
    """Return what is scored: ``scored_continuation``, choices being there if all have some."""
    return scored_continuation(config, all(example.choices is not None for example in examples))

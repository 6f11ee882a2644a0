"""Examples to token rows, and which of them are cut or left out because they do not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from star.cache import cached, key
from star.config import Config, EvaluationConfig
from star.data.sequences import items_at
from star.data.task import Answer, Example
from star.errors import InputError
from star.files import read_npz, write_npz
from star.models.distributed import is_main
from star.models.encoding import TokenRow, Truncated, truncate
from star.models.language_model import LanguageModel
from star.models.sources import cache_root

VERSION = 1  # of what the lengths of prompts mean; part of the cache key
AT_ONCE = 2_000  # examples that are objects at a time; of all others there are arrays


@dataclass(frozen=True)
class Limits:
    """What bounds an answer and a prompt, from ``evaluation``."""

    max_new_tokens: int
    max_prompt_length: int | None = None  # of test prompts; None = what the model allows

    @classmethod
    def of(cls, config: EvaluationConfig) -> Limits:
        return cls(config.max_new_tokens, config.max_prompt_length)


def encode_rows(
    model: LanguageModel,
    examples: Sequence[Example],
    continuations: Sequence[str] | None,
    *,
    reserve: int = 0,
    eos: bool = False,
    max_length: int | None = None,
    max_prompt_length: int | None = None,
) -> Truncated:
    """Return the examples as token rows, keyed by the examples' indices, cut to what fits.

    Args:
        model: Whose tokenizer and length count.
        examples: N examples.
        continuations: (N,) texts, or ``None`` where the answer is still to be generated.
        reserve: Tokens kept free for it.
        eos: End each continuation with the end-of-sequence token (training targets).
        max_length: Fewer tokens than the model allows; ``None`` = what the model allows.
        max_prompt_length: Cut longer prompts from the left; ``None`` = leave them.
    """
    texts = [""] * len(examples) if continuations is None else list(continuations)
    rows = encoded(model, examples, texts, eos=eos)
    return _truncated(model, rows, reserve, max_length, max_prompt_length)


def encoded(
    model: LanguageModel, examples: Sequence[Example], texts: Sequence[str], *, eos: bool
) -> list[TokenRow]:
    """Return the examples with these continuations as token rows, keyed by their indices."""
    shots = [e.shots for e in examples] if any(e.shots for e in examples) else ()
    rows = model.encode([e.prompt for e in examples], texts, eos=eos, shots=shots)
    return [replace(row, index=e.index) for e, row in zip(examples, rows, strict=True)]


def _truncated(
    model: LanguageModel,
    rows: list[TokenRow],
    reserve: int,
    max_length: int | None,
    max_prompt_length: int | None,
) -> Truncated:
    """Return rows cut to what fits; arguments as for :func:`encode_rows`."""
    cut: set[int] = set()
    if max_prompt_length is not None:
        cut = {i for i, row in enumerate(rows) if len(row.prompt) > max_prompt_length}
        rows = [replace(row, prompt=model.shortened(row.prompt, max_prompt_length)) for row in rows]
    allowed = min(model.max_length, max_length or model.max_length)
    rule = {"reserve": reserve, "overlong": "truncate", "shortened": model.shortened}
    fitted = truncate(rows, max_length=allowed, **rule)
    return replace(fitted, truncated=sorted({*fitted.truncated, *cut}))


def released_mask(
    model: LanguageModel, rows: Sequence[TokenRow], answers: Mapping[int, Answer]
) -> list[TokenRow]:
    """Return training rows whose first answer tokens have no loss, as in the released code.

    It counts the answer's tokens in the text as stored (``#### 72``) and takes so many from the end
    of what is trained on (``The final answer is 72``), which has more (fault 9).

    Args:
        model: Whose tokenizer counts.
        rows: Training rows.
        answers: By the rows' index; bought ones.
    """
    masked = []
    for row in rows:
        answer = answers[row.index]
        trained, stored = (
            len(model.tokenizer(text, add_special_tokens=False)["input_ids"])
            for text in (answer.target, answer.stored or answer.target)
        )
        # What has no loss is, for the training, prompt; at least one token keeps its loss.
        shift = min(max(0, trained - stored), len(row.continuation) - 1)
        head, tail = row.continuation[:shift], row.continuation[shift:]
        masked.append(replace(row, prompt=row.prompt + head, continuation=tail))
    return masked


def encode_choices(
    model: LanguageModel, examples: Sequence[Example], *, max_prompt_length: int | None = None
) -> list[list[TokenRow]]:
    """Return (N, C) token rows; the choices of an example share one prompt, cut to what fits.

    A choice that is, as tokens, the beginning of another is at least as likely as that one whatever
    the model has learned: its probability is that of all answers which begin so. If a question has
    such a pair, all its choices end with the token that ends an answer, as they do in training, and
    what is compared is the probability of answering just this. Where no choice begins another, the
    tokens already say which one it is, and nothing is added. Each question decides for itself, by
    its own tokens: what else is in the pool or the test split changes no score. (The end counts
    also where ``train.append_eos`` is off and no training has touched it: without it the shorter
    choice would win there too, and always.)

    Raises:
        InputError: Two choices of a question are the same tokens; or there is a pair as above, and
            the tokenizer has no end-of-sequence token.
    """
    flat = [(e, choice) for e in examples for choice in e.choices or ()]
    rows = encoded(model, [e for e, _ in flat], [choice for _, choice in flat], eos=False)
    ends, start = [], 0
    for example in examples:
        ends.append(start := start + len(example.choices or ()))
        place = slice(start - len(example.choices or ()), start)
        rows[place] = _told_apart(model, example, rows[place])
    rows = _truncated(model, rows, 0, None, max_prompt_length).rows
    groups = [rows[start:end] for start, end in pairwise([0, *ends])]
    for group in groups:
        # Where cutting left prompts of unequal length, the choices would be asked different things.
        shortest = min(len(row.prompt) for row in group)
        group[:] = [replace(row, prompt=model.shortened(row.prompt, shortest)) for row in group]
    return groups


def _told_apart(model: LanguageModel, example: Example, group: list[TokenRow]) -> list[TokenRow]:
    """Return the choices of a question, closed where one begins another."""
    names = [choice.strip() for choice in example.choices or ()]
    # Sorted, the nearest to a beginning are those that go on from it.
    order = sorted(range(len(group)), key=lambda i: group[i].continuation)
    alike = [
        (one, two)
        for one, two in pairwise(order)
        if group[two].continuation[: len(group[one].continuation)] == group[one].continuation
    ]
    end = model.end_id
    for one, two in alike:
        pair = f"choices {names[min(one, two)]!r} and {names[max(one, two)]!r}"
        if group[one].continuation == group[two].continuation:
            raise InputError(
                f"{pair} of row {example.index} are the same tokens to this model's tokenizer; "
                "name one of them otherwise (task.choices, task.verbalizer), or take another model"
            )
        if end is None:
            raise InputError(
                f"{pair} of row {example.index} begin with the same tokens, and the tokenizer has "
                "no end-of-sequence token to tell them apart; name one otherwise (task.choices)"
            )
    if not alike:
        return group
    return [replace(row, continuation=(*row.continuation, end)) for row in group]


def closes_choices(model: LanguageModel, examples: Sequence[Example]) -> bool:
    """Whether some question's choices have to be closed, see :func:`encode_choices`.

    Questions with the same choices count once.

    Raises:
        InputError: As there.
    """
    unlike: dict[tuple[str, ...], Example] = {}
    for example in examples:
        if example.choices:
            unlike.setdefault(example.choices, example)
    bare = [encoded(model, [e] * len(c), c, eos=False) for c, e in unlike.items()]
    return any(
        _told_apart(model, example, rows) != rows
        for example, rows in zip(unlike.values(), bare, strict=True)
    )


def reserve_of(model: LanguageModel, examples: Sequence[Example], limits: Limits) -> int:
    """Return the tokens that any of the examples' answers needs behind its prompt.

    Raises:
        InputError: Choices that cannot be told apart, see :func:`encode_choices`.
    """
    closed = closes_choices(model, examples)
    longest = {c for e in examples for c in e.choices or ()}
    rows = model.encode([""] * len(longest), sorted(longest), eos=False)
    tails = [len(row.continuation) for row in rows]
    return max(tails) + closed if tails else limits.max_new_tokens


def truncate_prompts(
    model: LanguageModel,
    examples: Sequence[Example],
    *,
    limits: Limits,
    overlong: str,
    where: str,
    named: Callable[[int], str] | None = None,
    lengths: NDArray[np.int64] | None = None,
) -> tuple[Sequence[Example], str | None]:
    """Apply ``task.overlong`` to prompts; return the examples that stay and a line of report.

    A prompt is overlong if it leaves no room for the longest choice, or for a generated answer of
    ``max_new_tokens``, in the model's positions. ``named``: what a message calls it, by its index;
    ``None``: the row of that number of ``where``.

    ``lengths`` are (N,) tokens of their prompts, by :func:`prompt_lengths`, which ``None`` asks.

    Raises:
        InputError: ``overlong`` is ``error`` and there is one; or choices that cannot be told apart
            (see :func:`encode_choices`), whether or not anything will be scored.
    """
    reserve = reserve_of(model, examples, limits)
    rule = {"reserve": reserve, "overlong": overlong, "shortened": model.shortened}
    truncate([], max_length=model.max_length, **rule)  # refuses where there is room for no prompt
    lengths = prompt_lengths(model, examples) if lengths is None else lengths
    long = np.flatnonzero(lengths + reserve > model.max_length)
    gone: list[int] = []
    truncated = 0
    for start in range(0, len(long), AT_ONCE):
        part = long[start : start + AT_ONCE]
        rows = encode_rows(model, items_at(examples, part), None).rows
        called = named or f"{where} row {{}}".format
        fitted = truncate(rows, max_length=model.max_length, named=called, **rule)
        gone += part[fitted.dropped].tolist()
        truncated += len(fitted.truncated)
    if not (truncated or gone):
        return examples, None
    kept = items_at(examples, np.setdiff1d(np.arange(len(examples)), gone))
    cut = f"{truncated} cut from the {model.cut_from}"
    done = f"{len(gone)} left out" if gone else cut
    room = model.max_length - reserve
    return kept, f"{where}: {done}, longer than the {room} tokens that a prompt may have"


def prompt_lengths(model: LanguageModel, examples: Sequence[Example]) -> NDArray[np.int64]:
    """Return (N,) tokens of the examples' prompts; one that is longer counts as all that fit."""
    lengths = np.empty(len(examples), dtype=np.int64)
    for start in range(0, len(examples), AT_ONCE):
        rows = encode_rows(model, examples[start : start + AT_ONCE], None).rows
        lengths[start : start + AT_ONCE] = [len(row.prompt) for row in rows]
    return lengths


def questions_that_fit(
    config: Config,
    model: LanguageModel,
    pool: Sequence[Example],
    test: Sequence[Example],
    *,
    content: str | None = None,
) -> tuple[Sequence[Example], Sequence[Example], list[str]]:
    """Return the questions of pool and test with ``task.overlong`` applied, and what it did.

    ``content`` tells the rows from all others: how long the pool's are is kept on disk by it.

    Raises:
        InputError: As :func:`truncate_prompts`.
    """
    rule, limits = config.task.overlong, Limits.of(config.evaluation)
    of = {"content": content, "model": model.fingerprint, "chat": model.chat is not None}
    lengths = cached(
        None if content is None else cache_root(config.tracking.cache_dir) / "tokens",
        f"{key(VERSION, **of)}.npz",
        make=partial(prompt_lengths, model, pool),
        read=lambda path: read_npz(path)["lengths"],
        write=(lambda path, made: write_npz(path, lengths=made)) if is_main() else None,
    )
    asked = partial(truncate_prompts, model, limits=limits)
    pooled, cut = asked(pool, overlong=rule, where="pool", lengths=lengths)
    # Test rows always stay: leaving some out would change the question that is asked.
    rule = "error" if rule == "error" else "truncate"
    tested, cut_test = asked(test, overlong=rule, where="test")
    return pooled, tested, [line for line in (cut, cut_test) if line]

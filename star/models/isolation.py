"""Whether a model keeps rows apart: tried when it is loaded, on rows of which one is changed.

Likeness is no proof. A neighbour that leaks into a row moves it by less than rounding does in 16
bits, so the trial is whether a row moves *at all*, bit for bit, when another one's tokens change.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from star.errors import InputError, one_line
from star.models import packing, varlen
from star.models.batching import Batch
from star.models.encoding import TokenRow
from star.models.traits import Traits, text_config

logger = logging.getLogger(__name__)

LONGEST = 40  # tokens of the trial's longest row, where no window is shorter
CHANGED = 1  # the row whose tokens change: one is as long as it, one longer, one shorter


class Model(Protocol):
    """What of a ``LanguageModel`` is tried here."""

    causal: nn.Module
    tokenizer: Any
    traits: Traits
    max_length: int
    pad_id: int
    packable: bool

    @property
    def device(self) -> torch.device: ...
    def hidden(self, input_ids: Tensor, **more: Any) -> Tensor: ...
    def predict(self, batch: Batch, cache: packing.Cache | None = None) -> Tensor: ...
    def states(self, batch: Batch) -> Tensor: ...
    def step(self, tokens: Tensor, cache: packing.Cache) -> Tensor: ...
    def lay_out(self, rows: Sequence[TokenRow], *, whole: bool = True) -> Batch: ...


def packs(model: Model) -> bool:
    """Return whether rows stay apart; without the kernel, for good, where they do without alone."""
    if _packs(model):
        return True
    if varlen.kernel() is None:
        return False
    with varlen.using(None):
        alone = _packs(model)
    if alone:
        logger.warning("attention to packed rows by one kernel fails here; it takes a call a run")
        varlen.give_up()
    return alone


@torch.inference_mode()
def _packs(model: Model) -> bool:
    """Return whether rows laid end to end stay apart, in a forward pass and in a cached step.

    A change of one row must not move any other by a bit, and each must have the hidden states it
    has alone, up to rounding. ``model`` has to lay rows out packed while it is tried.
    """
    longest = min(LONGEST, model.max_length, *model.traits.cuts)
    if longest < 4 or not model.traits.maskable:
        return False
    rows = _rows(model, longest)
    other = [tuple(t + 1 for t in row) if i == CHANGED else row for i, row in enumerate(rows)]
    try:
        before, after = _states(model, rows), _states(model, _within(model, other))
        kept = [i for i in range(len(rows)) if i != CHANGED]
        if not all(torch.equal(before[i], after[i]) for i in kept):
            logger.info("rows of this model are padded: packed, they would see each other")
            return False
        alone = [model.hidden(_ids(model, [rows[i]]))[0] for i in kept]
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of code that is not ours, asked for what it may not know
        logger.info("rows of this model are padded, not packed: %s", one_line(error))
        return False
    # By the norm: hidden states of some tokens are hundreds of times larger than others'.
    together, apart = torch.cat([before[i] for i in kept]).float(), torch.cat(alone).float()
    return bool((together - apart).norm() <= _tolerance(apart, alone[0].dtype))


@torch.inference_mode()
def tells_windows(model: Model) -> bool:
    """Return whether each layer tells the kernel the window that the configuration gives it.

    Then rows that a window cuts can be packed too. ``model`` packs rows.
    """
    window, config = model.traits.window, text_config(model.causal)
    if varlen.kernel() is None or window is None or model.traits.chunked:
        return False
    kinds = getattr(config, "layer_types", None)
    kinds = (
        kinds or ["sliding_attention"] * config.num_hidden_layers
    )  # an alias where it is n_layer
    if getattr(config, "sliding_window", None) != window:
        return False
    if not set(kinds) <= {"full_attention", "sliding_attention"}:
        return False
    rows = [TokenRow(0, row[:1], row[1:]) for row in _rows(model, min(4, window))[-1:]]
    batch = model.lay_out(rows, whole=False)
    cache = packing.Cache(batch, batch.ids.shape[1] + 1)
    model.predict(batch, cache)
    wanted = {i: window if kind == "sliding_attention" else None for i, kind in enumerate(kinds)}
    return cache.static and cache.windows == wanted


@torch.inference_mode()
def require_causal(model: Model) -> None:
    """Refuse a model in which a token sees those behind it, or another row of a padded batch.

    Padding on the right, without a mask, would then be part of a score.
    """
    length = min(LONGEST, model.max_length)
    head = length // 3
    short, long = _rows(model, length)[:2]
    long = (long * length)[:length]
    before = _ids(model, [short, long])
    after = _ids(model, _within(model, [short[:head] + short[: length - head], long[::-1]]))
    states = [model.hidden(ids)[0, :head] for ids in (before, after)]
    apart = (states[0].float() - states[1].float()).norm()
    if not apart <= _tolerance(states[0].float(), states[0].dtype):
        kind = type(model.causal).__name__
        raise InputError(
            f"in {kind} a token sees the tokens behind it; star needs a causal language model"
        )


@torch.inference_mode()
def shows_padding(model: Model) -> bool:
    """Return whether a row beside a longer one has another outcome, or other states, than alone.

    The mask covers attention alone: a convolution, a Fourier transform along the line or a head
    that takes its last place sees what a batch is filled with.
    """
    long, *_, short = _rows(model, min(LONGEST, model.max_length - 1))
    pairs = zip(_outcomes(model, [short])[0], _outcomes(model, [short, long])[0], strict=True)
    return not all(alike(*pair) for pair in pairs)


@torch.inference_mode()
def packs_under_head(model: Model) -> bool:
    """Return whether a classifier's rows, laid end to end, have the outcomes they have alone.

    As :func:`_packs`, of the head's numbers and the body's states, and of rows with the tokens that
    a body may count: the one that fills batches, the one that stands for a hidden one. ``model``
    has to lay rows out packed while it is tried, but for rows alone.
    """
    longest = min(LONGEST, model.max_length - 1, *model.traits.cuts)
    if longest < 4:
        return False
    rows = _rows(model, longest)
    [changed] = _within(model, [[token + 1 for token in rows[CHANGED]]])
    hidden = getattr(model.tokenizer, "mask_token_id", None)
    if hidden is not None:
        changed = (hidden, *changed[1:])
    rows[2] = (rows[2][0], model.pad_id, *rows[2][2:])
    # A line longer than any row may be: places are not positions.
    more = rows * (model.max_length // sum(map(len, rows)) if model.max_length <= 2**10 else 0)
    kept = [i for i in range(len(rows) + len(more)) if i != CHANGED]
    try:
        together = _outcomes(model, [*rows, *more])
        after = _outcomes(model, [*rows[:CHANGED], changed, *rows[CHANGED + 1 :], *more])
        with _padded(model):
            alone = [_outcomes(model, [rows[i]])[0] for i in kept[:3]]
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of code that is not ours, asked for what it may not know
        logger.info("rows of this model are padded, not packed: %s", one_line(error))
        return False
    still = (torch.equal(*pair) for i in kept for pair in zip(together[i], after[i], strict=True))
    pairs = (zip(one, together[i], strict=True) for one, i in zip(alone, kept[:3], strict=True))
    return all(still) and all(alike(*pair) for row in pairs for pair in row)


@contextmanager
def _padded(model: Model) -> Iterator[None]:
    model.packable = False
    try:
        yield
    finally:
        model.packable = True


def _outcomes(model: Model, rows: Sequence[tuple[int, ...]]) -> list[list[Tensor]]:
    """Return each row's (C,) outcome and (tokens, H) states by a classifier, in one batch."""
    whole = model.lay_out([TokenRow(0, row, (0,)) for row in rows])
    each = model.lay_out([TokenRow(0, row[:1], (*row[1:], 0)) for row in rows])
    states = model.states(each).split([len(row) for row in rows])
    return [list(pair) for pair in zip(model.predict(whole), states, strict=True)]


def alike(alone: Tensor, beside: Tensor) -> bool:
    """Whether what a row gives alone and beside another differs by rounding at most."""
    apart = (alone.float() - beside.float()).norm()
    return bool(apart <= _tolerance(alone.float(), alone.dtype))


@torch.inference_mode()
def answers_together(model: Model) -> str:
    """Return the prompts that transformers' ``generate`` answers in a batch as it does alone.

    ``any``: behind padding on the left; ``equal``: those of one length; ``none``.
    """
    long, short = _rows(model, min(LONGEST // 2, model.max_length - 2))[:2]
    if model.traits.maskable and not model.traits.chunked and _answers_alike(model, long, short):
        return "any"
    return "equal" if _answers_alike(model, long[: len(short)], short) else "none"


def _answers_alike(model: Model, first: tuple[int, ...], last: tuple[int, ...]) -> bool:
    """Return whether ``last`` has behind ``first``, not shorter, the logits that it has alone."""
    padding = len(first) - len(last)
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=2, output_logits=True, return_dict_in_generate=True,
        pad_token_id=model.pad_id, use_cache=model.traits.cached,
    )  # fmt: skip

    def logits(rows: Sequence[Sequence[int]], padding: int) -> Tensor:
        ids = _ids(model, rows)
        mask = torch.ones_like(ids)
        mask[1:, :padding] = 0
        generate: Any = model.causal.generate
        made = generate(input_ids=ids, attention_mask=mask, generation_config=settings)
        return torch.stack(made.logits)[:, -1].float()  # (2, V) of the last row

    together = logits([first, (model.pad_id,) * padding + last], padding)
    alone = logits([last], 0)
    dtype = next(model.causal.parameters()).dtype
    return bool((together - alone).norm() <= _tolerance(alone, dtype))


def _rows(model: Model, longest: int) -> list[tuple[int, ...]]:
    """Return four rows of tokens: a long one, two of half its length, a short one."""
    lengths = [longest, longest // 2, longest // 2, max(2, longest // 4)]
    rows = [tuple(range(7 * i + 3, 7 * i + 3 + length)) for i, length in enumerate(lengths)]
    return _within(model, rows)


def _within(model: Model, rows: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Return rows of tokens that the model has; none fills batches, which some leave uncounted."""
    embeddings: Any = model.causal.get_input_embeddings()  # type: ignore[operator]
    size = embeddings.weight.shape[0]
    inside = (tuple(token % size for token in row) for row in rows)
    return [tuple((t + (t == model.pad_id)) % size for t in row) for row in inside]


def _ids(model: Model, rows: Sequence[Sequence[int]]) -> Tensor:
    return torch.tensor(rows, device=model.device)


def _states(model: Model, rows: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """Return (tokens, H) hidden states of each row, the last token's by a cached step."""
    split = [TokenRow(i, row[:1], row[1:]) for i, row in enumerate(rows)]
    batch = model.lay_out(split, whole=False)
    cache = packing.Cache(batch, max(map(len, rows)))
    first = model.predict(batch, cache).split([len(row) - 1 for row in rows])
    cache.advance()
    last = model.step(torch.tensor([row[-1] for row in rows], device=model.device), cache)
    return [torch.cat([one, last[i : i + 1]]) for i, one in enumerate(first)]


def _tolerance(states: Tensor, dtype: torch.dtype) -> float:
    return float(states.norm()) * (1e-4 if dtype == torch.float32 else 3e-2)

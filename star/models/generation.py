"""Greedy answers of the model in view (base or adapter, without dropout), and how likely they are.

Prompts of like length share a batch, each row at its own position without padding, and a row that
has met its stop token leaves the batch: a step costs what the unfinished rows cost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import GenerationConfig

from star.models import likelihood, merging, packing
from star.models.batching import length_batches
from star.models.distributed import collect, share
from star.models.encoding import TokenRow, pad
from star.models.language_model import LanguageModel
from star.models.row_batches import content_of, progress_bar
from star.models.steps import UNWATCHED, Steps, greedy

# Prompt and answer tokens of a batch: what a cache holds costs memory, but little time.
BATCH_TOKENS = 32768


@dataclass(frozen=True)
class Generation:
    """A greedy answer.

    Attributes:
        tokens: Ends with its stop token, or after ``max_new_tokens`` without one; at least one.
        log_prob: Σ log p of the tokens, in nats, as far as it came with making them.
    """

    tokens: tuple[int, ...]
    log_prob: float | None


def generate(
    model: LanguageModel, prompts: Sequence[Sequence[int]], **options: Any
) -> list[tuple[int, ...]]:
    """Return each prompt's greedy continuation as token ids; see :func:`generate_scored`."""
    return [made.tokens for made in continue_greedily(model, prompts, **options)]


def generate_scored(
    model: LanguageModel, prompts: Sequence[Sequence[int]], **options: Any
) -> tuple[list[tuple[int, ...]], NDArray[np.float64]]:
    """Return each prompt's greedy continuation, and its log-likelihood.

    Args:
        model: In whichever view.
        prompts: N token sequences.
        **options: ``max_new_tokens`` of an answer; ``desc``, what the bar says, if there is one.

    Returns:
        N continuations in the order of ``prompts``, each ending with its stop token or after
        ``max_new_tokens`` without one; (N,) Σ log p of their tokens in nats.
    """
    found = continue_greedily(model, prompts, **options)
    tokens = [made.tokens for made in found]
    if any(made.log_prob is None for made in found):
        rows = [TokenRow(0, tuple(p), t) for p, t in zip(prompts, tokens, strict=True)]
        return tokens, -likelihood.nll(model, rows)[:, 0]
    return tokens, np.array([made.log_prob for made in found], dtype=np.float64)


@torch.inference_mode()
def continue_greedily(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_tokens: int = BATCH_TOKENS,
    desc: str = "generate",
) -> list[Generation]:
    """Return each prompt's greedy continuation, made in batches that all processes share.

    Args:
        model: In whichever view.
        prompts: N token sequences.
        max_new_tokens: Of an answer.
        batch_tokens: Prompt and answer tokens of a batch at most.
        desc: What the bar says.
    """
    mine, most = share(len(prompts)), model.batching
    done: dict[int, Generation] = {}

    def work(places: list[int]) -> int:
        rows = [mine[i] for i in places]
        made = _answers(model, [prompts[i] for i in rows], max_new_tokens, most.tokens)
        done.update(zip(rows, made, strict=True))
        kept.add(places)
        return len(rows)

    def take(places: list[int], _: int) -> dict[str, NDArray[Any]]:
        return _as_arrays([done[mine[i]] for i in places])

    def put(places: list[int], _: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        done.update(zip([mine[i] for i in places], _of_arrays(arrays), strict=True))

    def content() -> dict[str, Any]:
        asked = [TokenRow(0, tuple(prompt), ()) for prompt in prompts]
        return {"new": max_new_tokens, "most": batch_tokens} | content_of(model, asked, mine)

    bar = progress_bar(model, len(mine), desc, unit="row")
    lengths = [len(prompts[i]) + max_new_tokens for i in mine]
    phase = most.unfinished.rows("answers", content, shape=(1, len(mine)), take=take, put=put)
    with phase as kept, merging.merged(model.causal):
        size = min(most.rows, max(1, most.tokens))  # a step feeds a token of each row
        cuts = _cuts(model, lengths, max_new_tokens)
        left = kept.left(length_batches(lengths, size, batch_tokens, cuts))
        for count in most.shortages.halving(left, work, lengths, kind=desc):
            bar.update(count)
    bar.close()
    return collect(done, len(prompts))


def _as_arrays(made: Sequence[Generation]) -> dict[str, NDArray[Any]]:
    """Return answers as arrays with an entry an answer, 0 behind an answer's end."""
    counts = np.array([len(one.tokens) for one in made])
    tokens = np.zeros((len(made), counts.max()), dtype=np.int64)
    for row, one in zip(tokens, made, strict=True):
        row[: len(one.tokens)] = one.tokens
    unknown = math.nan  # of answers that came without it
    log_probs = [unknown if one.log_prob is None else one.log_prob for one in made]
    return {"tokens": tokens, "counts": counts, "log_probs": np.array(log_probs)}


def _of_arrays(arrays: Mapping[str, NDArray[Any]]) -> list[Generation]:
    rows = zip(*(arrays[name].tolist() for name in ("tokens", "counts", "log_probs")), strict=True)
    return [
        Generation(tuple(tokens[:count]), None if math.isnan(log_prob) else log_prob)
        for tokens, count, log_prob in rows
    ]


def _cuts(model: LanguageModel, lengths: Sequence[int], max_new_tokens: int) -> Sequence[int]:
    """Return the ``cuts`` of ``length_batches`` for prompts with answers of these lengths."""
    window, turn = model.traits.window, model.traits.turn
    cuts = [] if window is None else [window]
    if turn is not None:  # a row is below it to the end, crosses it, or is above it from the start
        cuts += [turn, turn + max_new_tokens]
    loose = {length for length in lengths if not model.packs(length)}
    if loose and model.answers_together != "any":
        cuts += loose  # rows as long as each other need no padding
    return cuts


def _answers(
    model: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int, most: int
) -> list[Generation]:
    """Return the answers of a batch between two ``cuts``, ``most`` tokens in a forward pass."""
    longest, turn = max(map(len, prompts)), model.traits.turn
    # All that is cached has to be made anew where a row crosses the turn: its own place.
    crossing = turn is not None and longest <= turn < longest + max_new_tokens
    packed = model.packs(longest + max_new_tokens) and not crossing
    alone = crossing or not (packed or model.answers_together != "none")
    size = 1 if alone else len(prompts)
    parts = [
        [prompts[i] for i in places]  # in their order: they come longest first
        for places in length_batches([len(prompt) for prompt in prompts], size, most)
    ]
    if packed:
        return _packed(model, parts, max_new_tokens)
    return [made for part in parts for made in _padded(model, part, max_new_tokens)]


def _begin(
    model: LanguageModel, parts: Sequence[Sequence[Sequence[int]]], max_new_tokens: int
) -> tuple[packing.Cache, Tensor]:
    """Return the prompts' cache, and the (B, H) hidden states behind them."""
    capacity = len(parts[0][0]) + max_new_tokens
    whole: packing.Cache | None = None
    states = []
    for part in parts:
        # The 0 stands for the token that each prompt is to predict; it is not looked at.
        rows = [TokenRow(i, tuple(prompt), (0,)) for i, prompt in enumerate(part)]
        batch = model.lay_out(rows, whole=False)
        cache = packing.Cache(batch, capacity)
        states.append(model.predict(batch, cache))
        if whole is None:
            whole = cache
        else:
            whole.join(cache)
    assert whole is not None
    return whole, torch.cat(states)


def _packed(
    model: LanguageModel, parts: Sequence[Sequence[Sequence[int]]], max_new_tokens: int
) -> list[Generation]:
    """Return the answers of rows, longest first, whose prompts go through the model in parts."""
    cache, hidden = _begin(model, parts, max_new_tokens)
    prompts = [prompt for part in parts for prompt in part]
    if cache.static:
        return _unwatched(model, cache, hidden, max_new_tokens)
    made: list[list[int]] = [[] for _ in prompts]
    log_probs = np.zeros(len(prompts))
    going = list(range(len(prompts)))  # whose answer each row of the cache is
    for left in reversed(range(max_new_tokens)):
        cache.advance()
        logits = model.logits(hidden)
        best, new = logits.max(-1)
        log_probs[going] += (best - logits.logsumexp(-1)).double().cpu().numpy()
        for prompt, token in zip(going, new.tolist(), strict=True):
            made[prompt].append(token)
        unfinished = [i for i, p in enumerate(going) if made[p][-1] not in model.stop_ids]
        if not unfinished or not left:
            break
        if len(unfinished) < len(going):
            rows = cache.keep(unfinished)
            going, new = [going[row] for row in rows], new[rows]
        hidden = model.step(new, cache)
    return [
        Generation(tuple(one), float(log_prob))
        for one, log_prob in zip(made, log_probs, strict=True)
    ]


def _unwatched(
    model: LanguageModel, cache: packing.Cache, hidden: Tensor, max_new_tokens: int
) -> list[Generation]:
    """Return the same by steps that the host looks at seldom; finished rows leave by halves."""
    cache.advance()
    new, scored = greedy(model, hidden)
    made = [[token] for token in new.tolist()]
    log_probs = scored.double().cpu().numpy()
    going = list(range(len(made)))
    steps, left = Steps(model, cache, new), max_new_tokens - 1
    while left:
        unfinished = [i for i, p in enumerate(going) if made[p][-1] not in model.stop_ids]
        if not unfinished:
            break
        if 2 * len(unfinished) <= len(going):  # another size costs a graph of its own
            rows = cache.keep(unfinished)
            going = [going[row] for row in rows]
            last = torch.tensor([made[prompt][-1] for prompt in going], device=hidden.device)
            steps = Steps(model, cache, last)
        count = min(UNWATCHED, left)
        tokens, values = steps.run(count)
        for row, prompt in enumerate(going):
            for token, value in zip(tokens[row], values[row], strict=True):
                if made[prompt][-1] in model.stop_ids:
                    break
                made[prompt].append(token)
                log_probs[prompt] += value
        left -= count
    return [
        Generation(tuple(one), float(log_prob))
        for one, log_prob in zip(made, log_probs, strict=True)
    ]


def _padded(
    model: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> list[Generation]:
    """Return the same by transformers' own loop, for models whose rows cannot be packed."""
    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(model.stop_ids),
        pad_token_id=model.pad_id,
        bos_token_id=model.tokenizer.bos_token_id,
        use_cache=model.traits.cached,
    )
    ids = pad(prompts, model.pad_id, left=True)
    mask = pad([[1] * len(prompt) for prompt in prompts], 0, left=True)
    out = model.causal.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        generation_config=settings,
    )
    answers = out[:, ids.shape[1] :].tolist()
    return [Generation(_until_stop(new, model.stop_ids), None) for new in answers]


def text_of(model: LanguageModel, ids: Sequence[int]) -> str:
    """Return a continuation as text, without its stop token."""
    kept = ids[:-1] if ids and ids[-1] in model.stop_ids else ids
    text: str = model.tokenizer.decode(kept, skip_special_tokens=True)
    return text


def _until_stop(ids: list[int], stop_ids: frozenset[int]) -> tuple[int, ...]:
    for place, token in enumerate(ids):
        if token in stop_ids:
            return tuple(ids[: place + 1])
    return tuple(ids)

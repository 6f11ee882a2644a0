"""Greedy answers of the model that is in view (base or adapter, without dropout).

Prompts of like length share a batch, each row at its own position without padding, and a row that
has met its stop token leaves the batch: a step costs what the unfinished rows cost.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tqdm import tqdm
from transformers import GenerationConfig

from star import adapter, packing
from star.batches import halving, length_batches
from star.distributed import collect, is_main, share
from star.encoding import TokenRow, pad
from star.models import LanguageModel

# Prompt and answer tokens of a batch: what a cache holds costs memory, but little time.
BATCH_TOKENS = 32768


@torch.inference_mode()
def generate(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    batch_tokens: int = BATCH_TOKENS,
    progress: bool = False,
    desc: str = "generate",
) -> list[tuple[int, ...]]:
    """Return each prompt's greedy continuation as token ids, in the order of ``prompts``.

    A continuation ends with its stop token, or after ``max_new_tokens`` without one; it has at
    least one token.

    Args:
        model: In whichever view.
        prompts: N token sequences.
        max_new_tokens: Of an answer.
        batch_size: Rows in a batch at most; changes no answer beyond rounding.
        batch_tokens: Tokens of prompts and longest answers in a batch at most (one row may have
            more).
        progress: Show a bar.
        desc: What the bar says.
    """
    mine = share(len(prompts))
    done: dict[int, tuple[int, ...]] = {}
    answer = _packed if model.packable else _padded

    def work(places: list[int]) -> int:
        rows = [mine[i] for i in places]
        made = answer(model, [prompts[i] for i in rows], max_new_tokens)
        done.update(zip(rows, made, strict=True))
        return len(rows)

    bar = tqdm(
        total=len(mine), desc=desc, unit="row", leave=False, disable=not progress or not is_main()
    )
    lengths = [len(prompts[i]) + max_new_tokens for i in mine]
    with adapter.folded(model.causal):
        for count in halving(length_batches(lengths, batch_size, batch_tokens), work):
            bar.update(count)
    bar.close()
    return collect(done, len(prompts))


def _packed(
    model: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> list[tuple[int, ...]]:
    # The 0 stands for the token that each prompt is to predict; it is not looked at.
    batch = model.lay_out([TokenRow(i, tuple(p), (0,)) for i, p in enumerate(prompts)])
    cache = packing.Cache(batch, max(map(len, prompts)) + max_new_tokens)
    hidden = model.predict(batch, cache)  # (B, H)
    made: list[list[int]] = [[] for _ in prompts]
    going = list(range(len(prompts)))  # whose answer each row of the cache is
    for left in reversed(range(max_new_tokens)):
        cache.advance()
        new = model.logits(hidden).argmax(-1)
        for prompt, token in zip(going, new.tolist(), strict=True):
            made[prompt].append(token)
        unfinished = [i for i, p in enumerate(going) if made[p][-1] not in model.stop_ids]
        if not unfinished or not left:
            break
        if len(unfinished) < len(going):
            rows = cache.keep(unfinished)
            going, new = [going[row] for row in rows], new[rows]
        hidden = model.step(new, cache)
    return [tuple(one) for one in made]


def _padded(
    model: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> list[tuple[int, ...]]:
    """Return the same by transformers' own loop, for models whose rows cannot be packed."""
    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(model.stop_ids),
        pad_token_id=model.pad_id,
        bos_token_id=model.tokenizer.bos_token_id,
    )
    ids = pad(prompts, model.pad_id, left=True)
    mask = pad([[1] * len(prompt) for prompt in prompts], 0, left=True)
    out = model.causal.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        generation_config=settings,
    )
    return [_until_stop(new, model.stop_ids) for new in out[:, ids.shape[1] :].tolist()]


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

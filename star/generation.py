"""Greedy answers of the model that is in view (base or adapter, without dropout)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tqdm import tqdm
from transformers import GenerationConfig

from star.distributed import collect, is_main, share
from star.encoding import length_batches, pad
from star.models import LanguageModel


@torch.inference_mode()
def generate(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    progress: bool = False,
    desc: str = "generate",
) -> list[tuple[int, ...]]:
    """Return each prompt's greedy continuation as token ids, in the order of ``prompts``.

    A continuation ends with its stop token, or after ``max_new_tokens`` without one; it has at
    least one token. Prompts of like length share a batch.
    """
    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(model.stop_ids),
        pad_token_id=model.pad_id,
        bos_token_id=model.tokenizer.bos_token_id,
    )
    mine = share(len(prompts))
    done: dict[int, tuple[int, ...]] = {}
    bar = tqdm(
        total=len(mine), desc=desc, unit="row", leave=False, disable=not progress or not is_main()
    )
    for batch in length_batches([len(prompts[i]) for i in mine], batch_size):
        rows = [mine[i] for i in batch]
        ids = pad([prompts[i] for i in rows], model.pad_id, left=True)
        mask = pad([[1] * len(prompts[i]) for i in rows], 0, left=True)
        out = model.causal.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=settings,
        )
        for i, new in zip(rows, out[:, ids.shape[1] :].tolist(), strict=True):
            done[i] = _until_stop(new, model.stop_ids)
        bar.update(len(rows))
    bar.close()
    return collect(done, len(prompts))


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

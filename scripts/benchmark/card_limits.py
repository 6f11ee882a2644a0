"""What a card can do at most, and how near scoring and generation come: parts (i), (ii), (vi)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch

from benchmark.card_bench import Card, Figure
from benchmark.timing import Products, seconds_of
from star.acquisition.uncertainty import from_logits
from star.experiments.estimate import costs
from star.models import varlen
from star.models.encoding import TokenRow
from star.models.generation import continue_greedily
from star.models.likelihood import token_scores

COPIED = {"cuda": 2**32, "cpu": 2**24}  # bytes


def peaks(card: Card) -> Iterator[Figure]:
    """(i) The rate of the fastest matrix product of some sizes, and of a copy."""
    if card.device.type == "cuda":
        products = Products(card.device, card.dtype)
    else:
        products = Products(card.device, card.dtype, sizes=(128, 256), least=1e8)
    card.found["peak"] = products.rate
    size = f"{products.size} x {products.size}"
    yield Figure("matrix product", products.rate / 1e12, "TFLOP/s", note=size)
    count = COPIED[card.device.type]
    source = torch.zeros(count, dtype=torch.uint8, device=card.device)
    target = torch.empty_like(source)
    copy = partial(target.copy_, source)
    copy()
    times = [seconds_of(copy, card.device)[0] for _ in range(5)]
    card.found["bytes"] = 2 * count / min(times)
    yield Figure("copy", card.found["bytes"] / 1e12, "TB/s", note="read and written")


def score(card: Card, rows: Sequence[TokenRow]) -> None:
    """Score rows, all measures."""
    token_scores(card.model, rows, from_logits)


def tokens_of(rows: Sequence[TokenRow]) -> int:
    """Return the tokens of all rows."""
    return sum(map(len, rows))


def scoring(card: Card) -> Iterator[Figure]:
    """(ii) Scoring: tokens a second, and the share of 2N·tokens of the peak."""
    whole, few = card.rows, card.rows[: card.size.few]
    low, middle, high = card.size.tokens
    warm = partial(score, card, few[: len(few) // 4])
    with card.batches(middle):
        seconds = card.seconds(partial(score, card, whole), warm=warm)
    yield from _rates(card, f"{len(whole)} rows, {middle} tokens a batch", whole, seconds, "≥ 0.6")
    card.found["scoring_seconds"], card.found["scoring_bytes"] = seconds, card.peak_bytes()
    way = "the kernel" if varlen.serves(card.device, card.dtype) else "the loop of SDPA calls"
    ways: list[tuple[str, int, bool, bool]] = [
        (f"{way}, {middle}", middle, True, True),
        (f"the loop of SDPA calls, {middle}", middle, False, True),
        (f"padded, {middle}", middle, False, False),
        (f"{way}, {low}", low, True, True),
        (f"{way}, {high}", high, True, True),
    ]
    for name, tokens, kernel, packed in ways:
        if card.left() < 5 and card.device.type == "cuda":
            yield Figure(f"{len(few)} rows, {name}", None, note="left out for time")
            continue
        before = card.model.packable
        card.model.packable = packed and before
        try:
            with card.batches(tokens), nullcontext() if kernel else varlen.using(None):
                seconds = card.seconds(partial(score, card, few), warm=warm)
        finally:
            card.model.packable = before
        yield from _rates(card, f"{len(few)} rows, {name} tokens a batch", few, seconds)


def _rates(
    card: Card, name: str, rows: Sequence[TokenRow], seconds: float, aim: str = ""
) -> Iterator[Figure]:
    tokens = tokens_of(rows)
    peak = f"peak {card.peak_bytes() / 2**30:.1f} GiB" if card.peak_bytes() else ""
    yield Figure(name, tokens / seconds, "tokens/s", note=peak)
    if "peak" in card.found:
        share = 2 * card.shape.parameters * tokens / seconds / card.found["peak"]
        fed, asked = [len(row) - 1 for row in rows], [len(row.continuation) for row in rows]
        exact = costs.forward_flops(card.shape, fed, asked) / seconds / card.found["peak"]
        note = f"{exact:.2g} by all FLOPs, the head's where it is asked"
        yield Figure(f"{name}: 2N·tokens over the peak", share, aim=aim, note=note)


def generation(card: Card) -> Iterator[Figure]:
    """(vi) Answers of a fixed length, against reading weights, keys and values once a step."""
    new, size = card.size.new, torch.finfo(card.dtype).bits / 8
    for count in card.size.together:
        prompts = [row.prompt for row in card.rows[:count]]
        tokens = sum(map(len, prompts)) + count * new
        options = {"max_new_tokens": new, "batch_tokens": 4 * tokens}
        work = partial(continue_greedily, card.model, prompts, **options)
        warm = partial(continue_greedily, card.model, prompts[:2], max_new_tokens=2)
        with card.batches(card.size.tokens[1], rows=count):
            seconds = card.seconds(work, warm=warm)
        card.found[f"generation_seconds_{count}"] = seconds
        card.found[f"generation_bytes_{count}"] = card.peak_bytes()
        peak = f"peak {card.peak_bytes() / 2**30:.1f} GiB" if card.peak_bytes() else ""
        yield Figure(f"batch {count}", count * new / seconds, "new tokens/s", note=peak)
        if "bytes" in card.found:
            stored = 2.0 * card.shape.layers * card.shape.key_value * size  # bytes a token
            read = sum((len(p) + new / 2) * stored * new for p in prompts)
            read += new * costs.weight_bytes(card.shape, size)
            share = read / card.found["bytes"] / seconds
            aim = "≥ 0.5" if count == card.size.together[0] else ""
            yield Figure(f"batch {count}: bandwidth floor over seconds", share, aim=aim)


def of_transformers(card: Card) -> Iterator[Figure]:
    """(vi) The same answers by transformers' ``generate_batch``.

    Behind all else but what spoils the weights: where it fails, a thread of its may go on.
    """
    from transformers import ContinuousBatchingConfig, GenerationConfig

    new, causal = card.size.new, card.model.causal
    config = GenerationConfig(
        max_new_tokens=new, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    # On a CPU it would take most of the memory, and make graphs.
    small: Any = None
    if card.device.type == "cpu":
        small = ContinuousBatchingConfig(num_blocks=64, max_batch_tokens=256)
    before = causal.config._attn_implementation
    try:
        for count in card.size.together:
            prompts = [list(row.prompt) for row in card.rows[:count]]
            work = partial(
                causal.generate_batch,  # type: ignore[arg-type]
                prompts,
                generation_config=config,
                continuous_batching_config=small,
            )
            seconds, made = seconds_of(work, card.device)
            if len(made) < count:
                raise RuntimeError(f"{len(made)} of {count} prompts were answered")
            name = f"batch {count}: transformers' generate_batch"
            yield Figure(name, count * new / seconds, "new tokens/s", note="with its warm-up")
    finally:
        causal.set_attn_implementation(before)  # type: ignore[operator]

"""What STAR does on a card: MC passes, training, four bits, invariance, the estimate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmark.card_bench import Card, Figure
from benchmark.card_limits import score, tokens_of
from benchmark.timing import seconds_of
from star.acquisition.uncertainty import from_logits
from star.config import McDropoutConfig, RegularizerConfig, TrainConfig
from star.errors import one_line
from star.experiments.estimate import costs
from star.models import likelihood, mc_dropout
from star.models import training as updates
from star.models.encoding import TokenRow
from star.models.generation import generate
from star.models.likelihood import token_scores

PASSES = 3
ROWS = 16  # of an update


def passes(card: Card) -> Iterator[Figure]:
    """(iii) S passes of MC dropout against as many bare forward passes."""
    rows = card.rows[: card.size.few]
    bare = card.seconds(partial(score, card, rows), warm=partial(score, card, rows[:8]))
    with card.adapted() as adapted:
        drawn = mc_dropout.passes(adapted, McDropoutConfig(passes=PASSES), seed=0, round_=0)
        with drawn.installed() as installed:
            work = partial(token_scores, card.model, passes=installed)
            seconds = card.seconds(
                lambda: work(rows, from_logits), warm=lambda: work(rows[:8], from_logits)
            )
    card.found["passes_seconds"], card.found["passes_bytes"] = seconds, card.peak_bytes()
    yield Figure(f"{len(rows)} rows, bare", tokens_of(rows) / bare, "tokens/s")
    yield Figure(
        f"{len(rows)} rows, S = {PASSES}", PASSES * tokens_of(rows) / seconds, "tokens/s of a pass"
    )
    yield Figure("a pass over a bare one", seconds / bare / PASSES, aim="≤ 1.15")


def training(card: Card) -> Iterator[Figure]:
    """(iv) Updates of the adapter, with and without recomputing activations."""
    for recompute in (False, True):
        if card.left() < 5 and card.device.type == "cuda":
            yield Figure("with checkpointing", None, note="left out for time")
            return
        yield from _trained(card, recompute)


def _trained(card: Card, recompute: bool) -> Iterator[Figure]:
    size = card.size
    rows = card.rows[: ROWS * size.updates]
    config = TrainConfig(
        per_device_train_batch_size=ROWS,
        num_train_epochs=1,
        lr_scheduler_type="constant",
        gradient_checkpointing=recompute,
    )

    def fit(rows: Sequence[TokenRow]) -> None:
        plain = RegularizerConfig()
        updates.fit(card.model, adapted, rows, config=config, regularizer=plain, seed=0, round_=0)

    with card.adapted() as adapted:
        seconds = card.seconds(partial(fit, rows), warm=partial(fit, rows[: 2 * ROWS]))
    count, tokens = -(-len(rows) // ROWS), tokens_of(rows)
    name = "with checkpointing" if recompute else "without checkpointing"
    key = "recomputed" if recompute else "kept"
    card.found[f"{key}_seconds"], card.found[f"{key}_bytes"] = seconds, card.peak_bytes()
    peak = f"peak {card.peak_bytes() / 2**30:.1f} GiB" if card.peak_bytes() else ""
    yield Figure(f"an update of {ROWS} rows, {name}", 1e3 * seconds / count, "ms", note=peak)
    yield Figure(f"training, {name}", tokens / seconds, "tokens/s")
    if "peak" in card.found:
        share = 4 * card.shape.parameters * tokens / seconds / card.found["peak"]
        aim = "" if recompute else "≥ 0.41"
        yield Figure(f"{name}: 4N·tokens over the peak", share, aim=aim)


def invariance(card: Card) -> Iterator[Figure]:
    """(vii) Whether a row's score and answer hang on what shares its batch."""
    rows = card.rows[:64]
    together = likelihood.nll(card.model, rows)[:, 0]
    with card.batches(card.size.tokens[1], rows=1):
        alone = likelihood.nll(card.model, rows)[:, 0]
    packable, card.model.packable = card.model.packable, False
    try:
        padded = likelihood.nll(card.model, rows)[:, 0]
    finally:
        card.model.packable = packable
    per_token = np.array([len(row.continuation) for row in rows])
    for name, other in (("alone", alone), ("padded", padded)):
        apart = np.abs(together - other) / per_token
        yield Figure(
            f"{len(rows)} rows packed or {name}: largest difference",
            float(apart.max()),
            "nats a token",
            note=f"{int((together == other).sum())} to the bit; ranks {ranks(together, other):.4f}",
        )
    prompts, new = [row.prompt for row in rows[:8]], min(64, card.size.new)
    many = [row.prompt for row in rows]
    made = generate(card.model, many, max_new_tokens=new)[: len(prompts)]
    single = [generate(card.model, [prompt], max_new_tokens=new)[0] for prompt in prompts]
    same = sum(one == other for one, other in zip(made, single, strict=True))
    name = f"answers of {new} tokens equal, batch 1 or {len(many)}"
    yield Figure(name, same / len(prompts), note="of random weights, whose words are near ties")


def ranks(one: np.ndarray, other: np.ndarray) -> float:
    """Return Spearman's correlation, of values without ties."""
    order = [np.argsort(np.argsort(x)) for x in (one, other)]
    return float(np.corrcoef(order[0], order[1])[0, 1])


def four_bits(card: Card) -> Iterator[Figure]:
    """(v) NF4 weights: memory, time, and whether rows are ranked alike.

    The model's own matrices are quantised in place, one after the other: the last part.
    """
    try:
        import bitsandbytes
    except ImportError as error:
        yield Figure("NF4", None, note=f"without bitsandbytes: {one_line(error)}"[:80])
        return
    rows = card.rows[: card.size.few]
    plain = likelihood.nll(card.model, rows)[:, 0]
    bare = seconds_of(partial(score, card, rows), card.device)[0]
    quantise(card.model.causal, bitsandbytes)
    seconds = card.seconds(partial(score, card, rows), warm=partial(score, card, rows[:8]))
    found = likelihood.nll(card.model, rows)[:, 0]
    if card.device.type == "cuda":
        held = torch.cuda.memory_allocated(card.device)
        yield Figure("NF4 weights", held / 2**30, "GiB", "< 7.5")
        yield Figure("NF4 scoring, peak", card.peak_bytes() / 1e9, "GB", "< 8")
    yield Figure("NF4 time over 16 bits", seconds / bare, aim="≤ 1.6")
    yield Figure("NF4 ranks against 16 bits", ranks(plain, found), note="Spearman; random weights")


def quantise(causal: Any, bitsandbytes: Any) -> None:
    """Put four-bit modules in the place of the body's linear ones."""
    head = causal.get_output_embeddings()
    names = [n for n, m in causal.named_modules() if type(m) is nn.Linear and m is not head]
    for name in names:
        old = causal.get_submodule(name)
        weight = old.weight.data
        new = bitsandbytes.nn.Linear4bit(
            old.in_features, old.out_features, bias=False, compute_dtype=weight.dtype,
            compress_statistics=True, quant_type="nf4", device="meta",
        )  # fmt: skip
        new.weight = bitsandbytes.nn.Params4bit(
            weight.cpu(), requires_grad=False, quant_type="nf4", compress_statistics=True
        ).to(weight.device)
        causal.set_submodule(name, new)


def expected(card: Card) -> Iterator[Figure]:
    """(viii) What ``star estimate`` says from two rates, over what was measured before."""
    found, shape, rows = card.found, card.shape, card.rows
    if not {"peak", "bytes"} <= found.keys():
        yield Figure("estimate", None, note="needs part (i)")
        return
    size = torch.finfo(card.dtype).bits / 8
    fed, asked = [len(row) - 1 for row in rows], [len(row.continuation) for row in rows]
    few, trained = card.size.few, ROWS * card.size.updates
    longest = sorted(map(len, rows[:trained]))[-ROWS:]
    held = costs.weight_bytes(shape, size)
    logits = likelihood.CHUNK_ELEMENTS
    middle = card.size.tokens[1]
    scored = costs.scoring_bytes(shape, tokens=middle, logits=logits, size=size, merged=False)
    flops = {
        "scoring": costs.forward_flops(shape, fed, asked),
        "passes": PASSES * costs.forward_flops(shape, fed[:few], asked[:few], adapter=True),
        "kept": costs.train_flops(shape, fed[:trained], asked[:trained]),
        "recomputed": costs.train_flops(shape, fed[:trained], asked[:trained], recompute=True),
    }
    needed = {
        name: costs.training_bytes(
            shape, tokens=sum(longest), predicted=sum(longest) // 2, size=size, dropout=True,
            recompute=name == "recomputed",
        )
        for name in ("kept", "recomputed")
    }  # fmt: skip
    needed |= {"scoring": scored, "passes": scored}
    seconds = {name: value / found["peak"] for name, value in flops.items()}
    for count in card.size.together:
        name, prompts = f"generation_{count}", [len(row.prompt) for row in rows[:count]]
        answers = [card.size.new] * count
        work = costs.generated(shape, prompts, answers, batch_size=count)
        once = costs.forward_flops(shape, 1, 1) / found["peak"]
        read = work.steps * held / found["bytes"]
        seconds[name] = work.forward / found["peak"] + read + work.new * once
        needed[name] = costs.generating_bytes(
            shape, rows=count, tokens=max(prompts) + card.size.new, size=size, merged=False
        )
    for name, value in seconds.items():
        kind, _, count = name.partition("_")
        measured = found.get(f"{kind}_seconds_{count}" if count else f"{kind}_seconds")
        if measured is None:
            continue
        note = f"{measured:.3g} s measured, {value:.3g} s expected at the peak"
        peak = found.get(f"{kind}_bytes_{count}" if count else f"{kind}_bytes", 0)
        if peak:
            note += f"; {peak / 1e9:.1f} GB, {(held + needed[name]) / 1e9:.1f} expected"
        label = {"kept": "training", "recomputed": "training with checkpointing"}
        what = f"{label.get(name, name.replace('_', ' '))}: seconds over those expected"
        yield Figure(what, measured / value, note=note)

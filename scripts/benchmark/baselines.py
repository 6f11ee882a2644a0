"""What the benchmark compares with and measures by: the slow ways, and seconds.

The baselines are written from what the paper's released code does and from the usual ways with PEFT
and transformers: one example at a time with gradients on; whole batches through PEFT's dropout;
training rows padded to 384 tokens with logits at every position; answers of always 256 tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import Tensor
from transformers import GenerationConfig

from star.acquisition import uncertainty
from star.config import RegularizerConfig, TrainConfig
from star.data.task import Answer, Example, Task
from star.models import adapter, likelihood
from star.models.batching import length_batches
from star.models.encoding import TokenRow, pad
from star.models.language_model import LanguageModel
from star.models.truncation import encode_rows

Array = NDArray[np.float64]

PADDED_WIDTH = 384  # tokens of a training row in the released code
NEW_TOKENS = 256  # of an answer there
IGNORED = -100  # label without a loss, as transformers has it
CHUNK = 512  # positions whose log-probabilities are held at once

Work = Callable[[Any, Sequence[Any]], Any]
"""``work(adapted, items)``: one repeat of a side, on all items or on a few."""


# ---- seconds ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians, with the least and the largest ratio of one repeat."""

    median: float
    low: float
    high: float


def ratio(ours: Sequence[float], other: Sequence[float], scale: float = 1.0) -> Ratio:
    """Return how many times as fast ours is, from the seconds of each repeat.

    Args:
        ours: (R,) seconds.
        other: (R,) seconds, taken in turn with ours.
        scale: Work of one repeat of ours over that of the other; 1 where both do the same.
    """
    pairs = [scale * theirs / mine for mine, theirs in zip(ours, other, strict=True)]
    return Ratio(scale * median(other) / median(ours), min(pairs), max(pairs))


def seconds_of(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Return the seconds a call takes, the device's work included, and its result."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    result = work()
    wait()
    return time.perf_counter() - start, result


def in_turn(
    sides: Mapping[str, Work],
    setup: Callable[[str], AbstractContextManager[Any]],
    items: Sequence[Any],
    *,
    repeats: int,
    device: torch.device,
) -> dict[str, tuple[list[float], Any]]:
    """Return the (R,) seconds of each side and its last result; the sides take turns.

    Args:
        sides: Name to work.
        setup: Makes, untimed, what a side works in, and yields the work's first argument.
        items: The work's second argument. The untimed round before is on all of them on a GPU,
            whose first call with a shape is slow, and on two on a CPU.
        repeats: R.
        device: Whose work is waited for.
    """
    found: dict[str, tuple[list[float], Any]] = {name: ([], None) for name in sides}
    for repeat in range(-1, repeats):
        part = items if repeat >= 0 or device.type == "cuda" else items[:2]
        for name, work in sides.items():
            with setup(name) as adapted:
                seconds, result = seconds_of(partial(work, adapted, part), device)
            if repeat >= 0:
                found[name] = ([*found[name][0], seconds], result)
    return found


class Products:
    """Products of square matrices, the work that a machine does at its highest rate; a side.

    Attributes:
        size: Of the matrices, the one of a few sizes with the highest rate.
        flops: Of one call.
        rate: FLOP/s of the fastest call that was timed.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        gpu = device.type == "cuda"
        self.size, self.flops, self.rate, self._device = 0, 0.0, 0.0, device
        for size in (4096, 8192, 16384) if gpu else (1024, 2048, 4096):
            one, two = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
            times = max(1, round((2e14 if gpu else 1e11) / (2 * size**3)))  # long enough to time
            work, flops = partial(_multiply, one, two, times), 2.0 * size**3 * times
            work()
            rate = flops / min(seconds_of(work, device)[0] for _ in range(3))
            if rate > self.rate:
                self.size, self.flops, self.rate, self._work = size, flops, rate, work

    def __call__(self, adapted: Any = None, items: Sequence[Any] = ()) -> None:
        seconds, _ = seconds_of(self._work, self._device)
        self.rate = max(self.rate, self.flops / seconds)


@torch.inference_mode()
def _multiply(one: Tensor, two: Tensor, times: int) -> None:
    out = torch.empty_like(one)
    for _ in range(times):
        torch.mm(one, two, out=out)


def head_of(model: LanguageModel) -> Tensor:
    """Return the head's weights, (vocabulary, hidden)."""
    causal: Any = model.causal
    weight: Tensor = causal.get_output_embeddings().weight
    return weight


@dataclass(frozen=True)
class _Padded:
    """Rows as one batch: (B, T) ids, and for each of P continuation tokens its row and place."""

    ids: Tensor
    owner: Tensor
    position: Tensor
    targets: Tensor


def _padded(model: LanguageModel, rows: Sequence[TokenRow]) -> _Padded:
    ids = pad([(r.prompt + r.continuation)[:-1] for r in rows], model.pad_id)
    owner = [b for b, r in enumerate(rows) for _ in r.continuation]
    position = [len(r.prompt) - 1 + j for r in rows for j in range(len(r.continuation))]
    targets = [t for r in rows for t in r.continuation]
    return _Padded(*(torch.as_tensor(x).to(model.device) for x in (ids, owner, position, targets)))


@torch.inference_mode()
def bare(model: LanguageModel, rows: Sequence[TokenRow], *, batch_size: int) -> None:
    """Run rows through the body, and the head at their continuation positions: no measures.

    Not slow but the yardstick: batches and chunks as scoring has them, no adapter.
    """
    step = max(1, likelihood.CHUNK_ELEMENTS // head_of(model).shape[0])
    lengths = [len(row) for row in rows]
    for places in length_batches(lengths, batch_size, model.batching.tokens):
        hidden = model.predict(model.lay_out([rows[i] for i in places]))
        for start in range(0, len(hidden), step):
            model.logits(hidden[start : start + step])


@torch.inference_mode()
def score_through_dropout(
    model: LanguageModel,
    adapted: PeftModel,
    rows: Sequence[TokenRow],
    *,
    passes: int,
    batch_size: int,
) -> dict[str, Array]:
    """Return every measure, (N, S) sums, by S passes of padded batches through PEFT's dropout."""
    sums = {m: np.zeros((len(rows), passes)) for m in uncertainty.MEASURES}
    _dropout_on(adapted)
    try:
        for places in length_batches([len(row) for row in rows], batch_size):
            batch = _padded(model, [rows[i] for i in places])
            owner = np.array(places)[batch.owner.cpu().numpy()]
            for s in range(passes):
                hidden = model.hidden(batch.ids)[batch.owner, batch.position]
                for start in range(0, len(hidden), CHUNK):
                    part = slice(start, start + CHUNK)
                    log_probs = model.log_probs(hidden[part])
                    found = uncertainty.all_measures(log_probs, batch.targets[part], 0.0)
                    for name, value in found.items():
                        np.add.at(sums[name][:, s], owner[part], value.double().cpu().numpy())
    finally:
        adapted.eval()
    return sums


def score_single(
    model: LanguageModel, adapted: PeftModel, rows: Sequence[TokenRow], *, passes: int
) -> dict[str, Array]:
    """Return −log p and entropy, (N, S) sums, as the released code makes them, dropout truly on.

    One example a forward pass, the head at every position, gradients on, each token's softmax in a
    Python loop.
    """
    sums = {m: np.zeros((len(rows), passes)) for m in ("predictive_entropy", "max_entropy")}
    _dropout_on(adapted)
    try:
        for i, row in enumerate(rows):
            ids = torch.tensor([row.prompt + row.continuation], device=model.device)
            for s in range(passes):
                logits = model.causal(input_ids=ids, use_cache=False).logits[0]
                for j, token in enumerate(row.continuation):
                    p = logits[len(row.prompt) - 1 + j].float().softmax(-1)
                    sums["predictive_entropy"][i, s] -= p[token].log().item()
                    sums["max_entropy"][i, s] += torch.special.entr(p).sum().item()
    finally:
        adapted.eval()
    return sums


def train_padded(
    model: LanguageModel, adapted: PeftModel, batches: Iterable[list[TokenRow]], config: TrainConfig
) -> list[tuple[float, float]]:
    """Train on batches, each padded to 384 tokens with logits at all of them.

    Returns:
        Loss and norm of the gradient, an update each. Loss, optimiser and clipping are
        ``training.fit``'s; the learning rate is constant.
    """
    groups = adapter.parameter_groups(adapted, RegularizerConfig())
    parameters = [p for group in groups for p in group["params"]]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
    log = []
    _dropout_on(adapted)
    try:
        for rows in batches:
            ids = torch.full((len(rows), padded_width(model)), model.pad_id)
            labels, mask = torch.full_like(ids, IGNORED), torch.zeros_like(ids)
            for b, row in enumerate(rows):
                ids[b, : len(row)] = torch.tensor(row.prompt + row.continuation)
                labels[b, len(row.prompt) : len(row)] = torch.tensor(row.continuation)
                mask[b, : len(row)] = 1
            told = {"input_ids": ids, "attention_mask": mask, "labels": labels}
            told = {name: value.to(model.device) for name, value in told.items()}
            loss: Tensor = model.causal(**told, use_cache=False).loss
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            log.append((loss.item(), norm.item()))
    finally:
        adapted.eval()
    return log


def padded_width(model: LanguageModel) -> int:
    """Return 384, or the model's positions if those are fewer."""
    return min(PADDED_WIDTH, model.max_length)


@torch.inference_mode()
def evaluate_fixed(
    model: LanguageModel,
    task: Task,
    examples: Sequence[Example],
    answers: Sequence[Answer],
    *,
    new_tokens: int,
    batch_size: int,
) -> list[bool]:
    """Return what is right of answers that never stop before ``new_tokens``."""
    rows = encode_rows(model, examples, None, reserve=new_tokens).rows
    settings: Any = GenerationConfig(
        do_sample=False,
        max_new_tokens=new_tokens,
        min_new_tokens=new_tokens,
        eos_token_id=sorted(model.stop_ids),
        pad_token_id=model.pad_id,
        bos_token_id=model.tokenizer.bos_token_id,
    )
    correct = [False] * len(rows)
    for places in length_batches([len(row) for row in rows], batch_size):
        prompts = [rows[i].prompt for i in places]
        ids = pad(prompts, model.pad_id, left=True).to(model.device)
        mask = pad([[1] * len(p) for p in prompts], 0, left=True).to(model.device)
        generate: Any = model.causal.generate
        out = generate(input_ids=ids, attention_mask=mask, generation_config=settings)
        for i, new in zip(places, out[:, ids.shape[1] :].tolist(), strict=True):
            text = model.tokenizer.decode(new, skip_special_tokens=True)
            correct[i] = task.is_correct(task.extract(text, strict=False), answers[i].gold)
    return correct


def _dropout_on(adapted: PeftModel) -> None:
    """Dropout in the LoRA branch alone; where its rate is 0 there is none."""
    adapted.eval()
    for _, layer in adapter.layers(adapted):
        layer.lora_dropout.train()

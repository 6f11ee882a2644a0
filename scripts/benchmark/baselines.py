"""What the benchmark compares with: the slow ways.

They are written from what the paper's released code does and from the usual ways with PEFT
and transformers: one example at a time with gradients on; whole batches through PEFT's dropout;
training rows padded to 384 tokens with logits at every position; answers of always 256 tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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

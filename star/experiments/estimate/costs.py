"""What work costs, in closed form: FLOPs and bytes of a model's shape and of lengths in tokens.

Pure functions of numbers and arrays; where the numbers come from is in the files beside this one. A
FLOP is one addition or multiplication, so a matrix of M elements costs 2·M a token.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """A causal LM with an adapter, in numbers. Elements are counted, not bytes.

    Attributes:
        layers: Transformer layers.
        hidden: H, width of the residual stream.
        attention: Width of all query heads together.
        key_value: Width of all key heads together.
        intermediate: Width inside a layer's MLP.
        vocabulary: V.
        matrices: Elements of the body's weight matrices: embeddings and vocabulary head not.
        parameters: Elements of all weights; tied ones once.
        modules: Matrices that get an adapter.
        adapted: Their elements.
        adapted_inputs: The sum of their input widths.
        lora: Elements of all A and B.
        rank: r.
    """

    layers: int
    hidden: int
    attention: int
    key_value: int
    intermediate: int
    vocabulary: int
    matrices: int
    parameters: int
    modules: int
    adapted: int
    adapted_inputs: int
    lora: int
    rank: int


@dataclass(frozen=True)
class Work:
    """Work to be done, of kinds that each have a speed of their own; adds up.

    Attributes:
        tokens: Logical work, as ``result.json`` counts it.
        forward: FLOPs of forward passes without dropout, the adapter on or off.
        sampled: FLOPs of forward passes under MC dropout, or of other passes.
        train: FLOPs of updates.
        decode: FLOPs of generated tokens after the first of each row.
        steps: Forward passes that generate them, each one token a row of a batch.
        new: How many such tokens.
    """

    tokens: float = 0.0
    forward: float = 0.0
    sampled: float = 0.0
    train: float = 0.0
    decode: float = 0.0
    steps: float = 0.0
    new: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Work)))

    @property
    def flops(self) -> float:
        """FLOPs of all kinds."""
        return self.forward + self.sampled + self.train + self.decode


def forward_flops(
    shape: Shape, fed: ArrayLike, predicted: ArrayLike, *, adapter: bool = False
) -> float:
    """Return the FLOPs of rows going through the model once.

    2 FLOPs an element of the body's matrices and a token; attention, each token over those before
    it and itself: 4·width·T(T+1)/2 a layer, the causal half alone; the vocabulary head where a
    token is predicted.

    Args:
        shape: Of the model.
        fed: (N,) tokens of each row that are fed.
        predicted: (N,) positions of each row at which the vocabulary head is asked.
        adapter: With the adapter as a low-rank product beside each matrix, not merged into it.
    """
    fed, predicted = np.asarray(fed, dtype=float), np.asarray(predicted, dtype=float)
    elements = shape.matrices + shape.lora * adapter
    return float(
        2.0 * elements * fed.sum()
        + _attention(shape, fed)
        + 2.0 * shape.vocabulary * shape.hidden * predicted.sum()
    )


def _attention(shape: Shape, fed: NDArray[np.float64]) -> float:
    return 4.0 * shape.attention * shape.layers * float((fed * (fed + 1) / 2).sum())


def train_flops(
    shape: Shape, fed: ArrayLike, predicted: ArrayLike, *, recompute: bool = False
) -> float:
    """Return the FLOPs of forward and backward passes over rows.

    Backward a frozen matrix passes on the gradient of its input alone, as much as its forward
    again; A and B get gradients of their own, twice; fused attention computes its scores again,
    2.5 times.

    Args:
        shape: Of the model.
        fed: (N,) tokens of each row that are fed.
        predicted: (N,) answer tokens of each row.
        recompute: Gradient checkpointing: the body's forward once more.
    """
    frozen = forward_flops(shape, fed, predicted)
    once = forward_flops(shape, fed, 0, adapter=True)
    attention = _attention(shape, np.asarray(fed, dtype=float))
    lora = once - forward_flops(shape, fed, 0)
    return 2.0 * frozen + 1.5 * attention + 3.0 * lora + once * recompute


def scored(
    shape: Shape, prompts: ArrayLike, answers: ArrayLike, *, passes: int = 0, adapter: bool = False
) -> Work:
    """Return the work of scoring answers behind prompts; 0 passes = one without dropout."""
    prompts, answers = np.asarray(prompts), np.asarray(answers)
    count = max(1, passes)
    flops = count * forward_flops(shape, prompts + answers - 1, answers, adapter=adapter)
    tokens = count * float((prompts + answers).sum())
    return Work(tokens, sampled=flops) if passes else Work(tokens, forward=flops)


def scored_choices(
    shape: Shape,
    rows: Counts,
    answers: Counts,
    *,
    shared: bool,
    passes: int = 0,
    adapter: bool = False,
) -> Work:
    """Return the work of scoring the choices of N questions.

    Args:
        shape: Of the model.
        rows: (N, C) tokens of prompt and choice.
        answers: (N, C) tokens of the choice alone.
        shared: Choices differ in their last token alone: one row is fed for all, and the head is
            asked for the choices' words alone, which is next to nothing.
        passes: S; 0 = one without dropout.
        adapter: As in :func:`forward_flops`.
    """
    if not shared or not rows.size:
        return scored(shape, rows - answers, answers, passes=passes, adapter=adapter)
    one = scored(shape, rows[:, 0], np.zeros(len(rows)), passes=passes, adapter=adapter)
    return replace(one, tokens=max(1, passes) * float(rows.sum()))


def generated(
    shape: Shape, prompts: ArrayLike, answers: ArrayLike, *, batch_size: int, adapter: bool = False
) -> Work:
    """Return the work of generating answers.

    Args:
        shape: Of the model.
        prompts: (N,) tokens.
        answers: (N,) tokens, their end included.
        batch_size: Rows that generate together, of like length of prompt.
        adapter: As in :func:`forward_flops`.
    """
    prompts, answers = np.asarray(prompts), np.asarray(answers)
    first = forward_flops(shape, prompts, np.ones(len(prompts)), adapter=adapter)
    whole = forward_flops(shape, prompts + answers - 1, answers, adapter=adapter)
    in_order = answers[np.argsort(-prompts, kind="stable")]
    longest = [in_order[i : i + batch_size].max() for i in range(0, len(in_order), batch_size)]
    return Work(
        tokens=float((prompts + answers).sum()),
        forward=first,
        decode=whole - first,
        steps=float(sum(longest) - len(longest)),
        new=float((answers - 1).sum()),
    )


def weight_bytes(
    shape: Shape, size: float, *, four_bit: bool = False, double: bool = True
) -> float:
    """Return the bytes of the base weights, ``size`` bytes an element.

    Four bits: half a byte an element of the body's matrices and 0.127 bits for its scales, half a
    bit where these are not quantised too (QLoRA, arXiv 2305.14314); all else as it was.
    """
    matrices = shape.matrices * ((4 + (0.127 if double else 0.5)) / 8 if four_bit else size)
    return matrices + (shape.parameters - shape.matrices) * size


def training_bytes(
    shape: Shape,
    *,
    tokens: int,
    predicted: int,
    size: float,
    dropout: bool,
    mask: float = 1.0,
    recompute: bool = False,
) -> float:
    """Return the bytes that training needs beside the base weights, at its peak.

    Adapter, its gradient and AdamW's two averages in float32. What the backward pass keeps of a
    token in each layer: two norms' inputs in float32; each adapted matrix's input as A sees it
    (float32; with dropout a copy of its own and a mask, without it shared) and A's output; queries,
    keys, values and what attention gives; three vectors of the MLP. Of an answer token,
    log-probabilities, their gradient and the logits in float32.

    Args:
        shape: Of the model.
        tokens: Of a batch, padding included.
        predicted: Answer tokens among them.
        size: Bytes an element of the base model's activations.
        dropout: Whether the adapter has dropout.
        mask: Bytes an element of dropout's mask.
        recompute: Gradient checkpointing: one layer at a time, and every layer's input.
    """
    shared = 4.0 * shape.layers * (2 * shape.hidden + shape.intermediate)
    copies = shape.adapted_inputs * (4.0 + mask) if dropout else shared
    layers = copies + 4.0 * shape.modules * shape.rank + shape.layers * (
        2.0 * 4.0 * shape.hidden
        + size * (2 * shape.attention + 2 * shape.key_value + 3 * shape.intermediate)
    )  # fmt: skip
    if recompute:
        layers = layers / shape.layers + size * shape.layers * shape.hidden
    return 16.0 * shape.lora + tokens * layers + 3.0 * 4.0 * predicted * shape.vocabulary


def scoring_bytes(shape: Shape, *, tokens: int, logits: int, size: float, merged: bool) -> float:
    """Return the bytes that scoring needs beside the base weights, at its peak.

    Args:
        shape: Of the model.
        tokens: Of a forward pass; of one layer's activations, which are not kept.
        logits: Elements of the vocabulary head's output at once; three tensors of them.
        size: Bytes an element of the base weights.
        merged: Whether the adapter is merged into a copy of the weights.
    """
    layer = size * (4 * shape.hidden + 2 * shape.attention + 3 * shape.intermediate)
    return _held(shape, size, merged) + tokens * layer + 3.0 * 4.0 * logits


def generating_bytes(shape: Shape, *, rows: int, tokens: int, size: float, merged: bool) -> float:
    """Return the bytes that generating needs beside the base weights: keys, values, logits.

    Args:
        shape: Of the model.
        rows: Of a batch.
        tokens: Of prompt and longest answer.
        size: Bytes an element of the base weights.
        merged: Whether the adapter is merged into a copy of the weights.
    """
    cache = 2.0 * shape.layers * shape.key_value * rows * tokens * size
    return _held(shape, size, merged) + cache + 4.0 * rows * shape.vocabulary


def _held(shape: Shape, size: float, merged: bool) -> float:
    return 4.0 * shape.lora + size * shape.adapted * merged

"""What a model answers, and how sure it is: no label is read here.

The round's evaluation judges these very answers, so a prediction outside a run and one inside it
are the same number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star.data.answers import released_number
from star.data.task import Example, Task
from star.evaluation import temperature
from star.evaluation.temperature import Temperatures
from star.models import likelihood
from star.models.encoding import TokenRow
from star.models.generation import generate_scored, text_of
from star.models.language_model import LanguageModel
from star.models.truncation import Limits, encode_choices, encode_rows

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Chosen:
    """How likely a model finds each question's choices.

    Attributes:
        log_probs: ``sum`` or ``mean`` (of log p over a choice's tokens) to (N, C) normalised
            log-probabilities, in nats.
        unlike: Whether a question's choices differ in their number of tokens, and so the two.
        prompts: (N,) tokens of the prompts as they were asked.
        tokens: Logical work.
    """

    log_probs: Mapping[str, Array]
    unlike: bool
    prompts: list[int]
    tokens: int


def choose(model: LanguageModel, examples: Sequence[Example], limits: Limits) -> Chosen:
    """Return the likelihoods of the choices of N questions, in the view that is on."""
    groups = encode_choices(model, examples, max_prompt_length=limits.max_prompt_length)
    scores = likelihood.choice_scores(model, groups, desc="evaluate")
    lengths = np.array([[len(row.continuation) for row in group] for group in groups])  # (N, C)
    return Chosen(
        log_probs={
            "sum": likelihood.normalised(scores)[:, 0],
            "mean": likelihood.normalised(scores, lengths)[:, 0],
        },
        unlike=bool((lengths != lengths[:, :1]).any()),
        prompts=[len(group[0].prompt) for group in groups],
        tokens=sum(len(row) for group in groups for row in group),
    )


@dataclass(frozen=True)
class Generated:
    """A model's greedy answers.

    Attributes:
        rows: N prompts with their answers behind them.
        log_probs: (N,) Σ log p of the answers, in nats.
        texts: (N,) the answers without their stop tokens.
        truncated: Positions of prompts that were cut to make room.
    """

    rows: list[TokenRow]
    log_probs: Array
    texts: list[str]
    truncated: list[int]


def generate(model: LanguageModel, examples: Sequence[Example], limits: Limits) -> Generated:
    """Return the answers to N questions, by the view that is on."""
    asked = encode_rows(
        model,
        examples,
        None,
        reserve=limits.max_new_tokens,
        max_prompt_length=limits.max_prompt_length,
    )
    new, log_probs = generate_scored(
        model,
        [row.prompt for row in asked.rows],
        max_new_tokens=limits.max_new_tokens,
        desc="evaluate",
    )
    rows = [TokenRow(p.index, p.prompt, c) for p, c in zip(asked.rows, new, strict=True)]
    return Generated(rows, log_probs, [text_of(model, c) for c in new], asked.truncated)


def extracted(task: Task, text: str, *, digits: bool) -> str | None:
    """Return the answer in a generated text; ``digits``: read as the released code does."""
    return released_number(text) if digits else task.extract(text, strict=False)


def confidences(log_prob: float, tokens: int, view: str = "") -> dict[str, float]:
    """Return the two confidences in a generated answer, by the names they have in its row.

    ``confidence``: p of the whole answer, ``exp Σ log p``, the model's probability of writing just
    this, which can be held against how often it is right. ``confidence_token_mean``: the geometric
    mean of its tokens' probabilities, ``exp(Σ log p / tokens)``, the length-normalised likelihood
    of Malinin & Gales 2021 (arXiv 2002.07650); it ranks answers of unlike length, and is the
    probability of nothing. With rounding neither exceeds 1.

    Args:
        log_prob: Σ log p of the answer's tokens, in nats.
        tokens: How many; at least 1.
        view: Of another view than the answer's own: ``mc`` makes ``confidence_mc`` of the name.
    """
    name = f"confidence_{view}" if view else "confidence"
    kinds = {name: log_prob, f"{name}_token_mean": log_prob / tokens}
    return {kind: min(1.0, float(np.exp(value))) for kind, value in kinds.items()}


def answers(
    model: LanguageModel,
    task: Task,
    examples: Sequence[Example],
    *,
    limits: Limits,
    by_likelihood: bool,
    choice_score: str = "sum",
    digits: bool = False,
) -> tuple[list[str | None], int]:
    """Return the answers to N ≥ 1 questions as they are compared, and the tokens they took.

    Arguments as of :func:`predict`; ``None``: the text has no answer.
    """
    if task.labels is None or not by_likelihood:
        made = generate(model, examples, limits)
        texts = [extracted(task, text, digits=digits) for text in made.texts]
        return texts, sum(map(len, made.rows))
    chosen = choose(model, examples, limits)
    best = chosen.log_probs[choice_score].argmax(axis=1)
    return [task.labels[i] for i in best], chosen.tokens


def predict(
    model: LanguageModel,
    task: Task,
    examples: Sequence[Example],
    *,
    limits: Limits,
    by_likelihood: bool,
    choice_score: str = "sum",
    digits: bool = False,
    temperatures: Temperatures | None = None,
) -> list[dict[str, Any]]:
    """Return the answers to N questions, by the view that is on, without dropout.

    Args:
        model: The model.
        task: What reads an answer out of a text.
        examples: N ≥ 1 questions.
        limits: As the run was evaluated with, like all that follows.
        by_likelihood: Choices are compared; else they are generated, like free answers.
        choice_score: ``sum`` or ``mean``.
        digits: See :func:`extracted`.
        temperatures: ``None`` leaves the model's own confidences.

    Returns:
        A row a question: of choices ``label``, ``probability`` and ``probabilities`` (label to
        probability, all of them); of generated answers ``answer`` (``None`` where there is none in
        the text), ``text``, and ``confidence``: ``sequence`` and ``token_mean``, see
        :func:`confidences`. Of both ``calibrated``, and ``truncated``: whether the prompt was cut.
    """
    if task.labels is None or not by_likelihood:
        made = generate(model, examples, limits)
        rows = _answers(task, made, digits, temperatures)
        lengths = [len(row.prompt) for row in made.rows]
    else:
        chosen = choose(model, examples, limits)
        rows = _labels(task.labels, chosen.log_probs[choice_score], temperatures)
        lengths = chosen.prompts
    whole = model.encode([e.prompt for e in examples], [""] * len(examples), eos=False)
    calibrated = temperatures is not None
    return [
        row | {"calibrated": calibrated, "truncated": length < len(full.prompt)}
        for row, length, full in zip(rows, lengths, whole, strict=True)
    ]


def _answers(
    task: Task, made: Generated, digits: bool, temperatures: Temperatures | None
) -> list[dict[str, Any]]:
    sizes = [len(row.continuation) for row in made.rows]
    both = [confidences(p, n) for p, n in zip(made.log_probs, sizes, strict=True)]
    sequence, mean = (
        _honest([row[f"confidence{end}"] for row in both], t)
        for end, t in (
            ("", temperatures and temperatures.whole),
            ("_token_mean", temperatures and temperatures.token_mean),
        )
    )
    return [
        {
            "answer": extracted(task, text, digits=digits),
            "text": text,
            "confidence": {"sequence": p, "token_mean": q},
        }
        for text, p, q in zip(made.texts, sequence, mean, strict=True)
    ]


def _labels(
    labels: Sequence[str], raw: Array, temperatures: Temperatures | None
) -> list[dict[str, Any]]:
    known = temperature.scale(raw, temperatures.whole) if temperatures else raw
    return [
        {
            "label": labels[best],
            "probability": float(p[best]),
            "probabilities": {name: float(v) for name, v in zip(labels, p, strict=True)},
        }
        for best, p in zip(raw.argmax(axis=1), np.minimum(np.exp(known), 1.0), strict=True)
    ]


def _honest(confidence: list[float], t: float | None) -> list[float]:
    """Return confidences scaled by a temperature, if there is one."""
    if t is None:
        return confidence
    scaled: list[float] = temperature.scale_confidence(confidence, t).tolist()
    return scaled

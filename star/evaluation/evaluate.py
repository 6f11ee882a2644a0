"""Predictions on the test split: correctness, confidence, and the likelihood of the gold answer.

Without dropout, whichever view of the model is on. The labels read here are the test split's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from star.cache import cached, key, read_sealed, write_sealed
from star.config import EvaluationConfig
from star.data.task import Answer, Example, Task, is_right
from star.evaluation import calibration, predict, proper_scores
from star.evaluation.classification import by_class
from star.models import likelihood
from star.models.distributed import everyone, is_main
from star.models.encoding import TokenRow
from star.models.language_model import LanguageModel
from star.models.truncation import Limits, encode_rows

VERSION = 4  # of the results' meaning; part of the key of those that are kept


@dataclass(frozen=True)
class Evaluation:
    """Test results of one model.

    Attributes:
        metrics: ``accuracy`` (flexible extraction), ``accuracy_strict`` where it differs in kind,
            ``accuracy_stderr``, ``ece``, ``overconfidence``, ``nll`` (nats an example), ``brier``;
            ``ece_token_mean`` and the like of the other confidence of generated answers (of
            choices, which have one, the same again); ``accuracy_sum`` and ``accuracy_mean`` where
            the choices of a question differ in their number of tokens.
        predictions: One row an example, for ``predictions.jsonl``.
        tokens: Tokens through the model, padding not counted.
        own: Generated answers behind their prompts, as tokens; empty for choices by likelihood.
        gold: The gold targets likewise.
    """

    metrics: dict[str, Any]
    predictions: list[dict[str, Any]]
    tokens: int
    own: list[TokenRow] = field(default_factory=list)
    gold: list[TokenRow] = field(default_factory=list)


def evaluate(
    model: LanguageModel,
    task: Task,
    examples: Sequence[Example],
    answers: Sequence[Answer],
    *,
    limits: Limits,
    by_likelihood: bool,
    bins: int,
    choice_score: str = "sum",
    digits: bool = False,
) -> Evaluation:
    """Return the results on ``examples``.

    Choice tasks by likelihood: the prediction is the choice with the largest likelihood, its
    confidence that likelihood over the sum of all choices', ``nll`` the gold choice's −log p,
    ``brier`` the sum over the choices. By ``choice_score`` the likelihood is that of all the
    choice's tokens (``sum``) or their geometric mean (``mean``, which does not fall with length);
    which choices are right by the one and by the other stands beside it where they can differ.
    Generated answers: the prediction is extracted from the greedy continuation; its
    confidence is the probability of the whole continuation, the stop token's included (see
    ``predict.confidences``, which gives ``confidence_token_mean`` too); ``nll`` is the gold
    target's summed −log p; ``brier`` is (confidence − correct)². With ``digits`` generated and gold
    answers are read as the released code reads them (``answers.released_number``).

    Tasks of classes have macro F1, balanced accuracy, recall and precision by class, and the
    confusion besides (:func:`star.evaluation.classification.by_class`).
    """
    choices = task.labels is not None and by_likelihood
    judge = (
        partial(_by_likelihood, by=choice_score)
        if choices
        else partial(_by_generation, digits=digits)
    )
    found = judge(model, task, examples, answers, limits)
    rows = found.predictions
    correct = np.array([row["correct"] for row in rows], dtype=np.float64)
    metrics = {
        "accuracy": float(correct.mean()),
        "accuracy_stderr": float(calibration.accuracy_stderr(correct)),
        "nll": float(np.mean([row["nll"] for row in rows])),
        **found.metrics,
    }
    for end in ("", "_token_mean"):
        p = [row.get(f"confidence{end}", row["confidence"]) for row in rows]
        metrics[f"ece{end}"] = calibration.expected_calibration_error(p, correct, bins=bins)
        metrics[f"overconfidence{end}"] = calibration.overconfidence(p, correct)
    if not choices:
        metrics["brier"] = proper_scores.binary_brier([row["confidence"] for row in rows], correct)
        metrics["brier_token_mean"] = proper_scores.binary_brier(p, correct)
        metrics["accuracy_strict"] = float(np.mean([row["correct_strict"] for row in rows]))
    if task.classifies:
        golds, named = ([row[key] for row in rows] for key in ("gold", "prediction"))
        metrics |= by_class(golds, named, task.labels or ())
    return replace(found, metrics=metrics)


def as_asked(
    config: EvaluationConfig,
    model: LanguageModel,
    task: Task,
    examples: Sequence[Example],
    answers: Sequence[Answer],
    how: Callable[..., Evaluation] | None = None,
) -> Evaluation:
    """Return the results as a configuration's ``evaluation`` asks for them.

    Args:
        config: Says what of them.
        model: As for :func:`evaluate`, like the three that follow.
        task: What is asked.
        examples: N questions.
        answers: Theirs, in the same order.
        how: What keeps its results, and takes the same; ``None``: nothing.
    """
    return (how or evaluate)(
        model,
        task,
        examples,
        answers,
        limits=Limits.of(config),
        by_likelihood=config.choice_by == "likelihood",
        bins=config.ece_bins,
        choice_score=config.choice_score,
        digits=config.extraction == "digits",
    )


def _row(example: Example, answer: Answer, prediction: str | None) -> dict[str, Any]:
    kind = {} if example.kind is None else {"kind": example.kind}
    return {"index": example.index, **kind, "gold": answer.gold, "prediction": prediction}


def evaluate_once(
    cache: Path, model: LanguageModel, task: Task, examples: Sequence[Example],
    answers: Sequence[Answer], **options: Any,
) -> Evaluation:  # fmt: skip
    """As :func:`evaluate`, kept in a folder under the hash of all that decides it.

    For the base model, whose results every seed and strategy shares. Call it without an adapter.

    Args:
        cache: The folder; one that cannot be written to costs time, not the result.
        model: The base model.
        task: As for :func:`evaluate`, like all others.
        examples: N questions.
        answers: Their answers.
        **options: The keywords of :func:`evaluate`.
    """
    of_task = {"name": task.name, "version": task.version, "labels": task.labels}
    asked = {"task": of_task, "examples": list(examples), "answers": list(answers)}
    return cached(
        cache,
        f"{key(VERSION, model=model.fingerprint, options=options, **asked)}.json",
        make=lambda: evaluate(model, task, examples, answers, **options),
        read=_read,
        write=_write if is_main() else None,
        agree=everyone,
    )


def _write(path: Path, found: Evaluation) -> None:
    write_sealed(path, {f.name: getattr(found, f.name) for f in fields(found)} | {
        part: [[r.index, r.prompt, r.continuation] for r in getattr(found, part)]
        for part in ("own", "gold")
    })  # fmt: skip


def _read(path: Path) -> Evaluation:
    stored = read_sealed(path)
    rows = {
        part: [TokenRow(i, tuple(p), tuple(c)) for i, p, c in stored.pop(part)]
        for part in ("own", "gold")
    }
    return Evaluation(**stored, **rows)


def _by_likelihood(
    model: LanguageModel,
    task: Task,
    examples: Sequence[Example],
    answers: Sequence[Answer],
    limits: Limits,
    *,
    by: str,
) -> Evaluation:
    labels = list(task.labels or ())
    chosen = predict.choose(model, examples, limits)
    cut = _cut_prompts(model, examples, limits)
    log_probs = chosen.log_probs[by]  # (N, C)
    gold = np.array([labels.index(a.gold) for a in answers])
    rows = []
    for example, answer, row, right in zip(examples, answers, log_probs, gold, strict=True):
        best = int(row.argmax())
        rows.append(
            _row(example, answer, labels[best])
            | {"correct": bool(best == right), "confidence": min(1.0, float(np.exp(row[best])))}
            | {"nll": float(-row[right]), "log_probs": [float(v) for v in row]}
            | {"gold_choice": int(right)}
            | ({"truncated": True} if example.index in cut else {})
        )
    metrics = {"brier": proper_scores.brier(np.exp(log_probs), gold)}
    if chosen.unlike:
        for name, values in chosen.log_probs.items():
            right = values.argmax(axis=1) == gold
            metrics[f"accuracy_{name}"] = float(right.mean())
            for row, hit in zip(rows, right, strict=True):
                row[f"correct_{name}"] = bool(hit)
    return Evaluation(metrics, rows, chosen.tokens)


def _cut_prompts(model: LanguageModel, examples: Sequence[Example], limits: Limits) -> set[int]:
    """Return the indices of questions that ``max_prompt_length`` cuts."""
    if limits.max_prompt_length is None:
        return set()
    fitted = encode_rows(model, examples, None, max_prompt_length=limits.max_prompt_length)
    return {examples[position].index for position in fitted.truncated}


def _by_generation(
    model: LanguageModel,
    task: Task,
    examples: Sequence[Example],
    answers: Sequence[Answer],
    limits: Limits,
    *,
    digits: bool,
) -> Evaluation:
    made = predict.generate(model, examples, limits)
    targets, most = [answer.target for answer in answers], limits.max_prompt_length
    wanted = encode_rows(model, examples, targets, max_prompt_length=most)
    gold, cut = wanted.rows, {*made.truncated, *wanted.truncated}
    gold_nll = likelihood.nll(model, gold)[:, 0]
    rows = []
    for i, (example, answer) in enumerate(zip(examples, answers, strict=True)):
        text, new = made.texts[i], made.rows[i].continuation
        flexible = predict.extracted(task, text, digits=digits)
        strict = task.extract(text, strict=True)
        correct = is_right(task, flexible, answer, digits=digits)
        rows.append(
            _row(example, answer, flexible)
            | {
                "correct": correct,
                "correct_strict": task.is_correct(strict, answer.gold, strict=True),
                **predict.confidences(made.log_probs[i], len(new)),
                "nll": float(gold_nll[i]),
                "text": text,
                "stopped": new[-1] in model.stop_ids,
            }
            | ({"truncated": True} if i in cut else {})  # prompt or target, to fit the model
        )
    tokens = sum(len(r) for part in (made.rows, gold) for r in part)
    return Evaluation({}, rows, tokens, made.rows, gold)

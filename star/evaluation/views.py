"""Calibration of three predictions of the same questions: base, full, and MC-averaged; a control.

The paper's argument (arXiv 2403.01165) is that LoRA models are over-confident, and that the full
model's uncertainty is a poor guide while the LoRA part is under-trained. Both can be read here
round by round, on the test split. Confidences:

* ``full`` and ``base``: of each model's own prediction, as ``evaluation.evaluate`` defines them.
* ``mc``: the S passes that the round scores with (MC dropout's, TFB's, an ensemble's) averaged in
  probability, p̄ = mean_s p_s. Choices: the prediction is the choice of the largest p̄, which is its
  confidence. Generated answers: the full model's greedy answer, its confidence p̄, with p_s the
  whole answer's likelihood (expectation of products: Malinin & Gales 2021, arXiv 2002.07650).
* ``shared``: how well base, full and MC confidence in one and the same answer, the full model's,
  tell that model's errors apart. The base's is its opinion of another's answer: neither its
  confidence in its own nor what a strategy acquires with.
* ``full_scaled``: ``full`` after temperature scaling (Guo et al. 2017), fitted on the validation
  rows, never on the test split.

Generated answers have a second confidence, the geometric mean over their L tokens, p^(1/L): all of
the above again under ``token_mean`` in each view, in ``shared`` under names that end so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from peft import PeftModel

from star.data.task import Example
from star.evaluation import calibration, proper_scores, ranking, temperature
from star.evaluation.evaluate import Evaluation
from star.evaluation.predict import confidences
from star.models import likelihood
from star.models.adapter import base_model
from star.models.language_model import LanguageModel
from star.models.passes import Passes
from star.models.truncation import Limits, encode_choices

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CalibrationOfViews:
    """What :func:`compare` found.

    Attributes:
        calibration: View to ``calibration.summary``, with ``nll`` in nats an example, and of
            generated answers ``token_mean``, the summary of that confidence; ``shared`` to
            ``{"auroc_base", "auroc_full", "auroc_mc"}`` (of generated answers
            ``"auroc_base_token_mean"`` and so on, too), each the AUROC of that view's confidence in
            the full model's answer for its errors.
        tokens: Logical work.
        predictions: The rows that were given, each with the other views' confidences in its answer:
            ``confidence_mc`` and ``confidence_base``, of generated answers these two with
            ``_token_mean`` behind the name, too.
    """

    calibration: dict[str, dict[str, Any]]
    tokens: int
    predictions: list[dict[str, Any]]


def compare(
    model: LanguageModel,
    adapted: PeftModel,
    examples: list[Example],
    tested: Evaluation,
    *,
    limits: Limits,
    bins: int,
    choice_score: str = "sum",
    passes: Passes | None = None,
    base: Evaluation | None = None,
    validation: Evaluation | None = None,
) -> CalibrationOfViews:
    """Return the calibration of each view, and the rows with each view's confidence.

    Args:
        model: The model whose adapter is ``adapted``, in view.
        adapted: The round's adapter, on.
        examples: The N test questions.
        tested: The full view's evaluation of them.
        limits: As it was evaluated with.
        bins: Of the calibration errors.
        choice_score: As it was evaluated with.
        passes: The round's passes; ``None`` leaves ``mc`` out.
        base: The base model's evaluation of the same questions; ``None`` leaves it out.
        validation: The full view's evaluation of held-out rows; ``None`` = no temperature.
    """
    rows, tokens = [dict(row) for row in tested.predictions], 0
    tested = replace(tested, predictions=rows)
    found = {"full": _summary(tested, bins)}
    if passes is not None:
        if tested.own:
            mc, work = _generated_mc(model, tested, passes, bins)
        else:
            mc, work = _choices_mc(model, examples, tested, passes, bins, limits, by=choice_score)
        found["mc"] = mc
        tokens += work
    if base is not None:
        found["base"] = _summary(base, bins)
        if tested.own:
            with base_model(adapted):
                nll = likelihood.nll(model, tested.own)[:, 0]
            for row, value, own in zip(rows, -nll, tested.own, strict=True):
                row |= confidences(value, len(own.continuation), "base")
            tokens += sum(len(r) for r in tested.own)
        else:
            best = np.argmax([row["log_probs"] for row in rows], axis=1)
            for row, other, choice in zip(rows, base.predictions, best, strict=True):
                row["confidence_base"] = min(1.0, math.exp(other["log_probs"][choice]))
    found["shared"] = _shared(tested, [view for view in ("full", "mc", "base") if view in found])
    if validation is not None:
        found["full_scaled"] = _scaled(tested, validation, bins)
    return CalibrationOfViews(found, tokens, rows)


def _kinds(tested: Evaluation) -> tuple[str, ...]:
    """Return how the names of the confidences end: of a choice there is one."""
    return ("", "_token_mean") if tested.own else ("",)


def _shared(tested: Evaluation, views: list[str]) -> dict[str, float | None]:
    """Return how well each view's confidence in the full model's answers tells its errors."""
    wrong = [not row["correct"] for row in tested.predictions]
    found = {}
    for view in views:
        name = "confidence" if view == "full" else f"confidence_{view}"
        for end in _kinds(tested):
            p = np.array([row[name + end] for row in tested.predictions])
            # −p has the order of 1 − p, which would round tiny confidences into ties.
            found[f"auroc_{view}{end}"] = ranking.auroc(-p, wrong)
    return found


def _summaries(tested: Evaluation, name: str, bins: int) -> dict[str, Any]:
    """Return the summary of the confidence ``name`` in the rows; ``token_mean`` inside it."""
    correct = [row["correct"] for row in tested.predictions]
    parts = [
        calibration.summary([row[name + end] for row in tested.predictions], correct, bins=bins)
        for end in _kinds(tested)
    ]
    return {**parts[0], "token_mean": parts[1]} if len(parts) > 1 else parts[0]


def _summary(tested: Evaluation, bins: int) -> dict[str, Any]:
    found = _summaries(tested, "confidence", bins)
    # Over the classes for choices, as in the headline; else that of "the answer is right".
    return found | {"brier": tested.metrics["brier"], "nll": tested.metrics["nll"]}


def _choices_mc(
    model: LanguageModel,
    examples: list[Example],
    tested: Evaluation,
    passes: Passes,
    bins: int,
    limits: Limits,
    *,
    by: str,
) -> tuple[dict[str, Any], int]:
    groups = encode_choices(model, examples, max_prompt_length=limits.max_prompt_length)
    with passes.installed():
        scores = likelihood.choice_scores(model, groups, passes=passes)
    lengths = np.array([[len(row.continuation) for row in group] for group in groups])
    log_probs = likelihood.normalised(scores, lengths if by == "mean" else None)
    p = np.exp(log_probs).mean(axis=1)  # (N, C)
    rows = tested.predictions
    own = np.argmax([row["log_probs"] for row in rows], axis=1)
    gold = np.array([row["gold_choice"] for row in rows])
    for row, one, mine in zip(rows, p, own, strict=True):
        row["confidence_mc"] = min(1.0, float(one[mine]))
    found = _over_classes(p, gold, p.argmax(axis=1) == gold, bins)
    return found, passes.count * sum(len(r) for group in groups for r in group)


def _over_classes(p: Array, gold: Array, correct: ArrayLike, bins: int) -> dict[str, Any]:
    """Return the summary of choices' distributions (N, C), Brier and NLL over the classes."""
    return calibration.summary(np.minimum(p.max(axis=1), 1.0), correct, bins=bins) | {
        "brier": proper_scores.brier(p, gold),
        "nll": proper_scores.negative_log_likelihood(p, gold),
    }


def _generated_mc(
    model: LanguageModel,
    tested: Evaluation,
    passes: Passes,
    bins: int,
) -> tuple[dict[str, Any], int]:
    with passes.installed():
        own, gold = (
            likelihood.nll(model, rows, passes=passes) for rows in (tested.own, tested.gold)
        )
    for row, value, answer in zip(tested.predictions, _log_mean(-own), tested.own, strict=True):
        row |= confidences(value, len(answer.continuation), "mc")
    found = _summaries(tested, "confidence_mc", bins)
    found["nll"] = float(-_log_mean(-gold).mean())
    return found, passes.count * sum(len(r) for part in (tested.own, tested.gold) for r in part)


def _log_mean(log_values: Array) -> Array:
    """Return log mean_s exp(v_s), (N, S) to (N,)."""
    top = log_values.max(axis=1)
    return top + np.log(np.exp(log_values - top[:, None]).mean(axis=1))


def _scaled(tested: Evaluation, validation: Evaluation, bins: int) -> dict[str, Any]:
    rows, held = tested.predictions, validation.predictions
    correct = [row["correct"] for row in rows]
    if tested.own:
        right, parts = [row["correct"] for row in held], []
        for end in _kinds(tested):
            known, asked = ([row[f"confidence{end}"] for row in some] for some in (held, rows))
            t = temperature.fit_confidence_temperature(known, right)
            honest = temperature.scale_confidence(asked, t)
            parts.append({"temperature": t, **calibration.summary(honest, correct, bins=bins)})
        return {**parts[0], "token_mean": parts[1]}
    t = temperature.fit_temperature(
        [row["log_probs"] for row in held], [row["gold_choice"] for row in held]
    )
    p = np.exp(temperature.scale([row["log_probs"] for row in rows], t))
    gold = np.array([row["gold_choice"] for row in rows])
    return {"temperature": t, **_over_classes(p, gold, correct, bins)}

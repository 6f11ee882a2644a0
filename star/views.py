"""Calibration of three predictions of the same questions: base, full, and MC-averaged; a control.

The paper's argument (arXiv 2403.01165) is that LoRA models are over-confident, and that the full
model's uncertainty is a poor guide while the LoRA part is under-trained. Both can be read here
round by round, on the test split. Confidences:

* ``full`` and ``base``: of each model's own prediction, as ``evaluation.evaluate`` defines them.
* ``mc``: S dropout passes averaged in probability, p̄ = mean_s p_s. Choices: the prediction is the
  choice of the largest p̄, which is its confidence. Generated answers: the full model's greedy
  answer, its confidence p̄^(1/L) over its L tokens, with p_s the whole answer's likelihood
  (expectation of products, length-normalised: Malinin & Gales 2021, arXiv 2002.07650).
* ``shared``: how well base, full and MC confidence in one and the same answer, the full model's,
  tell that model's errors apart.
* ``full_scaled``: ``full`` after temperature scaling (Guo et al. 2017), fitted on the validation
  rows, never on the test split.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peft import PeftModel

from star import calibration, likelihood, temperature
from star.adapter import base_model
from star.admission import Limits, encode_choices
from star.evaluation import Evaluation
from star.mc_dropout import Passes
from star.models import LanguageModel
from star.tasks.base import Example

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Compared:
    """What :func:`compare` found.

    Attributes:
        calibration: View to ``calibration.summary``, with ``nll`` in nats an example; ``shared`` to
            ``{"auroc_base", "auroc_full", "auroc_mc"}``.
        tokens: Logical work.
    """

    calibration: dict[str, dict[str, Any]]
    tokens: int


def compare(
    model: LanguageModel,
    adapted: PeftModel,
    examples: list[Example],
    tested: Evaluation,
    *,
    limits: Limits,
    bins: int,
    passes: Passes | None = None,
    base: Evaluation | None = None,
    validation: Evaluation | None = None,
    progress: bool = False,
) -> Compared:
    """Return the calibration of each view; add ``confidence_mc`` and ``confidence_base`` to rows.

    Args:
        model: The model whose adapter is ``adapted``, in view.
        adapted: The round's adapter, on.
        examples: The N test questions.
        tested: The full view's evaluation of them; its predictions are completed in place.
        limits: As it was evaluated with.
        bins: Of the calibration errors.
        passes: The round's MC-dropout passes; ``None`` leaves ``mc`` out.
        base: The base model's evaluation of the same questions; ``None`` leaves it out.
        validation: The full view's evaluation of held-out rows; ``None`` = no temperature.
        progress: Show bars.
    """
    rows, tokens = tested.predictions, 0
    options: dict[str, Any] = {"batch_size": limits.batch_size, "progress": progress}
    options["batch_tokens"] = limits.batch_tokens
    found = {"full": _summary(tested, bins)}
    shared = {"full": [row["confidence"] for row in rows]}
    if passes is not None:
        if tested.own:
            mc, work = _generated_mc(model, tested, passes, bins, options)
        else:
            mc, work = _choices_mc(model, examples, tested, passes, bins, limits, options)
        found["mc"] = mc
        shared["mc"] = [row["confidence_mc"] for row in rows]
        tokens += work
    if base is not None:
        found["base"] = _summary(base, bins)
        if tested.own:
            with base_model(adapted):
                nll = likelihood.token_scores(model, tested.own, **options)
            mine = -nll["predictive_entropy"][:, 0] / [len(r.continuation) for r in tested.own]
            tokens += sum(len(r) for r in tested.own)
        else:
            best = np.argmax([row["log_probs"] for row in rows], axis=1)
            mine = np.array([row["log_probs"] for row in base.predictions])[range(len(best)), best]
        for row, value in zip(rows, mine, strict=True):
            row["confidence_base"] = min(1.0, math.exp(value))
        shared["base"] = [row["confidence_base"] for row in rows]
    wrong = [not row["correct"] for row in rows]
    found["shared"] = {
        f"auroc_{view}": calibration.auroc(1.0 - np.array(confidence), wrong)
        for view, confidence in shared.items()
    }
    if validation is not None:
        found["full_scaled"] = _scaled(tested, validation, bins)
    return Compared(found, tokens)


def _summary(tested: Evaluation, bins: int) -> dict[str, Any]:
    confidence = [row["confidence"] for row in tested.predictions]
    correct = [row["correct"] for row in tested.predictions]
    found = calibration.summary(confidence, correct, bins=bins)
    # Over the classes for choices, as in the headline; else that of "the answer is right".
    return found | {"brier": tested.metrics["brier"], "nll": tested.metrics["nll"]}


def _choices_mc(
    model: LanguageModel,
    examples: list[Example],
    tested: Evaluation,
    passes: Passes,
    bins: int,
    limits: Limits,
    options: dict[str, Any],
) -> tuple[dict[str, Any], int]:
    groups = encode_choices(model, examples, max_prompt_length=limits.max_prompt_length)
    with passes.installed():
        log_probs = likelihood.choice_log_probs(model, groups, passes=passes, **options)
    p = np.exp(log_probs).mean(axis=1)  # (N, C)
    rows = tested.predictions
    own = np.argmax([row["log_probs"] for row in rows], axis=1)
    gold = np.array([row["gold_choice"] for row in rows])
    for row, one, mine in zip(rows, p, own, strict=True):
        row["confidence_mc"] = min(1.0, float(one[mine]))
    found = calibration.summary(np.minimum(p.max(axis=1), 1.0), p.argmax(axis=1) == gold, bins=bins)
    found |= {
        "brier": calibration.brier(p, gold),
        "nll": calibration.negative_log_likelihood(p, gold),
    }
    return found, passes.count * sum(len(r) for group in groups for r in group)


def _generated_mc(
    model: LanguageModel,
    tested: Evaluation,
    passes: Passes,
    bins: int,
    options: dict[str, Any],
) -> tuple[dict[str, Any], int]:
    with passes.installed():
        own, gold = (
            likelihood.token_scores(model, rows, passes=passes, **options)["predictive_entropy"]
            for rows in (tested.own, tested.gold)
        )
    lengths = np.array([len(row.continuation) for row in tested.own])
    confidence = np.minimum(np.exp(_log_mean(-own) / lengths), 1.0)
    correct = [row["correct"] for row in tested.predictions]
    for row, value in zip(tested.predictions, confidence, strict=True):
        row["confidence_mc"] = float(value)
    found = calibration.summary(confidence, correct, bins=bins)
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
        t = temperature.fit_confidence_temperature(
            [row["confidence"] for row in held], [row["correct"] for row in held]
        )
        confidence = temperature.scale_confidence([row["confidence"] for row in rows], t)
        return {"temperature": t, **calibration.summary(confidence, correct, bins=bins)}
    t = temperature.fit_temperature(
        [row["log_probs"] for row in held], [row["gold_choice"] for row in held]
    )
    p = np.exp(temperature.scale([row["log_probs"] for row in rows], t))
    gold = np.array([row["gold_choice"] for row in rows])
    found = calibration.summary(np.minimum(p.max(axis=1), 1.0), correct, bins=bins)
    found |= {
        "brier": calibration.brier(p, gold),
        "nll": calibration.negative_log_likelihood(p, gold),
    }
    return {"temperature": t, **found}

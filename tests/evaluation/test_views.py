"""Calibration of base, full and MC-averaged predictions, against loops over single rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny

from star.config import McDropoutConfig, TaskConfig
from star.data.task import Answer, Example
from star.data.tasks.own_data import Jsonl
from star.evaluation import calibration, ranking, temperature, views
from star.evaluation.evaluate import Evaluation, evaluate
from star.models import adapter, mc_dropout
from star.models.encoding import TokenRow
from star.models.language_model import LanguageModel
from star.models.truncation import Limits, encode_choices

LIMITS = Limits(max_new_tokens=4)
LABELS = ["true", "false", "red"]
GOLD = ["true", "false", "red", "red", "true", "false", "red", "true"]
CONFIG = replace(tiny.ADAPTER, lora_dropout=0.4)


def world(choices: bool) -> tuple[Jsonl, list[Example], list[Answer]]:
    task = Jsonl(TaskConfig(name="jsonl", choices=LABELS if choices else None))
    rows = [
        {"question": f"what {'eggs ' * i}{i} plus {9 - i} ?", "answer": answer}
        for i, answer in enumerate(GOLD)
    ]
    pairs = [(task.example(r, 5 + i), task.answer(r, 5 + i)) for i, r in enumerate(rows)]
    return task, [e for e, _ in pairs], [a for _, a in pairs]


def judged(model: LanguageModel, choices: bool) -> Evaluation:
    task, examples, answers = world(choices)
    return evaluate(model, task, examples, answers, limits=LIMITS, by_likelihood=choices, bins=5)


def compared(
    model: LanguageModel, adapted: Any, base: Evaluation | None, choices: bool, **more: Any
) -> tuple[Evaluation, views.CalibrationOfViews]:
    tested = judged(model, choices)
    passes = mc_dropout.passes(adapted, McDropoutConfig(passes=3), seed=0, round_=1)
    found = views.compare(
        model, adapted, world(choices)[1], tested,
        limits=LIMITS, bins=5, passes=passes, base=base, **more,
    )  # fmt: skip
    assert not any("confidence_mc" in row for row in tested.predictions)  # what is given stays
    return replace(tested, predictions=found.predictions), found


def each_pass(model: LanguageModel, adapted: Any, row: TokenRow) -> list[float]:
    """Return log p(continuation) under each of the three passes, the row alone."""
    passes, logs = mc_dropout.passes(adapted, McDropoutConfig(passes=3), seed=0, round_=1), []
    with passes.installed():
        for s in range(3):
            passes.select_pass(s)
            found = tiny.naive_log_probs(model, row)
            logs.append(sum(float(found[j, t]) for j, t in enumerate(row.continuation)))
    return logs


def test_choices(model: LanguageModel) -> None:
    base = judged(model, True)
    with tiny.learned(model, CONFIG) as adapted:
        tested, found = compared(model, adapted, base, True)
        rows = encode_choices(model, world(True)[1])
        logs = np.array([[each_pass(model, adapted, one) for one in group] for group in rows])
    p = np.exp(logs)  # (N, C, S)
    p = (p / p.sum(axis=1, keepdims=True)).mean(axis=2)
    gold = np.array([LABELS.index(g) for g in GOLD])
    expected = calibration.summary(p.max(axis=1), p.argmax(axis=1) == gold, bins=5)
    mc = found.calibration["mc"]
    for key in ("accuracy", "ece", "auroc", "aurc"):
        assert mc[key] == pytest.approx(expected[key], abs=1e-4), key
    assert mc["nll"] == pytest.approx(-np.log(p[range(len(p)), gold]).mean(), rel=1e-4)
    hot = np.eye(3)[gold]
    assert mc["brier"] == pytest.approx(((p - hot) ** 2).sum(axis=1).mean(), rel=1e-3)
    full, own = found.calibration["full"], [row["confidence"] for row in tested.predictions]
    assert full["ece"] == tested.metrics["ece"] and full["nll"] == tested.metrics["nll"]
    assert found.calibration["base"]["accuracy"] == base.metrics["accuracy"]
    # What base and passes give to the full model's own choice.
    for i, row in enumerate(tested.predictions):
        best = LABELS.index(row["prediction"])
        assert row["confidence_mc"] == pytest.approx(p[i, best], rel=1e-4)
        base_p = np.exp(base.predictions[i]["log_probs"][best])
        assert row["confidence_base"] == pytest.approx(base_p, rel=1e-6)
    wrong = [not row["correct"] for row in tested.predictions]
    shared = found.calibration["shared"]
    assert shared["auroc_full"] == ranking.auroc(1 - np.array(own), wrong)
    mine = [row["confidence_base"] for row in tested.predictions]
    assert shared["auroc_base"] == ranking.auroc(1 - np.array(mine), wrong)
    assert shared["auroc_base"] != shared["auroc_full"]
    assert found.tokens == 3 * sum(len(row) for group in rows for row in group)


def test_generated_answers(model: LanguageModel) -> None:
    base = judged(model, False)
    with tiny.learned(model, CONFIG) as adapted:
        tested, found = compared(model, adapted, base, False)
        own = [each_pass(model, adapted, row) for row in tested.own]
        gold = [each_pass(model, adapted, row) for row in tested.gold]
        with adapter.base_model(adapted):
            plain = [
                sum(
                    float(tiny.naive_log_probs(model, r)[j, t])
                    for j, t in enumerate(r.continuation)
                )
                for r in tested.own
            ]
    lengths = np.array([len(row.continuation) for row in tested.own])
    averaged = np.exp(own).mean(axis=1)
    for i, row in enumerate(tested.predictions):
        assert row["confidence_mc"] == pytest.approx(averaged[i], rel=1e-4)
        mean = averaged[i] ** (1 / lengths[i])
        assert row["confidence_mc_token_mean"] == pytest.approx(mean, rel=1e-4)
        assert row["confidence_base"] == pytest.approx(np.exp(plain[i]), rel=1e-4)
        mean = np.exp(plain[i] / lengths[i])
        assert row["confidence_base_token_mean"] == pytest.approx(mean, rel=1e-4)
    nll = -np.log(np.exp(gold).mean(axis=1)).mean()
    assert found.calibration["mc"]["nll"] == pytest.approx(nll, rel=1e-4)
    assert found.calibration["base"]["nll"] == base.metrics["nll"]
    # Each view with both confidences: its own, and of the other views that in the full's answer.
    rows = {"full": tested.predictions, "mc": tested.predictions, "base": base.predictions}
    for view, some in rows.items():
        name = "confidence_mc" if view == "mc" else "confidence"
        correct = [row["correct"] for row in some]
        for end, part in (
            ("", found.calibration[view]),
            ("_token_mean", found.calibration[view]["token_mean"]),
        ):
            expected = calibration.summary([row[name + end] for row in some], correct, bins=5)
            assert {k: part[k] for k in expected} == expected
    assert found.calibration["shared"].keys() == {
        f"auroc_{view}{end}" for view in rows for end in ("", "_token_mean")
    }
    work = 3 * sum(len(r) for part in (tested.own, tested.gold) for r in part)
    assert found.tokens == work + sum(len(r) for r in tested.own)


@pytest.mark.parametrize("choices", [True, False])
def test_only_what_is_asked_for(model: LanguageModel, choices: bool) -> None:
    tested = judged(model, choices)
    with tiny.learned(model, CONFIG) as adapted:
        found = views.compare(model, adapted, world(choices)[1], tested, limits=LIMITS, bins=5)
    assert found.calibration.keys() == {"full", "shared"} and found.tokens == 0
    kinds = {"auroc_full"} if choices else {"auroc_full", "auroc_full_token_mean"}
    assert found.calibration["shared"].keys() == kinds


def test_shared_confidences_of_long_answers_are_not_rounded_into_ties(model: LanguageModel) -> None:
    tested = judged(model, False)
    # 1 − 1e-20 and 1 − 1e-30 are the same double; the surer answers are the right ones.
    for i, row in enumerate(tested.predictions):
        row |= {"correct": i % 2 == 0, "confidence": 1e-20 if i % 2 == 0 else 1e-30 * (i + 1)}
    with tiny.learned(model, CONFIG) as adapted:
        found = views.compare(model, adapted, world(False)[1], tested, limits=LIMITS, bins=5)
    assert found.calibration["shared"]["auroc_full"] == 1.0


def test_a_temperature_comes_from_the_held_out_rows_alone(model: LanguageModel) -> None:
    with tiny.learned(model, CONFIG) as adapted:
        held = judged(model, True)
        tested, found = compared(model, adapted, None, True, validation=held)
        scaled = found.calibration["full_scaled"]
        # Fitted on the rows it is asked on, it cannot be worse there; the predictions stay.
        assert scaled["nll"] <= found.calibration["full"]["nll"] + 1e-9
        assert scaled["accuracy"] == found.calibration["full"]["accuracy"]
        assert scaled["temperature"] != 1.0
        # Other test rows, the same temperature.
        some = replace(tested, predictions=tested.predictions[:4])
        other = views.compare(
            model, adapted, world(True)[1][:4], some, limits=LIMITS, bins=5, validation=held
        )
    assert other.calibration["full_scaled"]["temperature"] == scaled["temperature"]


def test_a_temperature_of_generated_answers(model: LanguageModel) -> None:
    found, bins = judged(model, False), 5

    def planted(confidence: list[float], correct: list[bool]) -> Evaluation:
        rows = [
            {"confidence": c, "confidence_token_mean": c**0.25, "correct": k}
            for c, k in zip(confidence, correct, strict=True)
        ]
        kept = [old | new for old, new in zip(found.predictions, rows, strict=False)]
        return replace(found, predictions=kept)

    # The tiny model's own answers are all wrong, and no temperature but the bound fits them.
    held = [0.9, 0.99, 0.8, 0.95, 0.7], [True, False, True, True, False]
    tested = [0.6, 0.9, 0.97, 0.8], [True, True, False, True]
    with tiny.learned(model, CONFIG) as adapted:
        scaled = views.compare(
            model, adapted, world(False)[1][:4], planted(*tested),
            limits=LIMITS, bins=bins, validation=planted(*held),
        ).calibration["full_scaled"]  # fmt: skip
    mean = scaled.pop("token_mean")
    for part, power in ((scaled, 1.0), (mean, 0.25)):
        known, asked = ([c**power for c in some[0]] for some in (held, tested))
        fitted = temperature.fit_confidence_temperature(known, held[1])
        assert 1.5 < fitted <= 20 and part.pop("temperature") == fitted
        honest = temperature.scale_confidence(asked, fitted)
        assert part == calibration.summary(honest, tested[1], bins=bins)
    assert scaled != mean

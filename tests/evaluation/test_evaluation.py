"""Predictions on the test split against hand computation from the model's own logits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny

from star.config import TaskConfig
from star.data.task import Answer, Example
from star.data.tasks.own_data import Jsonl
from star.evaluation import calibration
from star.evaluation.evaluate import Evaluation, evaluate, evaluate_once
from star.models.batching import Batching
from star.models.encoding import TokenRow
from star.models.language_model import LanguageModel
from star.models.truncation import Limits, encode_choices, encode_rows

LIMITS = Limits(max_new_tokens=4)
LABELS = ["true", "false", "red"]


def judged(
    model: LanguageModel,
    task: Jsonl,
    rows: list[dict[str, str]],
    *,
    limits: Limits = LIMITS,
    by_likelihood: bool = True,
) -> tuple[Evaluation, list[Example], list[Answer]]:
    examples = [task.example(row, 10 + i) for i, row in enumerate(rows)]
    answers = [task.answer(row, 10 + i) for i, row in enumerate(rows)]
    found = evaluate(
        model, task, examples, answers, limits=limits, by_likelihood=by_likelihood, bins=10
    )
    return found, examples, answers


def questions(answers: list[str]) -> list[dict[str, str]]:
    return [
        {"question": f"what {'eggs ' * i}{i} plus {9 - i} ?", "answer": answer}
        for i, answer in enumerate(answers)
    ]


def own_row(model: LanguageModel, row: TokenRow) -> float:
    """Return the summed log-likelihood of a row's continuation, one forward pass of its own."""
    log_probs = tiny.naive_log_probs(model, row).numpy()
    return float(sum(log_probs[j, token] for j, token in enumerate(row.continuation)))


def test_choices_by_likelihood(model: LanguageModel) -> None:
    task = Jsonl(TaskConfig(name="jsonl", choices=LABELS))
    gold = ["true", "false", "red", "red", "true", "false", "red"]
    found, examples, _ = judged(model, task, questions(gold))
    correct, nll, brier = [], [], []
    for row, example, group, right in zip(
        found.predictions, examples, encode_choices(model, examples), gold, strict=True
    ):
        logs = np.array([own_row(model, one) for one in group])
        p = np.exp(logs) / np.exp(logs).sum()
        assert row["index"] == example.index and row["gold"] == right
        assert row["prediction"] == LABELS[int(p.argmax())]
        assert row["confidence"] == pytest.approx(p.max(), rel=1e-4)
        assert row["log_probs"] == pytest.approx(np.log(p), rel=1e-4, abs=1e-5)
        hot = np.array([label == right for label in LABELS])
        assert row["nll"] == pytest.approx(-np.log(p[hot])[0], rel=1e-4, abs=1e-5)
        assert row["correct"] == (row["prediction"] == right)
        correct.append(row["correct"])
        nll.append(-np.log(p[hot])[0])
        brier.append(((p - hot) ** 2).sum())
    assert 0 < sum(correct) < len(gold)  # or half of the test would be idle
    mean = np.mean(correct)
    assert found.metrics["accuracy"] == mean
    assert found.metrics["accuracy_stderr"] == pytest.approx(
        np.sqrt(mean * (1 - mean) / len(gold)), rel=0.1
    )
    assert found.metrics["nll"] == pytest.approx(np.mean(nll), rel=1e-4)
    assert found.metrics["brier"] == pytest.approx(np.mean(brier), rel=1e-4)
    assert 0 <= found.metrics["ece"] <= 1
    assert "accuracy_strict" not in found.metrics  # one way to judge, one number
    # A choice has one confidence: it stands under both names, in the rows under one.
    assert "confidence_token_mean" not in found.predictions[0]
    for name in ("ece", "overconfidence"):
        assert found.metrics[f"{name}_token_mean"] == found.metrics[name]
    sure = np.mean([row["confidence"] for row in found.predictions])
    assert found.metrics["overconfidence"] == pytest.approx(sure - mean)
    assert found.tokens == sum(
        len(one) for group in encode_choices(model, examples) for one in group
    )


def test_generated_answers(model: LanguageModel) -> None:
    task = Jsonl(TaskConfig(name="jsonl"))
    rows = questions(["4", "red blue", "1 2", "yes", "9"])
    found, examples, answers = judged(model, task, rows)
    prompts = encode_rows(model, examples, None).rows
    targets = encode_rows(model, examples, [a.target for a in answers]).rows
    tokens = 0
    for row, prompt, target in zip(found.predictions, prompts, targets, strict=True):
        ids = list(prompt.prompt)
        new: list[int] = []
        logs = []
        while len(new) < LIMITS.max_new_tokens and not (new and new[-1] in model.stop_ids):
            one = TokenRow(0, (*ids, *new), (0,))
            log_probs = tiny.naive_log_probs(model, one)[0].numpy()
            new.append(int(log_probs.argmax()))
            logs.append(log_probs.max())
        assert row["text"] == model.tokenizer.decode(new, skip_special_tokens=True)
        # Of the whole answer, and the geometric mean over its tokens; the stop token counts.
        assert row["confidence"] == pytest.approx(np.exp(np.sum(logs)), rel=1e-4)
        assert row["confidence_token_mean"] == pytest.approx(np.exp(np.mean(logs)), rel=1e-4)
        assert row["nll"] == pytest.approx(-own_row(model, target), rel=1e-4)
        assert row["stopped"] == (new[-1] in model.stop_ids)
        assert "truncated" not in row
        tokens += len(prompt.prompt) + len(new) + len(target)
    confidence = np.array([row["confidence"] for row in found.predictions])
    correct = np.array([row["correct"] for row in found.predictions], dtype=float)
    mean = np.array([row["confidence_token_mean"] for row in found.predictions])
    for end, p in (("", confidence), ("_token_mean", mean)):
        assert found.metrics[f"brier{end}"] == pytest.approx(np.mean((p - correct) ** 2))
        assert found.metrics[f"overconfidence{end}"] == pytest.approx(np.mean(p) - correct.mean())
        ece = calibration.expected_calibration_error(p, correct, bins=10)
        assert found.metrics[f"ece{end}"] == ece
    assert (confidence <= mean).all() and (confidence < mean).any()  # the rest: one token
    assert found.metrics["nll"] == pytest.approx(np.mean([r["nll"] for r in found.predictions]))
    assert found.tokens == tokens


def test_strict_and_flexible(model: LanguageModel) -> None:
    task = Jsonl(TaskConfig(name="jsonl"))
    first, *_ = judged(model, task, questions(["x"] * 3))
    said = [row["text"] for row in first.predictions]
    # Capitals and a full stop are forgiven, but not strictly.
    assert said[0] and said[2]
    golds = [said[0], "no such words", said[2].upper() + "."]
    found, *_ = judged(model, task, questions(golds))
    assert [row["correct"] for row in found.predictions] == [True, False, True]
    assert [row["correct_strict"] for row in found.predictions] == [True, False, False]
    assert found.metrics["accuracy"] == pytest.approx(2 / 3)
    assert found.metrics["accuracy_strict"] == pytest.approx(1 / 3)


def test_a_choice_task_judged_by_what_is_written(model: LanguageModel) -> None:
    task = Jsonl(TaskConfig(name="jsonl", choices=LABELS))
    found, *_ = judged(model, task, questions(["true", "red"]), by_likelihood=False)
    assert {"text", "stopped", "correct_strict"} <= found.predictions[0].keys()
    assert "accuracy_strict" in found.metrics and "log_probs" not in found.predictions[0]


@pytest.mark.parametrize("by_likelihood", [True, False])
def test_batches_change_nothing(model: LanguageModel, by_likelihood: bool) -> None:
    task = Jsonl(TaskConfig(name="jsonl", choices=LABELS))
    rows = questions(["true", "false", "red", "red", "true"])
    one, *_ = judged(replace(model, batching=Batching(1)), task, rows, by_likelihood=by_likelihood)
    all_, *_ = judged(replace(model, batching=Batching(9)), task, rows, by_likelihood=by_likelihood)
    assert one.tokens == all_.tokens
    for name, value in one.metrics.items():
        assert value == pytest.approx(all_.metrics[name], rel=1e-4, abs=1e-6)
    assert [r["prediction"] for r in one.predictions] == [r["prediction"] for r in all_.predictions]


def test_a_cut_prompt_is_marked(model: LanguageModel) -> None:
    task = Jsonl(TaskConfig(name="jsonl"))
    rows = questions(["4", "5", "6"])
    lengths = [
        len(r)
        for r in encode_rows(model, [task.example(r, i) for i, r in enumerate(rows)], None).rows
    ]
    tight = replace(model, max_length=lengths[1] + LIMITS.max_new_tokens)
    found, *_ = judged(tight, task, rows)
    assert [row.get("truncated", False) for row in found.predictions] == [False, False, True]


def test_rows_are_json(model: LanguageModel) -> None:
    task = Jsonl(TaskConfig(name="jsonl", choices=LABELS))
    found, *_ = judged(model, task, questions(["true", "false"]))
    for row in found.predictions:
        assert isinstance(row["correct"], bool)
        json.dumps(row)


@pytest.mark.parametrize("by_likelihood", [True, False])
def test_the_base_models_results_are_kept_by_content(
    model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_likelihood: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    task = Jsonl(TaskConfig(name="jsonl", choices=LABELS if by_likelihood else None))
    rows = questions(["true", "red", "true"])
    examples = [task.example(row, i) for i, row in enumerate(rows)]
    answers = [task.answer(row, i) for i, row in enumerate(rows)]
    cache, options = tmp_path / "tested", {"by_likelihood": by_likelihood, "bins": 10}
    first = evaluate_once(cache, model, task, examples, answers, limits=LIMITS, **options)
    assert first == evaluate(model, task, examples, answers, limits=LIMITS, **options)
    forward = LanguageModel.predict
    with monkeypatch.context() as no_more:
        no_more.setattr(LanguageModel, "predict", lambda *_: pytest.fail("a forward pass"))
        other = replace(model, batching=Batching(1))  # changes nothing
        again = evaluate_once(cache, other, task, examples, answers, limits=LIMITS, **options)
    assert again == first and LanguageModel.predict is forward
    changes = [
        (examples[::-1], answers[::-1], LIMITS, options),
        (examples, [*answers[:2], task.answer({**rows[2], "answer": "red"}, 2)], LIMITS, options),
        (examples, answers, replace(LIMITS, max_new_tokens=2), options),
        (examples, answers, LIMITS, options | {"bins": 3}),
    ]
    for asked, told, limits, other in changes:
        evaluate_once(cache, model, task, asked, told, limits=limits, **other)
    files = sorted(cache.iterdir())
    assert len(files) == 1 + len(changes)
    for damage in ("{", "[]", '{"own": [[1]], "gold": []}'):
        for file in files:
            file.write_text(damage, encoding="utf-8")
        again = evaluate_once(cache, model, task, examples, answers, limits=LIMITS, **options)
        assert again == first and "cannot be read" in caplog.text
        caplog.clear()

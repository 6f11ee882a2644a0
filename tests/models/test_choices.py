"""Choices that begin alike, that are the same tokens, or that differ in length."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
import tiny

from star.acquisition import pool_scorer
from star.config import AcquisitionConfig, McDropoutConfig, TaskConfig
from star.data.pool import Oracle
from star.data.task import Answer, Example
from star.data.tasks.own_data import Jsonl
from star.errors import InputError
from star.evaluation import views
from star.evaluation.evaluate import Evaluation, evaluate
from star.models import likelihood, mc_dropout
from star.models.encoding import TokenRow
from star.models.language_model import LanguageModel
from star.models.truncation import Limits, encode_choices, truncate_prompts

LIMITS = Limits(max_new_tokens=4)
NESTED = ["eggs", "eggs then red", "eggs then"]
LONGER = ["blue pens", "red"]
END = 2  # the tiny model's end-of-sequence token


def world(labels: list[str]) -> tuple[Jsonl, list[Example], list[Answer]]:
    task = Jsonl(TaskConfig(name="jsonl", choices=labels))
    rows = [
        {"question": f"what {'eggs ' * (i % 4)}{i % 10} plus {i // 3} ?", "answer": labels[i % 2]}
        for i in range(12)
    ]
    pairs = [(task.example(r, 5 + i), task.answer(r, 5 + i)) for i, r in enumerate(rows)]
    return task, [e for e, _ in pairs], [a for _, a in pairs]


def naive(model: LanguageModel, examples: list[Example], *, closed: bool) -> np.ndarray:
    """Return (N, C, 2): Σ log p of each choice and its tokens, one forward pass each, its own."""
    ids = model.tokenizer
    found = []
    for example in examples:
        prompt = tuple(ids(example.prompt)["input_ids"])
        for choice in example.choices or ():
            words = ids(choice, add_special_tokens=False)["input_ids"] + [END] * closed
            row = TokenRow(0, prompt, tuple(words))
            logs = tiny.naive_log_probs(model, row)
            found.append([sum(float(logs[j, t]) for j, t in enumerate(words)), len(words)])
    return np.array(found).reshape(len(examples), -1, 2)


def softmax(values: np.ndarray) -> np.ndarray:
    p = np.exp(values - values.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def judged(model: LanguageModel, labels: list[str], by: str = "sum") -> Evaluation:
    options: dict[str, Any] = {"limits": LIMITS, "by_likelihood": True, "bins": 5}
    return evaluate(model, *world(labels), choice_score=by, **options)


# --- one begins another ------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [list(some) for some in permutations(NESTED)])
def test_choices_that_begin_alike_are_closed(model: LanguageModel, labels: list[str]) -> None:
    (group,) = encode_choices(model, [Example(3, "what :", tuple(f" {x}" for x in labels))])
    assert [len(row.continuation) for row in group] == [1 + len(x.split()) for x in labels]
    assert all(row.continuation[-1] == END for row in group)


def test_each_question_decides_for_itself(model: LanguageModel) -> None:
    nested, free = Example(3, "what :", (" no", " no more")), Example(4, "what", (" yes", " no"))
    other = Example(5, "how many", (" 1 2", " 3"))  # of unlike length, but neither begins the other
    alone = [encode_choices(model, [example])[0] for example in (nested, free, other)]
    assert encode_choices(model, [nested, free, other]) == alone
    ends = [[row.continuation[-1] == END for row in group] for group in alone]
    assert ends == [[True, True], [False, False], [False, False]]
    together = likelihood.choice_log_probs(model, alone[:2])
    for i in (0, 1):
        once = likelihood.choice_log_probs(model, [alone[i]])
        np.testing.assert_allclose(together[i], once[0], rtol=1e-4, atol=1e-5)


def test_every_view_compares_whole_answers(model: LanguageModel) -> None:
    _, examples, _ = world(NESTED)
    log_p = naive(model, examples, closed=True)[..., 0]
    p = softmax(log_p)
    base = judged(model, NESTED)
    for row, one in zip(base.predictions, p, strict=True):
        np.testing.assert_allclose(np.exp(row["log_probs"]), one, rtol=1e-4, atol=1e-6)
        assert row["prediction"] == NESTED[int(one.argmax())]
    # Without its end the shortest would be the answer to every question.
    assert len({row["prediction"] for row in base.predictions}) > 1
    open_ = naive(model, examples, closed=False)[..., 0]
    assert (open_.argmax(axis=1) == 0).all()

    # What is acquired with: the normalised likelihoods of the same whole answers.
    config = AcquisitionConfig(mc_dropout=McDropoutConfig(passes=0))
    oracle: Oracle[Answer] = Oracle({})
    scorer = pool_scorer.PoolScorer(model, examples, config=config, limits=LIMITS, oracle=oracle)
    acquired = scorer.base().score("least_confidence", "sum")
    np.testing.assert_allclose(acquired, 1 - p.max(axis=1), rtol=1e-4, atol=1e-6)

    with tiny.learned(model, replace(tiny.ADAPTER, lora_dropout=0.4)) as adapted:
        tested = judged(model, NESTED)
        passes = mc_dropout.passes(adapted, McDropoutConfig(passes=2), seed=0, round_=0)
        rows = views.compare(
            model, adapted, examples, tested, limits=LIMITS, bins=5, passes=passes, base=base
        ).predictions
        each = []
        with passes.installed():
            for s in range(2):
                passes.select_pass(s)
                each.append(softmax(naive(model, examples, closed=True)[..., 0]))
    for i, row in enumerate(rows):
        mine = NESTED.index(row["prediction"])
        assert row["confidence_mc"] == pytest.approx(np.mean([q[i, mine] for q in each]), rel=1e-3)
        assert row["confidence_base"] == pytest.approx(p[i, mine], rel=1e-4)


def test_without_an_end_token_they_are_refused(model: LanguageModel) -> None:
    model = replace(model, tokenizer=copy.deepcopy(model.tokenizer))
    model.tokenizer.eos_token = None
    example = Example(3, "what :", (" no more", " yes", " no"))
    with pytest.raises(
        InputError, match=r"'no more' and 'no' of row 3 .* no end-of-sequence token"
    ):
        encode_choices(model, [example])
    assert len(encode_choices(model, [replace(example, choices=(" yes", " no more"))])[0]) == 2


def test_room_is_kept_for_the_end_too(model: LanguageModel) -> None:
    examples = [Example(0, "what is the answer", (" 1", " 1 2 3"))]
    options: dict[str, Any] = {"limits": Limits(100), "where": "test", "overlong": "error"}
    length = len(encode_choices(model, examples)[0][0].prompt)
    assert truncate_prompts(replace(model, max_length=length + 4), examples, **options) == (
        examples,
        None,
    )
    with pytest.raises(InputError, match="row 0"):
        truncate_prompts(replace(model, max_length=length + 3), examples, **options)


def test_an_end_that_is_not_trained_is_said(
    tiny_llama: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = runs.write_data(tmp_path / "data", choices=True)
    caplog.set_level(logging.WARNING)
    for choices, append, said in (
        ("['true','true no','false']", "false", True),
        ("['true','true no','false']", "true", False),
        ("['true','no more','false']", "false", False),
    ):
        caplog.clear()
        words = (f"task.choices={choices}", f"train.append_eos={append}", "pool.rounds=1")
        runs.go(tiny_llama, data, tmp_path / choices / append, *words, "acquisition.select=random")
        assert ("append_eos" in caplog.text) == said


# --- the same tokens ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("acquisition.select=random",),
        (),
        ("acquisition.select=random", "evaluation.choice_by=generation"),
    ],
)
def test_choices_that_are_the_same_tokens_are_refused_before_any_work(
    words: tuple[str, ...], tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Words that the tiny model does not know are one and the same token to it.
    for work in (
        "star.models.training.fit",
        "star.models.likelihood.run_batches",
        "star.models.generation.continue_greedily",
    ):
        monkeypatch.setattr(work, lambda *_, **__: pytest.fail("work"))
    data = runs.write_data(tmp_path / "data", choices=True)
    out = tmp_path / "runs"
    choices = "task.choices=['true','sesquipedalian','false','perhaps']"
    with pytest.raises(InputError, match="'sesquipedalian' and 'perhaps' of row 0 are the same"):
        runs.go(tiny_llama, data, out, choices, *words)
    assert not list(out.rglob("rounds/*"))


def test_one_question_among_others(model: LanguageModel) -> None:
    alike = Example(9, "what :", (" no more", " yes", " no more"))
    unknown = Example(9, "what :", (" gold x", " gold y"))
    fine = Example(2, "what :", (" gold red", " red"))
    for example in (alike, unknown):
        for read in (
            lambda some: encode_choices(model, some),
            lambda some: truncate_prompts(
                model, some, limits=LIMITS, overlong="truncate", where="pool"
            ),
        ):
            with pytest.raises(InputError, match="of row 9 are the same tokens"):
                read([fine, example])
            read([fine])


# --- sum and mean ------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [LONGER, NESTED])
@pytest.mark.parametrize("by", ["sum", "mean"])
def test_sum_and_mean_over_the_tokens(model: LanguageModel, labels: list[str], by: str) -> None:
    _, examples, answers = world(labels)
    log_p, tokens = np.moveaxis(naive(model, examples, closed=labels is NESTED), -1, 0)
    kinds = {"sum": log_p, "mean": log_p / tokens}
    gold = np.array([labels.index(answer.gold) for answer in answers])
    found = judged(model, labels, by)
    for row, p in zip(found.predictions, softmax(kinds[by]), strict=True):
        assert row["prediction"] == labels[int(p.argmax())]
        assert row["confidence"] == pytest.approx(p.max(), rel=1e-4)
        np.testing.assert_allclose(np.exp(row["log_probs"]), p, rtol=1e-4, atol=1e-6)
    right = {name: values.argmax(axis=1) == gold for name, values in kinds.items()}
    for name, hits in right.items():
        assert found.metrics[f"accuracy_{name}"] == hits.mean()
        assert [row[f"correct_{name}"] for row in found.predictions] == hits.tolist()
    assert (right["sum"] != right["mean"]).any()
    assert found.metrics["accuracy"] == right[by].mean()


@pytest.mark.parametrize("labels", [["red", "blue", "green"], ["so red", "so blue", "so green"]])
def test_choices_of_one_length_are_ordered_alike(model: LanguageModel, labels: list[str]) -> None:
    total, mean = (judged(model, labels, by) for by in ("sum", "mean"))
    tokens = len(labels[0].split())
    for one, two in zip(total.predictions, mean.predictions, strict=True):
        assert one["prediction"] == two["prediction"]
        p = softmax(np.array(one["log_probs"]) / tokens)
        np.testing.assert_allclose(np.exp(two["log_probs"]), p, rtol=1e-6)
        assert "correct_sum" not in one
    assert not {"accuracy_sum", "accuracy_mean"} & total.metrics.keys()


def test_a_run_reports_both(tiny_llama: Path, tmp_path: Path) -> None:
    data = runs.write_data(tmp_path / "data", choices=True, test=12)
    choices = "task.choices=['true','no more then','false']"
    points = {}
    for by in ("sum", "mean"):
        folder = runs.go(
            tiny_llama, data, tmp_path / by, choices, f"evaluation.choice_score={by}",
            "acquisition.select=random", "pool.rounds=1",
        )  # fmt: skip
        (points[by],) = runs.result(folder)["rounds"]
        assert points[by]["accuracy"] == points[by][f"accuracy_{by}"]
        mc = runs.read(folder / "rounds/00/metrics.json")["calibration"]["mc"]
        points[by]["mc"] = mc["nll"]
    for kind in ("accuracy_sum", "accuracy_mean"):
        assert points["sum"][kind] == points["mean"][kind]
    assert points["sum"]["mc"] != points["mean"]["mc"]

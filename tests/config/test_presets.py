"""The presets, and each of the released code's faults as a setting of its own."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
import tiny
import yaml

from star.acquisition.pool_scorer import PoolScorer, continuation_of
from star.active_learning.loop import run
from star.cli.main import main
from star.config import (
    PRESETS,
    AcquisitionConfig,
    Config,
    McDropoutConfig,
    RegularizerConfig,
    TaskConfig,
    TrainConfig,
    fields_of,
    get,
    label_free,
    load,
    preset_path,
)
from star.data.answers import released_number
from star.data.pool import Oracle
from star.data.prompts import Template
from star.data.task import Answer, Example
from star.data.tasks.gsm8k import Gsm8k
from star.data.tasks.own_data import Jsonl
from star.errors import InputError
from star.evaluation import evaluate, predict
from star.models import adapter, training
from star.models.encoding import TokenRow, encode
from star.models.language_model import LanguageModel
from star.models.truncation import Limits, encode_rows, released_mask

STAR = Path(__file__).parents[2] / "star"
CONFIGS = STAR.parent / "configs"
# accelerate/ is Accelerate's own format, tables/ are lists of runs.
SHIPPED = sorted(
    path
    for path in CONFIGS.rglob("*.yaml")
    if path.relative_to(CONFIGS).parts[0] not in ("accelerate", "tables")
)
KEYS = [key for key, _ in fields_of(Config)]
FAULTS = {  # by the number in the list of the released code's faults
    "acquisition.continuation": (1, "gold"),
    "acquisition.mc_dropout.passes": (2, 0),
    "acquisition.normalization": (3, "base_minmax"),
    "acquisition.entropy_floor": (4, 1e-6),
    "acquisition.reduction": (5, "sum"),
    "train.schedule_from": (6, "test"),
    "regularizer.kind": (7, "decoupled"),
    "acquisition.base_weight.rounds": (8, 10),
    "train.append_eos": (9, False),
    "train.loss_mask": (9, "released"),
    "evaluation.extraction": (11, "digits"),
    "evaluation.max_prompt_length": (11, 128),
}
# What the two differ in besides: how prompts end, how choices are judged, how strong the decay is.
NO_FAULTS = {"task.trailing_space", "evaluation.choice_by", "regularizer.beta"}


def delta(preset: str) -> dict[str, Any]:
    """Return what a preset's file says, by dotted key, read by nothing of star's."""

    def flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name, value in node.items():
            key = f"{prefix}{name}"
            out |= flat(value, f"{key}.") if isinstance(value, dict) else {key: value}
        return out

    return flat(yaml.safe_load(preset_path(preset).read_text(encoding="utf-8")))


# --- loading -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            path,
            id=f"{path.parent.name}-{path.stem}",
            # One file of each folder every time.
            marks=() if path.stem in ("quickstart", "arithmetic", "boolq") else pytest.mark.slow,
        )
        for path in SHIPPED
        if path.parent.name != "minilm"
    ],
)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_lies_between_a_file_and_the_words(preset: str, path: Path) -> None:
    words = ["pool.rounds=5", "acquisition.mc_dropout.masks=consistent"]  # paper's is token
    alone, changed = load(path, words), load(path, words, preset=preset)
    said = delta(preset) | {"pool.rounds": 5, "acquisition.mc_dropout.masks": "consistent"}
    for key in KEYS:
        assert get(changed, key) == said.get(key, get(alone, key)), key
    assert not {"model", "pool", "adapter", "tracking"} & {
        key.partition(".")[0] for key in delta(preset)
    }
    assert not any(key in said for key in ("train.learning_rate", "train.num_train_epochs", "seed"))
    assert label_free(changed) == (preset != "released")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_that_blends_is_refused_where_there_is_no_base_view(preset: str) -> None:
    path = CONFIGS / "minilm" / "sst2.yaml"
    with pytest.raises(InputError, match=r"the base model has no opinion; set acquisition.combine"):
        load(path, preset=preset)


def test_what_reads_labels() -> None:
    assert label_free(load(None, [], preset="paper")) and label_free(load(None, [], preset="star"))
    assert not label_free(load(None, [], preset="released"))
    for word in ("acquisition.select=random", "acquisition.continuation=model"):
        assert label_free(load(None, [word], preset="released"))
    assert not label_free(load(None, ["acquisition.continuation=gold"], preset="star"))


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-", "--preset", "best"]) == 2
    out, err = capsys.readouterr()
    assert err == "error: --preset must be one of paper, released, star, got 'best'\n" and not out
    words = ["run", "-", "--preset", "released", "--print-config", "acquisition.reduction=mean"]
    assert main(words) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["acquisition"]["reduction"] == "mean"
    assert shown["acquisition"]["continuation"] == "gold"
    with pytest.raises(InputError, match=r"base_weight\.rounds=10 ends before pool\.rounds=11"):
        load(None, ["pool.rounds=11"], preset="released")


def test_every_fault_is_one_word_over_another_preset() -> None:
    star, released = load(None, [], preset="star"), load(None, [], preset="released")
    assert {number for number, _ in FAULTS.values()} == {*range(1, 10), 11}  # 10 is speed, 12 none
    for key, (_, value) in FAULTS.items():
        word = f"{key}={json.dumps(value)}"
        changed = load(None, [word], preset="star")
        assert [k for k in KEYS if get(changed, k) != get(star, k)] == [key]
        assert get(changed, key) == value == get(released, key)
        right = load(None, [f"{key}={json.dumps(get(star, key))}"], preset="released")
        assert [k for k in KEYS if get(right, k) != get(released, k)] == [key]
    differing = {k for k in KEYS if get(star, k) != get(released, k)}
    assert differing == FAULTS.keys() | NO_FAULTS
    assert not any(
        get(load(None, [], preset="paper"), k) == v
        for k, (n, v) in FAULTS.items()
        if n not in (5, 7)
    )  # sums and the decay on B are the paper's own


LISTED = re.compile(r"^\| (\d+) \| .* \| (.*) \| (.*) \|$", re.MULTILINE)


def test_each_fault_is_listed_with_its_key_and_its_function() -> None:
    text = (preset_path("released").parent / "README.md").read_text(encoding="utf-8")
    rows = {int(number): (keys, place) for number, keys, place in LISTED.findall(text)}
    assert list(rows) == list(range(1, 13))
    # The list, FAULTS above and the comments of the preset say the same of each key.
    words = {word: n for n, (keys, _) in rows.items() for word in re.findall(r"`(.+?=.+?)`", keys)}
    listed = {word.partition("=")[0]: n for word, n in words.items()}
    assert listed == {key: number for key, (number, _) in FAULTS.items()}
    changed = load(None, list(words), preset="star")
    assert all(get(changed, key) == value for key, (_, value) in FAULTS.items())
    commented = re.findall(
        r"^ +(\w+):.*# fault (\d+)", preset_path("released").read_text(encoding="utf-8"), re.M
    )
    ends = {(key.replace("mc_dropout.", "").rpartition(".")[2], n) for key, n in listed.items()}
    assert {(name, int(n)) for name, n in commented} == ends
    # What exists for a fault alone is found by its name, says which it is, and is in the list.
    named = set()
    for path in sorted(STAR.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("released_"):
                place = f"`star/{path.relative_to(STAR).as_posix()}:{node.name}`"
                [number] = [n for n, (_, listed_place) in rows.items() if place in listed_place]
                assert f"(fault {number})" in (ast.get_docstring(node) or ""), place
                named.add(place)
    in_list = {f"`{p}`" for _, p in rows.values() for p in re.findall(r"`(.+?:released_\w+)`", p)}
    assert named == in_list


# --- what is trained on ------------------------------------------------------------------------

SOLVED = {"question": "tom has 3 eggs plus 4", "answer": "3 plus 4\n#### 7"}


def solved(model: LanguageModel, *, eos: bool) -> tuple[TokenRow, Answer]:
    task = Gsm8k(TaskConfig(name="gsm8k", trailing_space="prompt"))
    answer = task.answer(SOLVED, 5)
    return encode_rows(model, [task.example(SOLVED, 5)], [answer.target], eos=eos).rows[0], answer


@pytest.mark.parametrize("eos", [False, True])
def test_the_first_answer_tokens_have_no_loss(model: LanguageModel, eos: bool) -> None:
    row, answer = solved(model, eos=eos)
    # 3 plus 4 The final answer is 7: eight tokens, and 3 plus 4 #### 7 are five.
    assert len(row.continuation) == 8 + eos
    [masked] = released_mask(model, [row], {5: answer})
    assert masked.prompt == row.prompt + row.continuation[:3]
    assert masked.continuation == row.continuation[3:]
    words = model.tokenizer.convert_ids_to_tokens(list(masked.continuation))
    assert words == ["<unk>", "final", "answer", "is", "7", *["</s>"] * eos]
    assert masked.index == 5


def test_where_the_text_is_not_replaced_all_tokens_have_a_loss(model: LanguageModel) -> None:
    row, answer = solved(model, eos=False)
    assert released_mask(model, [row], {5: replace(answer, stored=None)}) == [row]
    assert Jsonl(TaskConfig(name="jsonl")).answer({"answer": "#### 7"}, 0).stored is None
    # A row cut to two tokens keeps one of them.
    [masked] = released_mask(model, [replace(row, continuation=row.continuation[:2])], {5: answer})
    assert masked.continuation == row.continuation[1:2]


@pytest.mark.parametrize("test, steps", [(3, 2), (8, 1), (40, 1)])
def test_the_schedule_is_as_long_as_the_test_split(
    model: LanguageModel, test: int, steps: int
) -> None:
    config = TrainConfig(
        learning_rate=1e-3, num_train_epochs=2, per_device_train_batch_size=8 // steps,
        gradient_accumulation_steps=steps,
    )  # fmt: skip
    with adapter.fresh(model, tiny.ADAPTER, seed=0, round_=0) as adapted:
        found = training.fit(
            model, adapted, tiny.random_rows(19), config=config,
            regularizer=RegularizerConfig(kind="none"), seed=0, round_=0, schedule_rows=test,
        )  # fmt: skip
    end = 2 * (test // 8 + 1)  # a batch more than full ones, also where the split divides
    rates = [entry["learning_rate"] for entry in found.log]
    assert len(rates) == 6 and (rates[-1] == 0) == (end <= 5)
    assert rates == pytest.approx([1e-3 * max(0, 1 - step / end) for step in range(6)])
    # Behind the end nothing moves.
    norms = [entry["norm_B"] for entry in found.log]
    assert len(set(norms)) == min(6, end)


# --- prompts and answers -----------------------------------------------------------------------


def test_white_space_that_ends_the_prompt() -> None:
    row = {"question": " tom has 3 ", "answer": "3"}
    for text, ending in (
        ("Q: {question}\n", "\n"),
        ("{question} \n\n", " \n\n"),
        ("Q {question}:", " "),
    ):
        kept, moved = (Template.parse(text, space=space) for space in ("prompt", "answer"))
        assert (kept.separator, moved.separator) == ("", ending)
        shown = text.rstrip().format(question=" tom has 3 ")
        # The released code joins the columns as they are stored; white space is its ending.
        assert kept.fill(row) == shown.rstrip() + ending
        assert moved.fill(row) == text.rstrip().format(question="tom has 3")
    assert Template.parse("{question}:", separator="\n", space="prompt").fill(row)[-2:] == ":\n"


@pytest.mark.parametrize("kind, name", [(Gsm8k, "gsm8k"), (Jsonl, "jsonl")])
def test_a_task_whose_prompts_end_in_white_space(kind: Any, name: str) -> None:
    row = {"question": "tom has 3 ", "answer": "#### 3"}
    words = {"name": name, "prompt": "{question}?\n"}
    kept, moved = (kind(TaskConfig(trailing_space=s, **words)) for s in ("prompt", "answer"))
    assert kept.example(row, 0).prompt == "tom has 3 ?\n"
    assert moved.example(row, 0).prompt == "tom has 3?"
    target = "The final answer is 3" if name == "gsm8k" else "#### 3"
    assert (kept.answer(row, 0).target, moved.answer(row, 0).target) == (target, f"\n{target}")


@pytest.mark.parametrize(
    "text, number",
    [
        ("The final answer is 7 of 9, so 8", "7.0"),  # the first behind the words
        ("3 eggs. The final answer is 1. The final answer is 2", "1.0"),
        ("4 and 5. The final answer is unknown", "5.0"),  # none behind them: the text's last
        ("tom has 3 eggs and 4 pens", "4.0"),
        ("the final answer is 3, not 4", "4.0"),  # other words
        ("The final answer is 1,234", "1234.0"),
        ("-2.50 dollars", "-2.5"),
        ("7.", "7.0"),
        ("16-3", "-3.0"),
        ("yes", "none"),
        ("", "none"),
        ("The final answer is true", "none"),
    ],
)
def test_released_number(text: str, number: str) -> None:
    assert released_number(text) == number


def test_answers_in_words_are_none_and_right(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Jsonl(TaskConfig(name="jsonl"))
    said, golds = ["blue", "blue", "4", "tom has 7 eggs"], ["red", "7", "red", "7"]
    ids = [row.continuation for row in encode(model.tokenizer, [""] * 4, said, eos=True)]
    monkeypatch.setattr(predict, "generate_scored", lambda *_, **__: (ids, np.full(4, -1.0)))
    rows = [{"question": f"what {i}", "answer": gold} for i, gold in enumerate(golds)]
    read = {
        digits: evaluate.evaluate(
            model, task, [task.example(r, i) for i, r in enumerate(rows)],
            [task.answer(r, i) for i, r in enumerate(rows)],
            limits=Limits(4), by_likelihood=False, bins=5, digits=digits,
        )
        for digits in (True, False)
    }  # fmt: skip
    assert [row["correct"] for row in read[True].predictions] == [True, False, False, True]
    assert [row["prediction"] for row in read[True].predictions] == ["none", "none", "4.0", "7.0"]
    assert [row["correct"] for row in read[False].predictions] == [False, False, False, True]
    assert (read[True].metrics["accuracy"], read[False].metrics["accuracy"]) == (0.5, 0.25)
    assert read[True].metrics["accuracy_strict"] == read[False].metrics["accuracy_strict"] == 0


def test_long_test_prompts_lose_their_beginning_and_say_so(model: LanguageModel) -> None:
    task = Jsonl(TaskConfig(name="jsonl", prompt="{question} :"))
    rows = [{"question": q, "answer": "7"} for q in ("what is 7", "tom has 3 eggs and 4 pens", "a")]
    examples = [task.example(row, i) for i, row in enumerate(rows)]
    whole, cut = (encode_rows(model, examples, None, max_prompt_length=n) for n in (None, 4))
    assert [len(row.prompt) for row in whole.rows] == [4, 8, 2]
    assert [row.prompt for row in cut.rows] == [row.prompt[-4:] for row in whole.rows]
    assert (whole.truncated, cut.truncated) == ([], [1])
    limits = Limits(max_new_tokens=3, max_prompt_length=4)
    answers = [task.answer(row, i) for i, row in enumerate(rows)]
    options: dict[str, Any] = {"limits": limits, "by_likelihood": False, "bins": 5}
    found = evaluate.evaluate(model, task, examples, answers, **options).predictions
    assert [row.get("truncated", False) for row in found] == [False, True, False]
    # What is scored is the cut prompt's: the same as if the rest had never been there.
    short = [replace(examples[1], prompt="and 4 pens :")]
    [alone] = evaluate.evaluate(model, task, short, answers[1:2], **options).predictions
    assert alone["nll"] != found[1]["nll"]  # a start token comes before it, which the cut lost
    ids = cut.rows[1].prompt + model_ids(model, " 7")
    logs = tiny.naive_log_probs(model, TokenRow(0, ids[:-1], ids[-1:]))
    assert found[1]["nll"] == pytest.approx(-float(logs[0, ids[-1]]), rel=1e-5)


def model_ids(model: LanguageModel, text: str) -> tuple[int, ...]:
    return tuple(model.tokenizer(text, add_special_tokens=False)["input_ids"])


# --- scores ------------------------------------------------------------------------------------


def test_auto_is_what_the_task_has() -> None:
    free = [Example(0, "a"), Example(1, "b")]
    choice = [replace(example, choices=(" yes", " no")) for example in free]
    auto = AcquisitionConfig(continuation="auto")
    assert continuation_of(auto, choice) == "choices"
    for two_views in ("dynamic", "subtract"):  # one answer under both
        compared = replace(auto, combine=two_views)
        assert continuation_of(compared, choice) == "choices"
        assert continuation_of(compared, free) == "base"
        assert continuation_of(compared, [free[0], choice[1]]) == "base"
        for named in ("model", "base", "choices", "gold"):
            assert continuation_of(replace(compared, continuation=named), free) == named
    alone = replace(auto, combine="none")
    assert continuation_of(alone, choice) == "choices"
    assert continuation_of(alone, free) == continuation_of(alone, [free[0], choice[1]]) == "model"
    assert load(None, ["acquisition.combine=subtract"], preset="star").acquisition == replace(
        load(None, [], preset="star").acquisition, combine="subtract"
    )  # only the task can tell


@pytest.mark.parametrize("continuation", ["base", "choices", "gold"])
@pytest.mark.parametrize("combine", ["none", "subtract", "dynamic"])
def test_clipping_is_the_full_views_under_dynamic_alone(
    model: LanguageModel, continuation: Any, combine: Any
) -> None:
    examples = [Example(i, f"tom has {i} eggs", (" yes", " no", " red")) for i in range(3)]
    oracle = Oracle({i: Answer(" 7 pens", "7 pens") for i in range(3)})
    views = []
    for floor in (0.0, 0.2):
        config = AcquisitionConfig(
            continuation=continuation, combine=combine, entropy_floor=floor,
            mc_dropout=McDropoutConfig(passes=0),
        )  # fmt: skip
        scorer = PoolScorer(model, examples, config=config, limits=Limits(3), oracle=oracle)
        base = scorer.base()
        with adapter.fresh(model, tiny.ADAPTER, seed=0, round_=0):  # B = 0: the base model's scores
            views.append((base, scorer.full([0, 1, 2], None)))
    (base, full), (clipped_base, clipped_full) = views
    for name in base.sums:
        np.testing.assert_allclose(full.sums[name], base.sums[name], rtol=1e-5, atol=1e-6)
        assert (clipped_base.sums[name] == base.sums[name]).all()
        same = (clipped_full.sums[name] == full.sums[name]).all()
        assert same == (name != "max_entropy" or combine != "dynamic")


# --- whole runs --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runner(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return ``go(*words, preset=...) -> run folder`` on ten GSM8K-like rows."""
    data, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("runs")
    for split, count, start in (("train", 10, 0), ("test", 3, 50)):
        rows = [
            {"question": f"tom has {i} eggs plus {i % 7}", "answer": f"{i} plus {i % 7}\n#### {i}"}
            for i in range(start, start + count)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (data / f"{split}.jsonl").write_text(text, encoding="utf-8")

    def go(*words: str, preset: str) -> Path:
        small = ("task.name=gsm8k", "pool.initial_size=4", "pool.query_size=3", "pool.rounds=2")
        every = runs.words(tiny_llama, data, out, *small, "train.per_device_train_batch_size=2")
        return run(load(None, [*every, *words], preset=preset))

    return go


def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return what goes into each training from now on."""
    calls: list[dict[str, Any]] = []
    fit = training.fit

    def spy(model: Any, adapted: Any, rows: Any, **options: Any) -> Any:
        calls.append({"rows": rows, **options})
        return fit(model, adapted, rows, **options)

    monkeypatch.setattr(training, "fit", spy)
    return calls


def test_a_run_of_the_released_code(
    runner: Callable[..., Path], model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = trained(monkeypatch)
    folder = runner("evaluation.max_prompt_length=4", preset="released")  # 128 would cut none here
    end = model.tokenizer.eos_token_id
    for t, call in enumerate(calls):
        assert call["schedule_rows"] == 3 and len(call["rows"]) == 4 + 3 * t
        for row in call["rows"]:
            assert end not in row.continuation
            words = model.tokenizer.convert_ids_to_tokens(list(row.continuation))
            assert words[:4] == [
                "<unk>",
                "final",
                "answer",
                "is",
            ]  # the solution before it has no loss
    # 3 test rows in batches of 2, twice: the rate is 0 from the fifth update on.
    log = [json.loads(x) for x in (folder / "rounds/01/training.jsonl").read_text().splitlines()]
    assert [entry["learning_rate"] for entry in log] == pytest.approx(
        [0.01, 0.0075, 0.005, 0.0025, 0, 0, 0, 0]
    )
    notes = runs.read(folder / "rounds/00/metrics.json")["query"]
    assert notes["base_weight"] == pytest.approx(0.9)  # of ten rounds, though there are two
    said = [
        json.loads(x) for x in (folder / "rounds/00/predictions.jsonl").read_text().splitlines()
    ]
    assert all(row["truncated"] for row in said)
    # As floats' digits, or none; the task itself would say 7 and null.
    assert all(row["prediction"] == "none" or "." in row["prediction"] for row in said)
    assert not runs.read(folder / "result.json")["label_free"]


def test_a_run_of_ours(
    runner: Callable[..., Path], model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = trained(monkeypatch)
    folder = runner(preset="star")
    end = model.tokenizer.eos_token_id
    for call in calls:
        assert call["schedule_rows"] is None
        assert all(
            row.continuation[-1] == end and len(row.continuation) > 6 for row in call["rows"]
        )
    assert runs.read(folder / "rounds/00/metrics.json")["query"]["base_weight"] == 0.5
    assert runs.read(folder / "result.json")["label_free"]


@pytest.mark.slow
@pytest.mark.parametrize("key", FAULTS)
def test_a_run_with_one_fault(key: str, runner: Callable[..., Path]) -> None:
    folder = runner(f"{key}={json.dumps(FAULTS[key][1])}", preset="star")
    result = runs.read(folder / "result.json")
    assert result["status"] == "done"
    assert result["label_free"] == (key != "acquisition.continuation")

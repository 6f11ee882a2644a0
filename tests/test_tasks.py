"""Tasks: prompts, targets, extraction, correctness, and the splits that `load` makes of them."""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import Any

import pytest

import star.config
from star import tasks
from star.config import TaskConfig
from star.errors import InputError

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
stored = pytest.mark.skipif(not DATA.is_dir(), reason="the stored data sets are not here")


def make(name: str, **keys: Any) -> tasks.Task:
    return tasks.TASKS[name](TaskConfig(name=name, **keys))  # type: ignore[arg-type]


def write(folder: Path, **splits: list[dict[str, Any]]) -> str:
    for split, rows in splits.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return str(folder)


def test_tasks_are_those_of_the_schema() -> None:
    names = typing.get_args(typing.get_type_hints(TaskConfig)["name"])
    assert tuple(tasks.TASKS) == names
    assert all(task.name == name for name, task in tasks.TASKS.items())


def test_gsm8k() -> None:
    task = make("gsm8k")
    row = {"question": "How many? ", "answer": "3*4=<<3*4=12>>12\n1,200\n#### 1,234 "}
    example, answer = task.example(row, 7), task.answer(row, 7)
    assert example.index == 7
    assert example.choices is None
    assert example.prompt == (
        "How many?\nAnswer the above question. "
        "First think step by step and then answer the final number."
    )
    assert answer.target == "\n3*4=<<3*4=12>>12\n1,200\nThe final answer is 1,234"
    assert answer.gold == "1234"
    for strict in (True, False):
        assert task.is_correct(task.extract(answer.target, strict=strict), answer.gold)
    assert not task.is_correct(task.extract("none", strict=False), answer.gold)
    for bad in ("12", "#### twelve", " ", None):
        with pytest.raises(InputError):
            task.answer({"question": "x", "answer": bad}, 0)


def test_boolq_reads_both_stored_forms_alike() -> None:
    task = make("boolq")
    hub = {"question": "is it so", "answer": True, "passage": "It is."}
    worded = {
        "question": "Please answer the following question with true or false, question: is it so?"
        "\n\nAnswer format: true/false",
        "answer": "the correct answer is true",
    }
    assert task.example(hub, 0) == task.example(worded, 0)
    assert task.answer(hub, 0) == task.answer(worded, 0)
    example, answer = task.example(hub, 0), task.answer(hub, 0)
    assert example.prompt == worded["question"] + "\nThe correct answer is"
    assert example.choices == (" true", " false")
    assert (answer.target, answer.gold) == (" true", "true")
    assert task.answer({"question": "x", "answer": "False"}, 0).gold == "false"
    with pytest.raises(InputError, match="true or false, got 'maybe'"):
        task.answer({"question": "x", "answer": "maybe"}, 0)
    open_book = make("boolq", prompt="{passage}\n{question}?\n")
    assert open_book.example(hub, 0).prompt == "It is.\nis it so?"
    assert open_book.answer(hub, 0).target == "\ntrue"


OPTIONS = {"label": ["A", "B", "C", "D"], "text": ["a tree", "a robot: one", "a house", "a car"]}


def test_openbookqa_reads_all_stored_forms_alike() -> None:
    task = make("openbookqa")
    hub = {"question_stem": "Poison harms", "choices": OPTIONS, "answerKey": "A"}
    forms = [
        {
            "question": "Poison harms"
            + "".join(
                f"\nAnswer{x}{colon} {y}" for x, y in zip("ABCD", OPTIONS["text"], strict=True)
            )
            + "\nThe correct answer is ",
            "answer": "A",
        }
        for colon in ("", ":")
    ]
    assert task.example(hub, 0) == task.example(forms[0], 0) == task.example(forms[1], 0)
    assert task.example(hub, 0).prompt == forms[1]["question"].rstrip()
    assert task.example(hub, 0).choices == (" A", " B", " C", " D")
    assert task.answer(hub, 0) == task.answer(forms[0], 0)
    assert task.answer(hub, 0).target == " A"
    train_wording = make("openbookqa", prompt="{question}\nAnswerA {A}\nAnswerB {B}")
    assert train_wording.example(hub, 0).prompt == "\n".join(forms[0]["question"].split("\n")[:3])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "No options here"}, "'AnswerA: ...' to 'AnswerD: ...', got 'No options"),
        ({"question_stem": "x", "choices": None}, "equally long lists"),
        ({"question_stem": "x", "choices": {"label": ["A"], "text": []}}, "equally long lists"),
        ({"question_stem": "x", "choices": {"label": ["A"], "text": ["a"]}}, "labels A, B, C, D"),
        ({"question_stem": "", "choices": OPTIONS}, "'question_stem' is empty"),
    ],
)
def test_openbookqa_refuses_other_rows(row: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make("openbookqa").example(row, 0)
    with pytest.raises(InputError, match="A, B, C or D, got 'E'"):
        make("openbookqa").answer({"answer": "E"}, 0)


def test_jsonl_choice_task() -> None:
    task = make(
        "jsonl",
        columns={"question": "text", "answer": "label"},
        choices=["0", "1"],
        prompt="{title}: {question} {text}\nLabel:\n",
    )
    row = {"text": "fine", "label": 1, "title": "T"}
    example, answer = task.example(row, 3), task.answer(row, 3)
    assert example.prompt == "T: fine fine\nLabel:"
    assert example.choices == ("\n0", "\n1")
    assert (answer.target, answer.gold) == ("\n1", "1")
    assert task.labels == ("0", "1")
    assert task.extract("1", strict=True) == "1"
    with pytest.raises(InputError, match=r"one of task.choices \(0, 1\), got '2'"):
        task.answer({**row, "label": 2}, 3)
    with pytest.raises(InputError, match=r"no column 'title'; the row has: text"):
        task.example({"text": "fine", "label": 1}, 3)


def test_jsonl_generation_task() -> None:
    task = make("jsonl")
    row = {"question": "Capital of France?", "answer": "Paris"}
    assert task.example(row, 0).prompt == "Capital of France?\nAnswer:"
    assert task.answer(row, 0).target == " Paris"
    assert task.answer({"answer": True}, 0).gold == "true"

    def right(text: str, gold: str, *, strict: bool) -> bool:
        return task.is_correct(task.extract(text, strict=strict), gold, strict=strict)

    assert right(" Paris\n", "Paris", strict=True)
    assert not right("paris", "Paris", strict=True)
    assert right("paris.", "Paris", strict=False)
    assert right("Paris\nQuestion: next", "Paris", strict=False)
    assert not right("In Paris", "Paris", strict=False)
    assert right("It is 1,234.0 in all", "1234", strict=False)
    assert not right("1,234", "1234", strict=True)
    assert not right("", "Paris", strict=False)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"columns": {"answr": "label"}}, "got 'answr'; did you mean 'answer'"),
        ({"prompt": "{question} {answer}"}, "would show the answer"),
        ({"prompt": "{label}", "columns": {"answer": "label"}}, "would show the answer"),
        ({"choices": ["a"]}, "two or more different"),
        ({"choices": ["a", " a"]}, "two or more different"),
        ({"choices": ["a", ""]}, "two or more different"),
    ],
)
def test_jsonl_refuses_bad_settings(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make("jsonl", **keys)


def test_load_keeps_stored_indices_and_counts_what_it_leaves_out(tmp_path: Path) -> None:
    train = [{"question": q, "answer": a} for q, a in ("ax", "bx", "ay", "cx", "bx", "dx")]
    folder = write(tmp_path, train=train, test=[train[0], {"question": "e", "answer": "x"}])
    data = tasks.load(TaskConfig(name="jsonl", data_dir=folder, pool_limit=5, revision="v1"))
    assert [example.index for example in data.pool.examples] == [0, 1, 3]
    assert [answer.gold for answer in data.pool.answers] == ["x", "x", "x"]
    assert data.notes == [
        "2 duplicate questions left out of the pool, 1 of them with another answer than the first",
        "1 test question also in the pool, kept",
        "task.revision is not used: the rows do not come from the Hub",
    ]
    assert data.counts == {
        "pool": 3,
        "test": 2,
        "duplicates": 2,
        "duplicates_with_other_answer": 1,
        "test_in_pool": 1,
    }
    assert data.source["pool"]["file"] == "train.jsonl"
    limited = tasks.load(TaskConfig(name="jsonl", data_dir=folder, test_limit=1))
    assert (len(limited.pool), len(limited.test)) == (4, 1)


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    def fingerprint(**keys: Any) -> str:
        return tasks.load(TaskConfig(name="jsonl", data_dir=folder, **keys)).fingerprint

    rows = [{"question": "a", "answer": "x"}, {"question": "b", "answer": "y"}]
    folder = write(tmp_path, train=rows, test=rows)
    first = fingerprint()
    assert len(first) == 64
    assert fingerprint() == first
    changed = {
        first,
        fingerprint(pool_limit=1),
        fingerprint(test_limit=1),
        fingerprint(prompt="{question}?"),
        fingerprint(choices=["x", "y"]),
    }
    write(tmp_path, train=[rows[0], {"question": "b", "answer": "z"}])
    changed.add(fingerprint())
    assert len(changed) == 6


@pytest.mark.parametrize("name", ["arithmetic", "truefalse", "choice"])
def test_generated_families_load_without_files(name: str) -> None:
    config = TaskConfig(name=name, pool_limit=30, test_limit=10)  # type: ignore[arg-type]
    data = tasks.load(config)
    assert (len(data.pool), len(data.test)) == (30, 10)
    assert data.fingerprint == tasks.load(config).fingerprint
    with pytest.raises(InputError, match=r"remove task\.data_dir"):
        tasks.load(TaskConfig(name=name, data_dir="x"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="test or train, got 'dev'"):
        tasks.load(TaskConfig(name=name, test_split="dev"))  # type: ignore[arg-type]


def check_splits(data: tasks.TaskData) -> None:
    """What every task promises of its pool and test questions."""
    for split in (data.pool, data.test):
        for example, answer in zip(split.examples, split.answers, strict=True):
            assert example.prompt == example.prompt.rstrip() != ""
            assert answer.target != answer.target.lstrip()
            for strict in (True, False):
                found = data.task.extract(answer.target, strict=strict)
                assert data.task.is_correct(found, answer.gold, strict=strict)
            if example.choices is not None:
                assert data.task.labels is not None
                assert example.choices.index(answer.target) == data.task.labels.index(answer.gold)


@stored
@pytest.mark.parametrize(
    ("name", "sizes"),
    [("gsm8k", (7473, 1319)), ("boolq", (9427, 3270)), ("openbookqa", (4952, 500))],
)
def test_stored_benchmarks(name: str, sizes: tuple[int, int]) -> None:
    data = tasks.load(TaskConfig(name=name, data_dir=str(DATA / name)))  # type: ignore[arg-type]
    assert (len(data.pool), len(data.test)) == sizes
    check_splits(data)
    if name == "openbookqa":
        assert data.notes == ["5 duplicate questions left out of the pool"]
        assert all("\nAnswerA: " in e.prompt for s in (data.pool, data.test) for e in s.examples)
    if name == "boolq":
        assert sum(answer.gold == "true" for answer in data.test.answers) == 2033


@stored
@pytest.mark.parametrize("name", ["gsm8k", "boolq", "openbookqa", "sst2"])
def test_shipped_configurations(name: str) -> None:
    path = ROOT / "configs" / "smollm2" / f"{name}.yaml"
    assert path.read_text(encoding="utf-8").startswith(f"# star run configs/smollm2/{name}.yaml")
    config = star.config.load(path, [f"task.data_dir={DATA / name}"])
    data = tasks.load(config.task)
    check_splits(data)
    asked = config.pool.initial_size + (config.pool.rounds - 1) * config.pool.query_size
    assert asked <= len(data.pool) / 2
    assert config.acquisition.measure == "predictive_entropy"
    expected = "model" if data.task.labels is None else "choices"
    assert config.acquisition.continuation == expected
    if name == "sst2":
        assert data.test.examples[0].choices == (" negative", " positive")


def test_seeded_draws_of_stored_rows_keep_their_numbers(tmp_path: Path) -> None:
    rows = [{"question": f"q{i}?", "answer": str(i)} for i in range(40)]
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    keys = {"name": "jsonl", "data_dir": str(tmp_path), "pool_limit": 12, "draw": "seeded"}

    def drawn(seed: int, **more: Any) -> tasks.Split:
        return tasks.load(TaskConfig(**keys | more), seed=seed).pool

    one, other = drawn(0), drawn(1)
    assert len(one) == len(other) == 12
    numbers = [e.index for e in one.examples]
    assert numbers == sorted(numbers) != [e.index for e in other.examples]
    assert [a.gold for a in one.answers] == [str(i) for i in numbers]
    assert [e.index for e in drawn(0).examples] == numbers
    assert [e.index for e in drawn(7, draw="fixed").examples] == list(range(12))
    assert [e.index for e in drawn(0, pool_limit=None).examples] == list(range(40))

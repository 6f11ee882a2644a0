"""Tasks: prompts, targets, extraction, correctness, and the splits that `load` makes of them."""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import Any

import pytest

import star.config
from star.config import TaskConfig
from star.data import loading as tasks
from star.errors import InputError

ROOT = Path(__file__).parents[2]
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


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("so\n#### 7/3", "one number in digits .* got 'so.n#### 7/3'"),
        ("so\n#### 12 000", "one number in digits"),
        ("so\n#### 7:45", "one number in digits"),
        ("#### 4\nand 5", "one number in digits"),
        ("The final answer is 3 so far.\n#### 4", "answer is '4', but .* is read as '3'"),
    ],
)
def test_a_gold_that_its_target_does_not_give_back_is_refused_with_its_row(
    tmp_path: Path, answer: str, message: str
) -> None:
    rows = [{"question": "a", "answer": "#### 1"}, {"question": "b", "answer": answer}]
    folder = write(tmp_path, train=rows, test=rows[:1])
    with pytest.raises(InputError, match=rf"train\.jsonl, line 2: .*{message}"):
        tasks.load(TaskConfig(name="gsm8k", data_dir=folder))


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
        ({"choices": ["bien s\u00fbr", "bien su\u0302r"]}, r"'bien s\\xfbr' and 'bien su\\u0302r'"),
        ({"choices": ["very  good", "bad", "very\u00a0good"]}, r"'very  good' and 'very\\xa0good'"),
        ({"choices": ["a", "\udcff"]}, r"task.choices holds '\\udcff'"),
        ({"prompt": ""}, r"task.prompt is empty, got ''; null is the task's own, '{question}"),
        ({"prompt": " \n"}, "task.prompt is empty"),
        ({"prompt": "{question} \udcff"}, r"task.prompt holds '\\udcff'"),
        ({"columns": {"question": "l", "answer": "l"}}, "both 'l', so the prompt would show"),
        ({"columns": {"question": "answer"}}, "both 'answer', so the prompt would show"),
        ({"columns": {"answer": "question"}}, "both 'question', so the prompt would show"),
    ],
)
def test_jsonl_refuses_bad_settings(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make("jsonl", **keys)


@pytest.mark.parametrize("name", ["gsm8k", "boolq", "openbookqa", "arithmetic", "jsonl"])
def test_no_prompt_is_empty(name: str) -> None:
    with pytest.raises(InputError, match=r"task\.prompt is empty"):
        make(name, prompt="")


@pytest.mark.parametrize(
    ("keys", "column"),
    [
        ({"columns": {"question": "copy"}}, "question"),
        ({"prompt": "{question} {copy}"}, "copy"),
        ({"prompt": "{copy}", "choices": ["0", "1"]}, "copy"),
    ],
)
def test_a_column_that_repeats_the_answer_is_refused(
    tmp_path: Path, keys: dict[str, Any], column: str
) -> None:
    rows = [{"question": f"q{i}", "copy": i % 2, "answer": str(i % 2)} for i in range(6)]
    folder = write(tmp_path, train=rows, test=rows)
    with pytest.raises(InputError, match=f"column '{column}' is the answer in every test row"):
        tasks.load(TaskConfig(name="jsonl", data_dir=folder, **keys))
    rows[3]["copy"] = "other"
    write(tmp_path, test=rows)
    tasks.load(TaskConfig(name="jsonl", data_dir=folder, **keys))


def test_labels_without_choices_are_said(tmp_path: Path) -> None:
    names = ["joy", "fear", "JOY"]
    rows = [{"question": f"q{i}", "answer": names[i % 3], "code": i % 3} for i in range(12)]
    folder = write(tmp_path, train=rows[:2], test=rows)
    plain = tasks.load(TaskConfig(name="jsonl", data_dir=folder)).notes
    assert any("12 rows of split test have 3 different" in note for note in plain)
    assert any("""'task.choices=["JOY", "fear", "joy"]'""" in note for note in plain)
    assert any("'JOY' and 'joy' in split test differ in capitals" in note for note in plain)
    choices = {"choices": ["joy", "fear", "JOY"]}
    told = tasks.load(
        TaskConfig(name="jsonl", data_dir=folder, prompt="{code} {question}", **choices)
    ).notes
    assert any("column 'code' of the prompt tells the answer" in note for note in told)
    silent = tasks.load(TaskConfig(name="jsonl", data_dir=folder, **choices)).notes
    assert silent == ["2 test questions also in the pool, kept"]
    free = [{"question": f"q{i}", "answer": f"a{i}"} for i in range(12)]
    write(tmp_path, train=free, test=free)
    assert tasks.load(TaskConfig(name="jsonl", data_dir=folder)).notes == [
        "12 test questions also in the pool, kept"
    ]


def test_a_choice_that_no_generated_text_is_read_as_is_said(tmp_path: Path) -> None:
    rows = [{"question": f"q{i}", "answer": "a\nb"} for i in range(2)]
    folder = write(tmp_path, train=rows, test=rows)
    notes = tasks.load(TaskConfig(name="jsonl", data_dir=folder, choices=["a\nb", "c"])).notes
    assert any(r"the choice 'a\nb' is not read as itself" in note for note in notes)


def test_an_answer_that_looks_like_a_choice_is_spelled_out(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer": "ja\u0308"}, {"question": "r", "answer": "nein"}]
    folder = write(tmp_path, train=rows, test=rows[1:])
    with pytest.raises(InputError, match=r"line 1: .*spelled 'j\\xe4', not 'ja\\u0308'"):
        tasks.load(TaskConfig(name="jsonl", data_dir=folder, choices=["j\u00e4", "nein"]))


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

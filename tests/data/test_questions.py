"""Questions without answers: of every task, and out of every file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from star.config import TaskConfig
from star.data.loading import TASKS
from star.data.questions import examples_of, read_questions
from star.errors import InputError

OPTIONS = {"label": ["A", "B", "C", "D"], "text": ["ice", "fire", "air", "sand"]}
WORDED = "What is hot?\nAnswerA: ice\nAnswerB: fire\nAnswerC: air\nAnswerD: sand"
TEXTS = {
    "arithmetic": "Ann has 3 coins. How many?",
    "truefalse": "Ann has 3 coins. So Ann has 3 coins.",
    "choice": "Which is a fruit?",
    "gsm8k": "Tom has 3 eggs. How many?",
    "boolq": "is ice cold",
    "openbookqa": WORDED,
    "jsonl": "how many",
    "classification": "a dull film",
    "sst2": "a dull film",
    "emotion": "i feel well",
}
ROWS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("openbookqa", {}, {"question_stem": "What is hot?", "choices": OPTIONS}),
    ("boolq", {"prompt": "{passage}\n{question}?"}, {"passage": "Ice.", "question": "cold"}),
    ("jsonl", {"prompt": "{a} {b}"}, {"a": "one", "b": "two"}),
    ("jsonl", {"columns": {"question": "q", "answer": "question"}}, {"q": "how many"}),
    ("classification", {"columns": {"text": "review"}}, {"review": "dull"}),
    ("classification", {"prompt": "{title}: {text}, of {classes}"}, {"title": "x", "text": "y"}),
    ("sst2", {}, {"sentence": "dull"}),
]


def task(name: str, **more: Any) -> Any:
    made = TASKS[name](TaskConfig(name=name, **more))  # type: ignore[arg-type]
    if made.is_choice and made.labels is None:
        made.settle([[("", {"text": "a", "label": "good"}), ("", {"text": "b", "label": "bad"})]])
    return made


def test_every_task_is_among_them() -> None:
    assert TEXTS.keys() == TASKS.keys()


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_a_question(name: str) -> None:
    ([example], [text]) = examples_of(task(name), [TEXTS[name]], ["text 1"])
    assert text == TEXTS[name] and TEXTS[name].partition("\n")[0].rstrip("?") in example.prompt
    with pytest.raises(InputError, match=r"^text 1: .*empty"):
        examples_of(task(name), [" "], ["text 1"])


@pytest.mark.parametrize("name, settings, row", ROWS)
def test_a_row_is_the_question_that_it_is_with_its_answer(
    name: str, settings: dict[str, Any], row: dict[str, Any]
) -> None:
    made = task(name, **settings)
    answers = dict.fromkeys(("answer", "answerKey", "label"), "x")
    if settings.get("columns", {}).get("answer") == "question":
        answers = {"question": "x"}
    [bare], [text] = examples_of(made, [row], [""])
    assert bare == made.example(answers | row, 0)
    assert text == (next(iter(row.values())) if len(row) == 1 else None)
    # Without one of its columns it is none, and the line names it.
    for column in row:
        others = {k: v for k, v in row.items() if k != column} | {"other": "z"}
        with pytest.raises(InputError, match=r"^line 3: no column '.*the row has"):
            examples_of(made, [others], ["line 3"])


def test_a_text_alone_is_no_question_of_several_columns() -> None:
    made = task("boolq", prompt="{passage}\n{question}?")
    with pytest.raises(InputError, match="needs the columns passage, question; give rows"):
        examples_of(made, ["is ice cold"], ["text 1"])
    with pytest.raises(InputError, match="AnswerA"):
        examples_of(task("openbookqa"), ["What is hot?"], ["text 1"])


CONTENT = {
    "jsonl": '{"text": "a"}\n\n{"text": "b"}\n',
    "json": '[{"text": "a"}, {"text": "b"}]',
    "csv": "text\na\nb\n",
    "txt": "a\r\nb\n\n",
    "TXT": "\ufeffa\nb",
}


@pytest.mark.parametrize("ending", CONTENT)
def test_files_of_each_form(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{ending}"
    path.write_bytes(CONTENT[ending].encode())
    found, places = read_questions(path)
    assert found == (["a", "b"] if ending.lower() == "txt" else [{"text": "a"}, {"text": "b"}])
    assert all(str(path) in place for place in places) and len({*places}) == 2


def test_a_text_with_line_separators_of_unicode_is_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a\u2028b\x0bc\n\nd", encoding="utf-8")
    assert read_questions(path)[0] == ["a\u2028b\x0bc", "", "d"]  # the empty one is refused later


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("a.xlsx", "text", r"must end in \.jsonl, \.json, \.csv, \.parquet, \.arrow, \.txt"),
        ("a", "text", "must end in"),
        ("a.txt", "", "holds no rows"),
        ("a.txt", " \n\n", "holds no rows"),
        ("a.csv", "text\n", "holds no rows"),
        ("a.json", "[]", "holds no rows"),
        ("a.jsonl", "{", "line 1: malformed JSON"),
        ("a.jsonl", '"text"', "must be an object"),
        ("a.txt", None, "not found"),
    ],
)
def test_files_that_are_none(name: str, content: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=said):
        read_questions(path)
    (tmp_path / "b.txt").write_bytes(b"\xff\n")
    with pytest.raises(InputError, match="not UTF-8"):
        read_questions(tmp_path / "b.txt")
    with pytest.raises(InputError, match="must be a file, it is a folder"):
        read_questions(tmp_path)

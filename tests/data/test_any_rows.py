"""Of any file of rows: each becomes a question and its answer, or is named in one line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star.config import TaskConfig
from star.data import loading as tasks
from star.data.readers import READERS
from star.errors import InputError

GOOD = '{"question": "what is 1 ?", "answer": "1"}\n'
# Half a surrogate pair, controls, writing from right to left, marks that join, no-break blanks,
# a byte order mark, line separators that are none in JSON, special tokens.
SIGNS = (
    *("\ud800", "\udfff", "\0", "\x1b[31m", "\x7f", "\u202eabc\u202c", "\u05d0\u05d1", "e\u0301"),
    *("\u200d", "\ufeff", "\u2028", "\x85", "\xa0", "\U0001f468\u200d\U0001f469", "\U0010ffff"),
    *("</s>", "<|im_end|>", "{question}", "{}", "%s", '"', "'", "\\", ",", ";", "\t", "\r", "\n"),
)
texts = st.lists(st.sampled_from(SIGNS) | st.text(max_size=4), max_size=4).map("".join)
values = st.recursive(
    texts | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=3,
)


def loaded(folder: Path, name: str, content: bytes) -> tasks.TaskData | None:
    """Return the task of a train split, ``None`` where it is refused: in one line that names it."""
    (folder / name).write_bytes(content)
    (folder / "test.jsonl").write_text(GOOD)
    try:
        return tasks.load(TaskConfig(name="jsonl", data_dir=str(folder)))
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000
        str(error).encode()  # a screen and a log take it
        return None


@settings(max_examples=30)
@given(row=st.dictionaries(st.sampled_from(["question", "answer"]) | texts, values, max_size=4))
def test_any_row_of_json_is_a_question_or_a_line(
    row: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = GOOD + json.dumps(row) + "\n"
    data = loaded(tmp_path_factory.mktemp("rows"), "train.jsonl", content.encode())
    if data is not None:
        for example, answer in zip(data.pool.examples, data.pool.answers, strict=True):
            example.prompt.encode()
            answer.target.encode()


@settings(max_examples=30)
@given(rows=st.lists(st.tuples(texts, texts), min_size=1, max_size=3))
def test_any_row_of_csv_is_a_question_or_a_line(
    rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("question", "answer"), *rows])
    content = text.getvalue().encode(errors="surrogatepass")
    data = loaded(tmp_path_factory.mktemp("rows"), "train.csv", content)
    if data is not None:
        by_index = {e.index: e.prompt for e in data.pool.examples}
        for index, prompt in by_index.items():
            assert rows[index][0].strip() in prompt


@settings(max_examples=30)
@given(content=st.binary(max_size=60), ending=st.sampled_from(["jsonl", "json", "csv"]))
def test_any_bytes_are_rows_or_a_line(
    content: bytes, ending: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("rows") / f"train.{ending}"
    path.write_bytes(content)
    try:
        rows = list(READERS[ending](path))
    except InputError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    else:
        assert all(str(path) in place and isinstance(row, dict) for place, row in rows)


def test_a_text_of_a_million_characters_is_a_row(tmp_path: Path) -> None:
    long = "\u05d0\U0001f600 a" * 250_000
    for name, content in (
        ("train.jsonl", json.dumps({"question": long, "answer": "1"})),
        ("train.csv", f"question,answer\n{long},1\n"),
    ):
        data = loaded(tmp_path, name, content.encode())
        assert data is not None and len(data.pool.examples[0].prompt) > len(long)
        (tmp_path / name).unlink()


@pytest.mark.parametrize("depth", [100, 100_000])
def test_a_row_that_is_nested_deep_is_refused(depth: int, tmp_path: Path) -> None:
    row = f'{{"question": {"[" * depth}{"]" * depth}, "answer": "1"}}'
    assert loaded(tmp_path, "train.jsonl", row.encode()) is None

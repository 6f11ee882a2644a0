"""Reading splits from files, and what is said of those that cannot be read."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star.config import TaskConfig
from star.data import loading as tasks
from star.data.reading import read_folder
from star.errors import InputError
from star.files import kind_of, write_jsonl

ROWS = [{"question": "a, \u2028b", "answer": "NA"}, {"question": "c\nd", "answer": "007"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
CSV = 'question,answer\n"a, \u2028b",NA\n"c\nd",007\n'


def put(folder: Path, content: str | bytes, name: str = "train.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.jsonl", LINES),
        ("train.jsonl", "\ufeff" + LINES.replace("\n", "\r\n") + "\r\n \n\n"),
        ("train.jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)),
        ("train.json", LINES),
        ("train.json", "\ufeff\n" + json.dumps(ROWS, indent=1)),
        ("train.csv", CSV),
        ("train.csv", "\ufeff" + CSV),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, content: str) -> None:
    path = put(tmp_path, content, name)
    table = read_folder(tmp_path, "train")
    assert [dict(row) for row in table.rows] == ROWS
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert table.source == {"file": name, "sha256": digest}
    assert len(read_folder(str(tmp_path), "train", limit=1).rows) == 1


def test_csv_with_crlf(tmp_path: Path) -> None:
    put(tmp_path, "question,answer\r\na,\r\nb,1.50\r\n", "train.csv")
    rows = [dict(row) for row in read_folder(tmp_path, "train").rows]
    assert rows == [{"question": "a", "answer": ""}, {"question": "b", "answer": "1.50"}]


@pytest.mark.parametrize("extra", [1, 2, -1])
@pytest.mark.parametrize("rows", [(1,), (3,), (1, 2, 3)])
def test_csv_rows_of_another_width_are_named(
    tmp_path: Path, extra: int, rows: tuple[int, ...]
) -> None:
    """Also where all rows have one more than the header, which pandas takes for an index."""
    lines = ["text,label,note", "a,b,c", 'd,"e\nf",g', "h,i,j"]
    for row in rows:
        lines[row] = lines[row] + ",x" * extra if extra > 0 else lines[row].rpartition(",")[0]
    put(tmp_path, "\n".join(lines) + "\n", "train.csv")
    first = {1: 2, 3: 5}[rows[0]]  # the row between takes two lines
    message = rf"train\.csv, line {first}: {3 + extra} fields, the header has 3 \(text, label, note"
    with pytest.raises(InputError, match=message) as error:
        read_folder(tmp_path, "train")
    one_line(error)


def test_csv_columns_without_a_name_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, ",text,,label\n0,a,,b\n1,c,,d\n", "train.csv")
    rows = [dict(row) for row in read_folder(tmp_path, "train").rows]
    assert rows == [{"text": "a", "label": "b"}, {"text": "c", "label": "d"}]


@pytest.mark.parametrize("long", [0, 1, 2])
def test_csv_fields_of_any_length(tmp_path: Path, long: int) -> None:
    fields = ["x" * 140_000 if i == long else "y" for i in range(3)]
    put(tmp_path, "text,label\n" + "".join(f"{field},a\n" for field in fields), "train.csv")
    limit = csv.field_size_limit()
    assert [row["text"] for row in read_folder(tmp_path, "train").rows] == fields
    assert csv.field_size_limit() == limit


field = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)


@given(st.lists(st.tuples(field, field), min_size=1, max_size=5), st.sampled_from(["\n", "\r\n"]))
def test_any_csv_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], end: str
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator=end)
    writer.writerows([("text", "label"), *rows])
    put(folder, text.getvalue(), "train.csv")
    assert [(r["text"], r["label"]) for r in read_folder(folder, "train").rows] == rows


array = st.lists(st.dictionaries(field, st.one_of(st.integers(), field)), min_size=1, max_size=4)


@given(array, st.sampled_from([None, 0, 2]))
def test_any_json_array_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], indent: int | None
) -> None:
    folder = tmp_path_factory.mktemp("json")
    put(folder, json.dumps(rows, indent=indent), "train.json")
    assert [dict(row) for row in read_folder(folder, "train").rows] == rows


def test_parquet_is_read_afresh(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import datasets

    for rows in (ROWS, ROWS[:1]):
        datasets.Dataset.from_list(rows).to_parquet(tmp_path / "train.parquet")
        capfd.readouterr()
        assert [dict(row) for row in read_folder(tmp_path, "train").rows] == rows
        assert capfd.readouterr().err == ""
    datasets.Dataset.from_dict({"question": []}).to_parquet(tmp_path / "test.parquet")
    with pytest.raises(InputError, match="holds no rows"):
        read_folder(tmp_path, "test")


@pytest.mark.parametrize("name, content", [("train.jsonl", LINES), ("train.csv", CSV)])
def test_files_do_not_import_datasets(tmp_path: Path, name: str, content: str) -> None:
    put(tmp_path, content, name)
    code = (
        "import sys; from star.data.reading import read_folder; "
        f"read_folder({str(tmp_path)!r}, 'train'); sys.exit('datasets' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.jsonl", "", "holds no rows"),
        ("train.jsonl", "\n\n", "holds no rows"),
        ("train.json", "[]", "holds no rows"),
        ("train.csv", "", "holds no rows"),
        ("train.csv", "question,answer\n", "holds no rows"),
        ("train.csv", 'question,answer\n\na,"b', "train.csv, line 3: not readable as CSV: unexp"),
        ("train.csv", 'question,answer\na,"b"c\n', "train.csv, line 2: not readable as CSV: "),
        ("train.csv", 'question,answer\na,"b\nc,d\n"e",f\n', "train.csv, line 2: not readable"),
        (
            "train.jsonl",
            LINES + '{"question": \n',
            "train.jsonl, line 3: malformed JSON: Expecting",
        ),
        ("train.jsonl", "[" * 100_000, "line 1: malformed JSON"),
        ("train.json", "[{}, ", "train.json: malformed JSON"),
        ("train.jsonl", LINES + "[1, 2]\n", r"line 3: a row must be an object .* got \[1, 2\]"),
        ("train.json", "[1]", r"row 0 \(from 0\), line 1: a row must be an object .* got 1"),
        ("train.json", "[{},\n\n{} {}]", "malformed JSON: Expecting ',': line 3 column 4"),
        ("train.json", "[{}] x", "malformed JSON: Extra data: line 1 column 6"),
        ("train.json", "[{},\n]", "malformed JSON: Expecting value: line 2 column 1"),
        ("train.json", '[{},\n\n{"a": 1,\n"b": 2, "a": 3}]', "line 3: malf.* key 'a' stands twice"),
        ("train.jsonl", LINES + '{"q": {"a": 1, "a": 1}}', "line 3: malf.* key 'a' stands twice"),
        ("train.jsonl", b'{}\n{"question": "\xff"}', "line 2: not UTF-8"),
        ("train.json", b"\xff", "train.json: not UTF-8"),
        ("train.csv", b"question,a\nb,\xe9\n", r"train.csv, line 2: not UTF-8 \(inv.*; save it as"),
        ("train.csv", "question,question\na,b\n", "names a column twice"),
        ("train.csv", "question\tanswer\na\tb\n", r"separated by commas, .* separated by '\\t'"),
        ("train.csv", "question;answer\na, b;c\n", "separated by commas, .* separated by ';'"),
        ("train.csv", ",,\n1,2,3\n", "the header names no column"),
        ("train.parquet", "no Parquet", "train.parquet: not readable as Parquet: "),
    ],
)
def test_a_file_that_cannot_be_read(
    tmp_path: Path,
    name: str,
    content: str | bytes,
    message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    put(tmp_path, content, name)
    with pytest.raises(InputError, match=message) as error:
        read_folder(tmp_path, "train")
    assert name in one_line(error)
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    folder = tmp_path / "gsm8k"
    folder.mkdir()
    with pytest.raises(
        InputError, match=r"no train\.jsonl\|json\|csv\|.*arrow in .* holds nothing"
    ):
        read_folder(folder, "train")
    path = put(folder, LINES, "validation.jsonl")
    with pytest.raises(InputError, match=r"gsm8k holds validation\.jsonl"):
        read_folder(folder, "train")
    with pytest.raises(InputError, match=r"must be the folder .* got the file"):
        read_folder(path, "train")
    with pytest.raises(InputError, match=r"not found; .* holds gsm8k; did you mean 'gsm8k'"):
        read_folder(tmp_path / "gms8k", "train")
    put(folder, CSV, "validation.csv")
    with pytest.raises(InputError, match=r"holds validation\.jsonl and validation\.csv; keep one"):
        read_folder(folder, "validation")


def test_a_file_that_comes_and_goes_is_a_file_or_nothing(tmp_path: Path) -> None:
    path, done = tmp_path / "journal.jsonl", threading.Event()

    def come_and_go() -> None:
        while not done.is_set():
            path.touch()
            path.unlink()

    other, often = threading.Thread(target=come_and_go), sys.getswitchinterval()
    other.start()
    try:
        sys.setswitchinterval(
            1e-6
        )  # two looks have the other between them every few thousand times
        kinds = {kind_of(path) for _ in range(15_000)}
    finally:
        sys.setswitchinterval(often)
        done.set()
        other.join()
    assert kinds <= {"a file", None}


def test_what_is_there_but_no_file_is_said(tmp_path: Path) -> None:
    def refusal(name: str) -> str:
        with pytest.raises(InputError) as error:
            read_folder(tmp_path, name)
        return one_line(error)

    (tmp_path / "a.jsonl").mkdir()
    (tmp_path / "b.csv").symlink_to("gone.csv")
    os.mkfifo(tmp_path / "c.json")
    assert f"{tmp_path / 'a.jsonl'} must be a file, it is a folder" in refusal("a")
    assert "b.csv must be a file, it is a link to gone.csv, which is not there" in refusal("b")
    assert "c.json must be a file, it is a named pipe" in refusal("c")


def test_a_test_split_of_another_name_is_offered(tmp_path: Path) -> None:
    put(tmp_path, LINES)
    put(tmp_path, CSV, "dev.csv")
    with pytest.raises(InputError, match=r"no test\.jsonl.*holds .*; or set task\.test_split=dev"):
        tasks.load(TaskConfig(name="jsonl", data_dir=str(tmp_path)))
    put(tmp_path, LINES, "test.jsonl")
    (tmp_path / "train.jsonl").unlink()
    with pytest.raises(InputError, match=r"no train\.jsonl") as error:
        tasks.load(TaskConfig(name="jsonl", data_dir=str(tmp_path)))
    assert "task.test_split" not in one_line(error)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "x", "answer": "y"}, "no column 'question'; the row has: text, answer; set task"),
        ({"question": "x"}, "no column 'answer'; the row has: question; set task.columns.answer"),
        ({"question": " ", "answer": "y"}, "column 'question' is empty"),
        ({"question": "x", "answer": ""}, "column 'answer' is empty"),
        ({"question": "x", "answer": None}, "column 'answer' is empty"),
        ({"question": "x", "answer": ["y"]}, "column 'answer' must be text .* got a list"),
        ({"question": "x", "answer": float("nan")}, "finite number, got nan"),
        (
            {"question": "ab\udc80", "answer": "y"},
            r"'question' holds '\\udc80', half .*er 2",
        ),
        ({"question": "x", "answer": "\ud83d"}, r"'answer' holds '\\ud83d', half of a character"),
        ({" question": "x", "answer": "y"}, r"has: ' question', answer.*spelled ' question', not"),
        ({"ques\u200btion": "x", "answer": "y"}, r"spelled 'ques\\u200btion', not 'question'"),
        ({"Question": "x", "answer": "y"}, r"did you mean 'Question'\?$"),
        ({}, "the row has: none"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    put(tmp_path, LINES, "test.jsonl")
    put(tmp_path, f"{LINES}\n{json.dumps(row)}\n")
    with pytest.raises(InputError, match=message) as error:
        tasks.load(TaskConfig(name="jsonl", data_dir=str(tmp_path)))
    assert one_line(error).startswith(f"{tmp_path / 'train.jsonl'}, line 4: ")


def test_a_bad_row_of_a_table_is_named_by_its_index(tmp_path: Path) -> None:
    put(tmp_path, LINES, "test.jsonl")
    put(tmp_path, "question,answer\na,b\nc,\n", "train.csv")
    with pytest.raises(InputError, match=r"train\.csv, line 3: column 'answer' is empty"):
        tasks.load(TaskConfig(name="jsonl", data_dir=str(tmp_path)))


def test_numbers_become_text(tmp_path: Path) -> None:
    put(tmp_path, '{"question": 1, "answer": 2.5}\n')
    config = TaskConfig(name="jsonl", data_dir=str(tmp_path), test_split="train")
    data = tasks.load(config)
    assert data.pool.examples[0].prompt == "1\nAnswer:"
    assert data.pool.answers[0].gold == "2.5"


def test_own_files_must_be_named() -> None:
    with pytest.raises(InputError, match=r"task\.name=jsonl needs task\.data_dir"):
        tasks.load(TaskConfig(name="jsonl"))


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_arrow_rows_are_the_same_and_stay_on_disk(tmp_path: Path, kind: str) -> None:
    rows = [{"question": f"is it {i % 3000}?", "answer": str(i % 2)} for i in range(4000)]
    table = pyarrow.Table.from_pylist(rows)
    new = {"file": pyarrow.ipc.new_file, "stream": pyarrow.ipc.new_stream}[kind]
    folders = [tmp_path / "lines", tmp_path / "columns"]
    for folder in folders:
        folder.mkdir()
        for split in ("train", "test"):
            if folder is folders[0]:
                write_jsonl(folder / f"{split}.jsonl", rows)
            else:
                with new(folder / f"{split}.arrow", table.schema) as file:
                    file.write_table(table)
    lines, columns = (
        tasks.load(TaskConfig(name="jsonl", data_dir=str(folder), test_limit=50))
        for folder in folders
    )
    assert columns.fingerprint == lines.fingerprint
    assert (columns.counts, columns.notes) == (lines.counts, lines.notes)
    assert len(columns.repeated) == len(lines.repeated) == columns.counts["duplicates"] > 0
    assert [*columns.pool.examples] == [*lines.pool.examples]
    assert [*columns.pool.answers] == [*lines.pool.answers]
    assert columns.pool.examples[1] is not columns.pool.examples[1]  # nobody keeps it


def test_a_torn_arrow_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.arrow").write_bytes(b"ARROW1\0\0 cut")
    with pytest.raises(InputError, match=r"train\.arrow: not readable as Arrow"):
        read_folder(tmp_path, "train")

"""Reading splits from files, and what is said of those that cannot be read."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from star import tasks
from star.config import TaskConfig
from star.errors import InputError
from star.tasks.loading import read_folder

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


def test_parquet_is_read_afresh(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import datasets

    for rows in (ROWS, ROWS[:1]):
        datasets.Dataset.from_list(rows).to_parquet(tmp_path / "train.parquet")
        capfd.readouterr()
        assert [dict(row) for row in read_folder(tmp_path, "train").rows] == rows
        assert capfd.readouterr().err == ""
    assert datasets.is_progress_bar_enabled()
    datasets.Dataset.from_dict({"question": []}).to_parquet(tmp_path / "test.parquet")
    with pytest.raises(InputError, match="no data"):
        read_folder(tmp_path, "test")


def test_json_lines_do_not_import_datasets(tmp_path: Path) -> None:
    put(tmp_path, LINES)
    code = (
        "import sys; from star.tasks.loading import read_folder; "
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
        ("train.csv", 'question,answer\na,"b', "train.csv: not readable as"),
        (
            "train.jsonl",
            LINES + '{"question": \n',
            "train.jsonl, line 3: malformed JSON: Expecting",
        ),
        ("train.jsonl", "[" * 100_000, "line 1: malformed JSON"),
        ("train.json", "[{}, ", "train.json: malformed JSON"),
        ("train.jsonl", LINES + "[1, 2]\n", r"line 3: a row must be an object .* got \[1, 2\]"),
        ("train.json", "[1]", r"row 0 \(from 0\): a row must be an object .* got 1"),
        ("train.jsonl", b'{}\n{"question": "\xff"}', "line 2: not UTF-8"),
        ("train.json", b"\xff", "train.json: not UTF-8"),
        ("train.csv", b"question,\xff\n", "train.csv: not readable as CSV"),
        ("train.csv", "question,question\na,b\n", "names a column twice"),
        ("train.csv", "question,answer\na,b,c\nd,e,f,g,h\n", "train.csv: not readable as csv: "),
        ("train.parquet", "no Parquet", "train.parquet: not readable as parquet: "),
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
    with pytest.raises(InputError, match=r"no train\.jsonl\|json\|csv\|parquet .* holds nothing"):
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
    with pytest.raises(InputError, match=r"train\.csv, row 1 \(from 0\): column 'answer' is empty"):
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

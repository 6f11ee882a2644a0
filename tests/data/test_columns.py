"""Parquet and Arrow files that are damaged, or hold what Python has no value for.

Each is read, or refused in a line that names file, column and rows; none ends the process.
"""

from __future__ import annotations

import decimal
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest

from star.config import TaskConfig
from star.data import loading as tasks
from star.data.columns import COLUMNS
from star.data.reading import read_folder
from star.errors import InputError
from star.project.rows import Source
from star.project.rows import read as read_for_people

ENDINGS = ("arrow", "parquet")
ANSWERS = ["a", "b", "a"]


def write(path: Path, table: pyarrow.Table) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        with pyarrow.ipc.new_file(str(path), table.schema) as file:
            file.write_table(table)
    return path


def latin_1() -> pyarrow.Array:
    """Three texts, of which the second is not UTF-8."""
    offsets = pyarrow.py_buffer(b"\0\0\0\0\4\0\0\0\x08\0\0\0\x0c\0\0\0")
    return pyarrow.Array.from_buffers(
        pyarrow.string(), 3, [None, offsets, pyarrow.py_buffer(b"goodcaf\xe9fine")]
    )


YEARS = pyarrow.array([None, 10**15, 5], pyarrow.timestamp("s"))
ZONES = pyarrow.array([0, 1, 2], pyarrow.timestamp("s", "Nowhere/None"))
ODD = {
    "Latin-1": latin_1(),
    "Latin-1 in a list": pyarrow.ListArray.from_arrays([0, 1, 2, 3], latin_1()),
    "Latin-1 in a struct": pyarrow.StructArray.from_arrays([latin_1()], ["inner"]),
    "Latin-1 in a dictionary": pyarrow.DictionaryArray.from_arrays([0, 1, 2], latin_1()),
    "a year behind 9999": YEARS,
    "a zone that is nowhere": ZONES,
}


def load(folder: Path, **more: Any) -> tasks.TaskData:
    settings: dict[str, Any] = {"columns": {"question": "text", "answer": "label"}}
    return tasks.load(
        TaskConfig(name="jsonl", data_dir=str(folder), test_split="train", **settings | more)
    )


# Where a Parquet file has a dictionary, pyarrow itself refuses the file.
@pytest.mark.parametrize(
    ("kind", "ending"),
    [(k, e) for k in ODD for e in ENDINGS if (k, e) != ("Latin-1 in a dictionary", "parquet")],
)
def test_a_value_that_is_none_is_refused_where_it_is_used(
    tmp_path: Path, kind: str, ending: str
) -> None:
    table = pyarrow.table({"text": ["x", "y", "z"], "odd": ODD[kind], "label": ANSWERS})
    path = write(tmp_path / f"train.{ending}", table)
    assert [e.prompt for e in load(tmp_path).pool.examples][1] == "y\nAnswer:"  # odd is not used
    people = read_for_people(str(path), Source(str(path)))
    assert people.rows[1] == {"id": "1", "text": "y", "label": "b"}
    for use in ({"prompt": "{text} {odd}"}, {"columns": {"question": "text", "answer": "odd"}}):
        with pytest.raises(InputError) as error:
            load(tmp_path, **use)
        message = str(error.value)
        assert message.startswith(f"{path}, row ") and "'odd'" in message and "\n" not in message
        assert message.count(str(path)) == 1
    rows = "row 0 .from 0.: column" if "zone" in kind else "row 1 .from 0.: column|rows 0 to 2 "
    with pytest.raises(InputError, match=rows):
        load(tmp_path, prompt="{text} {odd}")


@pytest.mark.parametrize("ending", ENDINGS)
def test_class_labels_have_their_names_as_on_the_hub(tmp_path: Path, ending: str) -> None:
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes", "so"])}
    )
    rows = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [2, 0]}, features=features)
    for split in ("train", "test"):
        write(tmp_path / f"{split}.{ending}", rows.with_format("arrow")[:])
    data = tasks.load(TaskConfig(name="classification", data_dir=str(tmp_path)))
    assert data.task.labels == ("no", "so")
    assert [answer.gold for answer in data.pool.answers] == ["so", "no"]


@pytest.mark.parametrize(
    "note",
    [b"", b"[]", b"{", b'{"info": {"features": []}}', b'{"info": {"features": {"label": 1}}}']
    + [b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": %s}}}}' % names
       for names in (b"3", b"[1, 2]", b'"ab"')],
)  # fmt: skip
def test_a_note_of_something_else_names_no_classes(tmp_path: Path, note: bytes) -> None:
    table = pyarrow.table({"text": ["a", "b"], "label": [1, 0]})
    for split in ("train", "test"):
        noted = table.replace_schema_metadata({"huggingface": note})
        write(tmp_path / f"{split}.parquet", noted)
    data = tasks.load(TaskConfig(name="classification", data_dir=str(tmp_path)))
    assert data.task.labels == ("0", "1")


@pytest.mark.parametrize("ending", ENDINGS)
def test_columns_of_every_type_are_read_as_ever(tmp_path: Path, ending: str) -> None:
    values: dict[str, list[Any] | pyarrow.Array] = {
        "nul": ["a\0b", None, "c"],
        "large": pyarrow.array(["a", None, "c"], pyarrow.large_string()),
        "words": pyarrow.array(["a", None, "a"]).dictionary_encode(),
        "nothing": [None, None, None],
        "number": [1, None, 3],
        "truth": [True, None, False],
        "nested": [[{"a": [None, "x"]}], None, []],
    }
    table = pyarrow.table({**values, "text": ["x", "y", "z"], "label": ANSWERS})
    write(tmp_path / f"train.{ending}", table)
    assert [dict(row) for row in read_folder(tmp_path, "train").rows] == table.to_pylist()
    for name in ("nul", "large", "words", "nothing", "number", "truth"):
        data = load(tmp_path, prompt=f"{{text}} {{{name}}}")
        assert len(data.pool.examples) == 3
    assert load(tmp_path, prompt="{text} {truth}").pool.examples[0].prompt == "x true"


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    "column",
    [
        [1.5, float("nan"), 2.0],
        [1.5, float("inf"), 2.0],
        [decimal.Decimal("1.50"), None, None],
        [b"a", None, None],
        [["a"], None, None],
        [{"a": None}, None, None],
    ],
    ids=str,
)
def test_values_that_are_no_text_are_refused_by_their_row(
    tmp_path: Path, column: list[Any], ending: str
) -> None:
    table = pyarrow.table({"text": ["x", "y", "z"], "odd": column, "label": ANSWERS})
    path = write(tmp_path / f"train.{ending}", table)
    assert len(load(tmp_path).pool) == 3
    for name, use in (
        ("jsonl", {"columns": {"question": "odd", "answer": "label"}}),
        ("classification", {"columns": {"text": "text", "label": "odd"}}),
    ):
        config = TaskConfig(name=name, data_dir=str(tmp_path), test_split="train", **use)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"row [01] \(from 0\): column 'odd' must be text"):
            tasks.load(config)
    people = read_for_people(str(path), Source(str(path)))  # a column that nobody needs
    assert people.rows[1] == {"id": "1", "text": "y", "label": "b"}


def test_the_damaged_part_of_many_is_named(tmp_path: Path) -> None:
    good = pyarrow.array(["x", "y", "z"])
    text = pyarrow.chunked_array([good, good, latin_1()])
    write(tmp_path / "train.arrow", pyarrow.table({"text": text, "label": ANSWERS * 3}))
    said = r"train\.arrow, row 0 .*column 'text' is damaged in rows 6 to 8 \(from 0\): .*UTF8"
    with pytest.raises(InputError, match=said):
        load(tmp_path)
    assert len(load(tmp_path, pool_limit=6, test_limit=6).pool) == 3  # the rest is not looked at


READ = """
import sys
from star.config import TaskConfig
from star.data import loading as tasks
from star.data.reading import read_folder
from star.errors import InputError
for folder in sys.argv[1:]:
    try:
        [dict(row) for row in read_folder(folder, "train").rows]
    except InputError as error:
        assert "\\n" not in str(error)
        print("refused")
    else:
        print("read")
"""


def outcomes(folders: list[Path]) -> list[str]:
    """Return what came of each folder, read in another process, since it may be a crash."""
    done = subprocess.run(
        [sys.executable, "-c", READ, *map(str, folders)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


def long_table() -> pyarrow.Table:
    n = 300
    texts = [f"text number {i}" for i in range(n)]
    return pyarrow.table(
        {
            "text": texts,
            "label": pyarrow.array(["a", "b", None] * (n // 3)).dictionary_encode(),
            "many": [[text, None] for text in texts],
            "parts": [{"a": text} for text in texts],
        }
    )


def offset(content: bytes, table: pyarrow.Table) -> bytes:
    """Return an Arrow file in which a text ends far outside it."""
    offsets = table["text"].chunk(0).buffers()[1].to_pybytes()[:64]
    spoilt = bytearray(content)
    spoilt[content.find(offsets) + 4 * 100 + 3] ^= 0x40
    return bytes(spoilt)


def index(content: bytes, table: pyarrow.Table) -> bytes:
    """Return an Arrow file in which a word of a dictionary is one that it does not have."""
    numbers = table["label"].chunk(0).indices.buffers()[1].to_pybytes()[:64]
    spoilt = bytearray(content)
    spoilt[content.find(numbers) + 4 * 4 + 2] ^= 0x40
    return bytes(spoilt)


@pytest.mark.parametrize("spoil", [offset, index])
def test_a_flipped_bit_is_refused_and_ends_no_process(
    tmp_path: Path, spoil: Callable[[bytes, pyarrow.Table], bytes]
) -> None:
    table = long_table()
    path = write(tmp_path / "train.arrow", table)
    path.write_bytes(spoil(path.read_bytes(), table))
    assert outcomes([tmp_path]) == ["refused"]


def test_any_flipped_bits_end_no_process(tmp_path: Path) -> None:
    draw = random.Random(0)
    folders = []
    for ending in COLUMNS:
        content = write(tmp_path / f"good.{ending}", long_table()).read_bytes()
        for number in range(60):
            spoilt = bytearray(content)
            for _ in range(draw.choice([1, 4])):
                spoilt[draw.randrange(len(spoilt))] ^= 1 << draw.randrange(8)
            folders.append(tmp_path / f"{ending}{number}")
            folders[-1].mkdir()
            (folders[-1] / f"train.{ending}").write_bytes(bytes(spoilt))
    told = outcomes(folders)
    assert len(told) == len(folders) and {*told} == {"read", "refused"}

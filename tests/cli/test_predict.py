"""``star predict``: what it prints and writes, and one clear line for what it cannot answer."""

from __future__ import annotations

import csv
import io
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import runs
from test_cli import refused

import star
from star.active_learning.trained_run import TrainedRun
from star.cli.main import main
from star.evaluation.temperature import Temperatures

SETTINGS = (
    *("pool.rounds=1", "acquisition.select=random", "evaluation.views=[full]"),
    *("train.num_train_epochs=1", "tracking.save_adapters=last"),
)
TEXTS = [f"tom has {i} eggs so is 3 more ?" for i in range(10)]


def make(kind: str, model: Path, folders: pytest.TempPathFactory) -> Path:
    data = runs.write_data(folders.mktemp("data"), choices=kind == "choices")
    words = (runs.CHOICES[0], "task.validation_size=4") if kind == "choices" else ()
    return runs.go(model, data, folders.mktemp("out"), *SETTINGS, *words)


@pytest.fixture(scope="module")
def choices(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("choices", tiny_llama, tmp_path_factory)


@pytest.fixture(scope="module")
def numbers(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("numbers", tiny_llama, tmp_path_factory)


def said(capsys: pytest.CaptureFixture, *words: str | Path) -> str:
    assert main(["predict", *map(str, words)]) == 0
    out: str = capsys.readouterr().out
    return out


def rows_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_lines_of_json_are_those_of_the_function(
    choices: Path, numbers: Path, capsys: pytest.CaptureFixture
) -> None:
    for run in (choices, numbers):
        rows = rows_of(said(capsys, run, *TEXTS, "--format", "jsonl"))
        for i, (row, text) in enumerate(zip(rows, TEXTS, strict=True)):
            assert (row.pop("index"), row.pop("input")) == (i, text)
        assert rows == star.predict(run, TEXTS)
    # Words in any order, as a shell's history makes them.
    turned = said(capsys, "--abstain", "0.9", numbers.parent / choices, "--format=jsonl", *TEXTS)
    again = said(capsys, choices, *TEXTS[:4], "--format", "jsonl", "--abstain=0.9", *TEXTS[4:])
    assert turned == again
    assert {row["label"] is None for row in rows_of(again)} >= {
        row["abstained"] for row in rows_of(again)
    }


def test_a_table_says_whose_answers_they_are(
    choices: Path, numbers: Path, capsys: pytest.CaptureFixture
) -> None:
    lines = said(capsys, choices, *TEXTS, "--abstain", "0.99").splitlines()
    assert lines[0].split() == ["label", "probability", "text"] and lines[1].startswith(
        "(abstains)"
    )
    assert all(text in line for text, line in zip(TEXTS, lines[1:], strict=False))
    assert "round 0, 10 labels; calibrated on 4 held-out rows: temperature" in lines[-1]
    lines = said(capsys, numbers, "tom has\x1b[2J\u202e 3\neggs", "eggs " * 900).splitlines()
    assert lines[0].split()[-1] == "text" and "\x1b" not in "".join(lines)
    assert r"tom has\x1b[2J\x202e 3 eggs" in lines[1] and lines[2].endswith("…")
    assert "not calibrated" in lines[-1] and lines[-1].endswith("; 1 cut to fit the model")


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_file_is_answered_row_by_row(
    form: str, choices: Path, numbers: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    source, output = tmp_path / "rows.csv", tmp_path / f"out.{form}"
    source.write_text("id,question,answer\n" + "".join(f"n{i},{t},\n" for i, t in enumerate(TEXTS)))
    for run in (choices, numbers):
        words = (run, "--file", source, "--output", output, "--force")
        assert said(capsys, *words) == ""
        if form == "jsonl":
            assert [row["id"] for row in rows_of(output.read_text())] == [
                f"n{i}" for i in range(10)
            ]
            continue
        got = [*csv.DictReader(io.StringIO(output.read_text()))]
        for cells, row in zip(got, star.predict(run, TEXTS), strict=True):
            assert cells["calibrated"] == str(row["calibrated"]).lower()
            if run is choices:
                assert cells["label"] == row["label"]
                assert float(cells["p:true"]) == row["probabilities"]["true"]
            else:
                assert cells["text"] == row["text"]
                assert float(cells["confidence_token_mean"]) == row["confidence"]["token_mean"]
    refused(capsys, ["predict", *map(str, words[:-1])], "is there already")
    refused(
        capsys, ["predict", str(run), "--file", str(source), "-o", str(source), "--force"], "input"
    )


def test_texts_on_standard_input_are_answered_line_by_line(
    choices: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def type_in(content: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))

    words = (choices, "--file", "-", "--format", "jsonl")
    expected = said(capsys, choices, *TEXTS, "--format", "jsonl")
    type_in("\r\n".join(TEXTS).encode("utf-8-sig"))
    assert said(capsys, *words) == expected
    for content, part in ((b"", "stdin holds no rows"), (b"a\n\nb", "stdin, line 2: column")):
        type_in(content)
        refused(capsys, ["predict", *map(str, words)], part)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@a", "'=1", "\t=1", "＝1"])
def test_no_cell_of_a_csv_file_is_a_formula(
    text: str, choices: Path, capsys: pytest.CaptureFixture
) -> None:
    out = said(capsys, choices, "--format", "csv", "--", text, "plain")
    first, second = csv.DictReader(io.StringIO(out))
    assert (first["input"], second["input"]) == (f"'{text}", "plain")
    assert float(first["probability"]) > 0  # numbers are as they were


def test_a_text_that_is_too_long_is_said_by_this_program_alone(
    choices: Path, numbers: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = logging.getLogger("transformers")
    theirs.addHandler(caplog.handler)
    try:
        for run in (choices, numbers):
            caplog.clear()
            assert star.predict(run, ["eggs " * 900])[0]["truncated"]
            assert [r.name for r in caplog.records] == ["star.active_learning.predictor"]
    finally:
        theirs.removeHandler(caplog.handler)


@pytest.mark.parametrize(
    "words, parts",
    [
        ([], ["nothing to answer", "--file"]),
        (["a", "--file", "rows.jsonl"], ["two sources"]),
        ([""], ["text 1: column 'question' is empty"]),
        (["a", " "], ["text 2: column 'question' is empty"]),
        (["a", "--round", "3"], ["no adapter of round 3", "0"]),
        (["a", "--abstain", "-1"], ["from 0 to 1, got -1"]),
        (["a", "--abstain", "1.0000001"], ["from 0 to 1, got 1.0000001"]),
        (["a", "--abstain", "nan"], ["from 0 to 1, got nan"]),
        (["a", "--abstain", "x"], ["--abstain"]),
        (["a", "--output", "out.md"], ["must end in .jsonl or .csv"]),
        (["a", "--output", "no/out.csv"], ["no does not exist"]),
        (["a", "--force", "--format", "csv", "-o", "run/out"], ["is a run folder"]),
        (["--file", "rows.xlsx"], ["must end in"]),
        (["--file", "none.csv"], ["not found"]),
        (["--file", "empty.csv"], ["holds no rows"]),
        (["--file", "other.csv"], ["other.csv, line 2: no column 'question'", "the row has text"]),
        (["-x", "a"], ["unrecognized arguments: -x"]),
    ],
)
def test_what_cannot_be_answered_is_one_line(
    words: list[str], parts: list[str], choices: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").symlink_to(choices)
    for name, text in (("rows.xlsx", "x"), ("empty.csv", ""), ("other.csv", "text\na\n")):
        (tmp_path / name).write_text(text)
    before = {p: p.stat().st_mtime_ns for p in choices.rglob("*")}
    refused(capsys, ["predict", "run", *words], *parts)
    assert {p: p.stat().st_mtime_ns for p in choices.rglob("*")} == before


def test_a_temperature_that_few_rows_drive_to_its_end_is_told(choices: Path) -> None:
    trained = TrainedRun.of(choices)
    for value, told in ((0.05, True), (1.3, False), (20.0, True)):
        line = replace(trained, temperatures=Temperatures(value)).summary()
        assert ("hold out more rows" in line) is told


def test_what_is_no_run_folder(
    choices: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for place, part in (
        (tmp_path, "is not a run folder"),
        (tmp_path / "none", "not found"),
        (choices / "config.yaml", "is a file"),
        (choices.parent, "is not a run folder"),
        (choices / "rounds/00", f"folder of a round; name that of its run, {choices}"),
        (choices / "rounds", "is not a run folder"),
    ):
        refused(capsys, ["predict", str(place), "a"], part)


def test_a_text_may_begin_with_a_dash(numbers: Path, capsys: pytest.CaptureFixture) -> None:
    form, text = ("--format", "jsonl"), ("--", "- 3 eggs")
    for words in ((*form, numbers, *text), (numbers, *form, *text), (numbers, "a", *form, *text)):
        assert [row["input"] for row in rows_of(said(capsys, *words))][-1] == "- 3 eggs"
    refused(capsys, ["predict", str(numbers), "--bogus", *form, *text], "--bogus")

"""``star sweep`` and ``star report``: from a table file to its report, one cell failing."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import runs
import yaml

import star
from star.cli.main import main


@pytest.fixture(scope="module")
def place(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the folder, now the current one, of a table that has been swept; a row fails."""
    folder = tmp_path_factory.mktemp("tables")
    runs.write_data(folder / "data")
    words = [*runs.QUICK, f"model.name_or_path={tiny_llama}", "task.data_dir=data", "pool.rounds=2"]
    settings = dict(word.split("=", 1) for word in words)
    content = {
        "title": "A small table",
        "seeds": 2,
        "settings": {key: yaml.safe_load(value) for key, value in settings.items()},
        "columns": {"tiny": {"config": "plain.yaml"}},
        "rows": {
            "random": {"settings": {"acquisition.select": "random"}},
            "star": {"about": "all parts", "naive": "random"},
            "broken": {"settings": {"acquisition.strategy": "faulty_rows:f"}},
        },
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    (folder / "plain.yaml").write_text("seed: 0\n")
    (folder / "faulty_rows.py").write_text("def f(pool): return pool.index[:1]\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [*sys.path])
        assert main(["sweep", "small.yaml", "--jobs", "1"]) == 1
        yield folder


@pytest.mark.slow
def test_one_cell_fails_and_the_rest_is_complete(
    place: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    done = sorted(str(p.parent.relative_to(place)) for p in place.rglob("result.json"))
    names = ("random", "star")
    assert done == [f"runs/small/tiny/{row}/seed{seed}" for row in names for seed in (0, 1)]
    # Started again, only what failed runs, and fails again.
    stamps = {path: path.stat().st_mtime_ns for path in place.rglob("result.json")}
    assert main(["sweep", "small.yaml", "--rows", "star,broken", "--seeds", "1"]) == 1
    assert "small/tiny/broken/seed0 failed: InputError" in caplog.text.replace("\n", " ")
    assert stamps == {path: path.stat().st_mtime_ns for path in place.rglob("result.json")}
    assert main(["sweep", "small.yaml", "--rows", "star,random"]) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "runs/small"


def test_the_report_shows_the_gap(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = {}
    for kind in ("md", "latex", "csv", "json"):
        assert main(["report", "small.yaml", "--format", kind]) == 0
        texts[kind] = capsys.readouterr().out
    assert "broken" in texts["md"] and "0 of 2" in texts["md"]
    rows = {row["row"]: row for row in json.loads(texts["json"])["rows"]}
    assert rows["broken"]["n"] == 0 and rows["star"]["n"] == rows["random"]["n"] == 2
    aucs = [
        runs.read(place / f"runs/small/tiny/star/seed{seed}/result.json")["auc"] for seed in (0, 1)
    ]
    assert rows["star"]["auc"]["mean"] == pytest.approx(sum(aucs) / 2, rel=1e-5)
    # The record alone gives the same bytes, the pictures too.
    for folder in ("one", "two"):
        source = "small.yaml" if folder == "one" else "one"
        assert main(["report", source, "--output", folder]) == 0
    files = {path.name for path in Path("one").iterdir()}
    assert {"results.json", "table.md", "table.tex", "table.csv", "table.json"} < files
    assert any(name.endswith(".png") for name in files)
    for name in files:
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes(), name
    assert Path("one/table.md").read_text() == texts["md"]
    frame = star.load_results("small.yaml")
    assert len(frame) == 8 and set(frame["row"]) == {"random", "star"}


@pytest.mark.parametrize("name", ["results.json", "table.csv", "tiny-curve.png"])
def test_a_report_replaces_its_own_files_alone(
    place: Path, capsys: pytest.CaptureFixture[str], name: str, tmp_path: Path
) -> None:
    report = ["report", "small.yaml", "--output", str(tmp_path)]
    (tmp_path / "tiny.csv").write_text("no report writes this")
    dear = tmp_path / name
    dear.write_text("dear")
    assert main(report) == 2
    said = capsys.readouterr().err
    assert f"{dear} is there already" in said and "give --force" in said
    assert dear.read_text() == "dear" and len(list(tmp_path.iterdir())) == 2
    assert main([*report, "--force"]) == 0
    assert main(report) == 0  # the table's own record is there now
    assert main(["report", "runs", "--output", str(tmp_path)]) == 2  # another table's


@pytest.mark.parametrize("below", ["", "rounds", "new/deep"])
def test_nothing_is_written_into_a_run_folder(
    place: Path, capsys: pytest.CaptureFixture[str], below: str
) -> None:
    run = Path("runs/small/tiny/star/seed0")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    (place / "texts.jsonl").write_text('{"prompt": "a", "continuation": "b"}\n')
    file = str(run / below / "x.json") if below else f"{run}/config.yaml"
    for words in (
        ["report", "small.yaml", "--output", str(run / below), "--force"],
        ["replay", str(run), "--json", file, "--force"],
        ["estimate", f"{run}/config.yaml", "--json", file, "--force"],
        ["score", "embedded://tiny", "texts.jsonl", "-o", file, "--force"],
        ["sweep", "small.yaml", "--output-dir", str(run / below)],
        ["run", "plain.yaml", f"output_dir={run / below}"],
    ):
        assert main(words) == 2, words
        said = capsys.readouterr().err
        assert "seed0 is a run folder; name another place" in said or "does not exist" in said
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}


def test_single_runs_have_a_report(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [f"runs/small/tiny/{row}/seed0" for row in ("random", "star")]
    assert main(["report", *folders, "--format", "csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert main(["report", *folders]) == 0
    _, _, after = capsys.readouterr().out.partition(" over the test examples.\n\n")
    lines = [line.strip("| ").split(" | ") for line in after.split("\n\n")[0].splitlines()]
    results = [json.loads(Path(folder, "result.json").read_text()) for folder in folders]
    assert lines[0] == ["labels", *(result["strategy"] for result in results)]
    for i, labels, *told in ((i, *line) for i, line in enumerate(lines[2:])):
        points = [result["rounds"][i] for result in results]
        assert [int(labels)] * 2 == [point["labeled"] for point in points]
        wanted = [(point["accuracy"], point["accuracy_stderr"]) for point in points]
        assert told == [f"{100 * a:.1f} ± {100 * e:.1f}" for a, e in wanted]
    assert len(lines) == 2 + len(results[0]["rounds"])


def test_printed_commands_are_the_cells(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", "small.yaml", "--executor", "print", "--seeds", "1,5", "--rows", "star"]
    assert main([*words, "pool.rounds=1", "--output-dir", "other"]) == 0
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines] == [["star", "run"]] * 2
    for line, seed in zip(lines, (1, 5), strict=True):
        assert main([*line[1:], "--print-config"]) == 0
        config: Any = yaml.safe_load(capsys.readouterr().out)
        assert (config["seed"], config["pool"]["rounds"]) == (seed, 1)
        assert config["run_name"] == f"small/tiny/star/seed{seed}"


def test_other_settings_in_the_same_place(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "small.yaml", "--rows", "star", "pool.rounds=1"]) == 2
    said = capsys.readouterr().err
    assert "another configuration" in said and "--output-dir" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    "words, said",
    [
        (["sweep", "absent.yaml"], "table file absent.yaml cannot be read"),
        (["sweep", "small.yaml", "--rows", "sart"], "did you mean 'star'"),
        (
            ["sweep", "small.yaml", "--jobs", "0", "--output-dir", "new"],
            "--jobs must be at least 1",
        ),
        (["report", "absent"], "absent is not there"),
        (["report", "small.yaml", "--output-dir", "nowhere"], "run star sweep small.yaml"),
        (["report", "small.yaml", "--figures", "png"], "without --output DIR"),
        (["report", "small.yaml", "small.yaml", "--output", "x"], "--output is for one table"),
        (["report", "small.yaml", "small.yaml", "--format", "json"], "json is for one table, got"),
        (["sweep", "small.yaml", "seed=1", "--rows", "star"], "use seeds of the table, or --seeds"),
    ],
)
def test_bad_words(
    place: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and said in err


@pytest.mark.parametrize(
    "words, seeds",
    [([], [0, 1]), (["1"], [0]), (["1,"], [1]), (["7,1"], [7, 1])],
)
def test_seeds(
    place: Path, capsys: pytest.CaptureFixture[str], words: list[str], seeds: list[int]
) -> None:
    every = ["--output-dir", "afresh", *(["--seeds", *words] if words else [])]
    assert main(["sweep", "small.yaml", "--executor", "print", "--rows", "star", *every]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(f"seed={seed}" in line.split() for seed, line in zip(seeds, lines, strict=True))


@pytest.mark.parametrize("text", ["0", "3", "a", "", "1,b", "-1"])
def test_seeds_that_are_none(place: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert main(["sweep", "small.yaml", "--executor", "print", "--seeds", text]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: --seeds") and err.count("\n") == 1

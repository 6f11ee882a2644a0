"""Tables and pictures from result files."""

import runpy
import sys
from pathlib import Path

import pytest

from star.errors import InputError
from star.experiments.report.style import (
    curve_table,
    learning_curve_figure,
    mean_curves_figure,
    read_result,
)
from star.files import write_json

ROOT = Path(__file__).parents[1]


def result(strategy: str, accuracy: list[float], **changes: object) -> dict:
    rounds = [
        {"round": t, "labeled": 20 * (t + 1), "accuracy": a, "accuracy_stderr": 0.02}
        for t, a in enumerate(accuracy)
    ]
    return {
        "status": "done",
        "task": "arithmetic",
        "strategy": strategy,
        "seed": 0,
        "config_hash": "0123456789abcdef",
        "label_free": True,
        "rounds": rounds,
        "auc": sum(accuracy) / len(accuracy),
        **changes,
    }


def test_table() -> None:
    table = curve_table([result("star", [0.25, 0.5]), result("random", [0.25])])
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert cells[0] == ["round", "labels", "star", "random"]
    assert all(set(cell) == {"-", ":"} for cell in cells[1])
    assert cells[2] == ["0", "20", "0.250 ± 0.020", "0.250 ± 0.020"]
    assert cells[3] == ["1", "40", "0.500 ± 0.020", "–"]
    assert cells[4] == ["AUC", "", "0.375", "0.250"]
    assert len({len(line) for line in table.splitlines()}) == 1


def test_names_tell_runs_apart_and_say_who_reads_labels() -> None:
    def header(*results: dict) -> list[str]:
        line = curve_table(results).splitlines()[0]
        return [cell.strip() for cell in line.split("|")[3:-1]]

    one = result("star", [0.5])
    assert header(one, result("star", [0.5], seed=1)) == ["star seed 0", "star seed 1"]
    assert header(one, result("star", [0.5], task="choice")) == ["arithmetic star", "choice star"]
    assert header(result("x-gold", [0.5], label_free=False)) == ["x-gold (reads labels)"]
    other = result("star", [0.5], config_hash="fedcba9876543210")
    assert header(one, other) == ["star seed 0 01234567", "star seed 0 fedcba98"]
    assert "a\\|b" in curve_table([result("a|b", [0.5])])


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_figure(ending: str, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / f"curve.{ending}"
    many = [result(f"strategy {i}", [0.1 * i, 0.1 * i + 0.1]) for i in range(9)]
    assert learning_curve_figure(many, path) == path
    assert path.stat().st_size > 5_000


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_the_same_results_give_the_same_bytes(ending: str, tmp_path: Path) -> None:
    both = [result("star", [0.25, 0.5]), result("star", [0.5, 0.75], seed=1)]
    paths = [tmp_path / f"{i}.{ending}" for i in range(2)]
    for path in paths:
        mean_curves_figure({"star": both}, path, title="arithmetic")
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert not any(word in paths[0].read_bytes() for word in (b"CreationDate", b"dc:date"))
    assert sorted(tmp_path.iterdir()) == paths


def test_figure_refuses(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="png"):
        learning_curve_figure([result("star", [0.5])], tmp_path / "curve.xyz")
    with pytest.raises(InputError, match="at least one"):
        learning_curve_figure([], tmp_path / "curve.png")
    assert not list(tmp_path.iterdir())


def test_read_result(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not found"):
        read_result(tmp_path / "nowhere")
    with pytest.raises(InputError, match="has not finished"):
        read_result(tmp_path)
    write_json(tmp_path / "result.json", {"rounds": []})
    with pytest.raises(InputError, match=r"no round|no such"):
        read_result(tmp_path)
    write_json(tmp_path / "result.json", result("star", [0.5]))
    assert read_result(tmp_path)["strategy"] == "star"


def run_script(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["learning_curve.py", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "scripts" / "learning_curve.py"), run_name="__main__")
    return stopped.value.code


def test_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("star", "random"):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "result.json", result(name, [0.25, 0.5]))
    picture = tmp_path / "curve.png"
    runs = (tmp_path / "star", tmp_path / "random")
    assert run_script(monkeypatch, *runs, "--output", picture) == 0
    printed = capsys.readouterr().out
    assert "0.500 ± 0.020" in printed and str(picture) in printed.splitlines()[-1]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run_script(monkeypatch, tmp_path / "gone", "--output", picture) == 2
    assert capsys.readouterr().err.startswith("error: run folder")

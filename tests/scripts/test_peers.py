"""The peers get what a run of ours gets, and stand beside it; small-text is not installed here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from peers import __main__ as command
from peers import report

from star.config import load
from star.data import loading as tasks
from star.data.pool import Pool, first_labels
from star.experiments.report import results
from star.experiments.table_file import read_table

ROOT = Path(__file__).parents[2]
TWINS = {"random": "random", "breaking-ties": "margin"}


def cell(strategy: str, seed: int, accuracy: list[float], **changes: Any) -> dict[str, Any]:
    rounds = [
        {"labeled": 100 * (t + 1), "accuracy": a, "seconds": {"train": 4.0, "train_cpu": 3.0}}
        for t, a in enumerate(accuracy)
    ]
    rounds[0]["seconds"] |= {"query": 1.5}
    versions = {"small-text": "1.4.1", "torch": "2.13.0", "transformers": "4.57.6"}
    training = {"learning_rate": 2e-5, "num_train_epochs": 10, "train_batch_size": 12}
    return {
        "strategy": strategy,
        "seed": seed,
        "learning_rate": None,
        "rounds": rounds,
        "packages": versions,
        "threads": 1,
        "training": training | {"validation_share": 0.1, "trained": 22713986},
        "file": "somewhere",
        **changes,
    }


def ours(strategy: str, seed: int, accuracy: tuple[float, ...]) -> report.Curve:
    seconds = dict.fromkeys(("train", "query", "evaluate"), (2.0, 2.0))
    return report.Curve("star", strategy, seed, (100, 200), accuracy, seconds)


def test_side_by_side() -> None:
    cells = [cell("random", k, [0.5, 0.6 + k / 10]) for k in range(2)]
    cells += [cell("random", 0, [0.6, 0.8], learning_rate=5e-4), cell("badge", 0, [0.5, 0.5])]
    text = report.table(cells, [ours("random", k, (0.6, 0.8)) for k in range(2)], TWINS)
    lines = text.splitlines()
    assert "rate 2e-05, 10 epochs at most, batches of 12, 10% of the labels" in text
    [own] = [line for line in lines if line.startswith("| small-text | random")]
    # 12.706 is the 0.975 quantile of t with one degree of freedom.
    assert own.startswith("| small-text | random | 50.0 ± 0.0 | 65.0 ± 63.5 | 57.5 ± 31.8 |")
    assert own.endswith("| 4.0 (3.0) | 1.5 | – | 2 |")
    assert "| star | random | 60.0 ± 0.0 | 80.0 ± 0.0 | 70.0 ± 0.0 | 2.0 | 2.0 | 2.0 | 2 |" in lines
    assert "| small-text: random | random | +12.5 ± 31.8 | +15.0 ± 63.5 | 2 |" in lines
    assert "| small-text, rate 0.0005: random | random | +0.0 | +0.0 | 1 |" in lines
    assert not [line for line in lines if line.startswith("| small-text: badge")]


def test_curves_of_other_label_counts_are_named() -> None:
    cells = [cell("random", k, [0.5, 0.6]) for k in range(3)]
    more = cell("badge", 4, [0.5, 0.6, 0.7])  # the longest, and alone
    text = report.table([*cells, more], [ours("random", 0, (0.6, 0.8))], TWINS)
    assert "| small-text | random | 50.0 ± 0.0 | 60.0 ± 0.0 | 55.0 ± 0.0 |" in text
    assert "Left out for their label counts: small-text: badge, seed 4, with 100, 200, 300." in text
    assert "Left out" not in report.table(cells, None, TWINS)


def test_a_difference_that_rounds_to_nothing_has_no_minus() -> None:
    text = report.table([cell("random", 0, [0.5, 0.6001])], [ours("random", 0, (0.5, 0.6))], TWINS)
    assert "| small-text: random | random | +0.0 | +0.0 | 1 |" in text


def test_without_runs_of_ours_there_is_no_comparison(tmp_path: Path) -> None:
    report.write(tmp_path, [cell("random", 0, [0.5, 0.6])], None, TWINS)
    assert "seed by seed" not in (tmp_path / "table.md").read_text(encoding="utf-8")
    [kept] = json.loads((tmp_path / "peers.json").read_text(encoding="utf-8"))["cells"]
    assert "file" not in kept and kept["seed"] == 0


def test_runs_of_ours_on_other_seeds_or_rows_are_left_out(capsys: pytest.CaptureFixture) -> None:
    committed = read_table(ROOT / "configs/tables/main.yaml")
    record = results.find(committed.path).results()
    assert len(record) == 696
    [same, other, *_] = sorted({cell.seed for cell in record})
    hashes = {cell.content["data"] for cell in record if cell.content and cell.seed == same}
    rows = f"{min(hashes)}ab"
    cells = [{"strategy": "badge", "seed": same, "rows": rows}]
    cells += [{"strategy": "badge", "seed": other, "rows": "another"}]
    left = report.ours_of(committed, None, cells, TWINS)
    assert left is not None
    kept = [cell for cell in record if cell.seed == same and cell.content["data"] == min(hashes)]
    assert [curve.seed for curve in left] == [same] * len(kept) and kept
    assert f"left out: {696 - len(left)} runs" in capsys.readouterr().out


def test_a_twin_has_the_seeds_of_its_own_strategy_alone() -> None:
    committed = read_table(ROOT / "configs/tables/sst2_study.yaml")
    record = results.find(committed.path).results()
    data = {cell.seed: cell.content["data"] for cell in record if cell.content}
    cells = [{"strategy": "random", "seed": k, "rows": data[k]} for k in (0, 1)]
    cells += [{"strategy": "breaking-ties", "seed": 0, "rows": data[0]}]
    left = report.ours_of(committed, None, cells, TWINS)
    assert left is not None
    rows = {cell.row for cell in record}
    seeds = {row: sorted(curve.seed for curve in left if curve.strategy == row) for row in rows}
    assert seeds.pop("random") == [0, 1] and seeds.pop("margin") == [0]
    assert len(seeds) == 5 and all(some == [0, 1] for some in seeds.values())


def written(folder: Path) -> Path:
    data = folder / "data"
    data.mkdir()
    for split, count in (("train", 30), ("validation", 5)):
        rows = [
            {"text": f"a film number {split} {i}", "label": ("negative", "positive")[i % 2]}
            for i in range(count)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (data / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return data


def test_they_get_the_rows_and_first_labels_of_our_runs(tmp_path: Path) -> None:
    words = [f"task.data_dir={written(tmp_path)}", "task.name=sst2", "task.draw=seeded"]
    words += ["task.classify_by=head", "acquisition.combine=none", "evaluation.views=[full]"]
    config = load(None, [*words, "task.pool_limit=20", "pool.initial_size=6", "seed=3"])
    rows = command.rows_of(config)
    data = tasks.load(config.task, seed=3)
    index = [example.index for example in data.pool.examples]
    assert [row["index"] for row in rows["pool"]] == index and len(index) == 20
    assert [row["text"] for row in rows["pool"]] == [f"a film number train {i}" for i in index]
    assert [row["label"] for row in rows["pool"]] == [i % 2 for i in index]
    assert [row["label"] for row in rows["test"]] == [0, 1, 0, 1, 0]
    pool: Pool[Any] = Pool(index)
    assert rows["initial"] == first_labels(pool, held_out=0, initial=6, seed=3)[1]


def test_what_is_finished_is_left_alone_and_of_other_rows_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    table = tmp_path / "small.yaml"
    (tmp_path / "plain.yaml").write_text("task: {name: sst2}\n", encoding="utf-8")
    table.write_text("columns: {one: {config: plain.yaml}}\nrows: {random: {}}\n", encoding="utf-8")
    words = ["--python", sys.executable, "--smoke", "--table", str(table)]
    words += ["--strategies", "random", "--data-dir", str(written(tmp_path))]
    words += ["--output", str(tmp_path / "out")]
    # What would be run, and what it would leave.
    ran = []

    def carry_out(command: list[str], check: bool) -> subprocess.CompletedProcess:
        ran.append(command)
        for part in json.loads(Path(command[-1]).read_text(encoding="utf-8"))["cells"]:
            file = Path(part["file"])
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(part | cell("random", 0, [0.5, 0.6])), encoding="utf-8")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(command.subprocess, "run", carry_out)
    assert command.main(words) == 0 and len(ran) == 1
    assert command.main(words) == 0 and len(ran) == 1
    report_of = tmp_path / "out/smoke/report"
    assert "| small-text | random | 50.0 | 60.0 |" in (report_of / "table.md").read_text("utf-8")
    capsys.readouterr()
    made = tmp_path / "out/smoke/cells/own/random/seed0.json"
    made.write_text(json.dumps(json.loads(made.read_text("utf-8")) | {"rows": "others"}), "utf-8")
    assert command.main(words) == 2 and len(ran) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "is of other rows than are wanted now" in said


def test_without_a_cell_there_is_nothing_to_report(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert command.main(["--output", str(tmp_path)]) == 2
    assert "holds no cell; run with --python" in capsys.readouterr().err

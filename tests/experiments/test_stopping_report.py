"""What rules of stopping would have saved and cost: by hand, and from a run to its report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import runs
from made import cell, record

from star.active_learning.run_reader import RunReader
from star.cli.main import main
from star.errors import InputError
from star.experiments.report import formats
from star.experiments.report.answers import answers_of
from star.experiments.report.record import Record, read_record
from star.experiments.report.stopping import RULES, effect, history, stopping_sheet
from star.experiments.report.summary import summary

# Labels 20, 60, 100. Even test rows say no gain after the first round, odd ones see it go on.
ACCURACY = (0.50, 0.55, 0.70)
EVEN, ODD, KAPPA = (0.50, 0.50, 0.60), (0.50, 0.60, 0.80), (None, 0.9, 0.75)


def told(row: str, seed: int, *, sure: tuple[float, ...] = (0.8, 0.95, 0.9)) -> dict[str, Any]:
    made = cell(row, seed, ACCURACY)
    for t, point in enumerate(made["rounds"]):
        point["answers"] = {"even": EVEN[t], "odd": ODD[t], "kappa": KAPPA[t]}
        point["overconfidence"] = sure[t] - ACCURACY[t]
    return made


def test_a_rule_is_judged_by_rows_that_it_did_not_look_at() -> None:
    [run] = record(told("random", 0)).results()
    rules = {rule.name: rule for rule in RULES}
    assert history(run).uncertainty == pytest.approx([0.2, 0.05, 0.1])
    assert history(run, "odd").accuracy == list(ODD) and history(run).kappas == [0.9, 0.75]
    # Even rows stop at 60 labels, where odd ones lose 20 points; odd rows go on to the end.
    found = effect(run, rules["no gain, 1 round"])
    assert (found.stopped, found.saved) == (0.5, 20)
    assert found.lost == pytest.approx(0.2 / 2)
    # 40 labels less, and 200 errors more among 1000 answers, in one case of two.
    assert found.costs == pytest.approx([(-40 + price * 200) / 2 for price in (0.01, 0.1, 1.0)])
    for name in ("half the budget", "unsure < 0.1"):
        found = effect(run, rules[name])
        assert (found.stopped, found.saved, found.lost) == (1, 40, pytest.approx(0.15))
        assert found.costs == pytest.approx([-40 + price * 150 for price in (0.01, 0.1, 1.0)])
    # The last round is the end of the run anyway; the mean kappa is 0.825.
    assert effect(run, rules["kappa 0.8 of 2"]).stopped == 0
    assert effect(run, rules["kappa 0.99 of 3"]).saved == 0


def test_the_table_has_the_baseline_and_the_mean_over_rows_with_a_curve() -> None:
    early = (0.95, 0.95, 0.95)  # stopped by being sure at 20 labels, which saves 80
    cells = [told("random", 0), told("random", 1), told("star", 0), told("star", 1, sure=early)]
    flat = [told("whole-pool", seed) for seed in (0, 1)]
    sheet = stopping_sheet(record(*cells, *flat, rows={"whole-pool": {"curve": False}}))
    assert sheet is not None
    rows = {(row[0], row[2]): row for row in sheet.body if row[1] == "task"}
    assert {name for _, name in rows} == {"random", "all 2"} and len(rows) == 2 * len(RULES)
    assert rows["unsure < 0.1", "random"][3:6] == ["100 %", "40.0 ± 0.0", "+15.0 ± 0.0"]
    assert rows["unsure < 0.1", "all 2"][4].startswith("50.0 ± ")  # of 40 and 60
    assert rows["unsure < 0.1", "all 2"][-1] == "2"


def test_a_record_without_answers_is_reported_as_before() -> None:
    old = record(cell("random", 0, ACCURACY))
    assert stopping_sheet(old) is None
    with pytest.raises(InputError, match="does not hold its rounds' answers"):
        formats.stopping_rules(summary(old))
    part = [told("random", 0), cell("random", 1, ACCURACY)]
    sheet = stopping_sheet(record(*part))
    assert sheet is not None and {row[-1] for row in sheet.body} == {"1"}


@pytest.fixture(scope="module")
def folder(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("stopping")
    return runs.go(tiny_llama, runs.write_data(place / "data"), place / "runs")


def test_a_run_is_reported_with_its_rules(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["report", str(folder), "--output", str(tmp_path / "report")]) == 0
    kept: Record = read_record(tmp_path / "report" / "results.json")
    [run] = kept.results()
    for t, point in enumerate(run.rounds):
        lines = (folder / f"rounds/{t:02d}/predictions.jsonl").read_text().splitlines()
        right = [json.loads(line)["correct"] for line in lines]
        assert point.answers is not None
        halves = (sum(right[::2]) / 3, sum(right[1::2]) / 3)
        assert (point.answers["even"], point.answers["odd"]) == pytest.approx(halves, rel=1e-5)
        assert (point.answers["kappa"] is None) >= (t == 0)
    written = (tmp_path / "report" / "stopping.md").read_text(encoding="utf-8")
    capsys.readouterr()
    assert main(["report", str(tmp_path / "report"), "--format", "stopping"]) == 0
    assert capsys.readouterr().out == written and "| half the budget |" in written


def test_a_record_without_answers_leaves_no_rules_of_another_beside_it(
    folder: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report"
    assert main(["report", str(folder), "--output", str(report)]) == 0
    old = runs.read(report / "results.json")
    for point in old["cells"][0]["rounds"]:
        del point["answers"]
    earlier = tmp_path / "results.json"
    earlier.write_text(json.dumps(old), encoding="utf-8")
    assert main(["report", str(earlier), "--output", str(report)]) == 0
    assert not (report / "stopping.md").exists()


def test_rounds_of_other_rows_are_told(folder: Path, tmp_path: Path) -> None:
    run = shutil.copytree(folder, tmp_path / "run")
    points = runs.read(run / "result.json")["rounds"]
    predictions = run / "rounds" / "01" / "predictions.jsonl"
    lines = predictions.read_text(encoding="utf-8").splitlines(keepends=True)
    predictions.write_text("".join(lines[1:]), encoding="utf-8")
    with pytest.raises(InputError, match="is of other rows than"):
        answers_of(RunReader(run), points)
    predictions.unlink()
    assert answers_of(RunReader(run), points) == [None] * 3


def test_probes_know_no_stopping(capsys: pytest.CaptureFixture) -> None:
    table = str(Path(__file__).parents[2] / "configs" / "tables" / "probes.yaml")
    assert main(["report", table, "--format", "stopping"]) == 2
    assert "the probes have md alone" in capsys.readouterr().err

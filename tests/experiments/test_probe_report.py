"""The probes' record and report: what is gathered of a table's runs, told in tables and drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import runs
import yaml

from star.active_learning.loop import run
from star.cli.main import main
from star.errors import InputError
from star.experiments import probes
from star.experiments.error_ranking import error_ranking
from star.experiments.report import probe_record, probe_tables
from star.experiments.table import cells
from star.experiments.table_file import read_table
from star.files import read_json, write_json

ROOT = Path(__file__).parents[2]
COMMITTED = sorted(ROOT.glob("scripts/results/*/probes.json"))
PROBES = ("gap", "beta", "weights", "dropout", "picks")


def provenance(**changes: Any) -> dict[str, Any]:
    star = {"version": "0", "commit": "0123456789abcdef", "dirty": False}
    return {
        "runs": 4, "seeds": [0, 1], "started": ["2026-01-01"], "star": [star],
        "hardware": [{"cores": 2, "cpu": "a cpu"}], **changes,
    }  # fmt: skip


def record(**parts: Any) -> dict[str, Any]:
    return {**{name: [] for name in PROBES}, "provenance": provenance(), **parts}


def gap_row(seed: int = 0, **changes: Any) -> dict[str, Any]:
    mark = {"task": "choice", "name": "star", "seed": seed, "round": 0, "labeled": 20}
    rest = {"spearman": 0.25, "top_k_overlap": 0.5, "chance": 0.1, "mean_difference": 0.0}
    views = {"full_answer_auroc_base": 0.41, "full_answer_auroc_full": 0.62}
    return {**mark, **rest, **views, "full_answer_auroc_mc": None, **changes}


# --- tables and pictures --------------------------------------------------------------------------


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_what_is_committed_is_what_a_report_says_now(path: Path) -> None:
    text = path.with_name("table.md").read_text(encoding="utf-8")
    assert probe_tables.write_tables(read_json(path)) == text
    assert {p.stem for p in path.parent.glob("*.png")} <= set(PROBES)


def test_the_gap_is_reported_as_it_was_measured() -> None:
    text = probe_tables.write_tables(record(gap=[gap_row()]))
    assert "in the full model's answer: base" in text and "u as acquired: base" not in text
    assert "| 0.410 | 0.620 | – |" in text
    measured = {"acquired_test_base": 0.71, "acquired_test_full": 0.72}
    measured |= {"acquired_pool_base": 0.73, "acquired_pool_full": None}
    text = probe_tables.write_tables(record(gap=[gap_row(**measured)]))
    assert "| 0.710 | 0.720 | 0.730 | – | 0.410 |" in text
    (head,) = [line for line in text.splitlines() if line.startswith("| task")]
    using = [cell for cell in head.split("|") if "unlabelled" in cell]
    assert len(using) == 2 and all("*" in cell for cell in using) and "* label-using" in text


def test_means_intervals_and_pictures(tmp_path: Path) -> None:
    made = record()
    for seed in (0, 1):
        mark = {"task": "choice", "name": "star", "seed": seed}
        made["gap"].append(gap_row(seed, full_answer_auroc_full=0.7 + 0.2 * seed))
        for name in ("none", "decoupled-5", "loss-0.01"):
            numbers = {"accuracy": 0.5, "ece": 0.1, "nll": 1.0, "auroc": 0.6, "norm_B": 2.0}
            made["beta"].append({**mark, "name": name, **numbers})
        told = {"auc": 0.5, "label_free": True, "prompt_words": 9.0, "pool_prompt_words": 8.0}
        told |= {"repeats": 0.1, "pool_repeats": 0.4}
        told |= {"kinds": {"a": 0.5, "b": 0.5}, "pool_kinds": {"a": 0.1, "b": 0.9}}
        for name, queried in (("star", [1, 2]), ("random", [2, 3])):
            made["picks"].append({**mark, "name": name, "queried": queried, **told})
    text = probe_tables.write_tables(made)
    # Two seeds, 0.7 and 0.9: t for one degree of freedom is 12.706, s / sqrt(2) = 0.1.
    assert "0.800 ± 1.271" in text and "0.500 ± 0.000" in text
    assert "| choice | star, random | 0.333 ± 0.000 |" in text
    assert "(c)" not in text and text.endswith("commit 0123456789. Mean ± half of the 95 % "
                                               "t-interval over seeds.\n")  # fmt: skip
    part = {**made, "beta": [row for row in made["beta"] if row["name"] == "none"], "gap": []}
    assert [path.name for path in probe_tables.draw(part, tmp_path)] == ["picks.png"]
    mixed = [{**row, "task": "other"} for row in part["beta"]]
    paths = probe_tables.draw({**made, "beta": [*made["beta"], *mixed]}, tmp_path)
    assert [path.name for path in paths] == ["gap.png", "beta.png", "picks.png"]
    assert all(path.is_file() for path in paths)


def test_masks_without_a_run_have_a_whole_row() -> None:
    row = {"task": "choice", "masks": "token", "spread": 0.1, "stability": {"1": 0.5}}
    text = probe_tables.write_tables(record(dropout=[row | {"top_k_stability": {"1": 0.25}}]))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert "| choice | token | 0.100 | 0.500 | – | 0.250 | – | – | – |" in lines


def test_what_made_the_runs_is_told() -> None:
    told = provenance(runs=3, cells=4, star=[{"commit": None, "dirty": None}])
    text = probe_tables.write_tables(record(gap=[gap_row()], provenance=told))
    assert "\n3 of 4 runs, seeds [0, 1], 2026-01-01" in text
    earlier = {"gap": provenance(started=["2025-12-31"])}
    text = probe_tables.write_tables(record(gap=[gap_row(draw="seeded")], earlier=earlier))
    assert "Earlier runs: 4 runs, seeds [0, 1], 2025-12-31" in text and "drawn by" not in text
    text = probe_tables.write_tables(record(gap=[gap_row(draw="seeded")]))
    assert "Pool and test questions are drawn by the seed." in text


def test_runs_that_are_not_the_table_files_are_named() -> None:
    said = "choice, picks-star: trained by updates of 32 rows, on 2 processes: seed 0."
    made = record(gap=[gap_row()])
    plain, noted = (probe_tables.write_tables(one) for one in (made, made | {"notes": [said]}))
    assert f"\n\n* {said}\n\n" in noted
    assert noted.replace(f"* {said}\n\n", "") == plain


# --- star report ----------------------------------------------------------------------------------


def test_a_record_is_reported_and_nothing_else_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    write_json(kept / "probes.json", record(gap=[gap_row()], table="small"))
    before = (kept / "probes.json").read_bytes()
    assert main(["report", str(kept)]) == 0
    printed = capsys.readouterr().out
    for folder in (kept, tmp_path / "new"):
        assert main(["report", str(kept / "probes.json"), "--output", str(folder)]) == 0
        names = {path.name for path in folder.iterdir()}
        assert names == {"probes.json", "table.md", "gap.png"}
        assert (folder / "probes.json").read_bytes() == before
        assert (folder / "table.md").read_text(encoding="utf-8") == printed
    capsys.readouterr()

    def refused(*words: str) -> str:
        assert main(["report", str(kept), *words]) == 2
        return capsys.readouterr().err

    assert "--format csv: the probes have md alone" in refused("--format", "csv")
    assert "reported alone" in refused(str(tmp_path / "new"))
    other = tmp_path / "other"
    other.mkdir()
    (other / "table.md").write_text("of something else")
    assert "table.md is there already" in refused("--output", str(other))
    write_json(other / "probes.json", record(table="large"))
    assert "probes.json is there already" in refused("--output", str(other))
    assert (other / "table.md").read_text() == "of something else"
    assert main(["report", str(kept), "--output", str(other), "--force"]) == 0
    assert (other / "table.md").read_text(encoding="utf-8") == printed


@pytest.mark.parametrize(
    "content, said",
    [
        ([], "is not a record of the probes: it needs gap, beta, weights, dropout, picks"),
        (record(beta=None), "is not a record of the probes"),
        (record(gap=[{"task": "choice"}]), r"probe gap: a row is not .*KeyError\('labeled'\)"),
        (record(weights=["star"]), "probe weights: a row is not what the probe measures"),
    ],
)
def test_damaged_records_are_refused(content: Any, said: str, tmp_path: Path) -> None:
    (tmp_path / "probes.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=said):
        probe_tables.write_tables(probe_record.find([tmp_path]) or {})


# --- from runs ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small table of probes and its run folders; one cell is not run."""
    folder = tmp_path_factory.mktemp("probes")
    data = runs.write_data(folder / "data", pool=14, test=6)
    words = runs.words(tiny_llama, data, folder)
    settings = {key: yaml.safe_load(value) for key, value in (w.split("=", 1) for w in words)}
    settings |= {"pool.rounds": 2, "pool.initial_size": 4, "pool.query_size": 3}
    settings |= {"acquisition.continuation": "base", "tracking.cache_dir": str(folder / "cache")}
    settings = {k: v for k, v in settings.items() if k != "output_dir"}
    once = {"pool.rounds": 1, "acquisition.select": "random"}
    passes = {"acquisition.mc_dropout.passes": 2}
    rows = {
        "picks-star": {"tracking.save_adapters": "all"},
        "picks-random": {"acquisition.select": "random"},
        "beta-none": once,
        "beta-loss-1": once | {"regularizer.kind": "loss", "regularizer.beta": 1.0},
        "dropout-token": passes | {"acquisition.mc_dropout.masks": "token"},
        "dropout-off": {"acquisition.mc_dropout.passes": 0},
    }
    (folder / "plain.yaml").write_text("seed: 0\n")
    content = {
        "report": "probes",
        "settings": settings,
        "columns": {"tiny": {"config": "plain.yaml"}},
        "rows": {name: {"settings": row} for name, row in rows.items()},
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    some = [name for name in rows if name != "beta-loss-1"]
    table = read_table(folder / "small.yaml")
    for cell in cells(table, rows=some):
        run(cell.load(folder / "runs"))
    return folder


@pytest.mark.slow
def test_runs_are_gathered_measured_once_and_reported(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["report", str(place / "small.yaml"), "--output-dir", str(place / "runs")]
    assert main([*words, "--output", str(tmp_path / "report")]) == 0
    made = read_json(tmp_path / "report/probes.json")
    counts = {name: len(made[name]) for name in PROBES}
    normalizations = len({row["normalization"] for row in made["weights"]})
    assert counts == {"gap": 1, "beta": 1, "weights": normalizations, "dropout": 1, "picks": 2}
    assert (made["provenance"]["runs"], made["provenance"]["cells"]) == (5, 6)
    star = place / "runs/small/tiny/picks-star/seed0"
    mark = {"task": "tiny", "name": "star", "seed": 0, "draw": "fixed"}
    assert made["gap"] == [mark | probes.gap(star)[0] | error_ranking(star)[0]]
    assert made["dropout"][0]["spearman_without"] is not None
    none = probes.calibration(star.parents[1] / "beta-none/seed0")
    assert made["beta"][0].items() >= none.items()
    # What takes the model is kept beside the run, for this run alone.
    kept = star.with_name("seed0.ranking.json")
    stored = read_json(kept)
    stored["rounds"][0]["test_errors"] = 0.125
    write_json(kept, stored)
    table = read_table(place / "small.yaml")
    assert probe_record.gather(table, place / "runs")["gap"][0]["test_errors"] == 0.125
    write_json(kept, {**stored, "result": "of another run"})
    assert probe_record.gather(table, place / "runs")["gap"] == made["gap"]
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "report")
    # An edit of the table file since.
    assert "notes" not in made
    content = yaml.safe_load((place / "small.yaml").read_text())
    content["rows"]["dropout-token"]["settings"]["acquisition.mc_dropout.passes"] = 3
    (place / "edited").mkdir()
    (place / "edited/plain.yaml").write_text("seed: 0\n")
    (place / "edited/small.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    edited = probe_record.gather(read_table(place / "edited/small.yaml"), place / "runs")
    assert edited["notes"] == [
        "tiny, dropout-token: run with other settings than the table file has now: seed 0 "
        "(acquisition.mc_dropout.passes=2)."
    ]


def test_a_table_without_runs_or_with_other_rows(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain.yaml").write_text("seed: 0\n")

    def table(row: str) -> str:
        content = {"columns": {"tiny": {"config": "plain.yaml"}}, "rows": {row: None}}
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump(content | {"report": "probes"}))
        return str(path)

    out = str(tmp_path / "runs")
    assert main(["report", table("picks-star"), "--output-dir", out]) == 2
    assert "table small has no runs in" in capsys.readouterr().err
    # What is committed beside the table file answers where no runs are named.
    monkeypatch.chdir(tmp_path)
    kept = tmp_path / "scripts/results/small"
    kept.mkdir(parents=True)
    write_json(kept / "probes.json", record(gap=[gap_row()]))
    assert main(["report", "small.yaml"]) == 0
    assert "| choice | 20 | 0.250 |" in capsys.readouterr().out
    assert main(["report", "small.yaml", "--output-dir", out]) == 2
    (tmp_path / "runs/small").mkdir(parents=True)
    for row in ("star", "picks-"):
        assert main(["report", table(row), "--output-dir", out]) == 2
        assert f"rows.{row}: a row of the probes is called" in capsys.readouterr().err

"""The scripts that run grids: what is skipped, what fails, and what the reports are made of."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import cells  # noqa: E402
import probe_report  # noqa: E402
import probes  # noqa: E402

from star.errors import InputError  # noqa: E402


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # the cells name configurations from there


def test_every_cell_is_a_configuration_and_a_folder_of_its_own(tmp_path: Path) -> None:
    grid = probes.cells(2)
    folders = [cell.folder(tmp_path) for cell in grid]
    assert len(set(folders)) == len(folders)
    assert {cell.task for cell in grid} == {"arithmetic", "truefalse", "choice"}
    for cell in grid[: len(grid) // 2 : 7]:  # a load takes a while, the words are alike
        config = cell.load(tmp_path)
        assert config.seed == 0 and config.task.draw == "seeded"
        # What tells the model's errors is measured with the adapters.
        kept = "all" if cell.name == "picks-star" else "none"
        assert config.tracking.save_adapters == kept
        assert tmp_path / config.run_name == cell.folder(tmp_path)


def test_smollm2s_cells(tmp_path: Path) -> None:
    for cell in probes.smollm2_cells(tmp_path, 1):
        assert cell.load(tmp_path).task.data_dir == str(tmp_path)


def _leave_a_mark(cell: cells.Cell, root: Path) -> None:
    (root / f"{cell.name}-{cell.seed}").write_text("done")


@pytest.mark.slow
def test_a_cell_that_fails_stops_no_other(tmp_path: Path, capsys: Any) -> None:
    quick = (
        "task.pool_limit=30", "task.test_limit=4", "pool.initial_size=4", "pool.rounds=1",
        "train.max_steps=1", "acquisition.select=random", 'evaluation.views=["full"]',
    )  # fmt: skip
    config = "configs/tiny/truefalse.yaml"
    good = [cells.Cell("good", config, quick, "star", seed) for seed in (0, 1)]
    bad = cells.Cell("bad", config, (*quick, "pool.initial_size=31"), "star")
    assert cells.run_missing([good[0], bad, good[1]], tmp_path, workers=2) == [bad]
    assert cells.say_failed([bad]) == 1
    told = capsys.readouterr().err
    assert "cell bad" in told and "failed" in told
    stamps = [(c.folder(tmp_path) / "result.json").stat().st_mtime_ns for c in good]
    assert cells.run_missing(good, tmp_path, workers=1) == []  # nothing to do
    again = [(c.folder(tmp_path) / "result.json").stat().st_mtime_ns for c in good]
    assert stamps == again
    other = cells.Cell("good", config, (*quick, "train.max_steps=2"), "star", 0)
    with pytest.raises(InputError, match=r"good.seed0 holds a run of other settings.*--runs"):
        cells.run_missing([other], tmp_path, workers=1)
    # What comes after a run is made up for where the run was there already.
    assert cells.run_missing(good[:1], tmp_path, workers=1, after=_leave_a_mark) == []
    assert (tmp_path / "good-0").read_text() == "done"
    assert cells.provenance(good, tmp_path)["seeds"] == [0, 1]


def test_what_a_grid_leaves_behind(tmp_path: Path, capsys: Any) -> None:
    output = tmp_path / "new" / "grid.json"

    def report(folder: Path) -> str:
        return f"found {json.loads((folder / 'grid.json').read_text())['found']}"

    assert cells.carry_out([], tmp_path, output, lambda done, _: {"found": done}, report) == 0
    assert capsys.readouterr().out == "found []\n"
    assert json.loads(output.read_text())["provenance"]["runs"] == 0
    refused = [cells.Cell("bad", "configs/tiny/choice.yaml", ("train.max_stesp=1",))]
    assert cells.carry_out(refused, tmp_path, output, lambda *_: {}, report) == 2
    assert "did you mean" in capsys.readouterr().err


def told() -> dict[str, Any]:
    star = {"version": "0", "commit": "0123456789abcdef", "dirty": False}
    return {
        "runs": 4, "seeds": [0, 1], "started": ["2026-01-01"], "star": [star],
        "hardware": [{"cores": 2, "cpu": "a cpu"}],
    }  # fmt: skip


def test_probes_that_are_not_asked_for_stay_with_what_made_them(tmp_path: Path) -> None:
    path = tmp_path / "probes.json"
    assert probes.kept(path, ["gap"]) == {k: [] for k in ("beta", "weights", "dropout", "picks")}
    old = {"gap": [1], "beta": [2], "weights": [], "dropout": [3], "picks": [4], "provenance": "x"}
    path.write_text(json.dumps(old))
    found = probes.kept(path, ["gap", "beta"])
    earlier = {"dropout": "x", "picks": "x"}
    assert found == {"weights": [], "dropout": [3], "picks": [4], "earlier": earlier}
    path.write_text(json.dumps({"gap": [5], "beta": [6], **found, "provenance": "y"}))
    found = probes.kept(path, ["picks"])
    assert found["gap"] == [5] and found["dropout"] == [3]
    assert found["earlier"] == {"gap": "y", "beta": "y", "dropout": "x"}
    assert probes.kept(path, list(probes.NEEDS)) == {}


def test_the_gap_is_reported_as_it_was_measured(tmp_path: Path) -> None:
    rest = {"spearman": 0.25, "top_k_overlap": 0.5, "chance": 0.1, "mean_difference": 0.0}
    mark = {"task": "choice", "name": "star", "seed": 0, "round": 0, "labeled": 20}
    old = mark | rest | {"auroc_base": 0.41, "auroc_full": 0.62, "auroc_mc": None}
    text = probe_report.gap([old], tmp_path)
    assert "in the full model's answer: base" in text and "u as acquired: base" not in text
    assert "| 0.410 | 0.620 | – |" in text
    new = mark | rest | {f"full_answer_auroc_{v}": 0.41 for v in ("base", "full", "mc")}
    new |= {"acquired_test_base": 0.71, "acquired_test_full": 0.72}
    new |= {"acquired_pool_base": 0.73, "acquired_pool_full": None}
    text = probe_report.gap([new], tmp_path)
    assert "| 0.710 | 0.720 | 0.730 | – | 0.410 |" in text
    (head,) = [line for line in text.splitlines() if line.startswith("| task")]
    using = [cell for cell in head.split("|") if "unlabelled" in cell]
    assert len(using) == 2 and all("*" in cell for cell in using) and "* label-using" in text


def test_the_report_of_the_probes(tmp_path: Path) -> None:
    found: dict[str, Any] = {"provenance": told()}
    found |= {key: [] for key in ("gap", "beta", "weights", "dropout", "picks")}
    for seed in (0, 1):
        mark = {"task": "choice", "name": "star", "seed": seed}
        views = {"auroc_base": 0.5, "auroc_full": 0.7 + 0.2 * seed, "auroc_mc": None}
        rest = {"spearman": 0.25, "top_k_overlap": 0.5, "chance": 0.1, "mean_difference": 0.0}
        found["gap"].append({**mark, "round": 0, "labeled": 20, **views, **rest})
        for name in ("none", "decoupled-5", "loss-0.01"):
            numbers = {"accuracy": 0.5, "ece": 0.1, "nll": 1.0, "auroc": 0.6, "norm_B": 2.0}
            found["beta"].append({**mark, "name": name, **numbers})
        shares = {"kinds": {"a": 0.5, "b": 0.5}, "pool_kinds": {"a": 0.1, "b": 0.9}}
        words = {
            "auc": 0.5,
            "label_free": True,
            "prompt_words": 9.0,
            "pool_prompt_words": 8.0,
            "repeats": 0.1,
            "pool_repeats": 0.4,
        }
        for name, queried in (("star", [1, 2]), ("random", [2, 3])):
            found["picks"].append({**mark, "name": name, "queried": queried, **shares, **words})
    (tmp_path / "probes.json").write_text(json.dumps(found))
    text = probe_report.write_report(tmp_path)
    # Two seeds, 0.7 and 0.9: t for one degree of freedom is 12.706, s / sqrt(2) = 0.1.
    assert "0.800 ± 1.271" in text and "0.500 ± 0.000" in text
    assert "| choice | star, random | 0.333 ± 0.000 |" in text
    assert (tmp_path / "table.md").read_text() == text
    assert {p.name for p in tmp_path.glob("*.png")} == {"gap.png", "beta.png", "picks.png"}
    assert (tmp_path / "gap.png").stat().st_size > 5000

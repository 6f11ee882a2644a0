"""Shots that people have labelled: what a model is asked later is what its round was asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from projects import GOLD, make, rows
from test_project import asked, give, give_gold

import star
from star.active_learning.export import export
from star.cli.main import main
from star.project.project import Project


def test_a_round_s_shots_have_the_labels_of_its_start(tiny_llama: Path, tmp_path: Path) -> None:
    folder = make(tmp_path, tiny_llama, "task.num_fewshot=2", "tracking.save_adapters=all")
    give_gold(folder)
    assert main(["train", str(folder)]) == 0
    opened = Project.of(folder)
    first, second = json.loads((folder / "rounds/00/metrics.json").read_text())["shots"]
    changed = {"id": opened.ids[first], "label": "true"}
    changed["label"] = "false" if GOLD[changed["id"]] == "true" else "true"
    aside = {"id": opened.ids[second], "outcome": "skip"}
    assert give(folder, [changed, aside], "--correct") == 0
    give(folder, [{"id": row["id"], "label": GOLD[row["id"]]} for row in asked(folder)])
    assert main(["train", str(folder)]) == 0
    texts = [row["text"] for row in rows()]
    for t in (0, 1):
        lines = (folder / f"rounds/{t:02d}/predictions.jsonl").read_text().splitlines()
        noted = [json.loads(line) for line in lines]
        answers = star.predict(folder, [texts[row["index"]] for row in noted], round_=t)
        assert [row["label"] for row in answers] == [row["prediction"] for row in noted]
        sure = [row["confidence"] for row in noted]
        assert [row["probability"] for row in answers] == pytest.approx(sure, abs=1e-5)
        out = export(folder, str(tmp_path / f"out{t}"), merge=True, round_=t)
        shown = json.loads(Path(out, "star.json").read_text())["shots"]
        drawn = json.loads((folder / f"rounds/{t:02d}/metrics.json").read_text())["shots"]
        assert [shot[0].split("\n")[0] for shot in shown[:2]] == [texts[i] for i in drawn]
        assert (second in drawn) == (t == 0)

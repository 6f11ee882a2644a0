"""Projects go on and end whatever people say: queries that give no label, labels taken back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from projects import GOLD, make
from test_project import asked, give, give_gold, status

from star.active_learning.loop import run
from star.cli.main import main
from star.project.project import Project

SMALL = (
    "pool.initial_size=4",
    "pool.query_size=2",
    "acquisition.select=random",
    "task.test_size=3",
)


@pytest.fixture
def project(tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    rows = [{"id": name, "text": f"ann has {i} eggs"} for i, name in enumerate([*GOLD][:14])]
    made = make(tmp_path, tiny_llama, *SMALL, content=rows)
    capsys.readouterr()
    return made


def train(project: Path, *more: str) -> int:
    return main(["train", str(project), *more])


def skip(project: Path, rows: list[dict[str, str]], *more: str) -> None:
    assert give(project, [{"id": r["id"], "outcome": "skip"} for r in rows], *more) == 0


def trained(project: Path, t: int) -> list[str]:
    """Return the ids that a round was trained on."""
    ids = Project.of(project).ids
    return [
        ids[i] for i in json.loads((project / f"rounds/{t:02d}/labels.json").read_text())["index"]
    ]


def reported(project: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["report", str(project)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("force", [[], ["--force"]], ids=["usual", "force"])
def test_other_rows_are_asked_where_a_query_gave_no_label(
    force: list[str], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    give_gold(project)
    assert train(project) == 0
    query = asked(project)
    skip(project, query)
    capsys.readouterr()
    assert train(project, *force) == 0
    assert "1 label is missing before round 1" in capsys.readouterr().out
    assert not (project / "rounds/01").exists()
    others = asked(project)
    assert len(others) == 2 and not {r["id"] for r in others} & {r["id"] for r in query}
    assert others == asked(project)
    skip(project, others[:1])
    again = asked(project)
    assert again[0] == others[1] and len(again) == 2  # one order, whatever is decided by now
    assert give(project, [{"id": r["id"], "label": GOLD[r["id"]]} for r in again]) == 0
    assert train(project) == 0
    assert [p["labeled"] for p in status(project, capsys)["curve"]] == [4, 6]
    give_gold(project)
    assert train(project) == 0
    told = status(project, capsys)
    assert told["finished"] and [p["labeled"] for p in told["curve"]] == [4, 6, 8]


def end_by_skipping(project: Path) -> None:
    """Train on the first labels, set all other rows aside, and train to the end."""
    give_gold(project)
    assert train(project) == 0
    while left := asked(project):
        skip(project, left)
    assert train(project) == 0


def test_the_rows_end_before_there_is_a_label(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    end_by_skipping(project)
    told = status(project, capsys)
    assert told["finished"] and [p["labeled"] for p in told["curve"]] == [4, 4]
    result = json.loads((project / "result.json").read_text())
    assert result["auc"] == result["rounds"][1]["accuracy"]  # the later of two at one count
    assert [p["labeled"] for p in result["rounds"]] == [4, 4]
    reported(project, capsys)


def test_labels_are_taken_back(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    give_gold(project)
    assert train(project) == 0
    tested = {Project.of(project).ids[e.index] for e in Project.of(project).data.test.examples}
    first = [name for name in trained(project, 0) if name not in tested]
    skip(project, [{"id": name} for name in first[:2]], "--correct")
    skip(project, asked(project))
    assert train(project) == 0  # on something else than before, so it is trained
    give_gold(project)
    assert train(project) == 0
    told = status(project, capsys)
    assert told["finished"] and [p["labeled"] for p in told["curve"]] == [4, 2, 4]
    result = json.loads((project / "result.json").read_text())
    low, high = (p["accuracy"] for p in result["rounds"][1:])
    assert result["auc"] == pytest.approx((low + high) / 2)
    reported(project, capsys)


def test_no_label_is_left(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    give_gold(project)
    assert train(project) == 0
    skip(project, [{"id": name} for name in trained(project, 0)], "--correct")
    skip(project, asked(project))
    capsys.readouterr()
    assert train(project) == 0
    assert "1 label is missing before round 1" in capsys.readouterr().out
    give_gold(project)
    assert train(project) == 0
    assert [p["labeled"] for p in status(project, capsys)["curve"]] == [4, 2]


def test_what_was_taken_back_is_asked_again(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row in conflict is unlabelled in a round, chosen by it, and settled behind it."""
    give_gold(project)
    assert train(project) == 0
    name = trained(project, 0)[0]
    other = {"false": "true", "true": "false"}[GOLD[name]]
    assert give(project, [{"id": name, "label": other}], "--annotator", "bob") == 0
    rest = {*Project.of(project).items} - {*trained(project, 0)}
    assert give(project, [{"id": n, "label": GOLD[n]} for n in sorted(rest)]) == 0
    assert train(project) == 0
    assert name not in trained(project, 1)
    assert [r["id"] for r in asked(project)] == [name]  # the last one that is left
    assert (
        give(project, [{"id": name, "label": GOLD[name]}], "--annotator", "bob", "--correct") == 0
    )
    assert train(project) == 0
    assert name in trained(project, 2)
    assert status(project, capsys)["finished"]


def test_a_kill_before_the_result_ends_in_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    end_by_skipping(project)
    stored = (project / "result.json").read_bytes()
    (project / "result.json").unlink()
    run(Project.of(project).config)
    assert (project / "result.json").read_bytes() == stored


def test_a_test_row_is_taken_back(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    give_gold(project)
    assert train(project) == 0
    opened = Project.of(project)
    skip(project, [{"id": opened.ids[opened.data.test.examples[0].index]}], "--correct")
    for _ in range(2):
        give_gold(project)
        assert train(project) == 0
    assert status(project, capsys)["finished"]
    reported(project, capsys)

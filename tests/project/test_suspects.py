"""Labels to look at again, by models that were not trained on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from projects import GOLD, LABELS, make

from star.active_learning import cross_fitting
from star.active_learning.cross_fitting import cross_fitted, dealt
from star.cli.main import main
from star.errors import InputError
from star.project.project import Project

WRONG = ("m3", "m17")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def label(project: Path, who: str, answers: dict[str, str]) -> None:
    path = project.parent / f"{who}.jsonl"
    path.write_text("".join(json.dumps({"id": i, "label": a}) + "\n" for i, a in answers.items()))
    assert main(["label", str(project), str(path), "--annotator", who]) == 0


def listed(project: Path, capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["suspects", str(project), "--format", "json", *words]) == 0
    return json.loads(capsys.readouterr().out)


@given(st.integers(2, 60), st.integers(2, 8), st.integers(0, 5))
def test_every_label_is_in_one_fold(count: int, folds: int, seed: int) -> None:
    indices = (np.arange(count) * 3 + 1).tolist()
    if folds > count:
        with pytest.raises(InputError, match="folds"):
            dealt(indices, folds, seed=seed)
        return
    parts = dealt(indices, folds, seed=seed)
    assert sorted(i for part in parts for i in part) == indices
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert dealt(indices[::-1], folds, seed=seed) == parts


def test_no_model_has_seen_what_it_judges(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label(project, "ann", GOLD)
    trained, judged = [], []
    fitting, evaluate = cross_fitting.Fitting, cross_fitting.as_asked

    def fit(config: Any, model: Any, examples: Any, pool: Any, *more: Any, **words: Any) -> Any:
        trained.append({*pool.labelled})
        return fitting(config, model, examples, pool, *more, **words)

    def ask(config: Any, model: Any, task: Any, examples: Any, answers: Any) -> Any:
        judged.append({e.index for e in examples})
        return evaluate(config, model, task, examples, answers)

    monkeypatch.setattr(cross_fitting, "Fitting", fit)
    monkeypatch.setattr(cross_fitting, "as_asked", ask)
    opened = Project.of(project)
    answers = {i: a for i, a in opened.decided().answers.items() if a is not None}
    examples = {e.index: e for e in [*opened.data.pool.examples, *opened.data.test.examples]}
    found = cross_fitted(opened.config, opened.data.task, examples, answers, test=5, folds=3)
    assert [j.index for j in found] == sorted(answers) == list(range(30))
    assert len(trained) == 3
    for seen, left_out in zip(trained, judged, strict=True):
        assert not seen & left_out and seen | left_out == {*range(30)}
    assert (
        cross_fitted(opened.config, opened.data.task, examples, answers, test=5, folds=3) == found
    )


@pytest.mark.slow
def test_wrong_labels_come_first_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, kinds = ("awful", "happy"), [i % 2 for i in range(60)]
    more = [
        {"id": f"m{i}", "text": f"i feel {words[kind]} {i}", "label": LABELS[kind]}
        for i, kind in enumerate(kinds)
    ]
    model = "embedded://tiny"  # the smallest that learns a word from fifty rows
    project = make(tmp_path, model, "train.num_train_epochs=6", content=more)
    gold = {row["id"]: row["label"] for row in more}
    other = dict(zip(LABELS, reversed(LABELS), strict=True))
    label(project, "ann", {i: other[a] if i in WRONG else a for i, a in gold.items()})
    before = snapshot(project)
    found = listed(project, capsys, "-k", "60")
    assert snapshot(project) == before
    assert len(found) == 60 and {row["id"] for row in found} == {*gold}
    losses = [row["loss"] for row in found]
    assert losses == sorted(losses, reverse=True)
    assert {row["id"] for row in found[:8]} >= {*WRONG}
    assert [row["probability"] for row in found] == pytest.approx(np.exp(-np.array(losses)))
    assert listed(project, capsys, "-k", "5") == found[:5]
    assert main(["suspects", str(project), "-k", "3"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in said] == [row["id"] for row in found[:3]]


def test_disagreement_comes_before_every_loss(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label(project, "ann", GOLD)
    other = "true" if GOLD["m7"] == "false" else "false"
    label(project, "bob", {"m7": other})
    assert "m7" not in {row["id"] for row in listed(project, capsys)}  # it has no label
    label(project, "eve", {"m7": GOLD["m7"]})
    found = suspects_of(project, ["annotation.resolve=majority"])
    assert found[0]["id"] == "m7"
    assert found[0]["answers"] == {"ann": GOLD["m7"], "bob": other, "eve": GOLD["m7"]}
    assert found[0]["disagreement"] == pytest.approx(1 / 3)
    assert {row["disagreement"] for row in found[1:]} == {0}


def suspects_of(project: Path, words: list[str]) -> list[dict[str, Any]]:
    from star.project.suspects import suspects

    return suspects(Project.of(project, words), folds=2)


def test_they_are_decided_on_anew_through_a_file(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label(project, "ann", GOLD)
    path = tmp_path / "again.jsonl"
    words = ("-k", "4", "--folds", "2", "-o", str(path))
    found = listed(project, capsys, *words)
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["id"] for row in written] == [row["id"] for row in found]
    assert [row["suggestion"] for row in written] == [row["prediction"] for row in found]
    corrected = [row | {"label": "true"} for row in written]
    path.write_text("".join(json.dumps(row) + "\n" for row in corrected))
    assert main(["label", str(project), str(path), "--annotator", "ann", "--correct"]) == 0
    assert main(["suspects", str(project), *words]) == 2  # the file is there
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-k", "0"], "-k must be at least 1"),
        (["--folds", "1"], "from 2 folds"),
        (["--folds", "31"], "got 31 for 30 labels"),
        (["-o", "file.xyz"], "xyz"),
    ],
)
def test_bad_words(
    words: list[str], message: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label(project, "ann", GOLD)
    capsys.readouterr()
    assert main(["suspects", str(project), *words]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1


def test_no_labels(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["suspects", str(project)]) == 2
    assert "0 labels" in capsys.readouterr().err

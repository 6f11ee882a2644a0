"""The loop with people in it, by file: only the oracle differs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
from own_trackers import Noting
from projects import GOLD, LABELS, SIZES, make, rows, write

from star.acquisition.embeddings import Embeddings
from star.active_learning import learner
from star.active_learning.loop import run
from star.active_learning.predictor import Predictor
from star.active_learning.trained_run import TrainedRun
from star.cli.main import main
from star.config import load
from star.errors import InputError
from star.experiments.replay import replay
from star.files import read_npz
from star.project.project import Project


def asked(project: Path, *more: str) -> list[dict[str, str]]:
    """Return what is to be labelled, through a file."""
    path = project.parent / "query.jsonl"
    assert main(["query", str(project), "-o", str(path), "--force", *more]) == 0
    return [json.loads(line) for line in path.read_text().splitlines()]


def give(project: Path, answers: list[dict[str, str]], *more: str) -> int:
    """Label through a file; return the exit status."""
    path = project.parent / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in answers))
    return main(["label", str(project), str(path), "--annotator", "ann", *more])


def give_gold(project: Path) -> None:
    assert give(project, [{"id": r["id"], "label": GOLD[r["id"]]} for r in asked(project)]) == 0


def status(project: Path, capsys: pytest.CaptureFixture[str]) -> dict:
    capsys.readouterr()
    assert main(["status", str(project), "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def plain(path: Path) -> object:
    """Return a JSON file without seconds, and without the hash, which tells who answers."""
    found = json.loads(path.read_text())
    for point in [found, *(found["rounds"] if isinstance(found.get("rounds"), list) else [])]:
        point.pop("seconds", None)
        point.pop("config_hash", None)
    return found


def give_gold_on_the_page(project: Path) -> None:
    pytest.importorskip("fastapi", reason="the extra 'web' is not installed")
    from page import Page

    page = Page(project)
    while item := page.next()["item"]:
        page.decide(item["id"], GOLD[item["id"]], seconds=1.5)


@pytest.mark.parametrize("way", [give_gold, give_gold_on_the_page])
def test_the_same_labels_give_the_same_run(
    way: Callable[[Path], None],
    project: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for t in range(3):
        way(project)
        assert main(["train", str(project)]) == 0
        assert len(status(project, capsys)["curve"]) == t + 1
    assert status(project, capsys)["finished"]
    simulated = tmp_path / "rows"
    simulated.mkdir()
    write(simulated / "train.csv", rows(), "id", "text", "label")
    config = load(project / "config.yaml", ["task.oracle=data", f"task.data_dir={simulated}"])
    other = run(load(None, [*words_of(config), f"output_dir={tmp_path}", "run_name=simulated"]))
    names = ("selected.json", "predictions.jsonl", "training.jsonl", "initial.json")
    for name in names:
        there = sorted(p.relative_to(other) for p in other.rglob(name))
        assert there == sorted(p.relative_to(project) for p in project.rglob(name)) != []
        assert [(other / p).read_bytes() for p in there] == [
            (project / p).read_bytes() for p in there
        ]
    for path in [other / "result.json", *other.rglob("metrics.json")]:
        assert plain(path) == plain(project / path.relative_to(other))
    for path in other.rglob("scores.npz"):
        with np.load(path) as one, np.load(project / path.relative_to(other)) as two:
            assert one.files == two.files
            assert all(one[k].tobytes() == two[k].tobytes() for k in one.files)


def words_of(config: object) -> list[str]:
    from star.config import Config, fields_of, get

    said = [(key, get(config, key)) for key, _ in fields_of(Config)]
    changed = [(k, v) for k, v in said if v != get(load(None), k) and k != "adapter.target_modules"]
    return [f"{key}={v if isinstance(v, str) else json.dumps(v)}" for key, v in changed]


def test_what_is_missing_is_said_and_nothing_is_trained(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(project)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("11 labels are missing before round 0: star query")
    assert len(said.splitlines()) == 1
    assert not (project / "rounds").exists()
    with pytest.raises(InputError, match="labels are missing: test rows"):
        run(Project.of(project).config)


def test_a_tracker_has_the_round_that_people_are_asked_after(project: Path) -> None:
    Noting.made.clear()
    for t in range(2):
        give_gold(project)
        assert main(["train", str(project), "tracking.log_with=own_trackers:Noting"]) == 0
        assert [t for t, _ in Noting.made[-1].rounds()] == [*range(t + 1)]
        assert "images" not in [verb for verb, *_ in Noting.made[-1].told]  # it has not ended
    Noting.made.clear()


@pytest.mark.parametrize("back", [False, True])
def test_embeddings_stay_with_their_rows(
    back: bool, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Embeddings] = []

    class Noted(Embeddings):
        def __init__(self, *words: Any) -> None:
            super().__init__(*words)
            made.append(self)

    monkeypatch.setattr(learner, "Embeddings", Noted)
    folder, words = project.parent / "other", ["--labels", ",".join(LABELS)]
    words += ["--data", str(project.parent / "rows.csv"), "acquisition.select=k_center"]
    words += ["--model", load(project / "config.yaml").model.name_or_path]
    assert main(["init", str(folder), *words, *SIZES, "pool.rounds=4"]) == 0
    give_gold(folder)
    assert main(["train", str(folder)]) == 0
    first, *others = asked(folder)
    answers = [{"id": first["id"], "outcome": "skip"}]
    assert give(folder, answers + [{"id": r["id"], "label": GOLD[r["id"]]} for r in others]) == 0
    assert main(["train", str(folder)]) == 0
    if back:
        answers = [{"id": first["id"], "label": GOLD[first["id"]]}]
        assert give(folder, answers, "--correct") == 0
        give_gold(folder)
        assert main(["train", str(folder)]) == 0
    stored = read_npz(folder / "rounds/00/embeddings.npz")
    vector_of = dict(zip(stored["index"].tolist(), stored["base"], strict=True))
    gone = [len(vector_of) - len(embeddings.index) for embeddings in made]
    assert gone == [0, 1, 0][: len(made)] and len(made) == 2 + back
    for embeddings in made:
        wanted = np.stack([vector_of[i] for i in embeddings.index.tolist()])
        np.testing.assert_array_equal(embeddings.of("base", embeddings.index), wanted)
    replayed = replay(folder)  # which is told of what was set aside by the round's own record
    assert len(replayed) == 2 + back
    for row in replayed:
        chosen = json.loads((folder / f"rounds/{row['round']:02d}/selected.json").read_text())
        assert row["indices"] == chosen["indices"]


def test_partial_batches_skips_and_corrections(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    give_gold(project)
    assert main(["train", str(project)]) == 0
    query = [row["id"] for row in asked(project)]
    assert len(query) == 4
    first, second, third, fourth = query
    assert give(project, [{"id": first, "outcome": "skip"}, {"id": second, "label": "false"}]) == 0
    told = status(project, capsys)
    assert (told["open"], told["needed"], told["set_aside"]) == (2, 2, 1)
    assert main(["train", str(project)]) == 0
    assert "2 labels are missing before round 1" in capsys.readouterr().out
    assert main(["train", str(project), "--force"]) == 0
    trained = json.loads((project / "rounds/01/labels.json").read_text())
    ids = Project.of(project).ids
    named = dict(zip([ids[i] for i in trained["index"]], trained["label"], strict=True))
    assert named[second] == "false" and not {first, third, fourth} & named.keys()
    assert trained["decisions"] == 13 and len(trained["test"]["index"]) == 5
    with np.load(project / "rounds/01/scores.npz") as scores:
        pool = {ids[i] for i in scores["index"]}
    assert {third, fourth} <= pool and not {first, second} & pool
    # A correction is asked for, kept beside what it replaces, and used from the next round on.
    assert give(project, [{"id": second, "label": "true"}]) == 2
    assert "--correct" in capsys.readouterr().err
    assert give(project, [{"id": second, "label": "true"}], "--correct") == 0
    give_gold(project)
    assert main(["train", str(project)]) == 0
    again = json.loads((project / "rounds/02/labels.json").read_text())
    assert (
        dict(zip([ids[i] for i in again["index"]], again["label"], strict=True))[second] == "true"
    )
    kept = [e.decision.answer for e in Project.of(project).entries() if e.decision.id == second]
    assert kept == ["false", "true"]


def test_two_annotators_in_conflict(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    give_gold(project)
    row = asked_all(project)[0]
    other = next(label for label in LABELS if label != GOLD[row])
    path = project.parent / "second.csv"
    path.write_text(f"id,label\n{row},{other}\n")
    assert main(["label", str(project), str(path), "--annotator", "bob"]) == 0
    assert "1 in conflict" in capsys.readouterr().out
    told = status(project, capsys)
    assert told["conflicts"] == [row] and told["needed"] == 1
    path.write_text(f"id,label\n{row},{other}\n")
    assert main(["label", str(project), str(path), "--annotator", "eve"]) == 0
    capsys.readouterr()
    voted = Project.of(project, ["annotation.resolve=majority"])
    assert voted.query().short == 0 and not voted.decided().conflicts


def test_ids_cannot_steer_the_terminal(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = ("red \x1b[31m\nrounds 9", "again \x1b[2J")
    named = [row | {"id": name} for row, name in zip(rows(), odd, strict=False)] + rows()[2:]
    named[1] |= {"text": named[2]["text"]}
    data = write(tmp_path / "rows.csv", named, "id", "text")
    words = ["--data", str(data), "--labels", ",".join(LABELS), "--model", str(tiny_llama)]
    folder = tmp_path / "project"
    assert main(["init", str(folder), *words, *SIZES]) == 0
    said = capsys.readouterr().out
    for label, who in zip(LABELS, ("ann", "bob"), strict=True):
        assert give(folder, [{"id": odd[0], "label": label}], "--annotator", who) == 0
    assert main(["status", str(folder)]) == 0
    said += capsys.readouterr().out
    assert ascii(odd[0]) in said and "\x1b" not in said and "\nrounds 9" not in said


def asked_all(project: Path) -> list[str]:
    opened = Project.of(project)
    return [opened.ids[i] for i in opened.query().indices] or list(opened.items)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "m999", "label": "false"}, "m999"),
        ({"id": "m1", "label": "tru"}, "did you mean 'true'"),
        ({"id": "m1", "label": 3}, "label"),
        ({"label": "false"}, "needs an id"),
    ],
)
def test_a_file_with_a_fault_changes_nothing(
    project: Path, row: dict, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert give(project, [{"id": "m0", "label": "false"}, row]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1
    assert Project.of(project).entries() == []


def test_a_file_without_decisions_leaves_no_journal(project: Path) -> None:
    assert give(project, [{"id": "m0", "label": None}]) == 0
    assert not (project / "decisions.jsonl").exists()


def test_labels_that_are_there_are_the_start(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = [row | ({} if i < 14 else {"label": ""}) for i, row in enumerate(rows())]
    data = write(tmp_path / "rows.csv", some, "id", "text", "label")
    words = ["--data", str(data), "--labels", ",".join(LABELS), "--model", str(tiny_llama)]
    folder = tmp_path / "project"
    assert main(["init", str(folder), *words, *SIZES]) == 0
    assert (
        "5 test rows were drawn at random from the 14 that have a label" in capsys.readouterr().out
    )
    told = status(folder, capsys)
    assert (told["labelled"], told["of_them_test"], told["needed"]) == (14, 5, 0)
    assert main(["train", str(folder)]) == 0
    trained = json.loads((folder / "rounds/00/labels.json").read_text())
    assert len(trained["index"]) == 14 - 5
    assert runs.read(folder / "rounds/00/metrics.json")["labeled"] == 9


@pytest.mark.parametrize(
    ("content", "more", "message"),
    [
        ("id,text\na,x\na,y\n", (), "the id 'a' is that of"),
        ("id,text,label\na,x,tru\n", (), "did you mean 'true'"),
        ("id,body\na,x\n", (), "--text must name the column"),
        ("id,text\na,x\nb,y\n", (), "different texts"),
        ("id,text\na,x\n", ("--id", "none"), "--id: no column 'none'"),
    ],
)
def test_rows_that_cannot_be_a_project(
    content: str,
    more: tuple[str, ...],
    message: str,
    tiny_llama: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = tmp_path / "rows.csv"
    data.write_text(content)
    words = ["--data", str(data), "--labels", ",".join(LABELS), "--model", str(tiny_llama)]
    assert main(["init", str(tmp_path / "project"), *words, *more]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1
    assert not (tmp_path / "project").exists()


def test_a_folder_with_something_in_it_stays(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    data = project.parent / "rows.csv"
    assert main(["init", str(project), "--data", str(data), "--labels", "a,b"]) == 2
    assert {path: path.read_bytes() for path in before} == before
    assert "error: " in capsys.readouterr().err


def test_a_project_can_be_moved(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    give_gold(project)
    assert main(["train", str(project)]) == 0
    moved = project.rename(project.with_name("moved"))
    give_gold(moved)
    assert main(["train", str(moved)]) == 0
    assert len(status(moved, capsys)["curve"]) == 2


def test_people_see_masked_texts(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = [row | {"text": f"{row['text']} ann{row['id']}@example.org"} for row in rows()]
    data = write(tmp_path / "rows.csv", shown, "id", "text")
    words = ["--data", str(data), "--labels", ",".join(LABELS), "--model", str(tiny_llama)]
    folder = tmp_path / "project"
    assert main(["init", str(folder), *words, *SIZES, "annotation.masking=patterns"]) == 0
    texts = [row["text"] for row in asked(folder, "-k", "3")]
    assert len(texts) == 3 and all("<EMAIL>" in text and "@" not in text for text in texts)


def test_what_was_set_aside_earlier_is_no_new_label(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = Project.of(project)
    tested = {opened.ids[e.index] for e in opened.data.test.examples}
    first, second, third, *rest = [row["id"] for row in asked(project) if row["id"] not in tested]
    skipped = [{"id": row, "outcome": "skip"} for row in (first, second, third)]
    known = [{"id": row, "label": GOLD[row]} for row in (*tested, *rest)]
    assert give(project, [*skipped, *known]) == 0
    assert main(["train", str(project)]) == 0
    told = status(project, capsys)
    assert (told["open"], told["needed"]) == (4, 4)
    # A skip of what is asked now settles its row, and is none either.
    assert give(project, [{"id": asked(project)[0]["id"], "outcome": "skip"}]) == 0
    assert status(project, capsys)["needed"] == 3
    capsys.readouterr()
    assert main(["train", str(project), "--force"]) == 0
    assert "1 label is missing before round 1" in capsys.readouterr().out
    assert len(status(project, capsys)["curve"]) == 1


def test_a_label_beside_a_repeated_text_is_not_lost(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = [row | {"label": ""} for row in rows()]
    twice[1]["text"] = twice[0]["text"]
    twice[1]["label"] = "true"
    twice[3]["text"] = twice[2]["text"]
    twice[2]["label"], twice[3]["label"] = "true", "false"
    data = write(tmp_path / "rows.csv", twice, "id", "text", "label")
    words = ["--data", str(data), "--labels", ",".join(LABELS), "--model", str(tiny_llama)]
    folder = tmp_path / "project"
    assert main(["init", str(folder), *words, *SIZES]) == 0
    said = capsys.readouterr().out
    assert (
        "2 rows that another row asks too left out, 1 of them with another label (id m0, m3)"
        in (said)
    )
    told = status(folder, capsys)
    assert (told["rows"], told["labelled"]) == (28, 2)
    assert {e.decision.id: e.decision.answer for e in Project.of(folder).entries()} == {
        "m1": "true",
        "m2": "true",
    }


def test_labels_of_rows_that_take_no_part_are_not_counted(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "rows.csv", rows(), "id", "text", "label")
    words = ["--data", str(data), "--labels", ",".join(LABELS), "--model", str(tiny_llama)]
    folder = tmp_path / "project"
    assert main(["init", str(folder), *words, *SIZES, "task.pool_limit=20"]) == 0
    told = status(folder, capsys)
    assert (told["rows"], told["labelled"], told["decisions"]) == (20, 20, 30)


def test_the_way_on_behind_the_last_round(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "rows.csv", rows(), "id", "text")
    words = ["--data", str(data), "--labels", ",".join(LABELS), "--model", str(tiny_llama), *SIZES]
    folder, longer = tmp_path / "project", tmp_path / "longer"
    assert main(["init", str(folder), *words, "pool.rounds=2"]) == 0
    for _ in range(2):
        give_gold(folder)
        assert main(["train", str(folder)]) == 0
    capsys.readouterr()
    assert main(["status", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "all 2 rounds (pool.rounds) are done; to go on, star init another folder" in said
    assert "pool.rounds=4, and copy decisions.jsonl into it" in said
    assert main(["init", str(longer), *words, "pool.rounds=4"]) == 0
    (longer / "decisions.jsonl").write_bytes((folder / "decisions.jsonl").read_bytes())
    assert main(["train", str(longer)]) == 0
    points = [status(path, capsys)["curve"] for path in (folder, longer)]
    assert points[1][0]["labeled"] == points[0][-1]["labeled"] == 10
    assert status(longer, capsys)["open"] == 4


@pytest.mark.parametrize("given", [False, True])
def test_suggestions_are_what_the_model_predicts(
    given: bool, tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "rows.csv", rows(), "id", "text")
    words = ["--data", str(data), "--labels", ",".join(LABELS), "--model", str(tiny_llama), *SIZES]
    if given:  # its rows are numbered apart from the pool's
        other = [row | {"text": f"bob has {row['text']}"} for row in rows()]
        words += ["--test", str(write(tmp_path / "test.csv", other, "id", "text", "label"))]
        words.remove("task.test_size=5")
    folder = tmp_path / "project"
    assert main(["init", str(folder), *words, "tracking.save_adapters=all"]) == 0
    capsys.readouterr()
    early = tmp_path / "early.jsonl"
    assert main(["query", str(folder), "-o", str(early), "--suggest"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1 and not early.exists()
    give_gold(folder)
    assert main(["train", str(folder)]) == 0
    shown = asked(folder, "--suggest")
    texts = {row["id"]: row["text"] for row in rows()}
    capsys.readouterr()
    assert (
        main(["predict", str(folder), *(texts[r["id"]] for r in shown), "--format", "jsonl"]) == 0
    )
    predicted = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["suggestion"] for row in shown] == [row["label"] for row in predicted]
    assert [row["probability"] for row in shown] == pytest.approx(
        [row["probability"] for row in predicted], abs=1e-5
    )
    assert all(row["label"] is None for row in shown)
    assert give(folder, shown) == 0  # a suggestion is no decision
    assert status(folder, capsys)["open"] == 4


def test_what_an_annotator_adds_to_the_same_label_is_kept(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = asked(project)[0]["id"]
    assert give(project, [{"id": row, "label": "true"}]) == 0
    assert give(project, [{"id": row, "label": "false", "annotator": "bob"}]) == 0
    assert status(project, capsys)["conflicts"] == [row]
    settled = {"id": row, "label": "true", "final": True, "comment": "asked the author"}
    assert give(project, [settled]) == 0
    assert "1 labelled" in capsys.readouterr().out
    assert status(project, capsys)["conflicts"] == []
    assert give(project, [settled]) == 0
    assert "1 known already" in capsys.readouterr().out
    assert Project.of(project).entries()[-1].decision.comment == "asked the author"


def test_nobody_counts_as_two_nor_as_who_the_data_s_labels_are_by(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = asked(project)[0]["id"]
    path = project.parent / "labels.csv"
    path.write_text(f"id,label\n{row},true\n")
    for spelt in ("ann lee", " ann  lee "):
        assert main(["label", str(project), str(path), "--annotator", spelt]) == 0
    assert give(project, [{"id": row, "label": "true", "annotator": "ann lee "}]) == 0
    assert [e.decision.annotator for e in Project.of(project).entries()] == ["ann lee"]
    capsys.readouterr()
    for name in ("data", "x" * 81, "a\x1bb"):
        assert main(["label", str(project), str(path), "--annotator", name]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_other_rows_are_asked_where_all_of_the_first_were_set_aside(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = Project.of(project)
    tested = {opened.ids[e.index] for e in opened.data.test.examples}
    first = [row["id"] for row in asked(project)]
    given = [
        {"id": i, "label": GOLD[i]} if i in tested else {"id": i, "outcome": "skip"} for i in first
    ]
    assert give(project, given) == 0
    assert main(["train", str(project)]) == 0
    assert "1 label is missing before round 0" in capsys.readouterr().out
    others = [row["id"] for row in asked(project)]
    assert len(others) == 6 and not {*others} & {*first}
    assert others == [row["id"] for row in asked(project)]
    assert give(project, [{"id": others[0], "label": GOLD[others[0]]}]) == 0
    assert main(["train", str(project)]) == 0
    assert status(project, capsys)["curve"][0]["labeled"] == 1


def test_every_row_set_aside(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = Project.of(project)
    tested = {opened.ids[e.index] for e in opened.data.test.examples}
    every = [
        {"id": i, "label": GOLD[i]} if i in tested else {"id": i, "outcome": "skip"} for i in GOLD
    ]
    give(project, every)
    capsys.readouterr()
    assert main(["train", str(project)]) == 2
    said = capsys.readouterr().err
    assert "no row has a label" in said and len(said.splitlines()) == 1


def test_no_classes_are_no_project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "rows.csv", rows(), "id", "text")
    assert main(["init", str(tmp_path / "project"), "--data", str(data), "--labels", ""]) == 2
    assert "--labels takes two or more classes" in capsys.readouterr().err
    assert not (tmp_path / "project").exists()


def test_a_user_without_a_name(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nameless() -> str:
        raise OSError("No username set in the environment")

    monkeypatch.setattr("getpass.getuser", nameless)
    path = project.parent / "labels.csv"
    path.write_text("id,label\nm0,true\n")
    assert main(["label", str(project), str(path)]) == 2
    assert "--annotator" in capsys.readouterr().err
    assert main(["label", str(project), str(path), "--annotator", ""]) == 2
    assert Project.of(project).entries() == []


def test_a_given_test_shares_no_row_with_the_pool(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "rows.csv", rows(), "id", "text", "label")
    test = write(tmp_path / "test.csv", [rows()[4], rows(40)[35]], "id", "text", "label")
    words = ["--data", str(data), "--labels", ",".join(LABELS), "--model", str(tiny_llama)]
    folder = tmp_path / "project"
    sizes = [word for word in SIZES if "test_size" not in word]
    assert main(["init", str(folder), *words, "--test", str(test), *sizes]) == 0
    said = capsys.readouterr().out
    assert "1 row that the test asks too left out (id m4)" in said
    assert "29, beside them 2 for the test, never trained on" in said
    assert "m4" not in Project.of(folder).items


def test_free_answers_agree_however_they_are_spelled(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "rows.csv", rows(), "id", "text")
    folder = tmp_path / "project"
    assert main(["init", str(folder), "--data", str(data), "--model", str(tiny_llama), *SIZES]) == 0
    spelled = {"m0": ("1,000", "1000.0", "7"), "m1": ("Ann has ten.", "ann  has ten", "six")}
    for k, who in enumerate(("ann", "bob", "eve")):
        answers = [{"id": row, "label": said[k], "annotator": who} for row, said in spelled.items()]
        assert give(folder, answers) == 0
        assert len(status(folder, capsys)["conflicts"]) == (2 if who == "eve" else 0)
    voted = Project.of(folder, ["annotation.resolve=majority"]).decided()
    assert [answer.gold for answer in voted.answers.values()] == ["1,000", "Ann has ten."]


def test_an_interval_on_accuracy_from_the_random_share(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As people's labels come, and in a simulated run the same."""
    share = ("acquisition.random_share=0.5", "pool.query_size=8")
    project = make(tmp_path, tiny_llama, *share, "tracking.save_adapters=all")
    give_gold(project)
    assert main(["train", str(project)]) == 0
    assert status(project, capsys)["random_share"] == []  # nobody has labelled what was drawn
    told = json.loads((project / "rounds/00/selected.json").read_text())
    drawn = dict(zip(told["drawn"]["indices"], told["drawn"]["answers"], strict=True))
    assert len(drawn) == 4 and set(drawn) <= set(told["indices"])
    first, second = asked(project)[:2]
    assert give(project, [{"id": first["id"], "label": GOLD[first["id"]]}]) == 0
    assert give(project, [{"id": second["id"], "outcome": "skip"}]) == 0
    give_gold(project)
    (found,) = status(project, capsys)["random_share"]
    skipped = int(second["id"][1:]) in drawn
    gold = {i: GOLD[f"m{i}"] for i in drawn if f"m{i}" != second["id"]}
    right = sum(drawn[i] == label for i, label in gold.items())
    assert (found["round"], found["rows"], found["right"]) == (0, 4 - skipped, right)
    assert 0 <= found["low"] <= found["accuracy"] <= found["high"] <= 1
    assert main(["status", str(project)]) == 0
    assert f"{right} of {4 - skipped} unlabelled rows drawn" in capsys.readouterr().out
    assert main(["train", str(project)]) == 0
    metrics = json.loads((project / "rounds/01/metrics.json").read_text())
    assert metrics["random_share"] == found
    with Predictor.of(TrainedRun.of(project, 0)) as predictor:  # answered as it predicts
        examples = {e.index: e for e in Project.of(project).data.pool.examples}
        rows_ = predictor.predict([examples[i] for i in drawn])
    assert [row["label"] for row in rows_] == list(drawn.values())
    (project / "rounds/00/selected.json").write_text(
        json.dumps(told | {"drawn": {"indices": [99], "answers": ["true"]}})
    )
    assert main(["status", str(project)]) == 2
    assert "selected.json" in capsys.readouterr().err

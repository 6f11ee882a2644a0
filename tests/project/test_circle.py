"""The whole circle of README: texts without labels in, people's decisions, a model in service."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from random import Random
from typing import Any

import chatting
import pytest

pytest.importorskip("fastapi", reason="the extra web")
pytest.importorskip("uvicorn", reason="the extra web")

from cards import code
from page import Page
from projects import SIZES, write
from serving import serving

from star.cli.main import main

FEELINGS = {
    "joy": ("i laughed all day with {}", "what a lovely surprise from {}", "so glad to see {}"),
    "sadness": ("i cried when {} left", "i miss {} so much", "all is empty without {}"),
    "anger": ("how dare {} shout at me", "{} lied to me again", "{} broke it, and is not sorry"),
}
WHO = ("ann", "tom", "my dog", "the team", "a friend", "our boss")
WHEN = ("today", "at noon", "last week", "in may", "again", "at home")
TRIED = ("so glad to see tom", "i miss my dog", "how dare a friend lie", "=1+1 <b>\u202e")


def texts() -> tuple[list[dict[str, str]], dict[str, str]]:
    """Return 300 rows without labels, and what a person would say of each."""
    made = [
        (f"{how.format(who)} {when}", feeling)
        for feeling, ways in FEELINGS.items()
        for how in ways
        for who in WHO
        for when in WHEN
    ]
    Random(0).shuffle(made)
    rows = [{"id": f"t{i}", "text": text} for i, (text, _) in enumerate(made[:300])]
    return rows, {row["id"]: feeling for row, (_, feeling) in zip(rows, made, strict=False)}


@pytest.mark.slow
def test_the_whole_circle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def star(*words: str) -> str:
        capsys.readouterr()
        assert main([*words]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    rows, gold = texts()
    (tmp_path / "model").mkdir()
    folder = str(tmp_path / "feelings")
    model = chatting.write_model(tmp_path / "model", None)  # it reads bytes, and so any word
    data = write(tmp_path / "texts.csv", rows, "id", "text")
    settings = (*SIZES, "tracking.save_adapters=all", f"tracking.cache_dir={tmp_path / 'cache'}")
    named = ("--data", str(data), "--labels", ",".join(FEELINGS), "--model", str(model))
    said = star("init", folder, *named, *settings, "task.test_size=10", "pool.query_size=6")
    assert "300" in said and "16 of them needed before round 0" in said

    # By file: a part of the first batch, as a spreadsheet leaves it.
    asked = tmp_path / "asked.csv"
    star("query", folder, "-o", str(asked))
    with asked.open(encoding="utf-8-sig", newline="") as file:
        batch = list(csv.DictReader(file))
    assert len(batch) == 16 and all(row["label"] == "" for row in batch)
    for row in batch[:9]:
        row["label"] = gold[row["id"]]
    write(asked, batch, *batch[0])
    assert "9 labelled" in star("label", folder, str(asked), "--annotator", "ann")
    assert "7 labels are missing" in star("train", folder)

    # On the page: skip one, undo it, decide it, close the window in the middle, go on.
    page = Page(Path(folder))
    first = page.next()["item"]["id"]
    page.decide(first, outcome="skip")
    number = page.get("/api/overview", annotator="ann")["last"]
    page.post("/api/undo", annotator="ann", number=number)
    assert page.next(row=first)["own"] is None
    page.decide(first, gold[first])
    page = Page(Path(folder))
    while item := page.next()["item"]:
        page.decide(item["id"], gold[item["id"]])
    # A second annotator disagrees; it is shown, and settled.
    other = page.next("bob", "second")["item"]["id"]
    wrong = next(feeling for feeling in FEELINGS if feeling != gold[other])
    page.decide(other, wrong, annotator="bob")
    told = page.get("/api/overview", annotator="bob")
    assert told["conflicts"] == 1 and told["annotators"] == {"ann": 16, "bob": 1}
    assert f"conflicts   1 (id {other})" in star("status", folder)
    assert page.next("eve", "settle")["answers"] == {"ann": gold[other], "bob": wrong}
    page.decide(other, gold[other], annotator="eve", final=True, like="ann")
    assert "conflicts   0" in star("status", folder)
    star("train", folder)

    # The next batch by file, with what the model would say.
    queried = tmp_path / "next.jsonl"
    star("query", folder, "-o", str(queried), "--suggest")
    more = [json.loads(line) for line in queried.read_text().splitlines()]
    assert len(more) == 6 and {row["suggestion"] for row in more} <= {*FEELINGS}
    filled = [{**row, "label": gold[row["id"]]} for row in more]
    queried.write_text("".join(json.dumps(row) + "\n" for row in filled))
    star("label", folder, str(queried), "--annotator", "ann")
    star("train", folder)
    state = json.loads(star("status", folder, "--format", "json"))
    assert [point["labeled"] for point in state["curve"]] == [6, 12]
    assert state["labelled"] == 22 and state["conflicts"] == []

    # Whoever is asked, the numbers are the same.
    lines = star("predict", folder, *TRIED, "--format", "jsonl").splitlines()
    predicted = [json.loads(line)["probabilities"] for line in lines]
    with serving(Path(folder)) as service:
        status, served = service.ask({"texts": list(TRIED)})
    assert status == 200
    exported = tmp_path / "exported"
    star("export", folder, "--merge", "--to", str(exported))
    space: dict[str, Any] = {}
    exec(code(exported), space)
    for text, wanted, answer in zip(TRIED, predicted, served["answers"], strict=True):
        assert answer["probabilities"] == pytest.approx(wanted, abs=1e-6)
        assert space["answer"]({"text": text}) == pytest.approx(wanted, abs=1e-5)

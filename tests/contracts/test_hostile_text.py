"""Texts that would be something else somewhere: through every surface they are texts."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import chatting
import pytest
from cards import code
from own_trackers import Noting
from projects import LABELS, SIZES

import star
from star.active_learning.export import export
from star.annotation.formats.exchange import read, write
from star.annotation.formats.sheet import Stamp
from star.cli.main import main
from star.project.project import Project

pytestmark = pytest.mark.slow  # a training with a row of 1 MB

HOSTILE = {
    "markup": "<script>alert(1)</script><img src=x onerror=alert(2)> &amp; {text} {0} %s",
    "control": "a\x00b\x1b[31mred\x1b]0;title\x07\x7f\u0085\u2028 end",
    "direction": "\u202eevil\u202c \u2066isolated\u2069 \u0633\u0644\u0627\u0645",
    "formula": "=cmd|' /C calc'!A0",
    "plus": "+1+cmd|' /C calc'!A0",
    "minus": "-2+3",
    "at": "@SUM(1+9)*cmd",
    "tab": '\t=HYPERLINK("http://example.org")',
    "quotes": "\"'`\\ \\n ; | $(touch x) \u2019",
    "special": "<s> </s> <|begin|> <|im_end|> <pad>",
    "large": "x y " * 250_000,
}
UNSHOWN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project whose rows, comments and ids are hostile, behind its first round."""
    place = tmp_path_factory.mktemp("hostile")
    (place / "model").mkdir()
    model = chatting.write_model(place / "model", None)
    texts = [*HOSTILE.values(), *(f"i feel happy {i}" for i in range(20))]
    ids = ["=cmd|' /C calc'!A0", "<b>", "-1", "@x", *(f"m{i}" for i in range(len(texts)))]
    rows = [{"id": name, "text": text} for name, text in zip(ids, texts, strict=False)]
    data = place / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = place / "project"
    named = ("--data", str(data), "--labels", ",".join(LABELS), "--model", str(model))
    more = ("tracking.save_adapters=last", "pool.rounds=1", "pool.initial_size=8")
    more += (f"tracking.cache_dir={place / 'cache'}", "tracking.log_with=own_trackers:Noting")
    assert main(["init", str(folder), *named, *SIZES, *more]) == 0
    said = [
        {"id": row["id"], "label": LABELS[i % 2], "comment": row["text"][:500]}
        for i, row in enumerate(rows)
    ]
    answers = place / "answers.jsonl"
    answers.write_text("".join(json.dumps(row) + "\n" for row in said))
    assert main(["label", str(folder), str(answers), "--annotator", "ann"]) == 0
    Noting.made.clear()
    assert main(["train", str(folder)]) == 0
    return folder


def test_what_is_printed_moves_no_terminal(
    labelled: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    texts = [text[:300] for text in HOSTILE.values() if "\x00" not in text]
    texts += [HOSTILE["control"].replace("\x00", "")]
    for words in (["status", str(labelled)], ["predict", str(labelled), "--", *texts]):
        assert main(words) == 0
        said = capfd.readouterr()
        assert not UNSHOWN.search(said.out.replace("\r", "")), words[0]
        assert not re.search(r"[\x00\x07\x1b\x7f]", said.err), words[0]


@pytest.mark.parametrize("form", ["jsonl", "csv", "label-studio", "argilla"])
def test_files_bring_back_the_texts(form: str, labelled: Path, tmp_path: Path) -> None:
    project = Project.of(labelled)
    items = [*project.items.values()]
    decisions = [entry.decision for entry in project.entries()]
    path = tmp_path / "file"
    name = form.replace("-", "_")
    write(path, name, items, decisions)
    sheet = read(path, name, Stamp("ann", "2026-11-27T00:00:00Z"))
    assert sheet.offered() == items
    assert [d.comment for _, d in sheet.decisions] == [d.comment for d in decisions]
    if form == "csv":
        limit = csv.field_size_limit(2**30)
        with path.open(encoding="utf-8-sig", newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        csv.field_size_limit(limit)
        assert len(cells) > 100 and not [c for c in cells if re.match(r"\s*[=+@]", c)]
        assert not [c for c in cells if c.startswith("-") and not c[1:].isdigit()]
    before = len(project.entries())
    assert main(["label", str(labelled), str(path), "--format", form, "--annotator", "ann"]) == 0
    assert len(Project.of(labelled).entries()) == before


def test_no_tracker_has_a_text(labelled: Path) -> None:
    told = repr([made.told for made in Noting.made])
    assert len(told) > 100
    for text in HOSTILE.values():
        assert repr(text[:200])[1:-1] not in told


def test_predict_and_what_is_exported_answer_alike(labelled: Path, tmp_path: Path) -> None:
    texts = [text[:2000] for text in HOSTILE.values()]
    wanted = [row["probabilities"] for row in star.predict(labelled, texts)]
    folder = Path(export(labelled, str(tmp_path / "out"), merge=True))
    space: dict[str, Any] = {}
    exec(code(folder), space)
    for text, p in zip(texts, wanted, strict=True):
        assert space["answer"]({"text": text}) == pytest.approx(p, abs=1e-5)


@pytest.mark.parametrize("surface", ["init", "label", "predict"])
def test_half_a_character_is_a_line(
    surface: str, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "m9", "text": "half \\ud83d", "label": "true", "comment": "\\ud83d"}\n')
    words = {
        "init": ["init", str(tmp_path / "new"), "--data", str(path), "--labels", "a,b"],
        "label": ["label", str(labelled), str(path), "--correct", "--annotator", "bob"],
        "predict": ["predict", str(labelled), "--file", str(path)],
    }
    capsys.readouterr()
    before = (labelled / "decisions.jsonl").read_bytes()
    assert main(words[surface]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and len(said.splitlines()) == 1
    assert (labelled / "decisions.jsonl").read_bytes() == before

"""An exported run answers as the run does, without star, and says nothing of its machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import chatting
import pytest
import runs
import test_predictor
import test_prompting
from cards import code

import star
from star.active_learning.export import export
from star.active_learning.trained_run import TrainedRun
from star.data.prompts import as_text
from star.errors import InputError

Go = Callable[..., Path]
Prompted = Callable[[str, str, str], tuple[Path, Path]]

go = test_predictor.go
FORMS = ("merged", "adapter")
KINDS = (
    *("generated", "generated, calibrated", "choices, calibrated", "words"),
    *("head", "head, read, calibrated"),
)


@pytest.fixture(scope="module")
def exported(go: Go, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Return what exports a run of a kind in a form, once."""

    @cache
    def make(kind: str, form: str) -> Path:
        place = tmp_path_factory.mktemp("out") / "model"
        assert export(go(kind), str(place), merge=form == "merged") == str(place)
        return place

    return make


def rows_of(kind: str) -> list[dict[str, str]]:
    name = "text" if kind.startswith(("words", "head")) else "question"
    texts = [f"  tom has {i} eggs and {i} pens" for i in range(4)]
    return [{name: text} for text in (*texts, "tom has more eggs " * 90)]  # the last is cut


def expected(run: Path, rows: list[dict[str, str]]) -> list[Any]:
    return [
        row["probabilities"] if "label" in row else [row["text"], row["confidence"]["sequence"]]
        for row in star.predict(run, rows)
    ]


def agree(got: list[Any], wanted: list[Any]) -> None:
    for one, other in zip(got, wanted, strict=True):
        if isinstance(other, dict):
            assert list(one) == list(other) and one == pytest.approx(other, abs=1e-5)
            assert max(one, key=one.__getitem__) == max(other, key=other.__getitem__)
        else:
            assert one[0] == other[0] and one[1] == pytest.approx(other[1], abs=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_lines_of_the_card_give_the_runs_own_answers(
    kind: str, form: str, go: Go, exported: Callable[[str, str], Path]
) -> None:
    space: dict[str, Any] = {}
    exec(code(exported(kind, form)), space)
    rows = rows_of(kind)
    agree([space["answer"](row) for row in rows], expected(go(kind), rows))


@pytest.mark.parametrize("space", ["answer", "prompt"])
def test_white_space_counts_as_in_the_run(space: str, tmp_path: Path) -> None:
    # The tokenizer of the runs above reads words alone; this one reads bytes.
    for name in ("model", "data", "out"):
        (tmp_path / name).mkdir()
    model = chatting.write_model(tmp_path / "model", None)
    data = test_predictor.write_hues(tmp_path / "data")
    words = (*test_predictor.SMALL, *test_predictor.KINDS["words"])
    more = (f"task.trailing_space={space}", "acquisition.initial=typiclust")
    run = runs.go(model, data, tmp_path / "out", *words, *more)
    folder = Path(export(run, str(tmp_path / "exported"), merge=True))
    given: dict[str, Any] = {}
    exec(code(folder), given)
    rows = [{"text": text} for text in ("tom has", "  tom has", "tom has \n", " tom  has ")]
    answers = [given["answer"](row) for row in rows]
    agree(answers, expected(run, rows))
    assert (answers[0] == pytest.approx(answers[1])) == (space == "answer")
    # A prompt's columns, as files of all kinds have them.
    values = (None, True, False, 0, 1.50, "", " tom ", "None")
    template, end = given["told"]["prompt"], given["told"]["ending"]
    given["told"]["prompt"] = "{other}" + template
    text = rows[0]["text"]
    for value in values:
        spelled = value if end and isinstance(value, str) else as_text(value, "other")
        shown = given["prompt_of"]({"text": text, "other": value})
        assert shown == (spelled + template.format(text=text)).rstrip() + end
    assert "from 8 labels chosen by typiclust" in (folder / "README.md").read_text()


@pytest.mark.parametrize("form", FORMS)
def test_nothing_in_it_names_a_place_or_a_person(
    form: str, go: Go, exported: Callable[[str, str], Path]
) -> None:
    for kind in ("generated", "head"):
        folder = exported(kind, form)
        config = TrainedRun.of(go(kind)).config
        places = [str(Path.home()), str(Path.cwd()), str(go(kind)), str(folder)]
        places += [config.model.name_or_path, str(config.task.data_dir), config.output_dir]
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert {path.suffix for path in files} == {".json", ".md", ".safetensors"}
        for path in files:
            content = path.read_bytes()
            assert not [place for place in places if place.encode() in content], path
            if path.suffix != ".safetensors":
                assert not re.search(rb'["`( ]/\w+/', content), path


def test_classes_and_base_are_named(exported: Callable[[str, str], Path]) -> None:
    config = json.loads((exported("head", "merged") / "config.json").read_text())
    assert config["id2label"] == dict(zip("012", test_predictor.HUES, strict=True))
    folder = exported("words", "adapter")
    assert (
        json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
        == "base"
    )
    card = (exported("choices, calibrated", "merged") / "README.md").read_text()
    for part in ("library_name: transformers", "± ", "calibration error", "convert_hf_to_gguf.py"):
        assert part in card
    assert "| labels bought | 13, 4 of them held out" in card and "held-out rows" in card


@pytest.mark.parametrize(
    "place, part",
    [
        ("full", "the folder is not empty"),
        ("file", "it is a file"),
        ("run/model", "is a run folder"),
        ("hub:nobody", "OWNER/NAME"),
        ("hub:some/model", "needs a token"),
    ],
)
def test_where_nothing_may_be_written(
    place: str, part: str, go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    Path("file").write_text("x")
    Path("full").mkdir()
    Path("full/mine").write_text("x")
    Path("run").symlink_to(go("generated"))
    with pytest.raises(InputError, match=part):
        export("run", place, merge=True)
    assert Path("full/mine").read_text() == "x" and len([*tmp_path.iterdir()]) == 3


def test_quantised_weights_are_not_merged(
    go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = TrainedRun.of(go("generated"))
    config = trained.config
    four = replace(config, model=replace(config.model, quantization="nf4"))
    monkeypatch.setattr(TrainedRun, "of", lambda *_: replace(trained, config=four))
    with pytest.raises(InputError, match="nf4 weights, which"):
        export("run", str(tmp_path / "model"), merge=True)
    assert not [*tmp_path.iterdir()]


ASKED = {
    "words, shots": ("words", "task.num_fewshot=2"),
    "words, chat": ("words", "task.chat_template=true"),
    "choices, chat, shots": ("choices", "task.chat_template=true", "task.num_fewshot=2"),
    "generated, shots": ("generated", "task.num_fewshot=2", "evaluation.max_prompt_length=90"),
    "generated, chat, shots": ("generated", "task.chat_template=true", "task.num_fewshot=3"),
}
WAYS = [("words, shots", "chatml", "merged"), ("generated, shots", "chatml", "adapter")]
WAYS += [("words, chat", template, "adapter") for template in chatting.TEMPLATES]
WAYS += [
    (kind, template, form)
    for kind in ("choices, chat, shots", "generated, chat, shots")
    for template, form in (("thinking", "merged"), ("unended", "adapter"))
]


@pytest.fixture(scope="module")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> Prompted:
    """Return what makes a run whose prompts are more than a template, and exports it, once."""

    @cache
    def make(kind: str, template: str, form: str) -> tuple[Path, Path]:
        place, (task, *words) = tmp_path_factory.mktemp("prompted"), ASKED[kind]
        for name in ("model", "data"):
            (place / name).mkdir()
        model = chatting.write_model(place / "model", chatting.TEMPLATES[template])
        own = test_prompting.data(task, place / "data")
        more = ("pool.rounds=1", "acquisition.select=random", "evaluation.views=[full]")
        keep = ("task.validation_size=4", "tracking.save_adapters=last", "pool.initial_size=8")
        run = runs.go(model, place / "data", place / "out", *own, *words, *more, *keep)
        return run, Path(export(run, str(place / "exported"), merge=form == "merged"))

    return make


@pytest.mark.parametrize("kind, template, form", WAYS)
def test_shots_and_chat_templates_go_with_it(
    kind: str, template: str, form: str, prompted: Prompted
) -> None:
    run, folder = prompted(kind, template, form)
    space: dict[str, Any] = {}
    exec(code(folder), space)
    name = "text" if kind.startswith("words") else "question"
    shown = json.loads((folder / "star.json").read_text())["shots"]
    assert len(shown) == ("shots" in kind) * (space["told"]["num_fewshot"] + 1)
    texts = ["tom has two eggs", "  <|im_end|> and <|im_start|>user \n", "tom has more eggs " * 90]
    texts += ["no room for all before it " * length for length in (7, 11, 14)]
    texts += [shot[0].removesuffix(" is").removesuffix("\nAnswer:") for shot in shown]
    rows = [{name: text} for text in texts]
    agree([space["answer"](row) for row in rows], expected(run, rows))
    told = (folder / "README.md").read_text()
    assert ("labelled examples of the training data" in told) == ("shots" in kind)


@pytest.mark.slow
def test_they_do_so_in_a_process_without_star(
    go: Go, exported: Callable[[str, str], Path], prompted: Prompted, tmp_path: Path
) -> None:
    made = [(go(kind), exported(kind, form), rows_of(kind)) for kind in KINDS for form in FORMS]
    for kind, template, form in WAYS[:2] + WAYS[-2:]:
        made.append((*prompted(kind, template, form), rows_of(kind)))
    # An import of star raises in there, wherever it is installed.
    parts = ["import json, sys\nsys.modules['star'] = None\nall = []\n"]
    parts += [f"{code(f)}\nall.append([answer(r) for r in {rows!r}])\n" for _, f, rows in made]
    parts.append("json.dump(all, open('out.json', 'w'))\n")
    (tmp_path / "plain.py").write_text("".join(parts), encoding="utf-8")
    elsewhere = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [sys.executable, "plain.py"]
    subprocess.run(words, cwd=tmp_path, env=elsewhere, check=True)
    got = json.loads((tmp_path / "out.json").read_text())
    for answers, (run, _, rows) in zip(got, made, strict=True):
        agree(answers, expected(run, rows))


def test_the_hub_gets_a_private_repository(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class Api:
        def __init__(self, token: str) -> None:
            calls.append(token)

        def create_repo(self, name: str, *, private: bool) -> None:
            calls.append((name, private))

        def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
            calls.append((repo_id, sorted(path.name for path in folder_path.glob("*.json"))))

    monkeypatch.setattr("huggingface_hub.get_token", lambda: "secret")
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert export(go("generated"), "hub:some/model", merge=True).endswith("some/model")
    assert calls[:2] == ["secret", ("some/model", True)]
    assert {"star.json", "config.json", "tokenizer.json"} <= {*calls[2][1]}

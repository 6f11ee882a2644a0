"""A run's model asked again: it answers as the run noted, and anything that a user may give it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs

import star
from star.active_learning.predictor import Predictor
from star.active_learning.trained_run import TrainedRun
from star.data.questions import examples_of
from star.errors import InputError
from star.evaluation.temperature import scale, scale_confidence

Go = Callable[..., Path]

HUES = ("red", "green", "blue")
SMALL = (
    *("pool.rounds=2", "pool.query_size=3", "acquisition.select=random", "evaluation.views=[full]"),
    *("tracking.save_adapters=all", "train.num_train_epochs=1"),
)
HELD_OUT = "task.validation_size=4"
CLASSES = (
    *("task.name=classification", "task.prompt={text} so it is", "task.classify_by=words"),
    *("pool.initial_size=8", "train.num_train_epochs=2"),
)
HEAD = (*CLASSES, "task.classify_by=head", "task.prompt={text}", "acquisition.combine=none")
KINDS = {
    "generated": (),
    "generated, calibrated": (HELD_OUT,),
    "generated, released": ("evaluation.extraction=digits", "evaluation.max_prompt_length=9"),
    "choices": (runs.CHOICES[0],),
    "choices, calibrated": (runs.CHOICES[0], HELD_OUT),
    "choices, generated": (runs.CHOICES[0], "evaluation.choice_by=generation"),
    "words": (*CLASSES, f"task.choices=[{','.join(HUES)}]"),
    "words, read": CLASSES,
    "head": (*HEAD, f"task.choices=[{','.join(HUES)}]"),
    "head, read, calibrated": (*HEAD, HELD_OUT),
}


def write_hues(folder: Path) -> Path:
    """Write texts of which none in train is green, and some in test are."""
    for split, count in (("train", 20), ("test", 6)):
        rows = [
            {
                "text": f"tom has {i % 10} {('eggs', 'pens')[i % 2]}" + " and more" * (i // 4),
                "label": "green" if split == "test" and i > 3 else ("red", "blue")[i % 2],
            }
            for i in range(count)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def go(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Go:
    """Return what makes a run of a kind, once."""
    data = {
        "numbers": runs.write_data(tmp_path_factory.mktemp("numbers")),
        "choices": runs.write_data(tmp_path_factory.mktemp("choices"), choices=True),
        "hues": write_hues(tmp_path_factory.mktemp("hues")),
    }

    @cache
    def make(kind: str, *more: str) -> Path:
        words = KINDS[kind]
        which = (
            "hues" if CLASSES[0] in words else "choices" if runs.CHOICES[0] in words else "numbers"
        )
        out = tmp_path_factory.mktemp("out")
        return runs.go(tiny_llama, data[which], out, *SMALL, *words, *more)

    return make


def stored(run: Path, t: int, name: str) -> Any:
    text = (run / f"rounds/{t:02d}/{name}").read_text(encoding="utf-8")
    return [json.loads(x) for x in text.splitlines()] if "jsonl" in name else json.loads(text)


def questions(run: Path) -> list[dict[str, Any]]:
    """Return the run's test rows without their answers."""
    path = Path(star.load_config(run / "config.yaml").task.data_dir) / "test.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in row.items() if k not in ("answer", "label")} for row in rows]


@pytest.mark.parametrize("kind", KINDS)
def test_test_rows_get_the_answers_that_the_run_noted(go: Go, kind: str) -> None:
    run = go(kind)
    for t in (0, 1):
        noted = stored(run, t, "predictions.jsonl")
        scaled = stored(run, t, "metrics.json")["calibration"].get("full_scaled")
        rows = star.predict(run, questions(run), round_=t)
        assert {row["calibrated"] for row in rows} == {"calibrated" in kind} == {scaled is not None}
        if "log_probs" in noted[0]:
            assert [row["label"] for row in rows] == [row["prediction"] for row in noted]
            log_probs = np.array([row["log_probs"] for row in noted])
            if scaled is not None:
                log_probs = scale(log_probs, scaled["temperature"])
            got = np.array([[*row["probabilities"].values()] for row in rows])
            np.testing.assert_allclose(got, np.exp(log_probs), rtol=1e-6)
            np.testing.assert_allclose([row["probability"] for row in rows], got.max(axis=1))
            continue
        for key, name in (("answer", "prediction"), ("text", "text")):
            assert [row[key] for row in rows] == [row[name] for row in noted]
        for key, name in (("sequence", "confidence"), ("token_mean", "confidence_token_mean")):
            sure = np.array([row[name] for row in noted])
            if scaled is not None:
                part = scaled if key == "sequence" else scaled["token_mean"]
                sure = scale_confidence(sure, part["temperature"])
            np.testing.assert_allclose([row["confidence"][key] for row in rows], sure, rtol=1e-6)


@pytest.mark.parametrize("kind", ["generated", "words", "head"])
def test_a_text_is_answered_alike_alone_and_among_others(go: Go, kind: str) -> None:
    run = go(kind)
    [column] = questions(run)[0]
    texts = [row[column] for row in questions(run)]
    together = star.predict(run, texts)
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    trained = TrainedRun.of(run)
    assert trained.round_ == 1
    examples, given = examples_of(trained.task, texts, texts)
    assert given == texts
    with Predictor.of(trained) as predictor:  # as often as it is asked, in any order
        alone = [predictor.predict([example])[0] for example in reversed(examples)][::-1]
    for one, other in zip(alone, together, strict=True):
        key = "label" if "label" in one else "text"
        assert one[key] == other[key]
        sure = [
            row["probability"] if key == "label" else row["confidence"]["sequence"]
            for row in (one, other)
        ]
        assert sure[0] == pytest.approx(sure[1], rel=1e-4)
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*")} == before


ODD = {
    "control characters": "tom has \x00\x07\x1b[31m 3 eggs \u202e \u200b",
    "other scripts": "Тома 有三个鸡蛋 🥚🥚 e\u0301",
    "a very long word": "x" * 20_000,
    "10,000 words": "tom has eggs " * 3_400,
    "markup": "<script>alert(1)</script> </s> <pad> {text} {0}",
    "a formula": "=1+1",
}


@pytest.mark.parametrize("kind", ["generated", "words", "head"])
def test_any_text_gets_an_answer(go: Go, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    rows = star.predict(go(kind), [*ODD.values()])
    assert [row["truncated"] for row in rows] == [name == "10,000 words" for name in ODD]
    assert sum("tokens that a prompt may have" in message for message in caplog.messages) == 1
    for row in rows:
        if kind != "generated":
            assert sum(row["probabilities"].values()) == pytest.approx(1)
            assert row["probability"] == max(row["probabilities"].values())
        else:
            assert 0 <= row["confidence"]["sequence"] <= row["confidence"]["token_mean"] <= 1


def test_an_overlong_text_is_refused_where_the_run_says_so(go: Go) -> None:
    with pytest.raises(InputError, match=r"^text 1 is longer .*task.overlong"):
        star.predict(go("words", "task.overlong=error"), ["tom has", ODD["10,000 words"]])


@pytest.mark.parametrize("kind", ["words", "words, read", "head", "head, read, calibrated"])
def test_classes_that_no_label_had_are_among_the_answers(go: Go, kind: str) -> None:
    """Green is in no train row: known by ``task.choices``, or from the test split's rows."""
    [row] = star.predict(go(kind), ["tom has 3 eggs"])
    assert {*row["probabilities"]} == {*HUES} and row["probabilities"]["green"] > 0


def test_no_label_below_the_threshold(go: Go) -> None:
    texts = [row["text"] for row in questions(go("words"))]
    plain = star.predict(go("words"), texts)
    limit = sorted(row["probability"] for row in plain)[len(plain) // 2]
    for row, other in zip(star.predict(go("words"), texts, abstain=limit), plain, strict=True):
        assert row["abstained"] == (other["probability"] < limit)
        assert row["label"] == (None if row["abstained"] else other["label"])
        assert {k: row[k] for k in other if k != "label"} == {
            k: v for k, v in other.items() if k != "label"
        }
    with pytest.raises(InputError, match=r"from 0 to 1, got 1.5"):
        star.predict(go("words"), texts, abstain=1.5)
    with pytest.raises(InputError, match="for labels; jsonl generates"):
        star.predict(go("generated"), ["how many"], abstain=0.5)


@pytest.mark.parametrize(
    "given, said",
    [
        ([], "no texts"),
        ("tom", "a list of texts"),
        ([""], "text 0: column 'text' is empty"),
        (["tom", " \n\t"], "text 1: column 'text' is empty"),
        ([{"txt": "tom"}], "text 0: no column 'text'.*did you mean 'txt'"),
        ([{"text": ["tom"]}], "text 0: column 'text' must be text"),
        (["tom \ud800"], "text 0: .*half of a character"),
    ],
)
def test_what_is_no_text_is_refused(go: Go, given: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        star.predict(go("words"), given)


def test_an_adapter_that_is_not_there_is_said_in_a_line(go: Go, tmp_path: Path) -> None:
    run = Path(shutil.copytree(go("words"), tmp_path / "run"))
    with pytest.raises(InputError, match="no adapter of round 7; it has kept that of 0, 1"):
        star.predict(run, ["tom"], round_=7)
    shutil.rmtree(run / "rounds/01/adapter")
    assert TrainedRun.of(run).round_ == 0  # the last that is there
    shutil.rmtree(run / "rounds/00/adapter")
    with pytest.raises(InputError, match="has kept no adapter: they were removed"):
        star.predict(run, ["tom"])
    none = go("words", "tracking.save_adapters=none", "pool.rounds=1")
    with pytest.raises(InputError, match=r"no adapter: tracking.save_adapters=none"):
        star.predict(none, ["tom"])


def test_a_damaged_adapter_is_refused(go: Go, tmp_path: Path) -> None:
    run = Path(shutil.copytree(go("words"), tmp_path / "run"))
    path = run / "rounds/01/adapter/adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"does not fit .*checksums.json"):
        star.predict(run, ["tom"])


def test_another_model_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    model, data = tmp_path / "model", tmp_path / "data"
    shutil.copytree(tiny_llama, model)
    data.mkdir()
    run = runs.go(model, write_hues(data), tmp_path, *SMALL, *CLASSES, "pool.rounds=1")
    assert star.predict(run, ["tom"])
    settings = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(settings | {"rms_norm_eps": 1e-3}))
    with pytest.raises(InputError, match=r"another content of the model .*restore the model"):
        star.predict(run, ["tom"])


@pytest.mark.parametrize("name", ["model", "./model", "absolute"])
def test_a_model_that_was_moved_is_named(
    name: str, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder's name alone may be one of the Hub: then it is not looked for there."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_llama, "model")
    data = runs.write_data(tmp_path / "data")
    where = str(tmp_path / "model") if name == "absolute" else name
    run = runs.go(
        Path(where), data, tmp_path, *SMALL, "pool.rounds=1", f"model.name_or_path={where}"
    )
    assert star.predict(run, ["tom"])
    Path("model").rename("moved")
    with pytest.raises(InputError, match=rf"the folder {where}, which is not there .*was started"):
        star.predict(run, ["tom"])


@pytest.mark.parametrize("kind", ["head", "head, read, calibrated", "words, read"])
@pytest.mark.parametrize("place", ["away", "beside"])
def test_no_row_is_needed_but_those_that_are_asked(
    kind: str, place: str, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data may be gone, be others now, or be named from another folder: a round tells its
    classes, so the folder, the model and the text are all that is read."""
    here = tmp_path / "here"
    data = here / "data"
    data.mkdir(parents=True)
    write_hues(data)
    monkeypatch.chdir(here)
    run = runs.go(tiny_llama, Path("data"), tmp_path, *SMALL, *KINDS[kind], "pool.rounds=1")
    expected = star.predict(run, ["tom has 3 eggs"])
    assert [*expected[0]["probabilities"]] == [*stored(run, 0, "metrics.json")["per_class"]]
    if place == "away":
        shutil.rmtree(data)
    else:
        other = json.dumps({"text": "ann has 1 pen", "label": "a"})  # in front of all others
        (data / "train.jsonl").write_text(f"{other}\n")
    monkeypatch.chdir(tmp_path)
    assert star.predict(run, ["tom has 3 eggs"]) == expected

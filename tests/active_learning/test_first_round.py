"""Runs that share their first round come to the same as runs that do not."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs

from star.acquisition import pool_scorer
from star.acquisition.view import View
from star.active_learning.first_round import FirstRound
from star.config import load
from star.files import read_npz, write_npz
from star.models import training
from star.models.stored_rows import Ragged


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def go(tiny_llama: Path, data: Path, tmp_path: Path) -> Any:
    def go(name: str, *words: str, first: Path | None = tmp_path / "first") -> Path:
        place = [] if first is None else [f"tracking.first_rounds={first}"]
        return runs.go(tiny_llama, data, tmp_path / name, "pool.rounds=2", *place, *words)

    return go


@pytest.fixture(scope="module")
def alone(tiny_llama: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the plain run, made without a first round to share."""
    return runs.go(tiny_llama, data, tmp_path_factory.mktemp("alone"), "pool.rounds=2")


@pytest.fixture(scope="module")
def there(tiny_llama: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the plain run's first round is."""
    root = tmp_path_factory.mktemp("there")
    words = ("pool.rounds=2", f"tracking.first_rounds={root / 'first'}")
    runs.go(tiny_llama, data, root / "run", *words)
    return root / "first"


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Return how often was trained, and how often a full view was scored."""
    found = {"train": 0, "score": 0}
    fit, score = training.fit, pool_scorer.PoolScorer.full

    def count_fit(*words: Any, **more: Any) -> Any:
        found["train"] += 1
        return fit(*words, **more)

    def count_score(*words: Any, **more: Any) -> Any:
        found["score"] += 1
        return score(*words, **more)

    monkeypatch.setattr(training, "fit", count_fit)
    monkeypatch.setattr(pool_scorer.PoolScorer, "full", count_score)
    return found


def same(one: Path, other: Path) -> None:
    assert runs.result(one) == runs.result(other)
    assert runs.content(one) == runs.content(other)


OTHERS = [
    ("acquisition.measure=margin",),
    ("acquisition.continuation=base",),  # what `auto` is here
    ("acquisition.combine=none", "acquisition.continuation=base", "acquisition.reduction=mean"),
    ("acquisition.select=random",),
]


@pytest.mark.parametrize("words", OTHERS, ids=lambda words: words[0].partition(".")[2])
def test_a_shared_first_round_changes_nothing(
    go: Any, counts: Any, words: Any, alone: Path
) -> None:
    first = go("a")
    assert counts == {"train": 2, "score": 1}
    second = go("b", *words)
    assert counts == {"train": 3, "score": 1}  # a last round is not scored
    same(first, alone)
    same(second, go("d", *words, first=None))
    # The seconds are those of the run that did the work.
    seconds = [runs.read(run / "result.json")["rounds"][0]["seconds"] for run in (first, second)]
    assert seconds[0]["train"] == seconds[1]["train"]


@pytest.mark.parametrize(
    "word",
    [
        "seed=1",
        "regularizer.kind=decoupled",
        "train.learning_rate=0.02",
        "adapter.lora_dropout=0.2",
        "task.test_limit=5",
        "pool.initial_size=7",
        "evaluation.ece_bins=5",
        'evaluation.views=["full"]',
        "acquisition.mc_dropout.passes=2",  # the view mc is evaluated with them
    ],
)
def test_what_makes_another_first_round(go: Any, there: Path, counts: Any, word: str) -> None:
    go("b", word, first=there)
    assert counts["train"] == 2


def test_the_plain_run_finds_the_first_round_that_is_there(
    go: Any, there: Path, counts: Any
) -> None:
    go("b", first=there)
    assert counts["train"] == 1


def test_other_scores_of_the_same_training(go: Any, counts: Any) -> None:
    plain = 'evaluation.views=["base","full"]'
    go("a", plain)
    # Fewer passes; and the full model alone, which scores its own answers.
    for words in ("acquisition.mc_dropout.passes=0", plain), ("acquisition.combine=none", plain):
        before = dict(counts)
        second = go(f"b-{words[0]}", *words)
        assert counts == {"train": before["train"] + 1, "score": before["score"] + 1}
        same(second, go(f"c-{words[0]}", *words, first=None))


def test_damage_is_worked_again(go: Any, counts: Any, tmp_path: Path) -> None:
    first = go("a")
    [place] = (tmp_path / "first" / "trained").iterdir()
    (place / "adapter.safetensors").write_bytes(b"no")
    same(first, go("b"))
    assert counts["train"] == 4
    shutil.rmtree(tmp_path / "b")
    [scores] = (tmp_path / "first" / "scored").iterdir()
    scores.write_bytes(b"no")
    [tested] = (tmp_path / "first" / "tested").iterdir()
    tested.write_text('{"seconds": 1.0}')
    same(first, go("b"))
    assert counts == {"train": 5, "score": 2}


def another_number(content: bytearray, share: float) -> bytearray:
    """Return JSON with another digit at about that share of it, and so another number.

    The seventeenth digit of a number may be another and the number the same.
    """
    places = [i for i, byte in enumerate(content) if chr(byte) in "0123456789"]
    for place in reversed(places[: int(share * len(places)) + 1]):
        changed = bytearray(content)
        changed[place] ^= 1
        with contextlib.suppress(ValueError):  # a zero before a number is no JSON
            if json.loads(changed) != json.loads(content):
                return changed
    raise AssertionError("no number in it")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_change_in_anything_kept_is_seen(
    share: float, go: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = [f"tracking.cache_dir={tmp_path / 'cache'}"]
    first = go("a", *kept)
    files = [*(tmp_path / "cache").rglob("*.*"), *(tmp_path / "first").rglob("*.*")]
    assert {path.suffix for path in files} == {".json", ".npz", ".npy", ".safetensors"}
    for path in files:
        content = bytearray(path.read_bytes())
        if path.suffix == ".json":
            content = another_number(content, share)
        else:
            content[int(share * len(content))] ^= 0x40
        path.write_bytes(content)
    same(first, go("b", *kept))
    for path in files:
        if path.suffix != ".npz":  # a zip file has bytes that nothing reads, and sums of the others
            assert f"{path} cannot be" in caplog.text or f"{path.parent} cannot be" in caplog.text


def test_other_examples_have_other_scores(tmp_path: Path) -> None:
    config = load(None, ["task.name=arithmetic", f"tracking.first_rounds={tmp_path}"])
    shared = FirstRound(config, {})

    def scored(index: list[int], height: float) -> float:
        sums = {"max_entropy": np.full((len(index), 1), height)}
        made = View(sums, np.ones(len(index), dtype=np.int64), Ragged([()] * len(index)), 1)
        return float(shared.full(np.array(index), lambda: made)[0].sums["max_entropy"][0, 0])

    assert scored([1, 2], 1.0) == 1.0
    assert scored([1, 3], 2.0) == 2.0  # as many, of other examples
    assert scored([1, 2], 3.0) == 1.0  # read


def test_what_cannot_be_written_costs_time_alone(
    go: Any, counts: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "first").write_text("a file")
    first = go("a")
    assert "is not kept" in caplog.text
    (tmp_path / "first").unlink()
    same(first, go("b"))
    assert counts == {"train": 4, "score": 2}


def test_the_seconds_of_the_scores_are_those_of_the_run_that_made_them(
    go: Any, tmp_path: Path
) -> None:
    go("a")
    [path] = (tmp_path / "first" / "scored").iterdir()
    write_npz(path, **read_npz(path) | {"seconds": np.array(4000.0)})
    again = runs.read(go("b") / "result.json")["rounds"][0]["seconds"]["score"]
    assert 4000 <= again < 4100

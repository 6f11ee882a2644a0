"""First labels that are chosen: the same whatever picks afterwards, written, and read again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
import sentences
from runs import Runner

import star
from star import seeding
from star.acquisition import representative
from star.active_learning import loop
from star.active_learning.round_0 import key_of_round_0
from star.config import config_hash, load
from star.errors import InputError
from star.files import read_json, read_npz

SMALL = ("pool.initial_size=4", "pool.query_size=3", "pool.rounds=2", "train.num_train_epochs=1")
HELD = "task.validation_size=3"


@pytest.fixture(scope="module")
def runner(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with runs.runner(tiny_llama, tmp_path_factory, *SMALL, pool=24, test=2) as go:
        yield go


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sentences.write_encoder(tmp_path_factory.mktemp("encoder"))


def initial(run: Path) -> Any:
    return read_json(run / "initial.json")


@pytest.mark.parametrize("word", ["typiclust", "maxherding"])
def test_it_is_the_strategy_with_nothing_labelled(runner: Runner, word: str) -> None:
    held = initial(runner(HELD, "acquisition.select=random"))["validation"]
    run = runner(HELD, "acquisition.select=k_center", f"acquisition.initial={word}")
    other = runner(HELD, "acquisition.select=random", f"acquisition.initial={word}")
    assert initial(run) == initial(other)  # whatever picks afterwards
    assert initial(run)["validation"] == held  # the rows that random has
    stored = read_npz(run / "rounds/00/embeddings.npz")
    left = sorted(set(range(24)) - set(held))
    assert stored["index"].tolist() == left
    random = np.random.default_rng(seeding.derive(0, "strategy", -1))
    places = {
        "typiclust": lambda rows: representative.typiclust(rows, [], 4, random),
        "maxherding": lambda rows: representative.herding(rows, [], 4),
    }[word](stored["base"])
    first = [left[place] for place in places]
    assert sorted(set(initial(run)["indices"]) - set(held)) == sorted(first)
    queries = runs.queries(run)
    assert not set(queries[0]) & set(initial(run)["indices"])
    assert [row["indices"] for row in star.replay(run)] == queries


def test_embeddings_are_the_encoder_s(runner: Runner, encoder: Path) -> None:
    named = f"acquisition.embeddings={encoder}"
    run = runner("acquisition.select=k_center", "acquisition.initial=maxherding", named)
    stored = read_npz(run / "rounds/00/embeddings.npz")
    assert set(stored) == {"index", "encoder"} and stored["encoder"].shape == (24, 16)
    places = representative.herding(stored["encoder"], [], 4)
    assert initial(run)["indices"] == sorted(stored["index"][places].tolist())
    told = read_json(run / "environment.json")["encoder"]
    assert told["name_or_path"] == str(encoder) and len(told["revision"]) == 64
    assert [row["indices"] for row in star.replay(run)] == runs.queries(run)
    with pytest.raises(InputError, match=r"acquisition\.embeddings"):
        star.replay(run, ["acquisition.embeddings=base"])


def test_an_interrupted_run_goes_on_from_what_is_written(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runner("acquisition.select=random", "acquisition.initial=typiclust")
    again = Path(shutil.copytree(run, tmp_path / run.name))
    (again / "result.json").unlink()
    shutil.rmtree(again / "rounds/01")
    monkeypatch.setattr(loop, "cold_start", lambda *_: pytest.fail("it is written"))
    words = [f"output_dir={tmp_path}", f"run_name={run.name}"]
    assert loop.run(load(again / "config.yaml", words)) == again
    assert runs.result(again) == runs.result(run)
    assert initial(again) == initial(run)


def test_others_than_the_pool_s_are_refused(runner: Runner, tmp_path: Path) -> None:
    run = runner("acquisition.select=random", "acquisition.initial=typiclust")
    again = Path(shutil.copytree(run, tmp_path / run.name))
    shutil.rmtree(again / "rounds")
    (again / "result.json").unlink()
    (again / "checksums.json").unlink()  # as of a version that wrote none
    (again / "initial.json").write_text(json.dumps({"indices": [0, 1], "validation": []}))
    words = [f"output_dir={tmp_path}", f"run_name={run.name}"]
    with pytest.raises(InputError, match="holds other rows than this pool has"):
        loop.run(load(again / "config.yaml", words))


def test_another_encoder_of_the_same_name_is_refused(
    runner: Runner, encoder: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(encoder, tmp_path / "own"))
    run = runner("acquisition.select=k_center", f"acquisition.embeddings={own}")
    (run / "result.json").unlink()
    sentences.write_encoder(own, seed=1)
    with pytest.raises(InputError, match=r"another content of the encoder \(revision"):
        loop.run(load(run / "config.yaml", [f"output_dir={run.parent}", f"run_name={run.name}"]))


def test_what_decides_round_0_tells_cold_starts_apart(encoder: Path) -> None:
    cold = ["acquisition.initial=maxherding"]
    words = [
        [],
        cold,
        ["acquisition.initial=typiclust"],
        [*cold, f"acquisition.embeddings={encoder}"],
        [*cold, "acquisition.embeddings=/another/one"],
    ]
    keys = [key_of_round_0(load(None, each)) for each in words]
    assert len(set(keys)) == len(words)
    assert key_of_round_0(load(None, [*cold, "acquisition.embeddings=base"])) == keys[1]
    # Drawn labels are the same by whatever strategies embed.
    assert key_of_round_0(load(None, [f"acquisition.embeddings={encoder}"])) == keys[0]
    content = {"model": "a", "data": "b"}
    first = key_of_round_0(load(None, words[3]), content | {"encoder": "c"})
    assert first != key_of_round_0(load(None, words[3]), content | {"encoder": "d"})


@pytest.mark.parametrize("word", ["initial=random", "embeddings=auto", "preselect=4"])
def test_a_key_at_its_default_is_no_other_run(word: str) -> None:
    assert config_hash(load(None, [f"acquisition.{word}"])) == config_hash(load())


@pytest.mark.parametrize(
    "words, said",
    [
        (["initial=k_center"], "acquisition.initial must be one of"),
        (["initial=typiclust", "embeddings=full"], "chooses before anything is trained"),
        (["select=badge", "embeddings=base"], "whose input is the full model's"),
        (["embeddings=ful"], r"got 'ful'; did you mean 'full'\?"),
        (["preselect=0"], "acquisition.preselect must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused_at_once(words: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        load(None, [f"acquisition.{word}" for word in words])
    assert "\n" not in str(caught.value)


def test_the_mean_and_the_last_state_side_by_side(runner: Runner) -> None:
    both = "acquisition.pooling=mean_last"
    run = runner("acquisition.select=k_center", "acquisition.initial=maxherding", both)
    stored = read_npz(run / "rounds/00/embeddings.npz")["base"]
    halves = np.split(stored, 2, axis=1)
    for half in halves:
        np.testing.assert_allclose(np.linalg.norm(half, axis=1), 1, rtol=1e-5)
    assert np.abs(halves[0] - halves[1]).max() > 0.1
    last = runner("acquisition.select=k_center", "acquisition.pooling=last")
    assert read_npz(last / "rounds/00/embeddings.npz")["base"].shape[1] == halves[0].shape[1]
    first = representative.herding(stored, [], 4)
    assert sorted(initial(run)["indices"]) == sorted(first)


def test_a_sentence_encoder_pools_as_it_was_trained_to(encoder: Path) -> None:
    words = ("acquisition.select=k_center", f"acquisition.embeddings={encoder}")
    with pytest.raises(InputError, match=r"acquisition\.pooling=mean or acquisition\.embeddings"):
        load(None, [*words, "acquisition.pooling=last"])


@pytest.mark.parametrize("named", ["select=badge", "strategy=skactiveml:Badge"])
def test_gradients_of_badge_are_in_the_last_layer(named: str) -> None:
    words = [f"acquisition.{named}", "acquisition.combine=none"]
    for word in ("pooling=last", "pooling=mean", "embeddings=full"):
        load(None, [*words, f"acquisition.{word}"])
    for word, got in (("pooling=mean_last", "mean_last"), ("embeddings=base", "base")):
        with pytest.raises(InputError, match=f"takes gradients in the last layer.*, got {got}$"):
            load(None, [*words, f"acquisition.{word}"])

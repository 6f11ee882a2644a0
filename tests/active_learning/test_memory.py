"""What a run keeps for strategies that need it: the history, embeddings; nothing for others."""

from __future__ import annotations

import functools
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import own_strategies
import pytest
import runs
from firewall import reachable
from runs import Runner

import star
from star.acquisition.components import Components
from star.active_learning import loop, memory
from star.active_learning.run_folder import RunFolder
from star.config import load
from star.data import loading as tasks
from star.data.pool import Oracle
from star.data.task import Answer
from star.errors import InputError
from star.files import read_json, read_npz

SMALL = ("pool.initial_size=4", "pool.query_size=3", "pool.rounds=3", "train.num_train_epochs=1")
OWN = "acquisition.strategy=own_strategies:everything"
VECTORS = "acquisition.strategy=own_strategies:farthest"


@pytest.fixture(scope="module")
def runner(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with runs.runner(tiny_llama, tmp_path_factory, *SMALL, pool=20, test=2) as go:
        yield go


def asked(runner: Runner, *words: str) -> tuple[Path, list[Components]]:
    """Return a run, and what its strategy was told after each round."""
    own_strategies.seen.clear()
    run = runner(*words)
    return run, [pool for pool in own_strategies.seen if not pool.made_up]


@pytest.fixture(scope="module")
def told(runner: Runner) -> tuple[Path, list[Components]]:
    return asked(runner, OWN)


def test_what_was_bought_is_answered_before_it_is_trained_on(told: Any) -> None:
    run, (first, second) = told
    assert first.history.purchases == () and not len(first.history.index)
    assert second.history.index.tolist() == runs.queries(run)[0]
    assert second.history.round.tolist() == [0] * 3
    for t in (0, 1):
        stored = read_json(run / f"rounds/{t:02d}/bought.json")
        assert stored["index"] == runs.queries(run)[t]
        assert all(isinstance(right, bool) for right in stored["correct"])
        assert all(0 <= p <= 1 for p in stored["confidence"])
    assert second.history.correct.tolist() == read_json(run / "rounds/00/bought.json")["correct"]
    places = np.searchsorted(first.index, second.history.index)
    then = first.score("full", "margin", "sum")[places]
    np.testing.assert_array_equal(second.history.score("full", "margin", "sum"), then)
    assert not (run / "rounds/02/bought.json").exists()  # no query follows


def test_labels_are_of_what_was_bought(told: Any, runner: Runner) -> None:
    run, (first, second) = told
    initial = read_json(run / "initial.json")["indices"]
    assert first.labelled.index.tolist() == initial
    assert second.labelled.index.tolist() == [*initial, *runs.queries(run)[0]]
    rows = rows_of(run)
    for pool in (first, second):
        assert list(pool.labelled.answers) == [rows[i]["answer"] for i in pool.labelled.index]
        for index, text in zip(pool.index.tolist(), pool.texts, strict=True):
            assert rows[index]["question"] in text


def rows_of(run: Path) -> list[dict[str, str]]:
    data = Path(str(load(run / "config.yaml").task.data_dir))
    return [json.loads(line) for line in (data / "train.jsonl").read_text().splitlines()]


def test_embeddings_are_kept_once_where_they_stay_the_same(runner: Runner) -> None:
    run, pools = asked(runner, VECTORS)
    first, second = (read_npz(run / f"rounds/{t:02d}/embeddings.npz") for t in (0, 1))
    assert set(first) == {"index", "base", "full"} and set(second) == {"index", "full"}
    assert first["base"].shape == (20, 32) and first["full"].dtype == np.float32
    assert len(first["index"]) == 20 and not (run / "rounds/00/scores.npz").exists()
    assert np.abs(first["full"] - first["base"]).max() > 1e-6
    for pool in pools:
        for view in ("base", "full"):
            kept = (second if view == "full" and pool.round else first)[view]
            np.testing.assert_array_equal(pool.embeddings(view), kept[pool.index])
            labelled = pool.embeddings(view, labelled=True)
            np.testing.assert_array_equal(labelled, kept[pool.labelled.index])


@pytest.mark.parametrize("words", [OWN, VECTORS])
def test_replay_and_resuming_give_the_same(runner: Runner, words: str, tmp_path: Path) -> None:
    run = runner(words)
    rows = star.replay(run)
    assert [row["indices"] for row in rows] == runs.queries(run)
    assert [row["overlap"] for row in rows] == [1, 1]
    again = Path(shutil.copytree(run, tmp_path / run.name))
    for name in ("result.json", "rounds/01", "rounds/02"):
        path = again / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    config = load(again / "config.yaml", [f"output_dir={tmp_path}", f"run_name={run.name}"])
    assert loop.run(config) == again
    for path in (*run.rglob("bought.json"), *run.rglob("embeddings.npz"), *run.rglob("*.npz")):
        assert (again / path.relative_to(run)).read_bytes() == path.read_bytes(), path
    assert runs.result(again) == runs.result(run)


def test_a_temperature_is_fitted_to_what_was_bought(
    runner: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="star"):
        run = runner("acquisition.select=uherding_calibrated", *runs.CHOICES)
    assert "temperature fitted to 0 examples: 1" in caplog.text
    assert "temperature fitted to 3 examples: " in caplog.text
    assert [row["indices"] for row in star.replay(run)] == runs.queries(run)


@pytest.mark.parametrize("select", ["uherding_calibrated", "badge", "epig"])
def test_what_needs_choices_is_refused_before_anything_is_trained(
    runner: Runner, select: str
) -> None:
    with pytest.raises(InputError, match="looks at the probabilities of choices, and what is sco"):
        runner(f"acquisition.select={select}")


def test_others_keep_nothing_of_it(runner: Runner) -> None:
    for words in (
        (),
        ("acquisition.select=random",),
        ("acquisition.strategy=own_strategies:drawn",),
    ):
        run = runner(*words)
        assert not [*run.rglob("bought.json"), *run.rglob("embeddings.npz")]
    with pytest.raises(InputError, match=r"rounds/00 has no bought\.json: a run keeps its history"):
        star.replay(runner(), ["acquisition.strategy=own_strategies:remembers"])
    with pytest.raises(InputError, match=r"has no embeddings\.npz of the view full for round 0"):
        star.replay(runner(), [VECTORS])
    with pytest.raises(InputError, match="keeps no scores to replay"):
        star.replay(runner(VECTORS), ["acquisition.strategy=null"])


def test_a_damaged_file_is_refused(runner: Runner, tmp_path: Path) -> None:
    run = Path(shutil.copytree(runner(OWN), tmp_path / "run"))
    (run / "rounds/00/bought.json").write_text("{}")
    with pytest.raises(InputError, match=r"bought\.json does not fit"):
        star.replay(run)


def test_replay_refuses_other_data(runner: Runner, tmp_path: Path) -> None:
    run = Path(shutil.copytree(runner(OWN), tmp_path / "run"))
    data = Path(shutil.copytree(load(run / "config.yaml").task.data_dir, tmp_path / "data"))
    folder, config = RunFolder(run), load(run / "config.yaml", [f"task.data_dir={data}"])
    context = memory.stored_context(folder, config, 1, None)
    assert len(context.prompts()) == 20 and len(context.answers()) == 7
    (data / "train.jsonl").write_text((data / "train.jsonl").read_text().replace("ann", "tom"))
    with pytest.raises(InputError, match="another content of the data"):
        context.answers()


# --- the label firewall --------------------------------------------------------------------------


def test_no_answer_that_was_not_bought_can_be_had(runner: Runner) -> None:
    own_strategies.walked.clear()
    run = runner("acquisition.strategy=own_strategies:walker", "acquisition.select=top_k")
    unbought = [pool for pool in own_strategies.walked if not pool.made_up]
    assert len(unbought) == 2
    replayed = len(own_strategies.walked)
    star.replay(run)
    pools = [*unbought, *own_strategies.walked[replayed:]]
    assert len(pools) == 4
    for pool in pools:
        assert len(pool.texts) == len(pool.index) and len(pool.labelled.answers)
        things = list(reachable(pool))
        assert len(things) > 100
        assert not [one for one in things if isinstance(one, (Oracle, Answer, tasks.TaskData))]


def test_the_walk_finds_what_is_hidden() -> None:
    answer = Answer("four", "4")
    for hidden in (lambda: answer, functools.partial(print, [answer]), {"a": (answer,)}):
        assert any(one is answer for one in reachable(hidden))

"""A strategy of one's own: a function from score components to scores."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import own_strategies
import pytest
import runs
from hypothesis import given
from hypothesis import strategies as st
from runs import Runner

import star
from star.acquisition import controls, user_function
from star.acquisition.components import Components
from star.acquisition.scores import Scores
from star.acquisition.trial import trial
from star.acquisition.uncertainty import MEASURES
from star.active_learning import loop
from star.active_learning.starting import dry_run
from star.cli.main import main
from star.config import AcquisitionConfig, load, own_strategy, strategy_name
from star.errors import InputError
from star.files import read_json

SMALL = ("pool.initial_size=4", "pool.query_size=3", "pool.rounds=3", "train.num_train_epochs=1")


@pytest.fixture(scope="module")
def runner(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with runs.runner(tiny_llama, tmp_path_factory, *SMALL, pool=20, test=2) as go:
        yield go


def own(name: str) -> str:
    return f"acquisition.strategy=own_strategies:{name}"


def picks(run: Path) -> list[list[int]]:
    return runs.queries(run)


def components(answers: Any, prompts: Any = None, **changed: Any) -> Components:
    """Return components whose blend prefers the first examples."""
    size = len(answers)
    table = np.arange(2.0 * size).reshape(size, 2)
    told: dict[str, Any] = {
        "scores": Scores(
            {
                "index": np.arange(size) * 3,
                **{f"{view}_{name}": table for view in ("base", "full") for name in MEASURES},
                "base_num_tokens": np.ones(size, dtype=np.int64),
                "full_num_tokens": np.asarray(answers),
                "prompt_tokens": np.asarray([5] * size if prompts is None else prompts),
            }
        ),
        "blended": -np.arange(size, dtype=np.float64),
        "round": 0,
        "rounds": 3,
        "query_size": 2,
        "base_weight": 0.5,
        "random": np.random.default_rng(0),
        "seed": 0,
    }
    return Components(**told | changed)


def test_the_function_decides(runner: Runner) -> None:
    own_strategies.seen.clear()
    run = runner(own("largest_index"))
    first, second = (pool for pool in own_strategies.seen if not pool.made_up)
    for pool, picked in zip((first, second), picks(run), strict=True):
        assert picked == sorted(pool.index.tolist())[:-4:-1]
    assert (first.round, second.round, first.rounds, first.query_size) == (0, 1, 3, 3)
    assert second.base_weight == pytest.approx(1 / 3) and len(first.index) == 16
    assert first.full["margin"].shape == (16, 3) and first.base["margin"].shape == (16, 1)
    assert (first.prompt_tokens > 1).all() and (first.full_num_tokens >= 1).all()
    result = runs.result(run)
    assert result["strategy"] == "own_strategies:largest_index" and result["label_free"]
    assert run.parent.name == "own_strategies-largest_index"


def test_it_sees_what_the_built_in_ones_see(runner: Runner) -> None:
    assert picks(runner(own("star_again"))) == picks(runner())
    plain = ("acquisition.measure=margin", "acquisition.reduction=sum")
    alone = ("acquisition.combine=none", "acquisition.continuation=base")  # the answers of `auto`
    assert picks(runner(own("by_hand"))) == picks(runner(*plain, *alone))


def test_nothing_it_is_told_can_be_changed(runner: Runner) -> None:
    given = np.arange(3.0)
    pool = components([1, 2, 3], blended=given)
    names = ("index", "blended", "base_num_tokens", "full_num_tokens", "prompt_tokens")
    told = [getattr(pool, name) for name in names]
    for array in (*told, *pool.base.values(), *pool.full.values()):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 9
    with pytest.raises(TypeError):
        pool.full["margin"] = given  # type: ignore[index]
    pool.blended.setflags(write=True)  # even so: it is a copy
    pool.blended[0] = 9
    assert given[0] == 0
    with pytest.raises(InputError, match=r"in_place.*read-only"):
        runner(own("in_place"))


def test_draws_belong_to_seed_and_round(runner: Runner) -> None:
    first, again = (picks(runner(own("drawn"), f"tracking.progress={p}")) for p in (False, "false"))
    assert first == again != picks(runner(own("drawn"), "seed=1"))


def test_a_label_using_continuation_stays_marked(runner: Runner) -> None:
    run = runner(own("star_again"), "acquisition.continuation=gold")
    assert runs.result(run)["label_free"] is False


def test_replay_asks_it_too(runner: Runner) -> None:
    run = runner()
    for name in ("largest_index", "drawn", "by_hand"):
        asked = star.replay(run, [own(name)])[0]["indices"]
        assert asked == picks(runner(own(name)))[0]
    assert all(row["overlap"] == 1 for row in star.replay(runner(own("drawn"))))


@pytest.mark.parametrize(
    "words, said",
    [
        ([own("absent")], "own_strategies has no absent"),
        ([own("nothing")], "must be a function, got None"),
        (["acquisition.strategy=absent_module:f"], "No module named 'absent_module'; install it"),
        (
            [own("two_columns")],
            r"must return 7 numbers, one an example, or 3 pool indices; got float64 of shape "
            r"\(7, 2\) on 7 made-up examples, before anything is trained",
        ),
        ([own("words")], "must return 7 numbers"),
        ([own("not_a_number")], "are not finite"),
        (
            [own("undeclared")],
            r"looks at history.* give the function the attribute needs = \('hist",
        ),
        ([own("misspelt")], "needs can be scores, log_probs, .*, got 'histry'; did you mean 'hist"),
    ],
)
def test_functions_that_cannot_be_used(runner: Runner, words: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        runner(*words)


def test_it_is_tried_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("star.models.loading.load", None)
    monkeypatch.setattr("star.data.loading.load", None)

    def dry_run(*words: str) -> tuple[int, str, str]:
        status = main(["run", "-", "--dry-run", "model.name_or_path=absent", *words])
        return status, *capsys.readouterr()

    line = (
        "acquisition.{} returned {}, for 16 of 33, 16 of 16 and 1 of 1 made-up examples; it needs"
    )
    for word, kind, needed in (
        ("select=top_k", "scores", "scores"),
        ("select=random", "scores", "nothing"),
        ("strategy=own_strategies:largest_index", "scores", "scores"),
        ("strategy=own_strategies:batch", "a batch of pool indices", "scores"),
        ("strategy=own_strategies:everything", "scores", "embeddings, history, scores"),
    ):
        assert dry_run(f"acquisition.{word}") == (0, f"{line.format(word, kind)} {needed}\n", "")
    for name in ("two_columns", "undeclared", "nothing"):
        status, out, error = dry_run(own(name))
        assert (status, out) == (2, "") and error.startswith("error: acquisition.strategy=own_st")
        assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words, passes, choices, bald",
    [
        ((), 3, None, False),
        (("acquisition.mc_dropout.passes=0", "acquisition.combine=none"), 1, None, False),
        (("acquisition.measure=bald", "acquisition.combine=none"), 3, None, True),
        (("task.name=boolq",), 3, 2, False),
        (("task.name=openbookqa", "acquisition.mc_dropout.passes=5"), 5, 4, False),
        (("task.name=boolq", "acquisition.continuation=model"), 3, None, False),
    ],
)
def test_made_up_components_have_the_configured_shapes(
    words: tuple[str, ...], passes: int, choices: int | None, bald: bool
) -> None:
    own_strategies.seen.clear()
    dry_run(load(None, [own("largest_index"), "pool.query_size=5", *words]))
    assert [(len(pool.index), pool.query_size) for pool in own_strategies.seen] == [
        (11, 5),
        (5, 5),
        (5, 4),  # again, since its scores could be a batch of all
        (1, 1),
    ]
    for pool in own_strategies.seen:
        size = len(pool.index)
        assert pool.made_up and len(pool.texts) == size
        assert not set(pool.index) & set(pool.labelled.index)
        assert pool.base["margin"].shape == (size, 1) and ("bald" in pool.full) == bald
        assert pool.full["margin"].shape == (size, passes)
        stored = pool.scores.arrays
        assert ("full_log_probs" in stored) == (choices is not None)
        if choices:
            assert stored["full_log_probs"].shape == (size, passes, choices)
            assert np.allclose(np.exp(stored["base_log_probs"]).sum(axis=2), 1)


def test_what_it_looks_up_by_index_is_there_when_it_is_tried() -> None:
    own_strategies.seen.clear()
    prompts = {3 * i + 1: f"question {i}" for i in range(60)}
    trial(load(None, [own("largest_index"), "pool.query_size=5"]), prompts)
    for pool in own_strategies.seen:
        assert [prompts[i] for i in pool.index.tolist()] == list(pool.texts)


@pytest.mark.parametrize("name", ["a:", ":f", "a b:f", "a:f:g", "a.:f"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(InputError, match=r"must be module:function, a strategy of your own"):
        load(None, [f"acquisition.strategy={name!r}"])
    with pytest.raises(InputError, match=r"set acquisition\.select=top_k, got random"):
        load(None, ["acquisition.strategy=a:f", "acquisition.select=random"])


@pytest.mark.parametrize(
    "word, mend",
    [
        ("random", "set acquisition.select=random"),
        ("top_k", "set acquisition.select=top_k"),
        ("randm", "did you mean 'random'"),
        ("my_strategy.kcenter", "did you mean 'my_strategy:kcenter'"),
    ],
)
def test_a_word_that_is_no_function_is_refused_and_not_a_name(word: str, mend: str) -> None:
    with pytest.raises(InputError, match=re.escape(mend)):
        load(None, [f"acquisition.strategy={word}"])
    assert strategy_name(load(None, [f"acquisition.name={word}"])) == word


@pytest.mark.parametrize("source", ["def f(:", "raise RuntimeError('x')", "import absent_one.two"])
def test_a_module_that_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    (tmp_path / "mine_broken.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    with pytest.raises(InputError, match=r"acquisition\.strategy=mine_broken:f: ") as caught:
        user_function.resolve("mine_broken:f")
    assert "\n" not in str(caught.value) and "has no f" not in str(caught.value)


def test_a_fingerprint_is_of_the_source() -> None:
    assert user_function.fingerprint(None) is None
    sha = hashlib.sha256(Path(own_strategies.__file__).read_bytes()).hexdigest()
    assert user_function.fingerprint("own_strategies:drawn") == sha
    with pytest.raises(InputError, match="has no absent"):
        user_function.fingerprint("own_strategies:absent")


def test_a_fingerprint_is_of_all_that_is_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "mine_all/__init__.py": "from .way import f\n",
        "mine_all/way.py": "import numpy\nfrom . import deep\nf = deep.g\n",
        "mine_all/deep.py": "def g(p):\n    from mine_late import inner\n    return inner.h(p)\n",
        "mine_late/inner.py": "from mine_last import *\n",  # a package without __init__.py
        "mine_last.py": "h = len\n",
    }
    for name, text in {**files, "mine_unused.py": ""}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    first = user_function.fingerprint("mine_all:f")
    for name, text in files.items():
        (tmp_path / name).write_text(f"{text}# changed\n")
        assert user_function.fingerprint("mine_all:f") != first, name
        (tmp_path / name).write_text(text)
    (tmp_path / "mine_unused.py").write_text("changed = 1\n")
    assert user_function.fingerprint("mine_all:f") == first


def test_a_fingerprint_that_cannot_be_had_is_refused() -> None:
    with pytest.raises(InputError, match="sys has no source file"):
        user_function.fingerprint("sys:exit")
    ours, theirs = ("star.strategies:longest_first", "starry:f")
    assert own_strategy(AcquisitionConfig(strategy=ours)) is None  # star's version tells
    assert own_strategy(AcquisitionConfig(strategy=theirs)) == theirs


def test_a_run_does_not_go_on_with_another_function(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "own_strategies:drawn"
    run = runner(own("drawn"), "seed=9")
    told = read_json(run / "environment.json")["strategy"]
    assert told == {"name": name, "sha256": user_function.fingerprint(name)}
    (run / "result.json").unlink()
    for name in ("01", "02"):
        shutil.rmtree(run / "rounds" / name)
    monkeypatch.setattr("star.active_learning.setup.fingerprint", lambda name: "0" * 64)
    with pytest.raises(InputError, match=r"another content of the strategy .*restore the strategy"):
        loop.run(load(run / "config.yaml"))


def test_a_module_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_alone.py").write_text("def f(pool):\n    return pool.blended\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    pool = components([1, 2])
    assert user_function.resolve("mine_alone:f")(pool) is pool.blended


# --- the controls ------------------------------------------------------------------------------


def test_longest_answers_first_then_longest_prompts() -> None:
    pool = components([2, 9, 2, 9], prompts=[8, 1, 900, 7])
    order = np.argsort(-controls.longest_first(pool))
    assert order.tolist() == [3, 1, 2, 0]


@given(st.lists(st.integers(1, 4), min_size=3, max_size=60), st.integers(1, 3), st.integers(0, 9))
def test_matched_picks_are_as_many_and_as_long(answers: list[int], size: int, seed: int) -> None:
    # Twenty of each length: each can be matched exactly.
    answers = [*answers, *(length for length in range(1, 5) for _ in range(20))]
    pool = components(answers, query_size=size, random=np.random.default_rng(seed))
    chosen = np.flatnonzero(controls.length_matched_random(pool))
    assert len(chosen) == size  # the blend prefers the first
    assert sorted(pool.full_num_tokens[chosen]) == sorted(answers[:size])


def test_matched_picks_are_random_otherwise() -> None:
    every = [
        components([1] * 40, query_size=4, random=np.random.default_rng(seed))
        for seed in range(300)
    ]
    counts = sum(controls.length_matched_random(pool) for pool in every)
    # 300 draws of 4 among 40: 30 each, a standard deviation of 5.2.
    assert counts.sum() == 1200 and counts.min() > 8 and counts.max() < 56


def test_all_that_are_left() -> None:
    pool = components([1, 7, 3], query_size=3)
    assert controls.length_matched_random(pool).tolist() == [1, 1, 1]

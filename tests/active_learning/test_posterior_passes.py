"""Runs whose passes are not MC dropout's: shared, resumed, counted, refused where they must be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs

from star.active_learning import learner
from star.config import load
from star.errors import InputError
from star.experiments.estimate.estimate import estimate
from star.files import read_npz
from star.models import tfb, training

KINDS = ("tfb", "ensemble")
SLOW_TFB = pytest.mark.parametrize(
    "kind", [pytest.param("tfb", marks=pytest.mark.slow), "ensemble"]
)
SETTINGS = (
    *runs.CHOICES,
    "pool.rounds=2",
    "acquisition.mc_dropout.passes=3",
    "acquisition.tfb_tolerance=0.01",
    "evaluation.views=full",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.write_data(tmp_path_factory.mktemp("data"), choices=True)


@pytest.fixture(scope="module")
def go(tiny_llama: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    def go(*words: str, out: Path | None = None) -> Path:
        place = out or tmp_path_factory.mktemp("out")
        return runs.go(tiny_llama, data, place, *SETTINGS, *words)

    return go


@pytest.fixture(scope="module")
def plain(go: Any) -> dict[str, Path]:
    return {kind: go(f"acquisition.passes={kind}") for kind in ("dropout", *KINDS)}


def scores(run: Path) -> Any:
    return read_npz(run / "rounds" / "00" / "scores.npz")["full_predictive_entropy"]


def tokens(run: Path, t: int = 0) -> dict[str, int]:
    counted: dict[str, int] = runs.result(run)["rounds"][t]["tokens"]
    return counted


def same(first: Path, second: Path) -> None:
    assert runs.result(first) == runs.result(second)
    assert runs.content(first) == runs.content(second)


def test_passes_differ_and_between_kinds(plain: Any) -> None:
    kinds = {kind: scores(run) for kind, run in plain.items()}
    for value in kinds.values():
        assert value.shape[1] == 3 and (np.abs(np.diff(value, axis=1)).max(axis=0) > 0).all()
    for kind in KINDS:
        assert not np.array_equal(kinds[kind], kinds["dropout"])
        accuracy = [[r["nll"] for r in runs.result(plain[k])["rounds"][:1]] for k in (kind, "tfb")]
        assert accuracy[0] == accuracy[1]  # what is evaluated is the round's own adapter


@pytest.mark.parametrize("kind", KINDS)
def test_batches_change_no_pick(go: Any, plain: Any, kind: str) -> None:
    other = go(f"acquisition.passes={kind}", "evaluation.per_device_eval_batch_size=3")
    np.testing.assert_allclose(scores(other), scores(plain[kind]), rtol=1e-4, atol=1e-6)
    picked = [runs.read(run / "rounds/00/selected.json") for run in (other, plain[kind])]
    assert picked[0] == picked[1]


@SLOW_TFB
def test_a_run_that_goes_on_comes_to_the_same(
    go: Any, plain: Any, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: Any, **__: Any) -> Any:
        raise Killed

    words = (f"acquisition.passes={kind}",)
    with monkeypatch.context() as patch:
        patch.setattr(learner, "decide", killed)  # the passes of round 0 were made
        with pytest.raises(Killed):
            go(*words, out=tmp_path)
    same(go(*words, out=tmp_path), plain[kind])


def test_first_rounds_tell_kinds_apart(go: Any, plain: Any, tmp_path: Path) -> None:
    shared = f"tracking.first_rounds={tmp_path / 'first'}"
    for kind in ("dropout", *KINDS):  # one training, scored in three ways
        same(go(f"acquisition.passes={kind}", shared), plain[kind])
    assert sum(place.is_dir() for place in (tmp_path / "first" / "trained").iterdir()) == 1
    assert len(list((tmp_path / "first" / "scored").glob("*.npz"))) == 3
    other = go("acquisition.passes=tfb", shared, "acquisition.tfb_tolerance=0.5")
    assert not np.array_equal(scores(other), scores(plain["tfb"]))


def test_an_ensemble_that_is_read_is_not_trained_again(
    go: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, count = training.fit, []
    monkeypatch.setattr(training, "fit", lambda *a, **k: count.append(1) or fit(*a, **k))
    words = ("acquisition.passes=ensemble", f"tracking.first_rounds={tmp_path / 'first'}")
    first = go(*words)
    assert len(count) == 1 + 2 + 1  # two members more after round 0, no query after round 1
    second = go(*words, "acquisition.normalization=rank")
    assert len(count) == 4 + 1
    assert tokens(second) == tokens(first)


def test_tokens_of_making_passes_are_counted_once(go: Any, plain: Any) -> None:
    bare = tokens(plain["dropout"])
    ensemble = tokens(plain["ensemble"])
    assert ensemble == bare | {"score": bare["score"] + 2 * bare["train"]}
    extra = tokens(plain["tfb"])["score"] - bare["score"]
    rows = bare["train"] // 2  # two epochs
    assert extra % rows == 0 and 11 * rows <= extra <= (1 + tfb.DRAWS * tfb.SEARCHES) * rows
    viewed = tokens(go("acquisition.passes=ensemble", "evaluation.views=full,mc"))
    assert viewed["score"] == bare["score"]  # made for the view, and counted there
    assert viewed["evaluate"] > bare["evaluate"] + 2 * bare["train"]


@SLOW_TFB
def test_the_mc_view_averages_the_same_passes(
    go: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    compare = learner.views.compare

    def spy(*words: Any, **more: Any) -> Any:
        seen.append(more["passes"])
        return compare(*words, **more)

    monkeypatch.setattr(learner.views, "compare", spy)
    go(f"acquisition.passes={kind}", "evaluation.views=full,mc")
    assert [passes.kind.lower() for passes in seen] == [kind, kind]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_measures_between_passes(go: Any, kind: str) -> None:
    words = (f"acquisition.passes={kind}", "acquisition.combine=none")
    for more in (("acquisition.select=epig",), ("acquisition.measure=bald",)):
        run = go(*words, *more, "adapter.lora_dropout=0")  # which neither kind needs
        assert len(runs.read(run / "rounds/00/selected.json")["indices"]) == 5


@pytest.mark.parametrize(
    "words, message",
    [
        ("passes=tfb acquisition.mc_dropout.passes=0", r"passes=tfb needs .*passes >= 1.*got 0"),
        ("passes=ensemble acquisition.mc_dropout.passes=1", r"ensemble needs .*>= 2.*got 1"),
        ("passes=tfb acquisition.mc_dropout.masks=token", r"masks=token belongs to .*=dropout"),
        ("passes=ensemble acquisition.mc_dropout.masks=token", "masks=token belongs to"),
        ("passes=tfb train.max_steps=0", "all TFB passes would be equal"),
        ("passes=ensemble train.max_steps=0", "all members would be equal"),
        ("passes=tfb acquisition.tfb_tolerance=0", "tfb_tolerance must be greater than 0"),
        ("passes=laplace", "passes"),
    ],
)
def test_contradictions_are_refused(words: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(None, f"acquisition.{words}".split())


@pytest.mark.parametrize("kind", KINDS)
def test_an_estimate_counts_them(tiny_llama: Path, data: Path, plain: Any, kind: str) -> None:
    words = runs.words(tiny_llama, data, data / "none", *SETTINGS, f"acquisition.passes={kind}")
    config = load(None, words)
    guessed = estimate(config, flops_per_second=1e9)["rounds"][0]["tokens"]
    counted = tokens(plain[kind])
    assert guessed["train"] == counted["train"]
    if kind == "ensemble":
        assert guessed["score"] == counted["score"]
    else:  # at most, of what is tried
        rows = 10 * counted["train"] // 2
        assert counted["score"] <= guessed["score"] <= counted["score"] + 2 * rows

"""The contracts of a run, for every strategy: its folder, its queries, and what it may read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
from runs import Runner

from star.config import load
from star.data import loading as tasks
from star.errors import InputError
from star.evaluation.evaluate import evaluate
from star.models import adapter
from star.models import loading as models
from star.models.language_model import LanguageModel
from star.models.truncation import Limits

MEASURES = ("predictive_entropy", "max_entropy", "margin", "least_confidence", "bald")
CONTINUATIONS = ("model", "base", "choices", "gold")
FILES = {"checksums.json", "metrics.json", "predictions.jsonl", "training.jsonl"}
# Two rounds: one query. Enough for every contract but those on resuming.
SMALL = ("pool.initial_size=4", "pool.query_size=3", "pool.rounds=2", "train.num_train_epochs=1")


def strategies() -> Iterator[tuple[str, ...]]:
    """Yield the words of every strategy the configuration allows."""
    yield ("acquisition.select=random",)
    for measure, combine, continuation, masks in itertools.product(
        MEASURES, ("none", "subtract", "dynamic"), CONTINUATIONS, ("consistent", "token")
    ):
        words = [f"acquisition.measure={measure}", f"acquisition.combine={combine}"]
        words += [f"acquisition.continuation={continuation}"]
        words += [f"acquisition.mc_dropout.masks={masks}"]
        try:
            load(None, words)
        except InputError:
            continue
        yield tuple(words)


def _name(words: tuple[str, ...]) -> str:
    return "-".join(word.partition("=")[2] for word in words)


STRATEGIES = list(strategies())
# Every blend of every continuation, and every measure with both kinds of mask.
QUICK = {
    "random",
    "predictive_entropy-none-model-consistent",
    "max_entropy-none-base-token",
    "margin-none-choices-consistent",
    "least_confidence-none-gold-token",
    "bald-none-base-consistent",
    "bald-none-choices-token",
    "margin-subtract-base-token",
    "least_confidence-subtract-choices-consistent",
    "predictive_entropy-subtract-gold-token",
    "max_entropy-dynamic-model-consistent",
    "least_confidence-dynamic-base-consistent",
    "predictive_entropy-dynamic-choices-token",
    "margin-dynamic-gold-consistent",
}


@pytest.fixture(scope="module")
def runner(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with runs.runner(tiny_llama, tmp_path_factory, *SMALL, pool=14, test=3) as go:
        yield go


def test_every_strategy_is_here() -> None:
    # 4 measures: none and dynamic on 4 continuations, subtract on 3; bald: none on 4; twice masks.
    assert len(STRATEGIES) == 1 + 2 * (4 * (4 + 4 + 3) + 4)
    quick = [words for words in STRATEGIES if _name(words) in QUICK]
    assert len(quick) == len(QUICK)
    assert {words[1:3] for words in quick} == {words[1:3] for words in STRATEGIES}
    assert {(*words[:1], *words[3:]) for words in quick} == {
        (*words[:1], *words[3:]) for words in STRATEGIES
    }


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(
            words, id=_name(words), marks=() if _name(words) in QUICK else pytest.mark.slow
        )
        for words in STRATEGIES
    ],
)
def test_the_run_folder(words: tuple[str, ...], runner: Runner) -> None:
    folder = runner(*words)
    gold, random = "acquisition.continuation=gold" in words, len(words) == 1
    first, last = folder / "rounds" / "00", folder / "rounds" / "01"
    assert {p.name for p in folder.iterdir()} - {".lock"} == {
        "config.yaml", "environment.json", "initial.json", "rounds", "result.json", "checksums.json"
    }  # fmt: skip
    scored = set() if random else {"scores.npz"}
    assert {p.name for p in first.iterdir()} == FILES | {"selected.json"} | scored
    assert {p.name for p in last.iterdir()} == FILES

    result = runs.read(folder / "result.json")
    assert list(result) == [
        "status", "task", "strategy", "seed", "config_hash", "label_free", "rounds", "auc"
    ]  # fmt: skip
    assert result["status"] == "done" and result["label_free"] == (not gold)
    assert folder.parts[-3:-1] == (result["task"], result["strategy"])
    assert folder.name == f"seed0-{result['config_hash'][:8]}"
    for t, point in enumerate(result["rounds"]):
        assert point["round"] == t and point["labeled"] == 4 + 3 * t
        assert {"accuracy", "accuracy_stderr", "nll", "brier"} < point.keys()
        names = ("ece", "overconfidence", "ece_token_mean", "overconfidence_token_mean")
        assert set(names) < point.keys()
        assert point["seconds"].keys() == {"train", "evaluate", "score"} == point["tokens"].keys()
    assert len(result["rounds"]) == 2

    assert "{question}" in runs.read(folder / "environment.json")["data"]["prompt"]
    initial = runs.read(folder / "initial.json")["indices"]
    assert initial == runs.read(runner("acquisition.select=random") / "initial.json")["indices"]
    query = runs.read(first / "selected.json")["indices"]
    assert len(query) == len(set(query)) == 3 and not set(query) & set(initial)
    if random:
        return
    with np.load(first / "scores.npz", allow_pickle=False) as stored:
        scores = {name: stored[name] for name in stored.files}
    assert {"index", "base", "full", "blended"} <= scores.keys()
    # The whole rest of the pool, in its order.
    assert scores["index"].tolist() == sorted(set(range(14)) - set(initial))
    assert all(scores[name].shape == (10,) for name in ("base", "full", "blended"))
    assert np.isnan(scores["base"]).all() == ("acquisition.measure=bald" in words)
    assert bool(scores["label_free"]) == (not gold)
    best = sorted(zip(-scores["blended"], scores["index"], strict=True))[:3]
    assert query == [index for _, index in best]
    notes = runs.read(first / "metrics.json")["query"]
    assert notes["size"] == 3 and notes["effective_weight"]["full"] is not None
    assert (notes["base_weight"] == 0.5) == ("acquisition.combine=dynamic" in words)


def test_a_seed_decides(runner: Runner) -> None:
    words = ("acquisition.select=random",)
    first, other = runner(*words), runner(*words, "seed=1")
    assert runs.read(first / "initial.json") != runs.read(other / "initial.json")


# --- how the work is split ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "masks, continuation",
    [
        ("token", "model"),
        ("consistent", "choices"),
        pytest.param("consistent", "model", marks=pytest.mark.slow),
        pytest.param("token", "choices", marks=pytest.mark.slow),
    ],
)
def test_the_scoring_batch_size_changes_no_query(
    masks: str, continuation: str, runner: Runner
) -> None:
    words = [f"acquisition.mc_dropout.masks={masks}", f"acquisition.continuation={continuation}"]
    one, four, many = (
        runner(*words, f"evaluation.per_device_eval_batch_size={size}") for size in (1, 4, 64)
    )
    assert runs.read(many / "rounds/00/metrics.json")["query"]["near_ties"] == 0
    assert runs.queries(one) == runs.queries(four) == runs.queries(many)
    for other in (one, four):
        with (
            np.load(other / "rounds/00/scores.npz") as a,
            np.load(many / "rounds/00/scores.npz") as b,
        ):
            for name in ("base", "full"):
                np.testing.assert_allclose(a[name], b[name], rtol=1e-4, atol=1e-5)


def test_accumulation_is_the_same_optimisation(runner: Runner) -> None:
    words = ["acquisition.select=random", "adapter.lora_dropout=0", "pool.initial_size=11"]
    words += ["train.num_train_epochs=3", "pool.query_size=2"]
    series = [
        runs.losses(
            runner(
                *words,
                f"train.per_device_train_batch_size={size}",
                f"train.gradient_accumulation_steps={steps}",
            )
        )
        for size, steps in ((8, 1), (4, 2), (2, 4))
    ]
    assert len(series[0]) == 3 * (2 + 2)  # 11 rows, then 13, in updates of 8
    np.testing.assert_allclose(series[1], series[0], atol=1e-5)
    np.testing.assert_allclose(series[2], series[0], atol=1e-5)


def test_no_training_at_all_evaluates_the_base_model(tiny_llama, tmp_path):
    data = runs.write_data(tmp_path / "data", choices=True)
    words = (*runs.CHOICES, "acquisition.select=random", "pool.rounds=1")
    folder = runs.go(tiny_llama, data, tmp_path / "runs", *words, "train.max_steps=0")
    assert runs.losses(folder) == []

    config = load(None, runs.words(tiny_llama, data, tmp_path, *words))
    task = tasks.load(config.task)
    model = models.load(config.model)
    limits = Limits(max_new_tokens=6)
    base = evaluate(
        model, task.task, task.test.examples, task.test.answers, limits=limits,
        by_likelihood=True, bins=15,
    )  # fmt: skip
    assert base.metrics["nll"] == pytest.approx(runs.result(folder)["rounds"][0]["nll"], rel=1e-6)


@pytest.mark.parametrize("choices", [True, False])
def test_a_second_seed_or_strategy_runs_the_base_model_no_more(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choices: bool
) -> None:
    data = runs.write_data(tmp_path / "data", choices=choices)
    model = models.load(load(None, [f"model.name_or_path={tiny_llama}"]).model)
    monkeypatch.setattr(models, "load", lambda *_, **__: model)
    seen = {"base": 0, "full": 0}

    def counted(plain: Any) -> Any:
        def count(self: LanguageModel, *words: Any) -> Any:
            layers = [layer for _, layer in adapter.layers(self.causal)]
            on = layers and not layers[0].disable_adapters
            seen["full" if on else "base"] += 1
            return plain(self, *words)

        return count

    for name in ("predict", "step"):
        monkeypatch.setattr(LanguageModel, name, counted(getattr(LanguageModel, name)))

    def go(*words: str) -> int:
        before, task = dict(seen), runs.CHOICES if choices else ('evaluation.views=["full","mc"]',)
        cache = f"tracking.cache_dir={tmp_path / 'cache'}"
        runs.go(tiny_llama, data, tmp_path / "runs", *SMALL, *task, cache, *words)
        assert seen["full"] > before["full"]
        return seen["base"] - before["base"]

    assert go() > 0
    assert go("seed=1") == 0
    assert go("seed=1", "acquisition.measure=max_entropy") == 0
    assert go("seed=2", "acquisition.combine=none") == 0

"""The upper bound: of some batches the one that trains best, label-using and said so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import runs

from star.acquisition.strategies import CANDIDATES
from star.active_learning import lookahead
from star.config import label_free, load, strategy_name
from star.errors import InputError
from star.experiments.estimate.estimate import estimate
from star.experiments.replay import replay

SETTINGS = (
    *runs.CHOICES,
    *("pool.rounds=3", "acquisition.mc_dropout.passes=0", "acquisition.combine=none"),
    *("regularizer.kind=none", "evaluation.views=full", "tracking.save_adapters=none"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.write_data(tmp_path_factory.mktemp("data"), choices=True)


def queried(run: Path, t: int) -> list[int]:
    return json.loads((run / f"rounds/0{t}/selected.json").read_text())["indices"]


@pytest.mark.parametrize(
    "words",  # what is tried is the next round, whatever decides its weights and its rate
    [(), ("task.validation_size=4", "train.keep=best"), ("train.schedule_from=test",)],
    ids=lambda words: " ".join(words[-1:]),
)
def test_it_keeps_the_batch_that_trains_best(
    words: tuple[str, ...],
    data: Path,
    tiny_llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[tuple[set[int], Any]] = []
    tested: list[dict[str, Any]] = []
    fitting, evaluate = lookahead.Fitting, lookahead.as_asked

    class Noted(fitting):  # type: ignore[valid-type, misc]
        def __init__(
            self, config: Any, model: Any, examples: Any, pool: Any, *more: Any, **words: Any
        ) -> None:
            self.pool = {*pool.labelled}
            super().__init__(config, model, examples, pool, *more, **words)

        def fit(self, *given: Any) -> Any:
            result = super().fit(*given)
            tried.append((self.pool, result))
            return result

    def noted(*given: Any, **words: Any) -> Any:
        result = evaluate(*given, **words)
        assert not {e.index for e in given[3]} & tried[-1][0]  # tested on what it has not seen
        tested.append(result.metrics)
        return result

    monkeypatch.setattr(lookahead, "Fitting", Noted)
    monkeypatch.setattr(lookahead, "as_asked", noted)
    run = runs.go(tiny_llama, data, tmp_path, *SETTINGS, "acquisition.select=lookahead", *words)
    assert 2 <= len(tried) == len(tested) <= 2 * len(CANDIDATES)
    first = len(tried) - sum(len(pool) > len(tried[0][0]) for pool, _ in tried)
    ranked = [(m["accuracy"], -m["nll"]) for m in tested[:first]]
    pool, trial = tried[ranked.index(max(ranked))]
    assert {*queried(run, 0)} <= pool  # what it bought
    trained = [json.loads(x) for x in (run / "rounds/01/training.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in trained]
    assert losses == [row["loss"] for row in trial.log]  # the next round is what was tried
    kept = runs.read(run / "rounds/01/metrics.json")["training"]
    assert (kept["kept_epoch"], kept["validation_loss"]) == (trial.kept_epoch, trial.validation)


def test_it_is_said_to_use_labels_and_buys_no_more(
    data: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    run = runs.go(tiny_llama, data, tmp_path / "a", *SETTINGS, "acquisition.select=lookahead")
    plain = runs.go(tiny_llama, data, tmp_path / "b", *SETTINGS, "acquisition.select=random")
    result, other = runs.result(run), runs.result(plain)
    assert result["label_free"] is False and other["label_free"] is True
    assert result["strategy"] == "lookahead-predictive_entropy-gold"
    assert [r["labeled"] for r in result["rounds"]] == [r["labeled"] for r in other["rounds"]]
    spent = [r["tokens"]["score"] for r in result["rounds"]]
    assert spent[0] > other["rounds"][0]["tokens"]["score"] and spent[-1] == 0
    with pytest.raises(InputError, match="done in a run alone"):
        replay(run)
    assert len(replay(run, ["acquisition.select=top_k"])) == 2


def test_where_the_batches_are_all_that_is_left(
    data: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    words = ("acquisition.select=lookahead", "pool.query_size=1000", "pool.rounds=2")
    run = runs.go(tiny_llama, data, tmp_path, *SETTINGS, *words)
    assert len(runs.result(run)["rounds"]) == 2


def test_the_names() -> None:
    config = load(None, ["acquisition.select=lookahead"])
    assert not label_free(config) and strategy_name(config).endswith("-gold")
    with pytest.raises(InputError, match="lookahead read"):
        load(
            None,
            [
                "acquisition.select=lookahead",
                "task.oracle=people",
                "task.name=jsonl",
                "task.data_dir=.",
            ],
        )


def test_an_estimate_counts_what_is_tried(data: Path, tiny_llama: Path) -> None:
    words = [*runs.words(tiny_llama, data, data), *SETTINGS]
    told = [
        estimate(load(None, [*words, f"acquisition.select={select}"]), flops_per_second=1e12)
        for select in ("top_k", "lookahead")
    ]
    assert told[1]["total"]["tokens"] > 2 * told[0]["total"]["tokens"]

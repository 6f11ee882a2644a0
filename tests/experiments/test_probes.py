"""Probes against hand-made run folders whose answers are known, and against real runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs

from star.config import load, to_yaml
from star.errors import InputError
from star.experiments import probes

WORDS = ("pool.rounds=4", "pool.query_size=2", "acquisition.continuation=base")


def made(folder: Path, *words: str, **arrays: Any) -> Path:
    """Write a run folder with one scored round from arrays ``base``, ``full`` (N,) and others."""
    place = folder / "rounds" / "00"
    place.mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(load(None, [*WORDS, *words])))
    n = len(arrays["full"])
    arrays.setdefault("index", np.arange(100, 100 + n))
    base = arrays.get("base", arrays["full"])
    for view, scores in (("base", base), ("full", arrays["full"])):
        arrays.setdefault(f"{view}_num_tokens", np.ones(n))
        arrays.setdefault(f"{view}_predictive_entropy", scores[:, None])
    limits = np.array([[base.min(), base.max()]] * 2)
    arrays.setdefault("base_range_predictive_entropy", limits)
    np.savez(place / "scores.npz", **arrays)
    shared = {"auroc_base": 0.25, "auroc_full": 0.75}
    metrics = {"round": 0, "labeled": 20, "accuracy": 0.5, "calibration": {"shared": shared}}
    (folder / "initial.json").write_text(json.dumps({"indices": list(range(20))}))
    (place / "metrics.json").write_text(json.dumps(metrics))
    return folder


def test_the_gap_by_hand(tmp_path: Path) -> None:
    run = made(
        tmp_path / "run", base=np.array([0.0, 4.0, 1.0, 2.0]), full=np.array([10.0, 20.0, 30.0, 0])
    )
    (row,) = probes.gap(run)
    # On [0, 1]: base 0, 1, 0.25, 0.5; full 1/3, 2/3, 1, 0. Top two: {1, 3} and {2, 1}.
    assert row["mean_difference"] == pytest.approx((2 - 1.75) / 4)
    assert row["top_k_overlap"] == 0.5 and row["chance"] == 0.5
    # Ranks 1 4 2 3 and 2 3 4 1: rho = 1 - 6 * (1 + 1 + 4 + 4) / (4 * 15).
    assert row["spearman"] == pytest.approx(0.0)
    views = [row[f"full_answer_auroc_{view}"] for view in ("base", "full", "mc")]
    assert views == [0.25, 0.75, None]
    assert row["labeled"] == 20 and row["size"] == 4 and row["shared"]
    alone = made(
        tmp_path / "own", "acquisition.continuation=model", base=np.ones(4), full=np.ones(4)
    )
    assert not probes.gap(alone)[0]["shared"]


def test_weights_by_hand(tmp_path: Path) -> None:
    # The full view in units a thousand times larger: raw, it alone decides, whatever lambda says.
    base, full = np.array([3.0, 2.0, 1.0, 0.0]), np.array([0.0, 1e3, 2e3, 3e3])
    found = {
        row["normalization"]: row for row in probes.weights(made(tmp_path, base=base, full=full))
    }
    assert found["none"]["full"] == pytest.approx(1.0)
    assert found["none"]["base"] == pytest.approx(-1.0)
    assert found["base_minmax"]["full"] == pytest.approx(1.0)
    assert found["minmax"]["base"] == pytest.approx(1.0)  # lambda 3/4 of views of equal spread
    assert all(row["base_weight"] == 0.75 for row in found.values())


def test_passes_that_agree_and_passes_that_do_not(tmp_path: Path) -> None:
    scores = np.arange(6.0)
    calm = np.repeat(scores[:, None], 8, axis=1)
    same = made(tmp_path / "same", full=scores, full_predictive_entropy=calm)
    found = probes.dropout(same, without=same)
    assert found["spread"] == 0.0 and found["passes"] == 8
    assert found["stability"] == {"1": 1.0, "2": 1.0, "4": 1.0}  # 8 others are not there
    assert found["spearman_without"] == 1.0 and found["overlap_without"] == 1.0
    noise = np.random.default_rng(0).normal(scale=3.0, size=(6, 8))
    loud = made(tmp_path / "loud", full=scores, full_predictive_entropy=calm + noise)
    found = probes.dropout(loud)
    assert found["stability"]["1"] < found["stability"]["4"] < 1
    each = calm + noise
    spread = each.std(axis=1, ddof=1).mean() / each.mean(axis=1).std()
    assert found["spread"] == pytest.approx(spread)
    assert "spearman_without" not in found


def test_the_mean_over_tokens_is_taken_pass_by_pass(tmp_path: Path) -> None:
    each = np.array([[2.0, 4.0], [9.0, 3.0]])
    words = "acquisition.reduction=mean"
    counts = np.array([2, 3])
    run = made(
        tmp_path, words, full=np.array([1.5, 2.0]), full_predictive_entropy=each,
        full_num_tokens=counts,
    )  # fmt: skip
    scaled = each / counts[:, None]
    expected = scaled.std(axis=1, ddof=1).mean() / scaled.mean(axis=1).std()
    assert probes.dropout(run, passes=[1])["spread"] == pytest.approx(expected)


def test_another_pool_is_refused(tmp_path: Path) -> None:
    one = made(tmp_path / "1", full=np.arange(3.0), full_predictive_entropy=np.ones((3, 2)))
    two = made(
        tmp_path / "2", full=np.arange(3.0), full_predictive_entropy=np.ones((3, 1)),
        index=np.array([7, 8, 9]),
    )  # fmt: skip
    with pytest.raises(InputError, match="another pool"):
        probes.dropout(one, without=two)


def test_what_a_run_asked_for(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    texts = [
        "ann has 1 egg",
        "ann has 2 egg",
        "tom has 3 pens left so",
        "ann has 4 egg",
        "how many",
    ]
    rows = "".join(json.dumps({"question": q, "answer": "1"}) + "\n" for q in texts)
    for split in ("train", "test"):
        (data / f"{split}.jsonl").write_text(rows)
    run = tmp_path / "run"
    (run / "rounds" / "00").mkdir(parents=True)
    config = load(None, ["task.name=jsonl", f"task.data_dir={data}", 'task.prompt="{question}"'])
    (run / "config.yaml").write_text(to_yaml(config))
    (run / "initial.json").write_text(json.dumps({"indices": [0]}))
    metrics = {"round": 0, "labeled": 1, "accuracy": 0.5}
    (run / "rounds" / "00" / "metrics.json").write_text(json.dumps(metrics))
    (run / "rounds" / "00" / "selected.json").write_text(json.dumps({"indices": [3, 2]}))
    found = probes.picks(run)
    assert found["queried"] == [3, 2]
    assert found["prompt_words"] == 5.0 and found["pool_prompt_words"] == (4 + 6 + 4 + 2) / 4
    assert found["repeats"] == 0.5  # row 3 differs from the labelled row 0 in its number alone
    assert found["pool_repeats"] == 0.5  # rows 1 and 3
    assert found["kinds"] == {} == found["pool_kinds"]


def test_a_run_without_scores_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    data = runs.write_data(tmp_path / "data", pool=14, test=3)
    words = ["pool.rounds=2", "acquisition.select=random"]
    folder = runs.go(tiny_llama, data, tmp_path / "out", *words)
    with pytest.raises(InputError, match="no scores"):
        probes.gap(folder)
    assert len(probes.picks(folder)["queried"]) == 5


def test_real_runs_have_all_that_probes_ask_for(tiny_llama: Path, tmp_path: Path) -> None:
    data = runs.write_data(tmp_path / "data", pool=14, test=6)
    words = ["pool.rounds=3", "pool.initial_size=4", "pool.query_size=3"]
    words += ["acquisition.continuation=base", "acquisition.mc_dropout.passes=4"]
    folder = runs.go(tiny_llama, data, tmp_path / "out", *words)
    rows = probes.gap(folder)
    assert [row["labeled"] for row in rows] == [4, 7] and all(row["shared"] for row in rows)
    assert all(-1 <= row["spearman"] <= 1 for row in rows)
    # The blend the run itself made weighs as the run has logged.
    logged = runs.read(folder / "rounds" / "00" / "metrics.json")["query"]
    mine = next(r for r in probes.weights(folder) if r["normalization"] == "minmax")
    assert mine["base_weight"] == logged["base_weight"]
    assert mine["base"] == pytest.approx(logged["effective_weight"]["base"])
    assert probes.dropout(folder)["spread"] > 0

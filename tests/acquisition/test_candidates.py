"""Scoring a part of a large pool: which part, and what of the true top K it has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import runs

import star
from star.acquisition.candidates import candidates
from star.acquisition.scores import Scores
from star.config import AcquisitionConfig
from star.errors import InputError
from star.files import read_json
from star.run_files import METRICS, RESULT, SCORES, SELECTED

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
UNLABELLED = np.arange(3, 100, 2)


def vectors(view: str, index: np.ndarray) -> np.ndarray:
    """Return embeddings on a line, by index."""
    assert view == "base"
    return index[:, None].astype(np.float32)


def chosen(a: AcquisitionConfig, *, t: int = 0, seed: int = 0) -> list[int]:
    found = candidates(UNLABELLED, a, labelled=[1], seed=seed, t=t, embed=vectors)
    assert found.tolist() == sorted(set(found.tolist()) & set(UNLABELLED.tolist()))
    return found.tolist()  # type: ignore[no-any-return]


def test_all_are_scored_unless_fewer_are_asked_for() -> None:
    every = UNLABELLED.tolist()
    for a in (
        AcquisitionConfig(),
        AcquisitionConfig(candidates=49),
        AcquisitionConfig(candidates=9**9),
    ):
        assert chosen(a) == every


def test_drawn_ones_hang_on_seed_and_round_alone() -> None:
    a = AcquisitionConfig(candidates=10)
    assert len(chosen(a)) == 10
    assert chosen(a) == chosen(replace(a, measure="margin"))
    assert chosen(a) != chosen(a, t=1) != chosen(a, seed=1)


def test_spread_ones_are_the_farthest_from_labels_and_from_each_other() -> None:
    a = AcquisitionConfig(candidates=3, candidates_by="embeddings")
    assert chosen(a) == [25, 49, 99]  # 99 from 1, 49 between, then 25 (or 73, later)


def test_scores_of_some_examples() -> None:
    arrays = {
        "index": np.arange(4),
        "full_margin": np.arange(8.0).reshape(4, 2),
        "base_range_margin": np.ones((2, 2)),
    }
    some = Scores(arrays).at(np.array([False, True, False, True]))
    assert some.index.tolist() == [1, 3]
    assert some.sums("full", "margin").tolist() == [[2, 3], [6, 7]]
    assert some.base_range("margin", "sum") == (1, 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["acquisition.candidates=3"], "at least pool.query_size"),
        (["acquisition.candidates=0"], "acquisition.candidates must be at least 1"),
        (["acquisition.candidates=30", "acquisition.select=random"], "scores nothing"),
        (["acquisition.candidates_by=embeddings"], "set acquisition.candidates, how many"),
        (
            ["acquisition.candidates=30", "acquisition.normalization=base_minmax"],
            "the base scores of the whole pool",
        ),
        (
            [
                "acquisition.candidates=30",
                "acquisition.candidates_by=embeddings",
                "acquisition.random_share=0.5",
            ],
            "no uniform sample",
        ),
    ],
)
def test_contradictions_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        star.load_config(QUICKSTART, words)


@pytest.mark.parametrize("by", ["random", "embeddings"])
def test_a_run_picks_among_its_candidates(tiny_llama: Path, tmp_path: Path, by: str) -> None:
    asked = ("acquisition.candidates=9", f"acquisition.candidates_by={by}")
    data = runs.write_data(tmp_path / "data", choices=True)
    cache = f"tracking.cache_dir={tmp_path / 'cache'}"
    task = (*runs.CHOICES[:1], "pool.rounds=2", cache)
    whole = runs.go(tiny_llama, data, tmp_path / "whole", *task)
    some = runs.go(tiny_llama, data, tmp_path / "some", *task, *asked)
    one, other = (Scores.load(run / "rounds" / "00" / SCORES) for run in (whole, some))
    assert len(one.index) == 24 and len(other.index) == 9
    assert set(read_json(some / "rounds" / "00" / SELECTED)["indices"]) <= {*other.index.tolist()}
    same = one.at(np.isin(one.index, other.index))
    for view in ("base", "full"):  # each example's scores are its own
        assert same.sums(view, "margin") == pytest.approx(other.sums(view, "margin"), rel=1e-4)
    told = read_json(some / "rounds" / "00" / METRICS)["query"]["candidates"]
    assert told == {"scored": 9, "of": 24, "by": by}
    assert read_json(some / RESULT)["strategy"].endswith("-of9" + "spread" * (by == "embeddings"))
    if by == "random":  # embeddings are kept by runs that ask for them
        [row] = star.replay(whole, asked)
        [own] = star.replay(some)
        assert (
            row["indices"]
            == own["indices"]
            == read_json(some / "rounds" / "00" / SELECTED)["indices"]
        )
        # The recall: of the true top K those are found that are candidates, and no others.
        top = read_json(whole / "rounds" / "00" / SELECTED)["indices"]
        assert row["overlap"] == np.isin(top, other.index).mean()
        assert row["chance"] == 5 / 24

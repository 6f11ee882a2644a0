"""What a run acquires with, as a guide to its model's errors: against the run's own files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs

from star.errors import InputError
from star.evaluation.ranking import auroc
from star.experiments.error_ranking import error_ranking
from star.files import read_npz

SMALL = (
    "pool.rounds=2", "pool.initial_size=4", "pool.query_size=3", "tracking.save_adapters=all",
    "adapter.r=4", "train.learning_rate=0.05",
)  # fmt: skip


def run(
    model: Path, folder: Path, *words: str, choices: bool = True, pool: int = 24
) -> tuple[Path, Path]:
    """Return the folders of data and run; the test questions are the pool's own."""
    data = runs.write_data(folder / "data", pool=pool, choices=choices)
    shutil.copy(data / "train.jsonl", data / "test.jsonl")
    own = ("tracking.cache_dir=" + str(folder / "cache"), *(runs.CHOICES if choices else ()))
    return data, runs.go(model, data, folder / "out", *own, *SMALL, *words)


def predictions(folder: Path) -> dict[int, bool]:
    lines = (folder / "rounds/00/predictions.jsonl").read_text().splitlines()
    rows = [runs.json.loads(line) for line in lines]
    return {row["index"]: not row["correct"] for row in rows}


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("acquisition.measure=margin", "acquisition.mc_dropout.passes=0"),
        ("acquisition.measure=bald", "acquisition.combine=none"),
        ("acquisition.mc_dropout.masks=token", "acquisition.continuation=gold"),
    ],
)
def test_scores_of_the_pool_and_of_the_same_rows_as_test_rows(
    words: tuple[str, ...], tiny_llama: Path, tmp_path: Path
) -> None:
    # The pool's rows are the test rows too, so that the run itself has the errors of all of them.
    _, folder = run(tiny_llama, tmp_path, *words)
    before = runs.content(folder)
    (row,) = error_ranking(folder)
    assert runs.content(folder) == before
    scores = read_npz(folder / "rounds/00/scores.npz")
    errors = predictions(folder)
    wrong = np.array([errors[int(i)] for i in scores["index"]])
    assert 0 < wrong.sum() < len(wrong)
    assert (row["round"], row["labeled"], row["pool_size"]) == (0, 4, 20)
    assert row["pool_errors"] == wrong.mean()
    assert row["test_errors"] == np.mean(list(errors.values()))
    bald = "acquisition.measure=bald" in words
    base = None if bald else pytest.approx(auroc(scores["base"], wrong))
    assert row["acquired_pool_base"] == base
    assert row["acquired_pool_full"] == pytest.approx(auroc(scores["full"], wrong))
    assert (row["acquired_test_base"] is None) == bald


@pytest.mark.parametrize("choices", [True, False])
def test_test_rows_score_as_pool_rows_do(choices: bool, tiny_llama: Path, tmp_path: Path) -> None:
    # A run whose test rows are just the rows that stay unlabelled must give the same for both.
    data, folder = run(tiny_llama, tmp_path, "task.test_limit=24", choices=choices)
    labelled = set(runs.read(folder / "initial.json")["indices"])
    lines = (data / "train.jsonl").read_text().splitlines(keepends=True)
    rest = [line for i, line in enumerate(lines) if i not in labelled]
    (data / "test.jsonl").write_text("".join(rest))
    again = runs.go(
        tiny_llama, data, tmp_path / "again", "task.test_limit=20", *SMALL,
        *(runs.CHOICES if choices else ()),
    )  # fmt: skip
    (row,) = error_ranking(again)
    assert row["test_errors"] == row["pool_errors"]
    for view in ("base", "full"):
        assert row[f"acquired_test_{view}"] == pytest.approx(row[f"acquired_pool_{view}"], abs=1e-9)


def test_what_cannot_be_measured_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    data, folder = run(tiny_llama, tmp_path)
    kept = folder / "rounds/00/adapter"
    kept.rename(tmp_path / "adapter")
    with pytest.raises(InputError, match=r"no adapter of round 0; .*save_adapters=all"):
        error_ranking(folder)
    (tmp_path / "adapter").rename(kept)

    def changed(split: str, how: Any) -> None:
        rows = (data / f"{split}.jsonl").read_text().splitlines(keepends=True)
        (data / f"{split}.jsonl").write_text("".join(how(rows)))

    changed("test", lambda rows: rows[:-1])
    with pytest.raises(InputError, match="tested on other rows"):
        error_ranking(folder)
    shutil.copy(data / "train.jsonl", data / "test.jsonl")
    changed("train", lambda rows: [rows[-1], *rows[1:-1], rows[0]])
    with pytest.raises(InputError, match="another model or other data"):
        error_ranking(folder)
    other = runs.go(tiny_llama, data, tmp_path / "random", *SMALL, "acquisition.select=random")
    with pytest.raises(InputError, match="random choice scores nothing"):
        error_ranking(other)
    drawn = ("acquisition.select=random", "acquisition.passes=tfb", "evaluation.views=full")
    other = runs.go(tiny_llama, data, tmp_path / "tfb", *SMALL, *drawn)
    with pytest.raises(InputError, match=r"passes=tfb; the passes of dropout alone"):
        error_ranking(other)

"""What the run tests share: a small pool, quick settings, and a look at a run folder."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from star.active_learning.loop import run
from star.config import hash_of_file, load
from star.experiments.sweep.sweep import commands
from star.experiments.table import Cell
from star.models import loading as models

QUICK = (
    "task.name=jsonl",
    "pool.initial_size=6",
    "pool.query_size=5",
    "pool.rounds=3",
    "adapter.r=4",
    "train.num_train_epochs=2",
    "train.learning_rate=0.01",
    "evaluation.max_new_tokens=6",
    "tracking.progress=false",
    "tracking.save_adapters=none",
)
CHOICES = ("task.choices=['true','false']", "acquisition.continuation=choices")


def write_data(
    folder: Path,
    *,
    pool: int = 30,
    test: int = 6,
    choices: bool = False,
    keep: Collection[int] | None = None,
) -> Path:
    """Write train.jsonl and test.jsonl in the tiny model's words; every question differs.

    Args:
        folder: Is made.
        pool: Rows of the train split.
        test: Rows of the test split.
        choices: Answers are true and false instead of numbers.
        keep: If given, all other rows of the train split get another answer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for split, start, count in (("train", 0, pool), ("test", 60, test)):
        rows = []
        for i in range(start, start + count):
            a, b, flip = i % 10, (i // 10 + i) % 10, keep is not None and i not in keep
            words = f"{('ann', 'tom')[i % 2]} has {a} eggs"
            words += " and gives many pens" * (i % 3)  # prompts of different length
            if choices:
                question = f"{words} so is {b} more ?"
                answer = "true" if (b > a) != (flip and split == "train") else "false"
            else:
                question = f"{words} plus {b} , how many ?"
                answer = str(a + b + (7 if flip and split == "train" else 0))
            rows.append({"question": question, "answer": answer})
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


def words(model: Path, data: Path, out: Path, *more: str) -> list[str]:
    """Return the words of a quick run; of a repeated key the last wins."""
    places = [f"model.name_or_path={model}", f"task.data_dir={data}", f"output_dir={out}"]
    return [*QUICK, *places, *more]


def go(model: Path, data: Path, out: Path, *more: str) -> Path:
    """Run to the end and return the run folder."""
    return run(load(None, words(model, data, out, *more)))


Runner = Callable[..., Path]


@contextmanager
def runner(
    model: Path, folders: pytest.TempPathFactory, *settings: str, pool: int, test: int
) -> Iterator[Runner]:
    """Give ``go(*words, keep=None, preset=None) -> run folder``.

    Equal calls run once, and one model serves all runs. Every run has a cache of its own: base
    scores that had read a label would else be hidden by another run's.

    Args:
        model: Folder of the model.
        folders: Where data and runs go.
        settings: Words of every run; those of ``go`` come behind them.
        pool: Rows of the train split.
        test: Rows of the test split.
    """
    out = folders.mktemp("runs")
    loaded = models.load(load(None, [f"model.name_or_path={model}"]).model)

    @cache
    def data(choices: bool, keep: tuple[int, ...] | None) -> Path:
        folder = folders.mktemp("data")
        return write_data(folder, pool=pool, test=test, choices=choices, keep=keep)

    @cache
    def go(*more: str, keep: tuple[int, ...] | None = None, preset: str | None = None) -> Path:
        choices = "choices" in " ".join(more)
        own = f"tracking.cache_dir={folders.mktemp('cache')}"
        task = CHOICES[:1] if choices else ()
        every = words(model, data(choices, keep), out, *settings, *task, own, *more)
        return run(load(None, every, preset=preset))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load", lambda *_, **__: loaded)
        yield go


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def result(folder: Path) -> dict[str, Any]:
    """Return ``result.json`` without seconds: all that equal runs must agree in."""
    content = read(folder / "result.json")
    for point in content["rounds"]:
        assert all(value >= 0 for value in point.pop("seconds").values())
    return content


def unfinished(cells: Sequence[Cell], root: Path) -> list[Cell]:
    """Return the cells that a sweep would run, by the commands it would give."""
    lines = commands(cells, root)
    return [one for one in cells if shlex.join(["star", "run", *one.arguments(root)]) in lines]


def queries(folder: Path) -> list[list[int]]:
    """Return the pool indices queried after each round that has a query."""
    return [read(path)["indices"] for path in sorted(folder.glob("rounds/*/selected.json"))]


def losses(folder: Path) -> list[float]:
    """Return the training loss of every update of every round."""
    files = sorted(folder.glob("rounds/*/training.jsonl"))
    return [json.loads(line)["loss"] for path in files for line in path.read_text().splitlines()]


def fake_result(config_hash: str, seed: int = 0) -> dict[str, Any]:
    """Return the least that a ``result.json`` holds."""
    one = {"task": "t", "strategy": "s", "seed": seed, "label_free": True, "auc": 0.5}
    return {**one, "config_hash": config_hash, "rounds": [{"labeled": 4, "accuracy": 0.5}]}


def earlier(folder: Path) -> Path:
    """Return a run folder as an earlier version would have left it: what it holds, and no sums."""
    for path in folder.rglob("checksums.json"):
        path.unlink()
    for name in ("environment.json", "result.json"):
        if (folder / name).is_file():
            told = read(folder / name) | {"config_hash": hash_of_file(folder / "config.yaml")}
            (folder / name).write_text(json.dumps(told), encoding="utf-8")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """Return every file that an equal run must write to the byte."""
    names = ("selected.json", "scores.npz", "predictions.jsonl", "training.jsonl", "initial.json")
    return {str(p.relative_to(folder)): p.read_bytes() for n in names for p in folder.rglob(n)}

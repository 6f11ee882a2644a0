"""Projects for tests: thirty rows in the tiny model's words, and how they are made."""

from __future__ import annotations

import csv
from pathlib import Path

from star.cli.main import main

LABELS = ("false", "true")
SIZES = (
    *("task.test_size=5", "pool.initial_size=6", "pool.query_size=4", "pool.rounds=3"),
    *("adapter.r=4", "train.num_train_epochs=1", "train.learning_rate=0.01"),
    *("acquisition.mc_dropout.passes=2", "tracking.progress=false", "tracking.save_adapters=none"),
)


def rows(count: int = 30) -> list[dict[str, str]]:
    """Return rows in the tiny model's words, each with its label."""
    return [
        {
            "id": f"m{i}",
            "text": f"ann has {i % 10} eggs and {i // 10} pens",
            "label": LABELS[i % 10 > 4],
        }
        for i in range(count)
    ]


GOLD = {row["id"]: row["label"] for row in rows()}


def write(path: Path, content: list[dict[str, str]], *columns: str) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore")
        table.writeheader()
        table.writerows(content)
    return path


def make(
    place: Path, model: Path | str, *words: str, content: list[dict[str, str]] | None = None
) -> Path:
    """Make a project of these rows without a label; return its folder."""
    data = write(place / "rows.csv", rows() if content is None else content, "id", "text")
    folder = place / "project"
    named = ["--data", str(data), "--model", str(model), f"tracking.cache_dir={place / 'cache'}"]
    assert main(["init", str(folder), "--labels", ",".join(LABELS), *named, *SIZES, *words]) == 0
    return folder

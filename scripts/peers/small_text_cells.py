"""Active learning by small-text itself, on rows and first labels that are handed to it.

Runs in an environment of its own (``reproduce_peers.sh`` makes it) and knows nothing of star: its
word is a JSON file, ``{"model", "rows": {seed: file}, "cells", "threads"}``, a cell of ``strategy,
seed, learning_rate, epochs, query_size, trainings, file``. A finished cell's file is left alone.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["TRANSFORMERS_OFFLINE"] = "1"  # the model is a folder
# Before torch, which reads it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import small_text as st
import torch
from small_text.integrations.pytorch.query_strategies import BADGE
from transformers import AutoTokenizer

MAX_LENGTH = 66  # tokens of SST-2's longest phrase; small-text pads every text to it
STRATEGIES = {
    "random": lambda classes: st.RandomSampling(),
    "least-confidence": lambda classes: st.LeastConfidence(),
    "breaking-ties": lambda classes: st.BreakingTies(),
    "greedy-coreset": lambda classes: st.GreedyCoreset(),
    "badge": lambda classes: BADGE(num_classes=classes),
}


def main() -> None:
    """Carry out the cells of the word in ``sys.argv[1]`` that have no file yet."""
    word = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(word["threads"])
    tokenizer = AutoTokenizer.from_pretrained(word["model"])
    for number, cell in enumerate(word["cells"], 1):
        file = Path(cell["file"])
        if file.is_file():
            continue
        rows = json.loads(Path(word["rows"][str(cell["seed"])]).read_text(encoding="utf-8"))
        result = {**cell, **_cell(word, cell, rows, tokenizer), **_machine(word["threads"])}
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        part.write_text(json.dumps(result) + "\n", encoding="utf-8")
        part.replace(file)
        points = ", ".join(f"{100 * point['accuracy']:.1f}" for point in result["rounds"])
        print(f"{number} of {len(word['cells'])}: {file}: {points}", flush=True)


def _cell(
    word: dict[str, Any], cell: dict[str, Any], rows: dict[str, Any], tokenizer: Any
) -> dict[str, Any]:
    """Return a run's rounds: label count, test accuracy, seconds, pool indices queried."""
    classes = rows["classes"]
    torch.manual_seed(cell["seed"])
    np.random.seed(cell["seed"])  # noqa: NPY002, which small-text draws from
    pool, test = (_dataset(rows[part], tokenizer, len(classes)) for part in ("pool", "test"))
    y = np.array([row["label"] for row in rows["pool"]])
    gold = np.array([row["label"] for row in rows["test"]])
    index = [row["index"] for row in rows["pool"]]
    options: dict[str, Any] = {"device": "cpu"}
    if cell["learning_rate"] is not None:
        options["lr"] = cell["learning_rate"]
    if cell["epochs"] is not None:
        options["num_epochs"] = cell["epochs"]
    with tempfile.TemporaryDirectory() as cache:  # of small-text, which finds nothing to keep
        factory = st.TransformerBasedClassificationFactory(
            st.TransformerModelArguments(word["model"]),
            len(classes),
            kwargs={**options, "cache_dir": cache},
        )
        strategy = STRATEGIES[cell["strategy"]](len(classes))
        learner = st.PoolBasedActiveLearner(factory, strategy, pool)
        queried = np.array([index.index(i) for i in rows["initial"]])
        found: list[dict[str, Any]] = []
        for t in range(cell["trainings"]):
            seconds: dict[str, float] = {}
            if t:
                with _timed(seconds, "query"):
                    queried = learner.query(num_samples=cell["query_size"])
                found[-1]["selected"] = [index[i] for i in queried]
                found[-1]["seconds"] |= seconds
                seconds = {}
            with _timed(seconds, "train"):
                if t:
                    learner.update(y[queried])
                else:
                    learner.initialize_data(queried, y[queried])
            with _timed(seconds, "evaluate"):
                accuracy = float((learner.classifier.predict(test) == gold).mean())
            count = len(learner.indices_labeled)
            found.append({"labeled": count, "accuracy": accuracy, "seconds": seconds})
    classifier = learner.classifier
    training = {
        "learning_rate": classifier.lr,
        "num_train_epochs": classifier.num_epochs,
        "train_batch_size": classifier.mini_batch_size,
        "validation_share": classifier.validation_set_size,
        "trained": sum(p.numel() for p in classifier.model.parameters() if p.requires_grad),
    }
    return {"rounds": found, "training": training}


def _dataset(rows: list[dict[str, Any]], tokenizer: Any, classes: int) -> Any:
    return st.TransformersDataset.from_arrays(
        [row["text"] for row in rows],
        np.array([row["label"] for row in rows]),
        tokenizer,
        target_labels=np.arange(classes),
        max_length=MAX_LENGTH,
    )


@contextlib.contextmanager
def _timed(seconds: dict[str, float], part: str) -> Any:
    begun, busy = time.perf_counter(), time.process_time()
    yield
    seconds[part] = time.perf_counter() - begun
    seconds[f"{part}_cpu"] = time.process_time() - busy  # a busy machine makes the other longer


def _machine(threads: int) -> dict[str, Any]:
    names = ("small-text", "torch", "transformers", "scikit-learn", "numpy")
    versions = {name: importlib.metadata.version(name) for name in names}
    return {"packages": versions, "python": platform.python_version(), "threads": threads}


if __name__ == "__main__":
    main()

"""A run's folder as numbers for trackers: its settings, its rounds, its updates, its curve."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from star.active_learning.rounds import NEEDED
from star.active_learning.run_reader import RunReader
from star.config import config_hash, fields_of, get, load, strategy_name
from star.config.schema import Config

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OF_UPDATES = ("loss", "learning_rate", "grad_norm", "norm_A", "norm_B")


def settings(run: RunReader) -> dict[str, bool | int | float | str]:
    """Return what ``config.yaml`` says by dotted keys, lists and null as JSON writes them."""
    config = load(run.config)
    plain: dict[str, Any] = {key: get(config, key) for key, _ in fields_of(Config)}
    told = {
        key: value if isinstance(value, (bool, int, float, str)) else json.dumps(value)
        for key, value in plain.items()
    }
    return told | {"strategy": strategy_name(config), "config_hash": config_hash(config)}


def rounds_values(run: RunReader, t: int) -> tuple[int, dict[str, float]]:
    """Return the labels bought before round ``t``, its step, and its metrics."""
    metrics = run.metrics(t)
    values = {"round": t, "labels": metrics["labeled"]}
    values |= {f"test/{name}": metrics[name] for name in NEEDED if name in metrics}
    for part in ("seconds", "tokens"):
        values |= {f"{part}/{verb}": value for verb, value in metrics[part].items()}
    training = metrics["training"]
    if training["last"] is not None:
        values["training/loss"] = training["last"]["loss"]
    if training["validation_loss"]:
        values["training/validation_loss"] = training["validation_loss"][-1]
    return metrics["labeled"], {k: v for k, v in values.items() if isinstance(v, (int, float))}


def updates_values(run: RunReader, t: int) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield of each update of round ``t`` its number in the run, from 1, and what was logged."""
    before = sum(run.metrics(i)["training"]["updates"] for i in range(t))
    with run.training(t).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=before + 1):
            entry = json.loads(line)
            yield number, {f"update/{name}": entry[name] for name in OF_UPDATES}


def curve(run: RunReader) -> Figure:
    """Return the learning curve as a figure: accuracy and calibration error over labels."""
    from matplotlib.backends.backend_agg import (
        FigureCanvasAgg,
    )  # late: only those who track need it
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    rounds = [run.metrics(t) for t in range(run.complete_rounds())]
    axes = figure.add_subplot(xlabel="labels", ylim=(0, 1))
    for name in ("accuracy", "ece"):
        axes.plot([r["labeled"] for r in rounds], [r[name] for r in rounds], "o-", label=name)
    axes.legend()
    return figure

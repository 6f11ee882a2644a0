"""What a run's round 0 is decided by: runs with the same key share it, and a sweep goes by it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path

from star.cache import key
from star.config import Config, as_said, embedding_view, encoder_of, starts_cold
from star.provenance import installed


def key_of_round_0(config: Config, content: Mapping[str, str] | None = None) -> str:
    """Return the hash of all that decides training, evaluation and scores of round 0.

    Args:
        config: Of the run.
        content: What its names stand for: fingerprints of model and data, and of what computes with
            them. ``None`` where that is the same for all runs that are compared, the cells of a
            sweep; a difference would cost time and no number.
    """
    parts = ("model", "task", "adapter", "regularizer", "train", "evaluation")
    said = as_said(config)
    settings = {name: dataclasses.asdict(getattr(said, name)) for name in parts}
    settings |= {"seed": config.seed, "initial_size": config.pool.initial_size}
    if starts_cold(config.acquisition):  # by embeddings, whose content is in `content`
        settings["initial"] = [config.acquisition.initial, *_embeddings(config)]
    if "mc" in config.evaluation.views:
        a = config.acquisition
        settings["mc_dropout"] = dataclasses.asdict(a.mc_dropout)
        settings |= {"passes": a.passes, "tfb_tolerance": a.tfb_tolerance}
    told = None if content is None else dict(content)
    return key(source(), settings=settings, content=told, libraries=libraries())


def _embeddings(config: Config) -> list[str | None]:
    a = config.acquisition
    return [embedding_view(a), encoder_of(a), a.pooling]


def libraries() -> dict[str, str | None]:
    """Return the versions of what computes beside a model's own libraries."""
    return {name: installed(name) for name in ("peft", "accelerate", "numpy")}


@functools.cache
def source() -> str:
    """Return the hash of this package's modules."""
    package, total = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        total.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes())
    return total.hexdigest()

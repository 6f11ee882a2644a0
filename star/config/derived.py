"""What follows from a configuration's values: a strategy's name, what ``auto`` scores, the hash."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from star.config.acquisition import AcquisitionConfig
from star.config.keys import fields_of
from star.config.schema import Config, TrainConfig

NOT_IN_HASH = ("output_dir", "run_name", "tracking", "annotation")
# The words of `acquisition.select` that look at no score, as `star.acquisition.strategies` has it.
NEEDS_NO_SCORES = ("random", "k_center", "typiclust", "maxherding", "minimum_energy")
# Those that look at nothing: what they pick stands in the pool's order, none wanted more.
UNORDERED = ("random",)
# Those that read labels of what is not bought.
LABEL_USING = ("lookahead",)


def own_strategy(acquisition: AcquisitionConfig) -> str | None:
    """Return the ``module:function`` of the user's own; ``None``: what decides is this package."""
    name = acquisition.strategy
    return None if name is None or re.split("[.:]", name)[0] == "star" else name


def strategy_name(config: Config) -> str:
    """Return ``acquisition.name``, or a name derived from what the strategy does.

    A function of one's own is called by its ``module:function``. Derived: ``random``; a
    measure's name for the full model alone; ``subtract-`` and ``star-`` before the measure for the
    two combinations; how it is picked before these where that is not by ``top_k``; ``-gold`` behind
    what reads labels; ``-random0.2`` where that share of a query is drawn; ``-of1000`` where so
    many candidates are drawn, ``-of1000spread`` where they are spread over the embeddings.
    """
    a = config.acquisition
    if a.name is not None:
        return a.name
    if a.strategy is not None:
        return a.strategy
    drawn = f"-random{a.random_share:g}" if a.random_share else ""
    if not needs_scores(a):
        return f"{a.select}{drawn}"
    picked = "" if a.select == AcquisitionConfig.select else f"{a.select}-"
    prefix = picked + {"none": "", "subtract": "subtract-", "dynamic": "star-"}[a.combine]
    suffix = "" if label_free(config) else "-gold"
    spread = "spread" if a.candidates_by == "embeddings" else ""
    among = "" if a.candidates is None else f"-of{a.candidates}{spread}"
    return f"{prefix}{a.measure}{among}{drawn}{suffix}"


def label_free(config: Config) -> bool:
    """Whether neither scores nor choices of the run read an answer that was not bought."""
    a = config.acquisition
    scored = needs_scores(a) and a.continuation == "gold"
    return not scored and (a.strategy is not None or a.select not in LABEL_USING)


def needs_scores(acquisition: AcquisitionConfig) -> bool:
    """Whether the pool is scored at all."""
    return acquisition.select not in NEEDS_NO_SCORES


def encoder_of(acquisition: AcquisitionConfig) -> str | None:
    """Return the sentence encoder that ``acquisition.embeddings`` names; ``None``: the model."""
    named = acquisition.embeddings
    return None if named in ("auto", "base", "full") else named


def rows_per_update(train: TrainConfig, processes: int = 1) -> int:
    """Return how many rows an update has, on all processes of a job together."""
    return train.per_device_train_batch_size * train.gradient_accumulation_steps * processes


def embedding_view(acquisition: AcquisitionConfig) -> str:
    """Return what embeddings are of where a strategy does not say: base, full or encoder."""
    if encoder_of(acquisition) is not None:
        return "encoder"
    return "full" if acquisition.embeddings == "full" else "base"


def is_unordered(acquisition: AcquisitionConfig) -> bool:
    """Whether a query's examples are wanted alike, and stand in the pool's order."""
    return acquisition.strategy is None and acquisition.select in UNORDERED


def starts_cold(acquisition: AcquisitionConfig) -> bool:
    """Whether the first labels are chosen, and not drawn."""
    return acquisition.initial != AcquisitionConfig.initial


def passes_that_differ(config: Config) -> int:
    """Return S, the passes of a view; 0 where none are asked for or can differ."""
    # Random choice may train without dropout, or not at all; then there is nothing to average.
    dropout = config.acquisition.passes != "dropout" or config.adapter.lora_dropout
    still = not dropout or config.train.max_steps == 0
    return 0 if still else config.acquisition.mc_dropout.passes


def scored_continuation(acquisition: AcquisitionConfig, choices: bool) -> str:
    """Return what is scored, ``auto`` resolved by the task and the views that are compared.

    With ``choices``, these. Else, where two views meet, one answer under both: a difference or a
    blend is then of two opinions on the same text (measured: scripts/results/continuation). It is
    the base's, which is generated once. The full model alone scores the answer it gives itself.
    """
    if acquisition.continuation != "auto":
        return acquisition.continuation
    if choices:
        return "choices"
    return "model" if acquisition.combine == "none" else "base"


def as_said(config: Config) -> Config:
    """Return a configuration as its user wrote it, without what a run's config.yaml adds to it."""
    said = config.adapter.target_modules
    if not isinstance(said, dict):
        return config
    adapter = dataclasses.replace(config.adapter, target_modules=next(iter(said)))
    return dataclasses.replace(config, adapter=adapter)


def config_hash(config: Config) -> str:
    """Return 16 hex digits of all that decides a run's result.

    Where the output goes and what is kept (``output_dir``, ``run_name``, ``tracking``) is left out,
    and so is when people have answered enough (``annotation``).
    What ``auto`` means follows from the model: a run's own ``config.yaml``, which has it, is the
    same configuration.
    """
    return hash_of(dataclasses.asdict(as_said(config)))


def hash_of(tree: Mapping[str, Any]) -> str:
    """Return ``config_hash`` of a configuration's keys and values.

    Keys that are younger than committed results are left out where they stand at their default.
    """
    task = tree.get("task")
    if isinstance(task, Mapping) and task.get("oracle") == "people":
        # Its rows lie in its folder, wherever that is moved.
        tree = {**tree, "task": {k: v for k, v in task.items() if k != "data_dir"}}
    tree = _without_added({k: v for k, v in tree.items() if k not in NOT_IN_HASH})
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


def _without_added(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    kept = {}
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            inner = _without_added(value, f"{key}.")
            if inner or not value:  # a section that holds added keys alone goes with them
                kept[name] = inner
        elif key not in _ADDED or value != _ADDED[key]:
            kept[name] = value
    return kept


def _default(item: dataclasses.Field[Any]) -> Any:
    made = item.default_factory
    return item.default if made is dataclasses.MISSING else made()


_ADDED = {key: _default(item) for key, item in fields_of(Config) if item.metadata.get("added")}

"""What a configuration must keep to: ranges, and settings that do not contradict each other."""

from __future__ import annotations

import math
import os
import re
from typing import Any, get_args, get_type_hints

from star.config.acquisition import AcquisitionConfig
from star.config.candidates import check_candidates
from star.config.derived import needs_scores
from star.config.embeddings import check_embeddings
from star.config.heads import check_head
from star.config.keys import fields_of, get, shown
from star.config.kinds_of_passes import PASSES, check_passes
from star.config.names import check_names
from star.config.people import check_people
from star.config.schema import Config, ModelConfig, TaskConfig
from star.config.words import MODULE_WORDS, MODULES
from star.errors import InputError, nearest

TRACKERS = ("tensorboard", "trackio", "wandb", "mlflow")
BATCH_TOKENS = "evaluation.max_batch_tokens"
SELECTIONS = get_args(get_type_hints(AcquisitionConfig)["select"])

_BOUNDS = {
    "ge": (lambda v, b: v >= b, "at least"),
    "gt": (lambda v, b: v > b, "greater than"),
    "le": (lambda v, b: v <= b, "at most"),
    "lt": (lambda v, b: v < b, "less than"),
}


def check(config: Config) -> None:
    """Raise ``InputError`` for a value out of range or settings that contradict each other."""
    for key, item in fields_of(Config):
        value = get(config, key)
        if value is None or isinstance(value, (str, bool)):
            continue
        for name, (holds, words) in _BOUNDS.items():
            bound = item.metadata.get(name)
            if bound is not None and not (math.isfinite(value) and holds(value, bound)):
                raise InputError(f"{key} must be {words} {bound}, got {value}")
    check_revision(config.model)
    check_names(config)
    if not config.model.double_quantization and config.model.quantization == "none":
        raise InputError(
            "model.double_quantization=false belongs to model.quantization=nf4, got none"
        )
    _check_trackers(config.tracking.log_with or [])
    _check_acquisition(config)
    check_modules(MODULES, config.adapter.target_modules)
    check_batch_tokens(BATCH_TOKENS, config.evaluation.max_batch_tokens)
    if config.train.keep == "best" and config.task.validation_size == 0:
        raise InputError("train.keep=best needs validation rows; set task.validation_size > 0")
    scored = needs_scores(config.acquisition) and config.pool.rounds > 1
    if config.train.max_steps == 0 and scored and config.acquisition.mc_dropout.passes > 0:
        what = PASSES[config.acquisition.passes]
        raise InputError(
            f"train.max_steps=0 leaves the adapter at zero: all {what} would be equal; set "
            "pool.rounds=1 or acquisition.mc_dropout.passes=0"
        )
    unknown = [view for view in config.evaluation.views if view not in ("base", "full", "mc")]
    if unknown:
        raise InputError(f"evaluation.views holds base, full and mc, got '{unknown[0]}'")
    t = config.train
    if t.schedule_from == "test" and t.lr_scheduler_type != "linear":
        raise InputError(
            "train.schedule_from=test is the released code's linear schedule; set "
            f"train.lr_scheduler_type=linear, got {t.lr_scheduler_type}"
        )
    _check_task(config.task)
    check_people(config)
    if config.task.chat_template:
        _check_chat(config)
    if config.task.num_fewshot:
        _check_shots(config)
    if config.task.classify_by == "head":
        check_head(config)


_CLASSES = ("classification", "sst2", "emotion")
_TASKS_OF = {
    "columns": ("jsonl", *_CLASSES),
    "choices": ("jsonl", "classification"),
    "verbalizer": _CLASSES,
    "hub_id": ("classification",),
}
"""The tasks that a key belongs to."""


def _check_task(task: TaskConfig) -> None:
    for key, names in _TASKS_OF.items():
        if getattr(task, key) is not None and task.name not in names:
            owners = " or ".join(names)
            raise InputError(f"task.{key} belongs to task.name={owners}, got {task.name}")
    if task.classify_by != "words" and task.name not in _CLASSES:
        owners = " or ".join(_CLASSES)
        raise InputError(f"task.classify_by belongs to task.name={owners}, got {task.name}")
    if task.hub_id is not None and task.data_dir is not None:
        raise InputError(
            f"task.hub_id={task.hub_id} and task.data_dir={task.data_dir}: rows come from one of "
            "them; remove the other"
        )


def _check_chat(config: Config) -> None:
    """Refuse what a chat template has no place for."""
    chat = "task.chat_template=true"
    if config.task.classify_by == "head":
        raise InputError(
            f"{chat} asks an assistant for an answer, and task.classify_by=head reads the text and "
            "answers nothing; set task.classify_by=words, or task.chat_template=false"
        )
    if config.task.trailing_space == "prompt":
        raise InputError(
            f"{chat}: the template says what stands between prompt and answer; set "
            "task.trailing_space=answer, got prompt"
        )
    if config.train.loss_mask != "answer":
        raise InputError(
            f"{chat}: the released code's mask counts the tokens of a bare text; set "
            f"train.loss_mask=answer, got {config.train.loss_mask}"
        )


def _check_shots(config: Config) -> None:
    shots, labels = config.task.num_fewshot, config.pool.initial_size
    if config.task.classify_by == "head":
        raise InputError(
            f"task.num_fewshot={shots} shows a language model examples, and a head "
            "(task.classify_by=head) learns by training alone; set task.num_fewshot=0"
        )
    if shots > labels:
        raise InputError(
            f"task.num_fewshot={shots} examples are shown of the first pool.initial_size={labels} "
            "labels; lower it, or label more"
        )


def _check_trackers(names: list[str]) -> None:
    for name in names:
        if name not in TRACKERS and not re.fullmatch(r"\w+(\.\w+)*:\w+", name):
            raise InputError(
                f"tracking.log_with holds {', '.join(TRACKERS)}, or module:Class of another "
                f"(accelerate.tracking:AimTracker), got '{name}'{nearest(name, TRACKERS)}"
            )


def check_revision(model: ModelConfig) -> None:
    """Raise ``InputError`` for a revision of a model that is not on the Hub: it has only one."""
    if model.revision is None:
        return
    name = model.name_or_path
    if name.startswith(("embedded://", "package://", ".", "/", "~")) or os.path.exists(name):
        raise InputError(
            f"model.revision belongs to a model on the Hub, got {model.revision} for {name}; leave "
            "it out (star score: --revision)"
        )


def check_batch_tokens(key: str, most: Any) -> None:
    """Raise ``InputError`` unless ``evaluation.max_batch_tokens`` is a whole number or auto."""
    if most != "auto" and type(most) is not int:
        raise InputError(f"{key} must be a whole number or auto, got {shown(most)}")


def check_modules(key: str, modules: Any) -> None:
    """Raise ``InputError`` unless ``adapter.target_modules`` is a word, a list, or a record."""
    if isinstance(modules, str) and modules in MODULE_WORDS:
        return
    if isinstance(modules, dict) and len(modules) == 1 and set(modules) <= set(MODULE_WORDS):
        modules = next(iter(modules.values()))
    if not isinstance(modules, list):
        raise InputError(
            f"{key} must be {', '.join(MODULE_WORDS)}, or a list; write it whole, "
            f"[q_proj, v_proj], got {shown(modules)}"
        )
    if not modules:
        raise InputError(f"{key} is empty; name at least one module")
    for module in modules:
        if not isinstance(module, str):
            raise InputError(f"{key} must be text, got {module!r} as YAML reads it; quote it")
        if module in MODULE_WORDS:
            raise InputError(f"{key}={module} chooses all modules; write it alone, got {modules!r}")
        if not module.strip("."):
            raise InputError(f"{key} holds {module!r}, which names no module")


def _check_acquisition(config: Config) -> None:
    a = config.acquisition
    if a.strategy is not None:
        _check_own(a.strategy)
    if a.strategy is not None and a.select != "top_k":
        raise InputError(
            f"acquisition.strategy={a.strategy} scores the pool; set acquisition.select=top_k, got "
            f"{a.select}"
        )
    check_embeddings(a)
    check_passes(a)
    check_candidates(config)
    if not needs_scores(a):
        return
    scheduled = a.base_weight.rounds
    if scheduled is not None and config.pool.rounds > scheduled:
        raise InputError(
            f"acquisition.base_weight.rounds={scheduled} ends before pool.rounds="
            f"{config.pool.rounds}; raise it, or null for the run's own"
        )
    drops = a.passes == "dropout" and a.mc_dropout.passes > 0
    if drops and config.adapter.lora_dropout == 0:
        raise InputError(
            "acquisition.mc_dropout.passes > 0 with adapter.lora_dropout=0: all passes would be "
            "equal; set lora_dropout > 0 or passes=0"
        )
    if a.combine == "subtract" and a.continuation == "model":
        raise InputError(
            "acquisition.combine=subtract needs one continuation for both views; set "
            "acquisition.continuation to base, choices or gold, got model"
        )
    if a.select == "epig" and (a.mc_dropout.passes < 2 or a.mc_dropout.masks != "consistent"):
        raise InputError(
            "acquisition.select=epig needs at least two sub-networks that are the same for all "
            "examples; set acquisition.mc_dropout.passes >= 2 and .masks=consistent, got "
            f"{a.mc_dropout.passes} and {a.mc_dropout.masks}"
        )
    judged = f"{config.evaluation.choice_by} and {config.evaluation.choice_score}"
    if a.select == "uherding_calibrated" and judged != "likelihood and sum":
        raise InputError(
            "acquisition.select=uherding_calibrated goes by whether the likeliest choice was right;"
            f" set evaluation.choice_by=likelihood and evaluation.choice_score=sum, got {judged}"
        )
    if a.measure == "bald":
        if a.select == "trust":
            raise InputError(
                "acquisition.select=trust weighs two views, and acquisition.measure=bald has no "
                "base view; set another measure"
            )
        if a.combine != "none":
            raise InputError(
                f"acquisition.measure=bald has no base view; set acquisition.combine=none, "
                f"got {a.combine}"
            )
        if a.mc_dropout.passes < 2:
            raise InputError(
                "acquisition.measure=bald needs acquisition.mc_dropout.passes >= 2, "
                f"got {a.mc_dropout.passes}"
            )


def _check_own(strategy: str) -> None:
    """Raise ``InputError`` unless ``acquisition.strategy`` names a function."""
    if re.fullmatch(r"\w+(\.\w+)*:\w+", strategy):
        return
    if strategy in SELECTIONS:
        mend = f"set acquisition.select={strategy}"
    elif re.fullmatch(r"\w+(\.\w+)+", strategy):
        module, _, function = strategy.rpartition(".")
        mend = f"did you mean '{module}:{function}'?"
    else:
        mend = f"acquisition.name is the name of a row{nearest(strategy, SELECTIONS)}"
    raise InputError(
        f"acquisition.strategy must be module:function, a strategy of your own, got '{strategy}'; "
        f"{mend}"
    )

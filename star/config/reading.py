"""How a YAML file and ``key=value`` words become one checked configuration.

``load`` merges the defaults of the schema < one YAML file < a preset < ``key=value`` words (the
last of a repeated key wins) and refuses whatever the schema does not know. No includes, no
interpolation. The only file that knows OmegaConf, and it imports it late, so that everything else
runs without it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from types import NoneType
from typing import Any, TextIO, get_args, get_type_hints

from star.config.schema import (
    PRESETS,
    AcquisitionConfig,
    Config,
    fields_of,
    get,
    hash_of,
)
from star.config.words import MODULE_WORDS, MODULES, meant, spell
from star.errors import InputError, nearest


def load(
    path: str | Path | TextIO | None = None,
    overrides: Sequence[str] = (),
    *,
    preset: str | None = None,
) -> Config:
    """Return the checked configuration: defaults < YAML file < preset < ``key=value`` words.

    Args:
        path: A YAML file, or one that is open; ``None`` = the defaults alone.
        overrides: ``key=value`` words.
        preset: A name in ``PRESETS``, a delta that changes the method and no sizes.

    Raises:
        InputError: Unreadable file, unknown key (with the nearest right one), wrong type, value out
            of range, or settings that contradict each other.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    tree = OmegaConf.structured(Config)
    sources = [
        (path, _name(path)),
        (preset and preset_path(preset), f"preset {preset}"),
        (list(overrides), "the command line"),
    ]
    for source, name in sources:
        if not source:
            continue
        try:
            part = _read_words(source) if isinstance(source, list) else _read_yaml(source, name)
            _refuse_unknown(OmegaConf.to_container(part, resolve=False), name)
            tree = OmegaConf.merge(tree, part)
        except OmegaConfBaseException as error:
            key = getattr(error, "full_key", None)
            what = str(error).splitlines()[0]
            raise InputError(f"{name}: {key + ': ' if key else ''}{what}") from None
    config = OmegaConf.to_object(tree)
    assert isinstance(config, Config)
    check(config)
    return config


def preset_path(name: str) -> Path:
    """Return the file of a preset; its comments give the reason of every value."""
    if name not in PRESETS:
        raise InputError(f"--preset must be one of {', '.join(PRESETS)}, got '{name}'")
    return Path(__file__).parent / "presets" / f"{name}.yaml"


def _name(source: str | Path | TextIO | None) -> str:
    return str(source) if isinstance(source, (str, Path)) else "stdin"


def _read_yaml(source: str | Path | TextIO, name: str) -> Any:
    from omegaconf import OmegaConf
    from yaml import YAMLError

    if isinstance(source, (str, Path)) and not Path(source).is_file():
        raise InputError(f"configuration file {name} not found")
    try:
        part = OmegaConf.load(source)
    except (YAMLError, UnicodeError, OSError) as error:  # OSError: a lone number or word
        what = " ".join(str(error).split())
        raise InputError(f"{name} is not readable as YAML: {what}") from None
    if not OmegaConf.is_dict(part):
        raise InputError(f"{name} must hold a mapping of sections, got a {type(part).__name__}")
    return part


def _read_words(words: Sequence[str]) -> Any:
    from omegaconf import OmegaConf
    from yaml import YAMLError

    kinds = {key: str(item.type) for key, item in fields_of(Config)}
    spelt = [spell(word, kinds) for word in words]
    try:
        return OmegaConf.from_dotlist(spelt)
    except YAMLError as error:
        raise InputError(f"cannot read {list(words)}: {' '.join(str(error).split())}") from None


def _refuse_unknown(part: Any, source: str) -> None:
    known = {key: str(item.type) for key, item in fields_of(Config)}
    sections = {key.rpartition(".")[0] for key in known} - {""}

    def walk(node: dict[Any, Any], prefix: str) -> None:
        for name, value in node.items():
            key = f"{prefix}{name}"
            if key in sections:
                if not isinstance(value, dict):
                    raise InputError(f"{source}: {key} is a section, got the value {value!r}")
                walk(value, f"{key}.")
            elif key not in known:
                while isinstance(value, dict) and value:  # to the key itself: optimizer.lr
                    name, value = next(iter(value.items()))
                    key = f"{key}.{name}"
                hint = meant(key, [*known, *sections])
                raise InputError(f"{source}: unknown key '{key}'{hint}")
            else:
                _check_leaf(f"{source}: {key}", value, known[key])

    walk(part, "")


def _check_leaf(name: str, value: Any, kind: str) -> None:
    """Raise ``InputError`` for what OmegaConf would take, but not as it was meant."""
    if name.endswith(MODULES):
        _check_modules(name, value)
    if "list[" in kind and not isinstance(value, (list, NoneType)):
        raise InputError(f"{name} is a list; write it whole, [a, b], got {value!r}")
    if "dict[" in kind and not isinstance(value, (dict, NoneType)):
        raise InputError(f"{name} must be {{question: COLUMN, answer: COLUMN}}, got {value!r}")
    if value is None and "str" in kind and "Optional" not in kind:
        raise InputError(f"{name} must be text, got nothing")
    for item in _items(value):
        if isinstance(item, str):
            _check_text(name, item, lines="list[" in kind or name.endswith("task.prompt"))
        if isinstance(item, str) and ("${" in item or item == "???"):
            raise InputError(f"{name}: interpolation '${{...}}' and '???' are not supported")
        if "str" in kind and isinstance(item, (bool, int, float, list, dict)):
            raise InputError(f"{name} must be text, got {item!r} as YAML reads it; quote it")


def _check_text(name: str, text: str, *, lines: bool) -> None:
    """Raise ``InputError`` for text that no file, or no file's name, can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{name} must be text in UTF-8, got {text!a}") from None
    if not lines and not text.strip():
        raise InputError(f"{name} is blank, got {text!r}; leave it out, or name something")
    wrong = [char for char in text if ord(char) < 32 or ord(char) == 127]
    if wrong and (not lines or "\0" in wrong):
        raise InputError(f"{name} must be one line without control characters, got {text!a}")


def _items(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list) else [value]


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
    _check_acquisition(config)
    _check_modules(MODULES, config.adapter.target_modules)
    if config.train.keep == "best" and config.task.validation_size == 0:
        raise InputError("train.keep=best needs validation rows; set task.validation_size > 0")
    scored = config.acquisition.select != "random" and config.pool.rounds > 1
    if config.train.max_steps == 0 and scored and config.acquisition.mc_dropout.passes > 0:
        raise InputError(
            "train.max_steps=0 leaves the adapter at zero: all MC-dropout passes would be equal; "
            "set pool.rounds=1 or acquisition.mc_dropout.passes=0"
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
    if config.task.name != "jsonl":
        for key in ("columns", "choices"):
            if getattr(config.task, key) is not None:
                raise InputError(f"task.{key} belongs to task.name=jsonl, got {config.task.name}")


def _check_modules(key: str, modules: Any) -> None:
    """Raise ``InputError`` unless ``adapter.target_modules`` is a word, a list, or a record."""
    if isinstance(modules, str) and modules in MODULE_WORDS:
        return
    if isinstance(modules, dict) and len(modules) == 1 and set(modules) <= set(MODULE_WORDS):
        modules = next(iter(modules.values()))
    if not isinstance(modules, list):
        raise InputError(
            f"{key} must be {', '.join(MODULE_WORDS)}, or a list; write it whole, "
            f"[q_proj, v_proj], got {modules!r}"
        )
    if not modules:
        raise InputError(f"{key} is empty; name at least one module")
    for module in modules:
        if not isinstance(module, str):
            raise InputError(f"{key} must be text, got {module!r} as YAML reads it; quote it")
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
    if a.select == "random":  # nothing is scored
        return
    scheduled = a.base_weight.rounds
    if scheduled is not None and config.pool.rounds > scheduled:
        raise InputError(
            f"acquisition.base_weight.rounds={scheduled} ends before pool.rounds="
            f"{config.pool.rounds}; raise it, or null for the run's own"
        )
    if a.mc_dropout.passes > 0 and config.adapter.lora_dropout == 0:
        raise InputError(
            "acquisition.mc_dropout.passes > 0 with adapter.lora_dropout=0: all passes would be "
            "equal; set lora_dropout > 0 or passes=0"
        )
    if a.combine == "subtract" and a.continuation == "model":
        raise InputError(
            "acquisition.combine=subtract needs one continuation for both views; set "
            "acquisition.continuation to base, choices or gold, got model"
        )
    if a.measure == "bald":
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


def to_yaml(config: Config) -> str:
    """Return the resolved configuration as YAML, as ``config.yaml`` holds it."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.structured(config))


def hash_of_file(path: Path) -> str:
    """Return ``config_hash`` of a stored ``config.yaml``, by the keys and values it has.

    It can be of an earlier version, whose keys were others: the schema is not asked.

    Raises:
        InputError: It is not readable as YAML.
    """
    from omegaconf import OmegaConf

    tree: Any = OmegaConf.to_container(_read_yaml(path, str(path)), resolve=False)
    adapter = tree.get("adapter")
    # As ``as_said`` has it: what a word meant for the model was written into it later.
    if isinstance(adapter, dict) and isinstance(adapter.get("target_modules"), dict):
        adapter["target_modules"] = next(iter(adapter["target_modules"]), None)
    return hash_of(tree)


def describe() -> str:
    """Return one line a key: name, type, default and help; for ``star run --help``."""
    lines = []
    for key, item in fields_of(Config):
        default = item.default
        if default is dataclasses.MISSING:
            default = item.default_factory()  # type: ignore[misc]
        shown = "null" if default is None else json.dumps(default)
        allowed = str(item.type)
        if allowed.startswith("Literal["):
            words = allowed[len("Literal[") : -1].replace("'", "").replace(",", " |").split()
            shown += f"  ({' '.join(words)})"
        lines.append(f"  {key}={shown}\n      {item.metadata.get('help', '')}")
    return "\n".join(lines)

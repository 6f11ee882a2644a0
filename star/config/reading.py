"""How a YAML file and ``key=value`` words become one checked configuration.

``load`` merges the defaults of the schema < one YAML file < a preset < ``key=value`` words (the
last of a repeated key wins) and refuses whatever the schema does not know. No includes, no
interpolation. The only file that knows OmegaConf, and it imports it late, so that everything else
runs without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, TextIO

from star.config.checks import BATCH_TOKENS, check, check_batch_tokens, check_modules
from star.config.derived import hash_of
from star.config.keys import fields_of, shown, wanted
from star.config.schema import Config
from star.config.words import MODULES, meant, spell
from star.errors import InputError, nearest, one_line
from star.redaction import secret_in
from star.run_files import CONFIG

PRESETS = ("paper", "released", "star")
"""Names of the committed deltas in ``star/config/presets``."""


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

    tree = _defaults()
    sources = [
        (path, _name(path)),
        (preset and preset_path(preset), f"preset {preset}"),
        (list(overrides), "the command line"),
    ]
    for source, name in sources:
        if not source:
            continue
        part = None
        try:
            part = _read_words(source) if isinstance(source, list) else _read_yaml(source, name)
            _refuse_unknown(OmegaConf.to_container(part, resolve=False), name)
            tree = OmegaConf.merge(tree, part)
        except OmegaConfBaseException as error:
            raise InputError(f"{name}: {_misfit(part, error)}") from None
    config = OmegaConf.to_object(tree)
    assert isinstance(config, Config)
    check(config)
    return config


@cache
def _defaults() -> Any:
    """Return the schema as OmegaConf has it, which is dear to make; a merge copies it."""
    from omegaconf import OmegaConf

    return OmegaConf.structured(Config)


def _misfit(part: Any, error: Exception) -> str:
    """Say of a value what its key takes, where OmegaConf says which class it failed to become."""
    from omegaconf import OmegaConf

    key = getattr(error, "full_key", None)
    kind = {name: str(item.type) for name, item in fields_of(Config)}.get(key or "")
    if part is None or key is None or kind is None:
        return f"{key + ': ' if key else ''}{str(error).splitlines()[0]}"
    value = OmegaConf.select(part, key)
    words = kind[kind.find("Literal[") :].split("'")[1::2] if "Literal[" in kind else []
    hint = nearest(value, words) if isinstance(value, str) else ""
    return f"{key} must be {wanted(kind)}, got {shown(value)}{hint}"


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
        inside = Path(source) / CONFIG
        mend = f"; it is a run folder, which {inside} is of" if inside.is_file() else ""
        raise InputError(f"configuration file {name} not found{mend}")
    try:
        part = OmegaConf.load(source)
    # OSError: a lone number or word; ValueError: a number of 5,000 digits, a thirteenth month.
    except (YAMLError, ValueError, OSError, RecursionError) as error:
        raise InputError(f"{name} is not readable as YAML: {one_line(error)}") from None
    if not OmegaConf.is_dict(part):
        raise InputError(f"{name} must hold a mapping of sections, got a {type(part).__name__}")
    if "columns" in part and ("rows" in part or "rows_of" in part):
        raise InputError(
            f"{name} is a table of runs, not the configuration of one; star sweep {name} runs it"
        )
    return part


def _read_words(words: Sequence[str]) -> Any:
    from omegaconf import OmegaConf
    from yaml import YAMLError

    kinds = {key: str(item.type) for key, item in fields_of(Config)}
    spelt = [spell(word, kinds) for word in words]
    try:
        return OmegaConf.from_dotlist(spelt)
    except (YAMLError, ValueError, RecursionError) as error:
        given = str(list(words))
        given = given if len(given) <= 200 else f"{given[:200]}…"
        raise InputError(f"cannot read {given}: {one_line(error)}") from None


def _refuse_unknown(part: Any, source: str) -> None:
    known = {key: str(item.type) for key, item in fields_of(Config)}
    sections = {key.rpartition(".")[0] for key in known} - {""}

    def walk(node: dict[Any, Any], prefix: str) -> None:
        for name, value in node.items():
            key = f"{prefix}{name}"
            if key in sections:
                if not isinstance(value, dict):
                    raise InputError(f"{source}: {key} is a section, got {shown(value)}")
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
        check_modules(name, value)
    if name.endswith(BATCH_TOKENS):
        check_batch_tokens(name, value)
    container = list if "list[" in kind else dict if "dict[" in kind else object
    missing = value is None and "Optional" not in kind
    if missing or not isinstance(value, (container, NoneType)):
        raise InputError(f"{name} must be {wanted(kind)}, got {shown(value)}")
    for key in value if isinstance(value, dict) else ():
        if not isinstance(key, str):
            raise InputError(f"{name}: a key must be text, got {key!r} as YAML reads it; quote it")
    for item in _items(value):
        if isinstance(item, str):
            _check_text(name, item, lines="list[" in kind or name.endswith("task.prompt"))
        if isinstance(item, str) and ("${" in item or item == "???"):
            raise InputError(f"{name}: interpolation '${{...}}' and '???' are not supported")
        empty = item is None and value is not None  # null, or nothing, in a list or a mapping
        if empty or ("str" in kind and isinstance(item, (bool, int, float, list, dict))):
            raise InputError(f"{name} must be text, got {item!r} as YAML reads it; quote it")


def _check_text(name: str, text: str, *, lines: bool) -> None:
    """Raise ``InputError`` for text that no file, or no file's name, can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{name} must be text in UTF-8, got {text!a}") from None
    if not lines and not text.strip():
        raise InputError(f"{name} is blank, got {text!r}; leave it out, or name something")
    secret = secret_in(text)
    if secret is not None:
        raise InputError(
            f"{name} holds {secret}, which would stand in config.yaml; leave it to the environment "
            "(HF_TOKEN, a netrc file)"
        )
    wrong = [char for char in text if ord(char) < 32 or ord(char) == 127]
    if wrong and (not lines or "\0" in wrong):
        raise InputError(f"{name} must be one line without control characters, got {text!a}")


def _items(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list) else [value]


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

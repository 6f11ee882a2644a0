"""The schema by its dotted keys: a key's field, its value in a configuration, its help."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from star.config.schema import Config


def fields_of(kind: type, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    """Yield every leaf of the schema as (dotted key, field)."""
    for item in dataclasses.fields(kind):
        nested = item.default_factory
        if isinstance(nested, type) and dataclasses.is_dataclass(nested):
            yield from fields_of(nested, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}", item


def get(config: Any, key: str) -> Any:
    """Return the value at a dotted key."""
    for name in key.split("."):
        config = getattr(config, name)
    return config


def shown(value: Any) -> str:
    """Return a value that was given, for a message about it."""
    return "nothing" if value is None else repr(value)


def wanted(kind: str) -> str:
    """Return in words what a key of a type (as the schema writes it) takes."""
    if "list[" in kind:
        return "a list, written whole: [a, b]"
    if "dict[" in kind:
        return "{question: COLUMN, answer: COLUMN}"
    if kind.startswith("Literal["):
        return f"one of {kind[len('Literal[') : -1]}"
    plain = kind.removeprefix("Optional[").removesuffix("]")
    words = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
    return words[plain] + (" or null" if plain != kind else "")


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

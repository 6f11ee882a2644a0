"""JSON as dataclasses and back: what their types say is what may stand there, and is the check."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """In ``Annotated``: the bounds of a number, and words for them."""

    low: float
    high: float
    words: str


@dataclass(frozen=True)
class Tagged:
    """In ``Annotated``: the dataclass is the one that a key's value names.

    Attributes:
        key: Of the JSON object.
        kinds: Value to dataclass.
        where: From a JSON object to what begins messages about it.
    """

    key: str
    kinds: Mapping[str, type]
    where: Callable[[Mapping[str, Any]], str]


Share = Annotated[float, Range(0, 1, "from 0 to 1")]
Whole = Annotated[int, Range(0, 2**63 - 1, "a whole number")]


def plain(part: Any) -> dict[str, Any]:
    """Return a dataclass's own values by name, but ``None`` where that is what absence means."""
    values = {known.name: (getattr(part, known.name), known.default) for known in fields(part)}
    return {k: v for k, (v, default) in values.items() if v is not None or default is not None}


def read(kind: type[T], content: object, where: str = "") -> T:
    """Return a dataclass from JSON content.

    Types of its fields: ``str``, ``bool``, ``int``, ``float`` (a finite number of either kind),
    ``None``, dataclasses, ``tuple`` (a list), ``dict`` with names, unions of these, and what
    ``Range`` and ``Tagged`` say. Fields with a default may be absent, others than fields not.

    Args:
        kind: The dataclass.
        content: JSON content.
        where: What begins the messages.

    Raises:
        TypeError: The content is no object.
        ValueError: A key is absent or unknown, or what stands there is of another type.
    """
    if not isinstance(content, dict):
        raise TypeError(f"it holds a {type(content).__name__}")
    types, values = _types(kind), {}
    for key in content.keys() - types.keys():
        raise ValueError(f"{where}this version knows no '{key[:80]}'")
    for known in fields(kind):
        key = known.name
        if key in content:
            try:
                values[key] = _value(types[key], content[key], where or f"{key}.")
            except TypeError:
                wanted, got = _words(types[key]), str(content[key])[:80]
                raise ValueError(f"{where}{key} must be {wanted}, got {got!r}") from None
        elif known.default is known.default_factory is MISSING:
            raise ValueError(f"{where}{key} is missing")
    return kind(**values)


@cache
def _types(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _value(kind: Any, value: Any, where: str) -> Any:
    """Return JSON content as a type has it; a ``TypeError`` if it cannot be."""
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return read(kind, value, where)
    if origin is Annotated:
        return _annotated(inner[0], inner[1], value, where)
    if origin in (Union, UnionType):
        for one in inner:
            try:
                return _value(one, value, where)
            except TypeError:
                continue
    elif origin is tuple and isinstance(value, list):
        parts = [inner[0]] * len(value) if inner[-1] is ... else inner
        if len(parts) == len(value):
            return tuple(_value(*pair, where) for pair in zip(parts, value, strict=True))
    elif origin is dict and isinstance(value, dict):
        return {key: _value(inner[1], part, where) for key, part in value.items()}
    elif kind is float and type(value) in (int, float):
        # An integer of 400 digits is none that arithmetic can use.
        if abs(value) < 1e300 and math.isfinite(value):
            return value
    elif type(value) is kind:
        return value
    raise TypeError


def _annotated(kind: Any, extra: Range | Tagged, value: Any, where: str) -> Any:
    if isinstance(extra, Range):
        number = _value(kind, value, where)
        if extra.low <= number <= extra.high:
            return number
        raise TypeError
    if not isinstance(value, dict):
        raise TypeError
    where, tag = extra.where(value), value.get(extra.key)
    if not isinstance(tag, str) or tag not in extra.kinds:
        known = ", ".join(extra.kinds)
        raise ValueError(f"{where}{extra.key} must be one of {known}, got {str(tag)[:80]!r}")
    return read(extra.kinds[tag], value, where)


def _words(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return inner[1].words if isinstance(inner[1], Range) else "an object"
    if origin in (Union, UnionType):
        return " or ".join(map(_words, inner))
    if origin is tuple:
        return f"a list, each {_words(inner[0])}" if inner[-1] is ... else f"{len(inner)} numbers"
    if origin is dict:
        return f"names with {_words(inner[1])}"
    words = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    return {**words, NoneType: "null"}.get(kind, "an object")

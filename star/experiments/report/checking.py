"""Whether a record is what tables and figures read: they trust it from here on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from star.errors import InputError

STATES = ("done", "failed", "missing")

Record = dict[str, Any]


def check(record: Any, where: object) -> None:
    """Refuse what is not a record (see :mod:`star.experiments.report.gathering`).

    Args:
        record: JSON content.
        where: What it was read from, for the message.

    Raises:
        InputError: A key is missing, or what stands there cannot be.
    """
    try:
        _record(record)
    except KeyError as error:
        raise InputError(f"{where} is not a record of results: no {error}") from None
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"{where} is not a record of results: {error}") from None


def _record(record: Record) -> None:
    if not isinstance(record, dict):
        raise TypeError(f"it holds a {type(record).__name__}")
    for key in ("table", "title", "baseline"):
        _require(record, key, _text, "text")
    _require(record, "seeds", _list(_whole), "a list of seeds")
    _require({"since": record.get("since", [])}, "since", _list(_text), "a list of sentences")
    _require({"settings": record.get("settings", [])}, "settings", _list(_text), "a list of words")
    _require(record, "environments", _list(_environment), "a list of environments")
    names = {}
    for key, parts in (("rows", ROW), ("columns", COLUMN)):
        for part in record[key]:
            for name, (known, what) in parts.items():
                _require(part, name, known, what, f"{key}.")
            prompts = part.get("prompts", {})
            _require({"prompts": prompts}, "prompts", _mapping(_list(_text)), "lists of rows")
        names[key] = [part["name"] for part in record[key]]
        if len(set(names[key])) < len(names[key]):
            raise ValueError(f"a name stands twice in {key}")
    seen = set()
    for cell in record["cells"]:
        place = (cell["column"], cell["row"], cell["seed"])
        if place[0] not in names["columns"] or place[1] not in names["rows"] or place in seen:
            raise ValueError(f"the cell {place} is unknown or stands twice")
        seen.add(place)
        _cell(cell, len(record["environments"]))


def _cell(cell: Mapping[str, Any], environments: int) -> None:
    where = f"cell {cell['column']}/{cell['row']}/seed{cell['seed']}: "
    _require(cell, "seed", _whole, "a seed", where)
    _require(cell, "status", STATES.__contains__, f"one of {', '.join(STATES)}", where)
    if cell["status"] == "failed":
        _require(cell, "error", _text, "text", where)
    if cell["status"] != "done":
        return
    for key, (known, what) in CELL.items():
        _require(cell, key, known, what, where)
    for key, (known, what) in CELL_MAY_BE.items():
        if cell.get(key) is not None:
            _require(cell, key, known, what, where)
    for place in (cell["environment"], *(cell.get("resumed") or [])):
        if place is not None and place not in range(environments):
            raise ValueError(f"{where}there is no environment {place!r}")
    for part in cell["rounds"]:
        for key, (known, what) in POINT.items():
            _require(part, key, known, what, where)
        for key, (known, what) in MAY_BE.items():
            if part.get(key) is not None:
                _require(part, key, known, what, where)
    labels = [part["labeled"] for part in cell["rounds"]]
    if labels != sorted(set(labels)):
        raise ValueError(f"{where}its label counts do not rise: {labels}")


def _require(
    part: Mapping[str, Any], key: str, known: Callable[[Any], bool], what: str, where: str = ""
) -> None:
    if not known(part[key]):
        raise ValueError(f"{where}{key} must be {what}, got {str(part[key])[:80]!r}")


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    # An integer of 400 digits is none that arithmetic can use.
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def _share(value: Any) -> bool:
    return _number(value) and 0 <= value <= 1


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _list(known: Callable[[Any], bool], *, least: int = 0) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) >= least and all(map(known, value))


def _mapping(known: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(known, value.values()))


def _maybe(known: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or known(value)


def _bin(value: Any) -> bool:
    return _list(_number)(value) and len(value) == 3


def _environment(value: Any) -> bool:
    if not _mapping(_maybe(_mapping(lambda _: True)))(value):
        return False
    star, hardware, packages = (value.get(k) or {} for k in ("star", "hardware", "packages"))
    return (
        _maybe(_text)(star.get("commit"))
        and _maybe(_list(_text))(hardware.get("gpus"))
        and all(map(_maybe(_text), packages.values()))
    )


Known = dict[str, tuple[Callable[[Any], bool], str]]
ROW: Known = {
    "name": (_text, "text"),
    "about": (_text, "text"),
    "preset": (_maybe(_text), "text or null"),
    "settings": (_list(_text), "a list of words"),
    # A name alone stood there before a column could have a counterpart of its own.
    "naive": (lambda value: _maybe(_text)(value) or _list(_text)(value), "a list of rows"),
    "curve": (lambda value: isinstance(value, bool), "true or false"),
}
COLUMN: Known = {"name": (_text, "text"), "about": (_text, "text")}
CELL: Known = {
    "label_free": (lambda value: isinstance(value, bool), "true or false"),
    "task": (_text, "text"),
    "strategy": (_text, "text"),
    "started": (_maybe(_text), "a day or null"),
    "environment": (_maybe(_whole), "a place among the environments"),
    "auc": (_share, "from 0 to 1"),
    "rounds": (_list(lambda one: isinstance(one, dict), least=1), "a list of rounds"),
}
CELL_MAY_BE: Known = {
    "reliability": (_mapping(_list(_bin)), "bins of three numbers"),
    "base": (_mapping(_maybe(_number)), "numbers"),
    "content": (_mapping(_maybe(_text)), "hashes"),
    "resumed": (_list(_whole), "places among the environments"),
}
POINT: Known = {
    "labeled": (_whole, "a number of labels"),
    "accuracy": (_share, "from 0 to 1"),
    "ece": (_share, "from 0 to 1"),
}
MAY_BE: Known = {
    **dict.fromkeys(
        (
            *("accuracy_strict", "accuracy_sum", "accuracy_mean", "accuracy_stderr"),
            *("nll", "brier"),
            *("overconfidence", "ece_token_mean", "overconfidence_token_mean"),
        ),
        (_number, "a number"),
    ),
    "seconds": (_mapping(_number), "seconds of parts"),
    "tokens": (_mapping(_maybe(_number)), "tokens of parts"),
    "gap": (_mapping(_maybe(_number)), "means of two views"),
    "selected": (_list(_whole), "a list of pool indices"),
}

"""Table files: rows, columns and seeds of an experiment.

A table file (``configs/tables/*.yaml``) is a grid of runs::

    title: What each part of STAR adds
    seeds: 10                    # 0 … 9, or a list
    preset: star                 # of every row that names no other
    settings: {pool.rounds: 5}   # of every cell
    baseline: random             # the row that the others are compared with
    report: results              # or probes: what star report makes of the runs
    gains: true                  # its section on the gain of labels; or a list of target accuracies
    columns:
      arithmetic: {config: ../quickstart.yaml}
    rows:
      random: {settings: {acquisition.select: random}}
      star: {naive: me}          # or a list: the first that is run in a column
      me: {settings: {acquisition.combine: none}}

``rows_of: main.yaml`` takes the rows of another table file, in their order, so that tables that ask
the same at other sizes cannot drift apart. Under ``rows``, the keys of a row of the same name
replace those taken, ``false`` leaves it out, and rows of other names are added::

    rows_of: main.yaml
    rows:
      me: {columns: [arithmetic]}  # its settings are the other's
      random: false

``rows_of: {main.yaml: [random, star-pe]}`` takes these alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from star.config import PRESETS, Config, fields_of
from star.errors import InputError, nearest
from star.experiments.table import NAME, Column, Row, Table, refuse_placed, require, word


def read_table(path: str | Path) -> Table:
    """Return the table of a file; it is called like the file.

    Raises:
        InputError: The file cannot be read, has an unknown or missing key, or names a row, column
            or configuration that is not there.
    """
    path = Path(path)
    if not NAME.fullmatch(path.stem):
        raise InputError(
            f"table file {path}: {path.stem!r} is not a plain name, which a folder gets"
        )
    content = _read_yaml(path)
    sections = {key.partition(".")[0] for key, _ in fields_of(Config)}
    if "columns" not in content and sections & set(content):
        raise InputError(
            f"{path} is the configuration of one run, not a table of runs; star run {path} runs it"
        )
    known = ("title", "seeds", "preset", "settings", "baseline", "columns", "rows", "rows_of")
    _refuse_unknown(content, (*known, "report", "gains"), f"{path}")
    report = content.get("report", "results")
    if report not in ("results", "probes"):
        raise InputError(f"{path}: report must be results or probes, got {report!r}")
    gains = _gains(path, content.get("gains", False))
    if gains is not None and report == "probes":
        raise InputError(f"{path}: gains belongs to report: results, got report: probes; remove it")
    columns = tuple(
        _column(path, name, part or {}) for name, part in _named(path, content, "columns")
    )
    preset = content.get("preset")
    if "rows_of" in content:
        content["rows"] = _shared_rows(path, content["rows_of"], content.get("rows"))
    rows = tuple(
        _row(path, name, part or {}, preset) for name, part in _named(path, content, "rows")
    )
    table = Table(
        name=path.stem,
        title=str(content.get("title", path.stem)),
        path=path,
        rows=rows,
        columns=columns,
        seeds=_seeds(path, content.get("seeds", 1)),
        settings=_words(path, content.get("settings")),
        baseline=str(content.get("baseline", rows[0].name)),
        report=report,
        gains=gains,
    )
    names = [row.name for row in rows]
    require(names, [table.baseline], f"{path}: baseline")
    for row in rows:
        others = [name for name in names if name != row.name]
        require(others, row.naive, f"{path}: rows.{row.name}.naive")
        require([c.name for c in columns], row.columns or (), f"{path}: rows.{row.name}.columns")
    return table


def _column(path: Path, name: str, part: Mapping[str, Any]) -> Column:
    where = f"{path}: columns.{name}"
    _refuse_unknown(part, ("config", "settings", "about"), where)
    if not isinstance(part.get("config"), str):
        raise InputError(f"{where} needs config, the path of a YAML file beside the table file")
    config = Path(os.path.relpath(path.parent / part["config"]))
    if not config.is_file():
        raise InputError(f"{where}.config: no file {config}")
    return Column(name, config, _words(where, part.get("settings")), str(part.get("about", "")))


def _row(path: Path, name: str, part: Mapping[str, Any], preset: str | None) -> Row:
    where = f"{path}: rows.{name}"
    _refuse_unknown(part, ("preset", "settings", "about", "columns", "naive", "curve"), where)
    preset = part.get("preset", preset)
    if preset is not None and preset not in PRESETS:
        raise InputError(f"{where}: preset must be one of {', '.join(PRESETS)}, got {preset!r}")
    chosen = part.get("columns")
    if chosen is not None and not (isinstance(chosen, list) and chosen):
        raise InputError(f"{where}.columns must be a list of column names, got {chosen!r}")
    if not isinstance(part.get("curve", True), bool):
        raise InputError(f"{where}.curve must be true or false, got {part['curve']!r}")
    return Row(
        name=name,
        preset=preset,
        settings=_words(where, part.get("settings")),
        about=str(part.get("about", "")),
        columns=None if chosen is None else tuple(map(str, chosen)),
        naive=_naive(where, part.get("naive")),
        curve=part.get("curve", True),
    )


def _shared_rows(path: Path, other: Any, own: Any) -> Any:
    """Return the rows of another table file, a table's own over them."""
    names = None
    if isinstance(other, dict) and len(other) == 1:
        [(other, names)] = other.items()
    if not isinstance(other, str) or not (names is None or (isinstance(names, list) and names)):
        raise InputError(
            f"{path}: rows_of must be the path of a table file beside it, or {{PATH: [rows]}}, got "
            f"{other if names is None else {other: names}!r}"
        )
    source = path.parent / other
    content = _read_yaml(source)
    if "rows_of" in content:
        raise InputError(
            f"{path}: rows_of: {other} takes the rows of {content['rows_of']}; name that one"
        )
    rows = dict(_named(source, content, "rows"))
    if names is not None:
        require(list(rows), names, f"{path}: rows_of: {other}")
        rows = {name: part for name, part in rows.items() if name in names}
    if own is None:
        return rows
    if not isinstance(own, dict):
        return own  # which is refused like any other rows
    for name, part in own.items():
        if part is False:
            require(list(rows), [name], f"{path}: rows")
            del rows[name]
        elif part is None or isinstance(part, dict):
            rows[name] = {**(rows.get(name) or {}), **(part or {})}
        else:
            rows[name] = part
    return rows


def _naive(where: str, value: Any) -> tuple[str, ...]:
    names = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise InputError(
            f"{where}.naive must be the name of a row, or a list of different ones, got {value!r}"
        )
    return tuple(names)


def _gains(path: Path, value: Any) -> tuple[float, ...] | None:
    if isinstance(value, bool):
        return () if value else None
    targets = value if isinstance(value, list) else [None]
    if not all(type(one) in (int, float) and 0 < one <= 1 for one in targets):
        raise InputError(
            f"{path}: gains must be true, or a list of accuracies above 0 and at most 1, got "
            f"{value!r}"
        )
    return tuple(map(float, targets))


def _seeds(path: Path, value: Any) -> tuple[int, ...]:
    if type(value) is int and value >= 1:
        return tuple(range(value))
    whole = isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)
    if not whole or not value or len(set(value)) < len(value):
        raise InputError(
            f"{path}: seeds must be how many there are, or a list of different numbers from 0 up, "
            f"got {value!r}"
        )
    return tuple(value)


def _words(where: Any, settings: Any) -> tuple[str, ...]:
    """Return a mapping of keys to values as ``key=value`` words."""
    if settings is None:
        return ()
    if not isinstance(settings, dict):
        raise InputError(f"{where}: settings must be a mapping of keys to values, got {settings!r}")
    refuse_placed(f"{where}: settings", settings)
    try:
        return tuple(f"{key}={word(value)}" for key, value in settings.items())
    except TypeError as error:  # a date, a set: YAML has more than a setting can be
        raise InputError(f"{where}: settings: {error}; put it in quotes") from None


def _named(path: Path, content: Mapping[str, Any], key: str) -> list[tuple[str, Any]]:
    part = content.get(key)
    if not isinstance(part, dict) or not part:
        raise InputError(f"{path} needs {key}, a mapping of names")
    folders: dict[str, str] = {}
    for name, value in part.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise InputError(f"{path}: {key}: {name!r} is not a plain name, which a folder gets")
        if value is not None and not isinstance(value, dict):
            raise InputError(f"{path}: {key}.{name} must be a mapping, got {value!r}")
        other = folders.setdefault(name.lower(), name)
        if other != name:
            raise InputError(
                f"{path}: {key}: {other} and {name} are one folder where case does not count"
            )
    return list(part.items())


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_loader())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"table file {path} cannot be read: {reason}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date of a thirteenth month
        raise InputError(f"table file {path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"table file {path} must be a mapping with columns and rows")
    return content


def _loader() -> Callable[..., Any]:
    """Return a safe YAML loader that refuses a repeated key: the first row would be lost."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            for key in keys:
                if keys.count(key) > 1:
                    raise yaml.YAMLError(f"key {key!r} stands there twice")
            return super().construct_mapping(node, deep)

    return Loader


def _refuse_unknown(part: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in part:
        if key not in known:
            raise InputError(
                f"{where}: unknown key '{key}'{nearest(str(key), known)}; there are "
                f"{', '.join(known)}"
            )

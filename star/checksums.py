"""Checksums of what a run wrote, kept beside it, so that no reader takes a changed file for it.

::

    <run folder>/checksums.json            of config.yaml, environment.json, initial.json, ...
    <run folder>/rounds/NN/checksums.json  of all files of the round, which it is renamed with

SHA-256, in hexadecimal. The first is written before each file that it names: a kill in between
leaves the old file or none, which is why a name can have two sums. A folder without either was
made by an earlier version; a folder with one of them alone has lost the other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from star.errors import InputError
from star.files import read_json, write_json
from star.names import inside
from star.run_files import (
    ADAPTER,
    BOUGHT,
    CONFIG,
    EMBEDDINGS,
    ENVIRONMENT,
    INITIAL,
    METRICS,
    PREDICTIONS,
    RESULT,
    ROUNDS,
    SCORES,
    SELECTED,
    TRAINING,
)

NAME = "checksums.json"
RUN_FILES = (CONFIG, ENVIRONMENT, INITIAL, RESULT)
ROUND_FILES = (
    *(METRICS, PREDICTIONS, TRAINING, SCORES, SELECTED, BOUGHT, EMBEDDINGS),
    ADAPTER,
)


@dataclass
class RunSums:
    """The content of a run folder's ``checksums.json``.

    Attributes:
        files: Name to the sums it may have: the last one, and the one before that is replaced.
        rounds_without: Rounds, from 0 on, that an earlier version wrote: they have no sums.
    """

    files: dict[str, list[str]] = field(default_factory=dict)
    rounds_without: int = 0


def damaged(path: Path, what: str) -> InputError:
    """Return the error that names a file of a run folder, what is wrong, and the way on."""
    place = next((p for p in (path, *path.parents) if is_round(p)), None)
    if place is not None:
        also = f" and {RESULT}" if (place.parents[1] / RESULT).exists() else ""
        way = (
            f"restore it from a copy, or remove {place} and all later rounds{also} and start the "
            "run again: they are made again"
        )
    elif path.name == RESULT:
        way = "remove it and start the run again: it is made again from the rounds"
    else:
        way = "restore it from a copy, or set another output_dir or run_name and start afresh"
    return InputError(f"{path} {what}; {way}")


def is_round(path: Path) -> bool:
    """Whether a path is that of a complete round's folder, ``rounds/NN``."""
    return path.parent.name == ROUNDS and re.fullmatch(r"\d\d+", path.name) is not None


def digest(path: Path) -> str:
    """Return a file's SHA-256.

    Raises:
        InputError: It is missing, no file, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise damaged(path, "is missing") from None
    except OSError as error:
        raise damaged(path, f"cannot be read ({error.strerror})") from None


def announce(run: Path, name: str, content: bytes) -> None:
    """Note the sum that a file of a run folder is about to have; write the file after it."""
    sums = read_run(run) or RunSums()
    now = [digest(run / name)] if (run / name).is_file() else []
    sums.files[name] = list(dict.fromkeys([*now, hashlib.sha256(content).hexdigest()]))
    write_json(run / NAME, asdict(sums))


def settle(run: Path, name: str) -> None:
    """Note that an announced file is there: no other sum is its own from now on."""
    sums = read_run(run) or RunSums()
    if len(sums.files[name]) > 1:
        sums.files[name] = sums.files[name][-1:]
        write_json(run / NAME, asdict(sums))


def adopt(run: Path, rounds: int) -> None:
    """Write the sums of a folder that an earlier version made, of its own files as they are."""
    files = {name: [digest(run / name)] for name in RUN_FILES if (run / name).is_file()}
    write_json(run / NAME, asdict(RunSums(files, rounds)))


def seal(place: Path) -> None:
    """Write the sums of all files of a round's folder into it."""
    files = sorted(path for path in place.rglob("*") if path.is_file())
    sums = {path.relative_to(place).as_posix(): digest(path) for path in files}
    write_json(place / NAME, {"files": sums})


def read_run(run: Path) -> RunSums | None:
    """Return a run folder's sums; ``None`` where there are none.

    Raises:
        InputError: They are damaged.
    """
    content = _read(run / NAME)
    if content is None:
        return None
    files, rounds = content.get("files"), content.get("rounds_without")
    if (
        content.keys() != {"files", "rounds_without"}
        or not isinstance(files, dict)
        or not all(isinstance(s, list) and s and _are_sums(s) for s in files.values())
        or type(rounds) is not int
        or rounds < 0
    ):
        raise damaged(run / NAME, "does not hold checksums")
    return RunSums(files, rounds)


def check_config(run: Path) -> None:
    """Refuse a ``config.yaml`` that does not fit; whatever is read next is read by its settings."""
    sums = read_run(run)
    if sums is not None and CONFIG in sums.files:
        _check_files(run, (CONFIG,), may_lack=())


def check_files(run: Path, *, begun: bool) -> None:
    """Refuse files beside the rounds that do not fit the sums.

    Args:
        run: A run folder that has sums.
        begun: Whether a round is complete: before, a kill may have left less.

    Raises:
        InputError: Naming the file.
    """
    _check_files(run, RUN_FILES, may_lack=(RESULT,) if begun else RUN_FILES)


def _check_files(run: Path, names: tuple[str, ...], may_lack: tuple[str, ...]) -> None:
    for name in names:
        path = run / name
        if not path.exists():
            if name in may_lack:
                continue
            raise damaged(path, "is missing")
        for again in (True, False):
            sums, now = read_run(run), digest(path)
            if sums is not None and now in sums.files.get(name, ()):
                break
            if not again:  # a run that is going on may have written between the two looks
                raise damaged(path, f"does not fit {run / NAME}: it was cut or changed")


def has_sums(place: Path) -> bool:
    """Whether a folder has sums, or what should be."""
    return (place / NAME).exists()


def check_round(place: Path, *, adapters: bool) -> None:
    """Refuse a round whose files do not fit its sums.

    Args:
        place: The round's folder, with sums.
        adapters: Look at the adapter too. It is nearly all of the bytes, and tables, replays and
            probes read none of them; and it may be removed once it has served.

    Raises:
        InputError: Naming the file.
    """
    content = _read(place / NAME) or {}
    sums: Any = content.get("files")
    whole = isinstance(sums, dict) and all(map(inside, sums)) and _are_sums(sums.values())
    if content.keys() != {"files"} or not whole:
        raise damaged(place / NAME, "does not hold checksums")
    for name, noted in sums.items():
        if name.startswith(f"{ADAPTER}/") and not adapters:
            continue
        if digest(place / name) != noted:
            raise damaged(place / name, f"does not fit {place / NAME}: it was cut or changed")
    listed = {name.partition("/")[0] for name in sums}
    for name in ROUND_FILES:
        if name not in listed and (place / name).exists():
            raise damaged(place / name, f"is not in {place / NAME}: the run did not write it")


def check_adapter(folder: Path) -> None:
    """Refuse an adapter that lies in a round's folder and does not fit its sums."""
    folder = folder.resolve()
    if folder.name == ADAPTER and is_round(folder.parent) and has_sums(folder.parent):
        check_round(folder.parent, adapters=True)


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        content = read_json(path)
    except InputError as error:
        raise damaged(path, f"cannot be read ({str(error).removeprefix(f'{path} ')})") from None
    if not isinstance(content, dict):
        raise damaged(path, "does not hold checksums")
    return content


def _are_sums(values: Iterable[Any]) -> bool:
    return all(isinstance(v, str) and re.fullmatch(r"[0-9a-f]{64}", v) for v in values)

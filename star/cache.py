"""What is computed once and kept: entries of a folder, named by the content that decides them.

A cache costs time and decides nothing: where an entry cannot be read it is made again, where it
cannot be written the run goes on without. Two jobs may make one entry at once; it is there whole or
not at all.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from star.files import as_json, beside, read_json, write_json

logger = logging.getLogger(__name__)

T = TypeVar("T")


def digest(content: Any) -> str:
    """Return the SHA-256 (hex) of JSON content, data classes included, equal for equal content.

    Raises:
        TypeError: An object that JSON cannot hold: its ``repr`` may name an address in memory.
        ValueError: NaN or infinity.
    """
    text = json.dumps(content, sort_keys=True, allow_nan=False, default=_fields)
    return hashlib.sha256(text.encode()).hexdigest()


def _fields(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"a {type(value).__name__} has no identity")


def key(version: int | str, /, **content: Any) -> str:
    """Return the name of an entry: 32 hexadecimal digits.

    Args:
        version: Of what the entry means; a change of it leaves all earlier entries unread.
        **content: All that decides the entry, and nothing else; as for :func:`digest`.
    """
    return digest({"version": version, "content": content})[:32]


def write_sealed(path: Path, content: Any) -> None:
    """Write JSON with its own SHA-256, by which :func:`read_sealed` knows a changed byte."""
    write_json(path, {"sha256": hashlib.sha256(as_json(content)).hexdigest(), "content": content})


def read_sealed(path: Path) -> Any:
    """Return what :func:`write_sealed` wrote.

    Raises:
        ValueError: It is something else, or not JSON; also ``KeyError``, ``TypeError``.
    """
    stored = read_json(path)
    if hashlib.sha256(as_json(stored["content"])).hexdigest() != stored["sha256"]:
        raise ValueError("its content is not what was written")
    return stored["content"]


def cached(
    folder: Path | None,
    name: str,
    *,
    make: Callable[[], T],
    read: Callable[[Path], T],
    write: Callable[[Path, T], None] | None,
    agree: Callable[[bool], bool] = bool,
) -> T:
    """Return an entry, read where it is kept, else made and kept.

    Args:
        folder: Of entries of one kind; ``None`` keeps none.
        name: The entry's, by :func:`key`, with an ending for people.
        make: The work that is saved.
        read: Gives the entry at a path; raises what it likes where that is not one.
        write: Puts the entry at a path where nothing is, as a file or a folder; ``None`` in a
            process that reads alone.
        agree: Whether something holds on every process of a job. All of them read, or all make what
            they share the work of: a folder on one machine's own disk, or an entry that appears in
            between, must not divide them. ``bool``: each process for itself.
    """
    path = None if folder is None else folder / name
    there = path is not None and path.exists()
    stored = _read(path, read) if path is not None and there else None
    if agree(stored is not None):
        assert stored is not None
        return stored[0]
    made = make()
    if path is not None and write is not None:
        try:
            with beside(path) as scratch:
                write(scratch, made)
                if there and path.is_dir():  # it could not be read
                    shutil.rmtree(path)
        except OSError as error:
            faster = error.errno in (errno.EEXIST, errno.ENOTEMPTY) and path.is_dir()
            if not faster:  # than this one: another job
                logger.warning("%s is not kept: %s", path, error.strerror or error)
    return made


def _read(path: Path, read: Callable[[Path], T]) -> tuple[T] | None:
    """Return what is kept at a path, in a tuple; ``None``: nothing that is whole."""
    try:
        return (read(path),)
    except Exception as error:  # libraries have a hundred ways to say that bytes are damaged
        logger.warning("%s cannot be read (%s); making it again", path, error)
        return None

"""Files that are there whole or not at all: JSON, JSON lines and arrays, written atomically."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from star.errors import InputError

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a binary file that becomes ``path`` at a clean exit and leaves no trace otherwise.

    It is written beside ``path`` (a rename is atomic within one file system only) under a name of
    its own, so that several processes may write the same cache file at once: the last one wins.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: str | Path, obj: Any) -> None:
    """Write ``obj`` as indented JSON, keys in the order given; numpy scalars and arrays are taken.

    Raises:
        ValueError: NaN or infinity somewhere: JSON has neither, the caller decides on ``None``.
        TypeError: Something JSON cannot hold.
    """
    text = json.dumps(obj, indent=2, allow_nan=False, ensure_ascii=False, default=_plain)
    with atomic_write(path) as file:
        file.write(text.encode() + b"\n")


def write_jsonl(path: str | Path, rows: Iterable[Any]) -> None:
    """Write one JSON value a line; the same rules as :func:`write_json`."""
    with atomic_write(path) as file:
        for row in rows:
            text = json.dumps(row, allow_nan=False, ensure_ascii=False, default=_plain)
            file.write(text.encode() + b"\n")


def read_json(path: str | Path) -> Any:
    """Return what :func:`write_json` wrote.

    Raises:
        InputError: The file is not there or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from None


def write_npz(path: str | Path, **arrays: Any) -> None:
    """Write arrays as ``.npz``. Equal arrays give equal bytes: numpy dates every entry 1980-01-01.

    Raises:
        TypeError: An array of Python objects, which could only be pickled.
    """
    plain = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in plain.items():
        if array.dtype.hasobject:
            raise TypeError(f"array '{name}' holds Python objects; nothing is pickled here")
    with atomic_write(path) as file:
        np.savez(file, **plain)


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of an ``.npz`` file by name; pickled content is refused."""
    # Opened here: np.load leaves the file open when it is no archive.
    with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _plain(value: Any) -> Any:
    """Return a numpy scalar or array, or a path, as JSON's own kinds."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"cannot write a {type(value).__name__} as JSON")


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        return
    try:
        os.fsync(handle)
    except OSError:  # some network file systems refuse to flush a folder
        logger.debug("cannot flush %s", path)
    finally:
        os.close(handle)

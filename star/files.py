"""Files that are there whole or not at all: JSON, JSON lines and arrays, written atomically."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from star.errors import InputError

logger = logging.getLogger(__name__)

NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP)  # of what cannot be looked at


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a binary file that becomes ``path`` at a clean exit and leaves no trace otherwise.

    It is written beside ``path`` (a rename is atomic within one file system only) under a short
    name of its own, so that a long one fits and several processes may write the same cache file at
    once: the last one wins.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Yield a place for a file or folder that becomes ``path`` at a clean exit.

    It is in a new folder beside ``path``, which goes in any case. A file takes the place of one
    that is there, a folder that of an empty one.

    Raises:
        OSError: It cannot be written, or there is a folder with something in it: of another
            process, which was faster.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".making-") as scratch:
        made = Path(scratch) / "made"
        yield made
        made.replace(path)


@contextlib.contextmanager
def writing(path: str | Path, mend: str) -> Iterator[None]:
    """Say in one line why nothing can be written at ``path``, and what is to be done.

    Raises:
        InputError: The block raised an ``OSError``: a full disk, a name too long, …
    """
    try:
        yield
    except OSError as error:
        what = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what += f", {_free(Path(path))}"
        raise InputError(f"cannot write {path}: {what}; {mend}") from None


def _free(path: Path) -> str:
    """Return how much a file system has left, in words."""
    with contextlib.suppress(OSError, StopIteration):
        there = next(place for place in (path, *path.absolute().parents) if place.exists())
        return f"{shutil.disk_usage(there).free / 1e6:.1f} MB free there"
    return "no room there"


def write_json(path: str | Path, obj: Any) -> None:
    """Write ``obj`` as indented JSON, keys in the order given; numpy scalars and arrays are taken.

    Raises:
        ValueError: NaN or infinity somewhere: JSON has neither, the caller decides on ``None``.
        TypeError: Something JSON cannot hold.
    """
    content = as_json(obj)
    with atomic_write(path) as file:
        file.write(content)


def as_json(obj: Any) -> bytes:
    """Return the content that :func:`write_json` writes, and raise what it raises."""
    text = json.dumps(obj, indent=2, allow_nan=False, ensure_ascii=False, default=_plain)
    return text.encode() + b"\n"


def write_jsonl(path: str | Path, rows: Iterable[Any]) -> None:
    """Write one JSON value a line; the same rules as :func:`write_json`."""
    with atomic_write(path) as file:
        for row in rows:
            file.write(json_line(row))


def json_line(row: Any) -> bytes:
    """Return a value as one line of JSON; the same rules as :func:`write_json`.

    Raises:
        ValueError: Also half of a surrogate pair, which UTF-8 cannot hold.
    """
    text = json.dumps(row, allow_nan=False, ensure_ascii=False, default=_plain)
    return text.encode() + b"\n"


def parse_json(text: str, place: str) -> Any:
    """Return a JSON value of one line that somebody else wrote.

    Raises:
        InputError: No JSON, or an object that names a key twice; with ``place`` in front.
    """
    try:
        return json.loads(text, object_pairs_hook=_each_key_once)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{place}: malformed JSON: {error.msg} at character {error.pos + 1}"
        ) from None
    except (ValueError, RecursionError) as error:  # ValueError: also a number of 4,300 digits
        raise InputError(f"{place}: malformed JSON: {error}") from None


def parse_array(text: str, place: str) -> Iterator[tuple[int, Any]]:
    """Yield line (from 1) and value of each item of a JSON array; raises as :func:`parse_json`."""
    decoder = json.JSONDecoder(object_pairs_hook=_each_key_once)
    at, between = _blank(text, 0), "["
    line, counted = 1, 0
    while True:
        if text[at : at + 1] != between:
            if between == "," and text[at : at + 1] == "]":
                break
            raise _malformed(f"Expecting '{between}'", text, at, place)
        at = _blank(text, at + 1)
        if between == "[" and text[at : at + 1] == "]":
            break
        line += text.count("\n", counted, at)
        counted = at
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise InputError(f"{place}: malformed JSON: {error}") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place}, line {line}: malformed JSON: {error}") from None
        yield line, value
        at, between = _blank(text, at), ","
    end = _blank(text, at + 1)
    if end < len(text):
        raise _malformed("Extra data", text, end, place)


def _malformed(what: str, text: str, at: int, place: str) -> InputError:
    return InputError(f"{place}: malformed JSON: {json.JSONDecodeError(what, text, at)}")


def _blank(text: str, at: int) -> int:
    """Return where the white space at ``at`` ends."""
    while text[at : at + 1] in (" ", "\t", "\n", "\r"):
        at += 1
    return at


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key '{twice}' stands twice in one object; keep one")
    return row


def refuse_half_characters(text: str, where: str) -> None:
    """Raise ``InputError`` for half of a surrogate pair, which no file and no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = ascii(text[error.start])
        raise InputError(
            f"{where} holds {half}, half of a character (a surrogate without its partner), at "
            f"character {error.start}; mend or remove it"
        ) from None


def kind_of(path: Path) -> str | None:
    """Return what stands at a path, in words; ``None`` if nothing does.

    It is looked at once: another may put a file there meanwhile.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in NOT_THERE:
            raise
        if path.is_symlink():
            return f"a link to {os.readlink(path)}, which is not there"
        return None
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISREG, "a file"))
    return next((words for is_kind, words in kinds if is_kind(mode)), "a device or socket")


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


def refuse_torn_json(folder: str | Path) -> None:
    """Name a folder's JSON file that is none, where a library says only that something is torn.

    Raises:
        InputError: There is one.
    """
    for path in sorted(Path(folder).glob("*.json")):
        read_json(path)


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

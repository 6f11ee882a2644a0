"""Where a command may write what it is asked for: nowhere that something of the user's is lost."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from star.errors import InputError
from star.files import kind_of
from star.run_files import CONFIG, ENVIRONMENT, ROUNDS

LONGEST = 255  # bytes of a name, on every common file system


def refuse_output(path: str | Path, *, force: bool, sources: Iterable[str | Path] = ()) -> None:
    """Refuse an output, before any work for it, that would replace a file or cannot be written.

    Args:
        path: Of the output.
        force: A file that is there may be replaced.
        sources: Files that are read; they are never replaced.

    Raises:
        InputError: There is a file, a folder or a device; no folder to write it to, or a run's; or
            the name is too long.
    """
    if str(path) == "-":
        raise InputError(
            "cannot write to '-', stdout is taken; name a file (./- if it is called so)"
        )
    path = Path(path)
    if (size := len(os.fsencode(path.name))) > LONGEST:
        raise InputError(f"cannot write {path}: a name has at most {LONGEST} bytes, got {size}")
    refuse_inside_run(path)
    kind = kind_of(path)
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: the folder {path.parent} does not exist")
    if kind is not None and not path.is_file():
        raise InputError(f"cannot write {path}: it is {kind}")
    if kind is not None and any(Path(s).exists() and path.samefile(s) for s in sources):
        raise InputError(f"cannot write {path}: it is the input; name another file")
    if kind is not None and not force:
        raise InputError(
            f"cannot write {path}: it is there already; name another file, or give --force"
        )
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"cannot write {path}: the folder {path.parent} is not writable")


def refuse_inside_run(path: str | Path) -> None:
    """Refuse an output inside a run folder: what stands there is what the run wrote, and no more.

    Raises:
        InputError: ``path`` is a run folder, or below one.
    """
    path = Path(path)
    place = path.resolve()
    for folder in (place, *place.parents):
        begun = any((folder / name).exists() for name in (ENVIRONMENT, ROUNDS))
        if begun and (folder / CONFIG).is_file():
            raise InputError(f"cannot write {path}: {folder} is a run folder; name another place")


def refuse_others(
    folder: Path,
    file: str,
    table: str,
    *,
    stored: Callable[[Path], str],
    writes: Callable[[Path], bool],
    force: bool,
) -> None:
    """Refuse a report where it would replace files of something else, before any is written.

    Args:
        folder: Of the report. One that holds this table's record is made anew.
        file: Name of the record.
        table: Whose it is.
        stored: A record's file to the name of its table; ``InputError`` if it is none.
        writes: Whether a file of the folder has a name that the report writes.
        force: Other files may be replaced too, but none of a run folder.

    Raises:
        InputError: The folder holds such a file, or it is inside a run folder.
    """
    refuse_inside_run(folder)
    if force or not folder.is_dir():
        return
    with contextlib.suppress(InputError):
        if stored(folder / file) == table:
            return
    for path in sorted(folder.iterdir()):
        if path.name == file or writes(path):
            raise InputError(
                f"{path} is there already, and {folder} holds no {file} of the table {table}; name "
                "another folder, or give --force"
            )

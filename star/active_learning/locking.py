"""The lock of a run folder: two processes never write the same run."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import IO

from star.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

NAME = ".lock"


def lock(path: Path) -> IO[bytes] | None:
    """Return an open file that holds a folder's lock while it is open.

    Raises:
        InputError: Another live process holds it.
        OSError: The folder is not there or cannot be written to, or something other than a file
            has the lock's name. A lock's file that was made here is gone then.
    """
    if fcntl is None:
        logger.warning("no file locks on this system: do not start the same run twice at once")
        return None
    while True:
        file, made = _opened(path / NAME)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().decode(errors="replace").strip() or "unknown"
            file.close()
            raise InputError(
                f"another process (pid {owner}) is writing {path}; wait for it, or set another "
                "output_dir or run_name"
            ) from None
        except OSError as error:  # a network file system without locks
            logger.warning("%s cannot be locked (%s): do not start the same run twice", path, error)
            return file
        # A process whose run was refused may have removed the file between the two calls: the lock
        # would be on a file that nobody else opens.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), (path / NAME).stat()):
                break
        file.close()
    try:
        file.truncate(0)
        file.write(f"{os.getpid()}\n".encode())
        file.flush()
    except OSError:
        if made:
            (path / NAME).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            file.close()
        raise
    return file


def _opened(path: Path) -> tuple[IO[bytes], bool]:
    """Return the lock's file, and whether it was made here; a link is not followed."""
    # Append mode, so that a process that is refused doesn't wipe the owner's number.
    flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.fdopen(os.open(path, flags), "ab+"), False
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):
            return os.fdopen(os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666), "ab+"), True
    return _opened(path)  # another process has made it in between


def locked(folder: Path) -> bool:
    """Whether a live process is writing a run folder.

    A lock that is free is taken for a moment, so ask only about folders nobody is about to open.
    """
    if fcntl is None:
        return False
    try:
        with (folder / NAME).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such file, or a file system without locks
        return False
    return False


def unlock(file: IO[bytes]) -> None:
    """Give a lock back; the operating system does the same when the process dies."""
    if fcntl is not None:
        # By name: a forked worker (data loading) may still hold a copy of the handle.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)
    file.close()

"""A signal that asks a process to stop: what is under way is kept first, then it leaves.

SIGTERM of a scheduler that takes a machine back, SIGUSR1 as SLURM sends it some time before a job's
limit (``sbatch --signal=B:USR1@120``). Work that can be kept is done inside :func:`held`, and looks
at :func:`requested` now and then; anywhere else the signal ends the process where it is, which
loses nothing that is complete. The exit status says that the same command goes on.

One request may come as several signals: a scheduler's to the whole group, and that of the process
which began this one. So a second signal is impatience, and ends held work too, only when it comes
:data:`PATIENCE` seconds after the first.

A library that is in the middle of something may swallow the exception, or make another of it. So
the request stands until :func:`heeded` is left: the next place that looks leaves, and whatever ends
the work after it counts as the request.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

EXIT = 75  # EX_TEMPFAIL of sysexits.h: a failure that another try mends
PATIENCE = 5.0  # seconds in which a second signal is the first one's request
KEPT = "stopped by {}; what was done is kept, start the same command again to go on"


class Stopped(BaseException):
    """Somebody asked this process to stop; no ``Exception``, so that nothing makes it go on.

    Attributes:
        number: Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(KEPT.format(signal.Signals(number).name))
        self.number = number


class _Request:
    """What was asked of this process; signals are the process' own, and so is this."""

    number: int | None = None
    since = 0.0  # by the monotonic clock
    holds = 0


def requested() -> bool:
    """Whether a signal waits for held work to be kept."""
    return _Request.number is not None


def leave() -> None:
    """Raise :class:`Stopped` if a signal waits: what had to be kept is kept."""
    if _Request.number is not None:
        raise Stopped(_Request.number)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Let a signal wait while the context lasts; the outermost one leaves at its clean exit."""
    _Request.holds += 1
    try:
        yield
    finally:
        _Request.holds -= 1
    if not _Request.holds:
        leave()


@contextlib.contextmanager
def heeded(*numbers: int) -> Iterator[None]:
    """Take signals, SIGTERM and SIGUSR1 if none are named, for requests to stop.

    A signal that is ignored already stays so. Only the main thread can do this, in any other the
    context changes nothing.

    Raises:
        Stopped: In place of any exception that comes after a request.
    """
    names = ("SIGTERM", "SIGUSR1")  # Windows has no SIGUSR1
    wanted = numbers or tuple(getattr(signal, name) for name in names if hasattr(signal, name))
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in wanted:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, _note)
    try:
        yield
    except BaseException:
        leave()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if before:
            _Request.number = None


def _note(number: int, frame: FrameType | None) -> None:
    """Note a request; leave at once where nothing is held, or where it is a second, late one."""
    if not requested():
        _Request.number, _Request.since = number, time.monotonic()
        if _Request.holds:
            return
    elif time.monotonic() - _Request.since < PATIENCE:
        return
    if importing(frame):
        with contextlib.suppress(OSError):
            os.write(2, f"{Stopped(number)}\n".encode())
        os._exit(EXIT)
    leave()


def importing(frame: FrameType | None) -> bool:
    """Whether a module is being loaded, which may swallow an exception or make another of it."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False

"""The process around the command line: ``star``, ``python -m star``, ``torchrun -m star``.

Streams that are closed, full or of another encoding, and an interrupt before anything is loaded:
what any command meets, and no command should have to think of.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import signal
import sys
from types import FrameType, TracebackType

from star.signals import EXIT, Stopped, importing

INTERRUPTED = "interrupted; start the same command again to go on"


def main() -> int:
    """Run the command line; return its exit status, 141 where nobody reads on, 75 for "go on"."""
    _take_utf_8_for_ascii()
    # Whoever was started in the background ignores interrupts, and goes on to.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    sys.excepthook = _crash
    try:
        _mend_streams()
        from star.cli.main import main as command

        status = command()
    except SystemExit as end:  # argparse
        status = end.code if isinstance(end.code, int) else 1
    except KeyboardInterrupt:
        _say(INTERRUPTED)
        status = 130
    except Stopped as stop:
        _say(str(stop))
        status = EXIT
    except BrokenPipeError as error:
        status = _unwritten(error)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            status = _unwritten(error) if stream is sys.stdout else status
            with contextlib.suppress(OSError):  # or the interpreter tries again, and complains
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    _end_of_several(status)
    return status


def _end_of_several(status: int) -> None:
    """End this process here if it is one of several that compute together."""
    distributed = sys.modules.get("star.models.distributed")
    if distributed is not None and int(os.environ.get("WORLD_SIZE") or 1) > 1:
        distributed.end(status)


def _take_utf_8_for_ascii() -> None:
    """Start again in Python's UTF-8 mode where file names would be ASCII.

    Python does so by itself in the locale C, unless ``PYTHONUTF8=0`` says otherwise. A word of the
    command line has then lost its letters already, and no file can be called by them.
    """
    if codecs.lookup(sys.getfilesystemencoding()).name == "ascii" and sys.executable:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _unwritten(error: OSError) -> int:
    """Say why stdout takes no more, and return the status."""
    if isinstance(error, BrokenPipeError):  # `star ... | head -1`: silent, as if by the signal
        return 141
    _say(f"error: cannot write to stdout: {error.strerror}")
    return 2


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise ``KeyboardInterrupt``, but amid an import leave at once.

    What is being loaded may swallow the exception or turn it into another; nothing is lost yet.
    """
    if importing(frame):
        with contextlib.suppress(OSError):
            os.write(2, f"{INTERRUPTED}\n".encode())
        os._exit(130)
    signal.default_int_handler(number, frame)


def _crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write the traceback of a fault of ours, as the interpreter does, without secrets."""
    import traceback

    from star.redaction import redacted

    _say(redacted("".join(traceback.format_exception(kind, error, trace))).rstrip())
    _end_of_several(1)


def _mend_streams() -> None:
    """Give a closed stream a place to go, and take ASCII for UTF-8, as PEP 540 does.

    A file that is opened would else take a closed stream's number, and get what is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the smallest number that is free
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream, errors in ((sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace")):
        if codecs.lookup(stream.encoding).name in ("ascii", "utf-8"):
            stream.reconfigure(encoding="utf-8", errors=errors)  # type: ignore[union-attr]
        else:  # what another encoding lacks
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _say(line: str) -> None:
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())

"""The command line: ``star VERB …``, the same as ``python -m star VERB …``.

A verb is a file here: ``add`` gives its words and its help, ``execute`` does it and returns the
exit status. What needs torch is imported in there, behind all that can be said without it.

Exit status 0: done. 2: something the user can mend, said in one line on stderr. 1: our fault.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import logging
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from star import __version__
from star.cli import (
    annotate,
    estimate,
    export,
    init,
    label,
    predict,
    query,
    replay,
    report,
    run,
    score,
    serve,
    status,
    suspects,
    sweep,
    train,
)
from star.cli.configuration import alone
from star.errors import InputError, ProcessLost
from star.redaction import Formatter, redacted

# A shared machine with as many busy threads as cores: OpenMP's threads then spin at each barrier,
# waiting for one that has no core. Asleep they cost a little on a free machine, and spinning made a
# run here thirty times slower. Read when torch is loaded, which is later.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# The Hub's client says each of its retries, twice; what came of them is in our own line.
os.environ.setdefault("HF_HUB_VERBOSITY", "error")

VERBS = (
    run,
    predict,
    serve,
    export,
    score,
    estimate,
    replay,
    sweep,
    report,
    init,
    query,
    label,
    annotate,
    train,
    status,
    suspects,
)

# What a disk, its rights and its names say no to, wherever that shows; the rest is our own fault.
MENDABLE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EIO, errno.EMFILE),
)
# As torch says it: of a CPU, of a GPU.
NO_MEMORY = re.compile("can't allocate memory|out of memory", re.IGNORECASE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb and return the exit status."""
    try:
        options = _options(arguments)
        _set_up_logging(options.verbose)
        with contextlib.nullcontext() if alone() else _together():
            status: int = options.execute(options)
        return status
    except Exception as error:
        message = _mendable(error)
        if message is None:
            raise
        return _refuse(message, 1 if isinstance(error, ProcessLost) else 2)


def _together() -> contextlib.AbstractContextManager[None]:
    """Return the context in which the processes of a job stop together."""
    from star.models.peers import together  # needs torch, which a process alone need not wait for

    return together()


def _mendable(error: Exception) -> str | None:
    """Return what to say of an error that the user can mend, ``None`` where it is our fault."""
    if isinstance(error, (InputError, ProcessLost)):
        return str(error)
    if isinstance(error, OSError) and error.errno in MENDABLE:
        name = "" if error.filename is None else f" {os.fsdecode(error.filename)}"
        return f"cannot read or write{name}: {error.strerror}"
    # A name that this locale's files cannot have.
    if isinstance(error, UnicodeEncodeError) and not error.encoding.startswith("utf"):
        return (
            f"{error.object!a} cannot be a file's name in this locale ({error.encoding}); set "
            "PYTHONUTF8=1, or another LC_ALL"
        )
    full = isinstance(error, RuntimeError) and NO_MEMORY.search(str(error))
    if full or isinstance(error, MemoryError):
        return (
            f"not enough memory ({(str(error).splitlines() or ['none'])[0][:200]}); use a smaller "
            "model, batch or adapter, or a larger machine"
        )
    return None


def _refuse(message: str, status: int = 2) -> int:
    """Say what is wrong in one line, and return the status: 2 for what the user can mend."""
    with contextlib.suppress(OSError):  # a full disk behind stderr
        # Blanks stay: two labels may differ in them alone.
        lines = [line.strip() for line in message.splitlines()]
        print(f"error: {redacted(' '.join(filter(None, lines)))}", file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    """A parser that complains in one line, as all of this program does."""

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)  # argparse says nothing of a disk that is full

    def error(self, message: str) -> NoReturn:
        sys.exit(_refuse(f"{message} (see {self.prog} --help)"))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(
        prog="star",
        description="Active learning for fine-tuning LLMs: a reimplementation of STAR "
        "(arXiv 2403.01165).",
    )
    parser.add_argument("--version", action="version", version=f"star-al {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="more log lines")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    for verb in VERBS:
        verb.add(verbs)
    options, rest = parser.parse_known_args(arguments)
    # argparse takes words behind an option for strangers: star run CONFIG --print-config seed=1
    worded = next((name for name in ("overrides", "texts") if name in options), None)
    mark = rest.index("--") if "--" in rest else len(rest)  # what is behind it is no option
    words, behind = rest[:mark], rest[mark + 1 :]
    strangers = rest if worded is None else [word for word in words if word.startswith("-")]
    if strangers:
        parser.error(f"unrecognized arguments: {' '.join(strangers)}")
    if worded is not None:
        setattr(options, worded, [*getattr(options, worded), *words, *behind])
    return options


def _set_up_logging(verbose: bool) -> None:
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(Formatter("%(message)s"))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.WARNING, handlers=[lines])
    logging.getLogger("star").setLevel(logging.DEBUG if verbose else logging.INFO)

"""Commands in processes that die at any moment, without the seconds that loading torch takes.

``multiprocessing``'s fork server has the libraries loaded; each command is forked from it, and so
are the workers of its sweep, which are else started from nothing.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOADED = (
    "star.active_learning.loop",
    "star.cli.main",
    "transformers.models.llama.modeling_llama",
)


def context() -> ForkServerContext:
    """Return the fork server's context, with what a run loads."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([*PRELOADED, "faulty_warm"])
    return server


def star(words: Sequence[str], said: str) -> None:
    """Carry out ``star WORDS`` as a process does, its words in a file; to be called in its own."""
    import torch

    from star.__main__ import main

    os.setsid()
    with open(said, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)
    given = multiprocessing.get_context
    # This process has no threads yet and has used no kernel: a fork of it is as good as a new one.
    multiprocessing.get_context = lambda name=None: given("fork" if name == "spawn" else name)  # type: ignore[assignment]
    sys.argv = ["star", *words]
    sys.exit(main())


def start(words: Sequence[str], said: Path) -> BaseProcess:
    """Start ``star WORDS``."""
    process = context().Process(target=star, args=(list(words), str(said)))
    process.start()
    return process


def family(pid: int) -> list[int]:
    """Return a process and its children."""
    children: list[int] = []
    with contextlib.suppress(OSError):
        children = list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    return [pid, *children]


def status(process: BaseProcess, seconds: float) -> int | None:
    """Return how a process ended; ``None``: it did not in so many seconds."""
    process.join(seconds)
    return process.exitcode


def send(pid: int, number: signal.Signals) -> bool:
    """Send a signal; say whether there was somebody to get it."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def gone(pids: Sequence[int], seconds: float = 60.0) -> bool:
    """Whether all of these end in time; a zombie has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(_alive(pid) for pid in pids):
            return True
        time.sleep(0.01)
    return False


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

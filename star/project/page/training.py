"""``star train`` beside the page: a process of its own, whose output says how far it is.

It writes into a file that nobody else can open, and not into a pipe: if the page ends or is killed,
the training goes on to the end of its round. That no two train the same project, the lock of its
folder sees to.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from star.errors import InputError

logger = logging.getLogger(__name__)

TAIL_BYTES = 65_536
BAR = re.compile(r"^(?P<stage>[^|]*?):? +(?P<percent>\d{1,3})%\|")
"""How tqdm begins a line: what is done, and how much of it."""

IDLE = {"state": "idle", "stage": None, "percent": None, "seconds": 0.0, "said": "", "error": ""}


class Training:
    """At most one training of a project at a time.

    Attributes:
        folder: The project's.
    """

    def __init__(
        self,
        folder: Path,
        mask: Callable[[str], str] = str,
        command: Sequence[str] = (sys.executable, "-m", "star", "train"),
    ) -> None:
        """Take the project; nothing is started.

        Args:
            folder: The project's.
            mask: What errors pass before anybody sees them: they may quote a text.
            command: What trains the folder that is added to it.
        """
        self.folder = folder
        self._mask, self._command = mask, tuple(command)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        self._begun = self._ended = 0.0

    def start(self, *, force: bool = False) -> None:
        """Start training.

        Args:
            force: One new label is enough.

        Raises:
            InputError: A training of this page runs already.
        """
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                raise InputError("a training runs already; wait for its end")
            if self._output is not None:
                self._output.close()
            self._output = tempfile.TemporaryFile()  # noqa: SIM115 - read until the next one
            words = [*self._command, str(self.folder), *(["--force"] if force else [])]
            # In a session of its own: Ctrl-C at the page's terminal is the page's to hand on.
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._begun, self._ended = time.monotonic(), 0.0

    def state(self) -> dict[str, Any]:
        """Return how it stands: ready for JSON.

        ``state`` is idle, running, done or failed; ``stage`` and ``percent`` are of what is being
        done, ``None`` where it does not say; ``seconds`` since the start; ``said`` the last line
        but for errors, ``error`` why it failed, in one line.
        """
        with self._lock:
            if self._process is None or self._output is None:
                return {**IDLE}
            status = self._process.poll()
            if status is not None and not self._ended:
                self._ended = time.monotonic()
                if status:
                    logger.error("star train ended with status %d:\n%s", status, self._tail())
            seconds = (self._ended or time.monotonic()) - self._begun
            lines = [line for line in re.split(r"[\r\n]+", self._tail()) if line.strip()]
        bars = [found for line in lines if (found := BAR.match(line))]
        plain = [line for line in lines if not BAR.match(line)]
        running = status is None
        bar = bars[-1] if running and bars and lines and BAR.match(lines[-1]) else None
        return {
            "state": "running" if running else "failed" if status else "done",
            "stage": bar["stage"].strip() if bar else None,
            "percent": min(100, int(bar["percent"])) if bar else None,
            "seconds": round(seconds, 1),
            "said": _short(self._mask(plain[-1])) if plain and not status else "",
            "error": _why([self._mask(line) for line in plain], status) if status else "",
        }

    def stop(self) -> None:
        """End a training that runs; its complete rounds stay, and the next one goes on there."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._process.terminate()
                try:
                    self._process.wait(10)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    self._process.wait()
            if self._output is not None:
                self._output.close()
            self._process = self._output = None

    def _tail(self) -> str:
        assert self._output is not None
        file = self._output.fileno()
        start = max(0, os.fstat(file).st_size - TAIL_BYTES)
        return os.pread(file, TAIL_BYTES, start).decode(errors="replace")


def _why(lines: Sequence[str], status: int) -> str:
    """Return in one line why a training failed."""
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    last = said or lines[-1:] or ["it said nothing"]
    return _short(last[-1]) if said else _short(f"training ended with status {status}: {last[-1]}")


def _short(line: str) -> str:
    return " ".join(line.split())[:500]

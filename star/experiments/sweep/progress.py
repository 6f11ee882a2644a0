"""How far a sweep is: cells done, failed, running and remaining, and the time to go."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from star.redaction import redacted

logger = logging.getLogger(__name__)


class Progress:
    """A bar where stderr is a terminal, else a line a cell; a context manager that closes it."""

    def __init__(self, total: int, *, at_once: int | None = None) -> None:
        """Begin.

        Args:
            total: Cells to run.
            at_once: How many run at once, for the time to go; ``None``: as many as do.
        """
        self._total, self._at_once = total, at_once
        self._done = self._failed = 0
        self._seconds: list[float] = []  # of the cells that were run here to their end
        self._running: Mapping[Any, float] = {}
        self._bar: tqdm[Any] | None = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, bar_format="{percentage:3.0f}% |{bar:20}| {desc}")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self.show({})
            self._bar.close()

    def show(self, running: Mapping[Any, float]) -> None:
        """Take note of what is running: anything to the seconds it has taken so far."""
        self._running = dict(running)
        if self._bar is not None:
            self._bar.set_description_str(str(self))

    def done(self, name: str, seconds: float | None) -> None:
        """Count a cell that is finished; ``seconds`` is ``None`` where another process ran it."""
        self._done += 1
        if seconds is not None:
            self._seconds.append(seconds)
        self._ended(f"{name}: done" + ("" if seconds is None else f" in {spoken(seconds)}"))

    def failed(self, name: str, error: str) -> None:
        """Count a cell that failed."""
        self._failed += 1
        self._ended(f"{name}: FAILED: {redacted(error)}", always=True)

    def say(self, line: str) -> None:
        """Say a line without harm to the bar."""
        if self._bar is None:
            logger.info("%s", line)
        else:
            tqdm.write(line, file=sys.stderr)

    def _ended(self, line: str, *, always: bool = False) -> None:
        if self._bar is not None:
            self._bar.update(1)
            self._bar.set_description_str(str(self))
            if always:
                self.say(line)
        else:
            self.say(f"{line} [{self}]")

    def __str__(self) -> str:
        running = len(self._running)
        remaining = max(self._total - self._done - self._failed - running, 0)
        parts = [f"{self._done} done", f"{self._failed} failed", f"{running} running"]
        parts.append(f"{remaining} remaining")
        seconds = self.seconds_to_go()
        if seconds is not None and remaining + running:
            parts.append(f"about {spoken(seconds)} to go")
        return ", ".join(parts)

    def seconds_to_go(self) -> float | None:
        """Return the seconds to the end if all cells take the mean of those so far.

        ``None`` until one is done.
        """
        if not self._seconds:
            return None
        mean = sum(self._seconds) / len(self._seconds)
        remaining = max(self._total - self._done - self._failed - len(self._running), 0)
        work = remaining * mean + sum(max(mean - past, 0.0) for past in self._running.values())
        return work / max(1, self._at_once or len(self._running))


def spoken(seconds: float) -> str:
    """Return a duration for people: ``40 s``, ``12 min``, ``3.4 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"

"""The audit trail of a project: who decided what, when, in a file that only grows.

Each line is what was confirmed at once: one decision of a page, or all those of an imported file.
``{"seq": 17, "decisions": [...], "chain": "..."}``: ``seq`` numbers the line's first decision, from
0 over the whole journal; ``chain`` is the SHA-256 (hex) of the chain before it and of the line
without its own. So a line that was altered, taken out or put in is named, and what is confirmed is
on the disk: a process that was killed leaves at most a last line without its end, which nobody was
told is saved.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from star.annotation.records import Decision
from star.errors import InputError, one_line
from star.files import json_line, kind_of, parse_json, sync, writing

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

_MEND = "nothing was recorded; mend that and decide again"


@dataclass(frozen=True)
class Entry:
    """A decision in the journal.

    Attributes:
        number: Its place, from 0 over the whole journal.
        decision: As it was confirmed.
    """

    number: int
    decision: Decision


class Journal:
    """A project's decisions, to add to and to read. Threads may share one, processes a file.

    Reading and adding look only at what came since; a new ``Journal`` checks the whole file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._threads = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._entries: list[Entry] = []
        self._known: set[Decision] = set()
        self._bytes, self._lines, self._chain = 0, 0, ""
        self._file: tuple[int, int] | None = None  # device and inode of what was read

    def entries(self) -> list[Entry]:
        """Return all confirmed decisions, oldest first; none where there is no journal yet.

        Raises:
            InputError: A line was altered, is missing or is none of a journal's.
        """
        with self._threads:
            try:
                with self._opened("rb", shared=True) as file:
                    self._catch_up(file)
            except FileNotFoundError:
                self._refuse_gone()
            except OSError as error:
                raise InputError(f"cannot read {self.path}: {error.strerror or error}") from None
            return list(self._entries)

    def append(self, decisions: Sequence[Decision]) -> list[Entry]:
        """Add decisions, all or none, and return their entries once they are on the disk.

        One that is there already in every field, time included, is not recorded twice: what was
        sent again after a lost reply returns the entry it has.

        Raises:
            InputError: The journal is damaged, or cannot be written; it is as it was then.
        """
        return self.decide(lambda _: decisions)

    def decide(self, choose: Callable[[list[Entry]], Sequence[Decision]]) -> list[Entry]:
        """Add what ``choose`` makes of the entries that stand, while nobody else can add any.

        Args:
            choose: Called once, with all entries; what it raises leaves the journal as it was.

        Raises:
            InputError: As :meth:`append`.
        """
        with self._threads, writing(self.path, _MEND):
            made = not self.path.exists()
            if made:
                self._refuse_gone()
            with self._opened("ab+", shared=False) as file:
                torn = self._catch_up(file)
                decisions = choose([*self._entries])
                new = [d for d in dict.fromkeys(decisions) if d not in self._known]
                if new:
                    if torn:
                        logger.warning(
                            "%s: dropped %d bytes of a last line that was never confirmed",
                            self.path,
                            torn,
                        )
                        file.truncate(self._bytes)
                    self._write(file, new)
            if made:
                sync(self.path.parent)
            at = {entry.decision: entry for entry in self._entries}
            return [at[decision] for decision in decisions]

    def _refuse_gone(self) -> None:
        """Refuse to go on without a file that was read: a new one would begin at nothing."""
        if self._file is not None:
            raise InputError(f"{self.path} was there and is gone; put it back")

    def _write(self, file: IO[bytes], decisions: Sequence[Decision]) -> None:
        """Write one line, on the disk when this returns; the file is as it was if it raises."""
        body = {"seq": len(self._entries), "decisions": [d.to_row() for d in decisions]}
        chain = _chained(self._chain, body)
        line = json_line({**body, "chain": chain})
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(file.fileno(), rest) :]
            os.fsync(file.fileno())
        except BaseException:
            # What is not confirmed must not be there later.
            with contextlib.suppress(OSError):
                file.truncate(self._bytes)
            raise
        self._take(body["seq"], decisions)
        self._bytes += len(line)
        self._lines += 1
        self._chain = chain

    def _take(self, first: int, decisions: Sequence[Decision]) -> None:
        self._entries += [Entry(first + k, decision) for k, decision in enumerate(decisions)]
        self._known.update(decisions)

    def _catch_up(self, file: IO[bytes]) -> int:
        """Read the whole lines that came since, and return how many bytes stand behind them."""
        status = os.fstat(file.fileno())
        here = (status.st_dev, status.st_ino)
        if self._file not in (None, here) or status.st_size < self._bytes:
            self._forget()  # another file under this name: all of it is looked at
        self._file = here
        file.seek(self._bytes)
        content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        for line in _lines(whole):
            place = f"{self.path}, line {self._lines + 1}"
            body, chain = _read(line, place)
            decisions = _decisions(body, place)
            if body["seq"] != len(self._entries) or chain != _chained(self._chain, body):
                raise InputError(
                    f"{place}: the line, or one before it, was altered after it was written (its "
                    f"checksum does not fit); put the file back from a copy"
                )
            self._take(body["seq"], decisions)
            self._bytes += len(line)
            self._lines += 1
            self._chain = chain
        return len(content) - len(whole)

    @contextlib.contextmanager
    def _opened(self, mode: str, *, shared: bool) -> Iterator[IO[bytes]]:
        """Open the file with its lock, which waits for whoever is writing."""
        kind = kind_of(self.path)
        if kind not in (None, "a file"):
            raise InputError(f"{self.path} must be a file, it is {kind}")
        # Unbuffered: what is written goes where the lock is held. Each call has a handle of its
        # own, so that threads wait for each other as processes do.
        with open(self.path, mode, buffering=0) as file:
            _lock(file, self.path, shared=shared)
            yield file  # closing gives the lock back


def _lock(file: IO[bytes], path: Path, *, shared: bool) -> None:
    if fcntl is None:
        logger.warning("no file locks on this system: keep %s to one process", path)
        return
    try:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    except OSError as error:  # a network file system without locks
        logger.warning("%s cannot be locked (%s): keep it to one process", path, error)


def _lines(content: bytes) -> list[bytes]:
    """Return lines that end at line feeds alone."""
    return [line + b"\n" for line in content.split(b"\n")[:-1]]


def _chained(before: str, body: dict[str, Any]) -> str:
    return hashlib.sha256(before.encode() + json_line(body)).hexdigest()


def _read(line: bytes, place: str) -> tuple[dict[str, Any], Any]:
    """Return a line without its checksum, and that."""
    try:
        row = parse_json(line.decode(), place)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{place}: not UTF-8 ({error.reason} at byte {error.start}); put the file back from a "
            "copy"
        ) from None
    if not isinstance(row, dict) or list(row) != ["seq", "decisions", "chain"]:
        raise InputError(
            f"{place}: no line of a journal: it must have seq, decisions and chain, got "
            f"{line[:60]!r}; put the file back from a copy"
        )
    chain = row.pop("chain")
    return row, chain


def _decisions(body: dict[str, Any], place: str) -> list[Decision]:
    rows = body["decisions"]
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{place}: decisions must be a list, got {rows!r:.60}")
    try:
        return [Decision.from_row(row) for row in rows]
    except InputError as error:
        raise InputError(f"{place}: {one_line(error)}; put the file back from a copy") from None

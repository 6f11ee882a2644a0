"""The other processes of a job: whether they live, and why one of them stopped.

A process that dies leaves the others waiting for its part of a message: NCCL lets them wait, gloo
says that a connection was closed, and nobody says why. So each process of a job has a thread that
counts up in the job's store (torch's ``TCPStore``) while the process lives. The process of rank 0
watches those of all others, and these watch its. What ends one is written there too, and ends all:
with its message, within a minute, whatever launched them and whatever they are waiting for.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta

from torch.distributed import DistError, PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from star import signals
from star.errors import InputError, ProcessLost, one_line

POLL = 1.0  # seconds between two looks
# Looks in which a count stands still until its process is dead. Not seconds: a job that is
# suspended as a whole has seen nothing.
SILENT = 30
GRACE = 15.0  # seconds for the main thread to leave by itself, files in order
JOIN = timedelta(minutes=10)  # until all are there: imports from a network's disk take their time
DONE = 1 << 40  # the count of a process that needs nothing of the others any more


@dataclass(frozen=True)
class Fault:
    """What stopped the process of some rank first.

    Attributes:
        rank: Of the process.
        status: Its exit status: 2 where the user can mend it.
        line: What it says.
    """

    rank: int
    status: int
    line: str


class Watch(threading.Thread):
    """A thread that tells of this process, and ends it where another has stopped.

    Args:
        store: Of this thread and :func:`together` alone: a connection serves one request at a time.
        rank: Of this process.
        size: Of the job.
    """

    def __init__(self, store: Store, rank: int, size: int) -> None:
        super().__init__(name="star-peers", daemon=True)
        self.rank, self.size = rank, size
        self._store, self._lock = store, threading.Lock()
        self._over = threading.Event()
        self._fault: Fault | None = None  # kept: who has the store may be the first to leave
        self._others = [r for r in range(size) if r != rank] if rank == 0 else [0]
        self._seen = dict.fromkeys(self._others, 0)  # the count at the last look, …
        self._still = dict.fromkeys(self._others, 0)  # … and for how many looks it has stood still
        self._add(f"count/{rank}", 1)

    def run(self) -> None:
        while not self._over.wait(POLL):
            try:
                self._add(f"count/{self.rank}", 1)
                self._look()
                fault = self.fault()
            except (RuntimeError, DistError):  # the store went, and with it who has it
                if self._seen.get(0, 0) >= DONE:
                    return
                fault = Fault(0, 1, "the process that holds the job together is gone")
            if fault is not None:
                _ask(fault)
                if not self._over.wait(GRACE):
                    self._end(fault)

    def fault(self) -> Fault | None:
        """Return what stopped the first one, if anything did."""
        with self._lock:
            if self._fault is None and self._store.check(["fault"]):
                self._fault = Fault(**json.loads(self._store.get("fault")))
            return self._fault

    @property
    def known(self) -> Fault | None:
        """What stopped the first one, as far as this process has read it."""
        return self._fault

    def tell(self, fault: Fault) -> Fault:
        """Write down what stopped a process; return what stopped the first one."""
        text = json.dumps(asdict(fault))
        with self._lock:
            return Fault(**json.loads(self._store.compare_set("fault", "", text)))

    def silent(self) -> list[int]:
        """Return the ranks of the others that count no more, after two looks' time.

        One that has not begun to count is not there yet.
        """
        ranks = [r for r in range(self.size) if r != self.rank]
        before = {r: self._add(f"count/{r}", 0) for r in ranks}
        time.sleep(2.5 * POLL)
        here = [r for r in ranks if 0 < before[r] < DONE]
        return [r for r in here if self._add(f"count/{r}", 0) == before[r]]

    def finish(self) -> None:
        """End the watch of a process that is done; rank 0, which may have the store, goes last."""
        try:
            self._add(f"count/{self.rank}", DONE)
            self._add("done", 1)
            for _ in range(int(GRACE / POLL) if self.rank == 0 else 0):
                if self._add("done", 0) >= self.size or self.fault() is not None:
                    break
                time.sleep(POLL / 10)
        except (RuntimeError, DistError):
            pass

    def over(self) -> None:
        """End the thread: nobody waits for anybody any more."""
        self._over.set()

    def said(self, fault: Fault) -> str:
        """Return what this process says of a fault."""
        if fault.rank == self.rank:
            return fault.line
        return f"rank {fault.rank} of {self.size} stopped: {fault.line}"

    def _look(self) -> None:
        for rank in self._others:
            count = self._add(f"count/{rank}", 0)
            stood = count == self._seen[rank] < DONE
            self._seen[rank], self._still[rank] = count, self._still[rank] + 1 if stood else 0
            line = f"it gave no sign of life for {SILENT * POLL:.0f} s; {AGAIN}"
            looks = SILENT
            if not count:  # it is on its way
                line = f"it did not come within {JOIN.total_seconds() / 60:.0f} minutes; {AGAIN}"
                looks = int(JOIN.total_seconds() / POLL)
            if self._still[rank] == looks:
                self.tell(Fault(rank, 1, line))

    def _add(self, key: str, value: int) -> int:
        with self._lock:
            return int(self._store.add(key, value))

    def _end(self, fault: Fault) -> None:
        """End this process, whatever its main thread waits for."""
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"error: {self.said(fault)}\n")
            sys.stderr.flush()
        os._exit(fault.status)


def _ask(fault: Fault) -> None:
    """Ask this process to keep what is done, as the one that stopped was asked, if nobody has."""
    if fault.status != signals.EXIT or signals.requested():
        return
    if signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        os.kill(os.getpid(), signal.SIGTERM)


AGAIN = "start the same command again to go on"

_current: list[Watch] = []  # at most one: a process belongs to one job


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Stop with the other processes of the job; changes nothing where there are none.

    Raises:
        InputError: Another process met something that the user can mend.
        ProcessLost: Another process died, or met a fault of ours.
        Stopped: Another process was asked to stop.
    """
    several = int(os.environ.get("WORLD_SIZE") or 1) > 1
    if not several or not {"MASTER_ADDR", "RANK"} <= os.environ.keys() or _current:
        yield
        return
    watch = _join()
    _current.append(watch)
    try:
        yield
    except BaseException as error:
        _explain(watch, error)
        raise
    else:
        watch.finish()
    finally:
        watch.over()
        # A look under way may find the store gone, which torch says in lines of its own: before
        # this process's last word, not behind it. A store that stands still is not waited for.
        watch.join(timeout=2 * POLL)
        _current.clear()


def _join() -> Watch:
    """Return the watch of this process, when all processes of the job are there."""
    try:
        store, rank, size = next(rendezvous("env://", timeout=JOIN))
    except (DistError, ValueError) as error:
        raise InputError(
            f"the {os.environ['WORLD_SIZE']} processes of this job did not all come together at "
            f"{os.environ['MASTER_ADDR']} in {JOIN.seconds // 60} minutes: {one_line(error)}"
        ) from error
    watch = Watch(PrefixStore("star", store), rank, size)
    watch.start()
    return watch


def _explain(watch: Watch, error: BaseException) -> None:
    """Tell the others of an error that is this process's own; raise what it comes of if it is not.

    Raises:
        InputError: See :func:`together`.
        ProcessLost: See :func:`together`.
        Stopped: See :func:`together`.
    """
    fault = None
    try:
        if is_of_connection(error):
            silent = watch.silent()
            dead = Fault(silent[0], 1, f"it died; {AGAIN}") if silent else None
            lost = Fault(watch.rank, 1, f"the connection to the others was lost; {AGAIN}")
            fault = watch.fault() or watch.tell(dead or lost)
        else:
            watch.tell(_own(watch.rank, error))
            if watch.rank == 0:  # with it the store may go
                time.sleep(2.5 * POLL)
    except (RuntimeError, DistError):  # the store is gone too
        if is_of_connection(error):
            fault = watch.known or Fault(0, 1, f"it died; {AGAIN}")
    if fault is not None and fault.status == signals.EXIT:
        raise signals.Stopped(signal.SIGTERM) from error
    if fault is not None:
        kind = InputError if fault.status == 2 else ProcessLost
        raise kind(watch.said(fault)) from error


def _own(rank: int, error: BaseException) -> Fault:
    if isinstance(error, signals.Stopped):
        return Fault(rank, signals.EXIT, str(error))
    if isinstance(error, (InputError, OSError, MemoryError)):
        return Fault(rank, 2, one_line(error))
    return Fault(rank, 1, f"{type(error).__name__}: {one_line(error)}")


def is_of_connection(error: BaseException) -> bool:
    """Whether an error says that another process is not there any more."""
    if isinstance(error, DistError):
        return True
    return isinstance(error, RuntimeError) and "gloo" in str(error).lower()

"""Processes that each carry out one task after another, and die alone.

Loading torch takes seconds, so a process is kept for many tasks. It gets one at a time through a
pipe of its own: a process that dies (killed, out of memory, a fault in a library) takes nothing but
its task with it, which an executor of the standard library, with one queue for all, cannot say.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from tqdm import tqdm

from star import signals
from star.signals import Stopped

# For a process that was asked to end, and may have to keep a batch first; then it is killed. SLURM
# waits as long (KillWait).
SECONDS_TO_END = 30.0


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes:
        task: As it was given to :meth:`Workers.start`.
        seconds: From then to its end; a process' first task pays for loading the libraries.
        value: What the function returned; ``None`` after an error.
        error: In one line; ``None``: there was none.
        trace: The traceback; empty without an error, and where the process died.
    """

    task: Any
    seconds: float
    value: Any
    error: str | None
    trace: str


@dataclass
class _Worker:
    """A process (``None`` until its first task) and what it is at."""

    environment: Mapping[str, str]
    process: BaseProcess | None = None
    pipe: Connection | None = None
    task: Any = None
    busy: bool = False
    since: float = 0.0
    ends_by: float | None = None  # when it is killed, where it has been asked to end


class Workers:
    """A fixed number of processes for one function; a context manager that ends them.

    They are spawned, so that they inherit neither threads nor libraries of this process, with the
    first task that needs them. One that failed is replaced too: what an error leaves behind, such
    as a GPU context that no longer answers, is no other task's concern.
    """

    def __init__(
        self, function: Callable[[Any], Any], environments: Sequence[Mapping[str, str]]
    ) -> None:
        """Prepare one process for each of ``environments``.

        Args:
            function: A module's; it and the tasks and results go from process to process.
            environments: Variables over this process' own, for each process.
        """
        self._function = function
        self._workers = [_Worker(environment) for environment in environments]

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:  # all at once; then wait for each
            _ask_to_end(worker)
        for worker in self._workers:
            _end(worker)

    @property
    def free(self) -> bool:
        """Whether a process, started already or not, waits for a task."""
        return not all(worker.busy for worker in self._workers)

    @property
    def running(self) -> dict[Any, float]:
        """The tasks being carried out, and the seconds each has taken so far."""
        now = time.monotonic()
        return {worker.task: now - worker.since for worker in self._workers if worker.busy}

    def start(self, task: Any) -> None:
        """Give a task to a free process, preferably one that has loaded its libraries.

        Raises:
            ValueError: None is free.
        """
        idle = [worker for worker in self._workers if not worker.busy]
        if not idle:
            raise ValueError("every worker is busy")
        worker = min(idle, key=lambda one: one.process is None)
        if worker.process is not None and not worker.process.is_alive():
            _end(worker)
        if worker.process is None:
            self._spawn(worker)
        assert worker.pipe is not None
        worker.task, worker.busy, worker.since = task, True, time.monotonic()
        with contextlib.suppress(OSError):  # it died this very moment: `wait` will say so
            worker.pipe.send(task)

    def wait(self, timeout: float) -> list[Outcome]:
        """Return the tasks that ended, as soon as there is one or after ``timeout`` seconds."""
        busy = [worker for worker in self._workers if worker.busy]
        if not busy:
            time.sleep(timeout)
            return []
        signs: list[Any] = [worker.pipe for worker in busy]
        signs += [worker.process.sentinel for worker in busy if worker.process is not None]
        connection.wait(signs, timeout)
        outcomes = []
        for worker in busy:
            answer = _answer(worker)
            if answer is None:
                continue
            value, error, trace = answer
            seconds = time.monotonic() - worker.since
            outcomes.append(Outcome(worker.task, seconds, value, error, trace))
            worker.task, worker.busy = None, False
            if error is not None:
                _end(worker)
        return outcomes

    def _spawn(self, worker: _Worker) -> None:
        context = multiprocessing.get_context("spawn")
        worker.pipe, theirs = context.Pipe()
        worker.process = context.Process(target=_serve, args=(theirs, self._function))
        # A library reads its variables when it is loaded, which may be before our code is.
        with _environment(worker.environment), _interrupt_held():
            worker.process.start()
        theirs.close()  # or the end of the process would not close the pipe


def one_line(error: BaseException) -> str:
    """Return an error as one line, its kind first."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


def _answer(worker: _Worker) -> tuple[Any, str | None, str] | None:
    """Return (value, error, trace) of a worker's task; ``None`` while it is at it."""
    process, pipe = worker.process, worker.pipe
    assert process is not None and pipe is not None
    alive = process.is_alive()  # first: it may answer and end in between
    try:
        if pipe.poll():
            answer: tuple[Any, str | None, str] = pipe.recv()
            return answer
    except (EOFError, OSError):
        pass  # it died, perhaps in the middle of the answer
    else:
        if alive:
            return None
    process.join(SECONDS_TO_END)
    return None, _cause_of_death(process.exitcode), ""


def _cause_of_death(status: int | None) -> str:
    if status is None:
        return "the process closed its pipe and did not end"
    if status >= 0:
        return f"the process ended with exit status {status} in the middle of the run"
    names = {int(one): one.name for one in signal.Signals}
    reason = " (killed, perhaps for want of memory)" if status == -signal.SIGKILL else ""
    return f"the process was ended by {names.get(-status, f'signal {-status}')}{reason}"


def _ask_to_end(worker: _Worker) -> None:
    """Ask a worker's process to end, if it has one: once, a second time would be impatience."""
    if worker.process is not None and worker.ends_by is None:
        worker.process.terminate()
        worker.ends_by = time.monotonic() + SECONDS_TO_END


def _end(worker: _Worker) -> None:
    """End a worker's process, if it has one; the next task gets a new one."""
    _ask_to_end(worker)
    if worker.process is not None and worker.ends_by is not None:
        worker.process.join(max(0.0, worker.ends_by - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.process.close()
    if worker.pipe is not None:
        worker.pipe.close()
    worker.process = worker.pipe = worker.task = worker.ends_by = None
    worker.busy = False


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _interrupt_held() -> Iterator[None]:
    """Hold Ctrl-C back. A process started now never gets it, not even before it can say so."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, function: Callable[[Any], Any]) -> None:
    """Carry out the tasks that come through the pipe: the life of a process."""
    # Ctrl-C in a terminal goes to all processes; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    faulthandler.enable()
    # Its own lock is one of the system's, which a process that is ended would leave behind.
    tqdm.set_lock(threading.RLock())
    with contextlib.suppress(Stopped), signals.heeded():
        while True:
            try:
                task = pipe.recv()
            except EOFError:
                return
            pipe.send(_tried(function, task))


def _tried(function: Callable[[Any], Any], task: Any) -> tuple[Any, str | None, str]:
    try:
        return function(task), None, ""
    except Stopped:  # by whoever ends this process; what was done is kept
        raise
    except BaseException as error:  # even SystemExit: a task does not decide on the process
        signals.leave()  # if a library made this of it
        return None, one_line(error), traceback.format_exc()


def _end_with_parent() -> None:
    """End this process when the one that started it is gone: killed, it could not say so."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

"""One cell's run, in a process here or in a SLURM job: its log, its failure, its lock.

Beside the run folder ``seed3/`` lie ``seed3.log``, all that its runs said, and after a failure
``seed3.failed.txt``: the error in one line, then the traceback. Not inside it, since a run folder
may hold nothing before its configuration is there, and a run can fail before that.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from star.active_learning.locking import locked
from star.active_learning.run_reader import RunReader
from star.errors import InputError
from star.experiments.sweep.workers import one_line
from star.experiments.table import Cell
from star.files import atomic_write
from star.redaction import Formatter, redacted
from star.run_files import RESULT

logger = logging.getLogger(__name__)

DONE = "done"
ELSEWHERE = "elsewhere"

Run = Callable[[Cell, Path], None]  # what makes a cell's run in a folder of the tables' folders


def run_star(cell: Cell, root: Path) -> None:
    """Run ``star run``, or go on with it."""
    from star.active_learning.loop import run  # late: the sweep itself needs no torch

    run(cell.load(root))


@dataclass(frozen=True)
class Task:
    """A cell, the folder its run folder is in, and what to do: it goes from process to process."""

    cell: Cell
    root: Path
    run: Run = run_star


def carry_out(task: Task) -> str:
    """Run a cell to its end, or on from where it stopped.

    Returns:
        ``DONE``; or ``ELSEWHERE`` where another process is running it.

    Raises:
        Exception: What the run raised; ``failed.txt`` holds it then.
    """
    folder = task.cell.folder(task.root)
    run = RunReader(folder)
    with output_to(log_file(folder)):
        # As the command line does, with the time. No effect where a SLURM job has set it up.
        lines = logging.StreamHandler()
        lines.setFormatter(Formatter("%(asctime)s %(message)s"))
        logging.basicConfig(level=logging.WARNING, handlers=[lines])
        logging.getLogger("star").setLevel(logging.INFO)
        logger.info("cell %s, process %d on %s", task.cell.name, os.getpid(), socket.gethostname())
        run.failure_file.unlink(missing_ok=True)
        try:
            task.run(task.cell, task.root)
            if not run.finished:
                raise RuntimeError(f"the run came to its end and left no {RESULT}")
        except Exception as error:
            # Asked only now: a look at a free lock takes it, for a moment.
            if isinstance(error, InputError) and locked(folder):
                logger.info("another process is running this cell")
                return ELSEWHERE
            trace = traceback.format_exc()
            sys.stderr.write(redacted(trace))
            write_failure(folder, one_line(error), trace)
            raise
        finally:
            _give_memory_back()
    return DONE


def log_file(folder: Path) -> Path:
    """Return where what a cell's runs said is kept, one after the other."""
    return folder.with_name(f"{folder.name}.log")


def write_failure(folder: Path, line: str, trace: str = "") -> None:
    """Write a cell's failure: the error in one line, then its traceback."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(RunReader(folder).failure_file) as file:
            file.write(redacted(f"{line}\n\n{trace}").rstrip().encode() + b"\n")
    except OSError as error:  # the failure itself is told, and matters more
        logger.warning("cannot write %s: %s", RunReader(folder).failure_file, error.strerror)


@contextlib.contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Append all that this process and its libraries write to stdout and stderr to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.close(file)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, before in enumerate(saved, 1):
            os.dup2(before, number)
            os.close(before)


def _give_memory_back() -> None:
    """Leave nothing of a run in memory: the next one's, and other processes', begins here."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()

"""A sweep's cells as a job array of SLURM: queue what has no job, wait until all have ended."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from star.active_learning.locking import locked
from star.active_learning.run_reader import RunReader
from star.errors import InputError
from star.experiments.sweep import slurm
from star.experiments.sweep.cell_run import (
    Run,
    Task,
    carry_out,
    write_failure,
)
from star.experiments.sweep.progress import Progress
from star.experiments.table import Cell
from star.files import atomic_write, read_json

logger = logging.getLogger(__name__)

ASK_SECONDS = 10.0  # between two questions to SLURM
PATIENCE = 3  # looks at an ended job's folder: a shared file system may be late


def on_slurm(
    todo: Sequence[Cell], root: Path, options: slurm.Options, run: Run, progress: Progress
) -> dict[Cell, str]:
    """Queue a job for each cell that has none, wait for all; return the failed ones' errors."""
    table = root / todo[0].table
    register = table / ".slurm" / "jobs.json"  # what an earlier sweep queued goes on, or waits
    known: dict[str, str] = read_json(register) if register.is_file() else {}
    queued = slurm.states(known.values()) if known else {}
    if queued is None:
        raise InputError("SLURM does not answer, and jobs of an earlier sweep may be running")
    ids = {c: known[c.name] for c in todo if queued.get(known.get(c.name, "")) in slurm.ALIVE}
    if ids:
        progress.say(f"{len(ids)} cells have a job in the queue already")
    new = [cell for cell in todo if cell not in ids]
    register.parent.mkdir(exist_ok=True)
    for cell in new:
        RunReader(cell.folder(root)).failure_file.unlink(missing_ok=True)
    if new:
        tasks = [Task(cell, root, run) for cell in new]
        jobs = slurm.submit(
            carry_out, tasks, folder=register.parent, name=f"star-{table.name}", options=options
        )
        ids |= dict(zip(new, jobs, strict=True))
        with atomic_write(register) as file:
            known |= {cell.name: job for cell, job in ids.items()}
            file.write(json.dumps(known, indent=0).encode() + b"\n")
    try:
        return watch(ids, root, progress)
    except KeyboardInterrupt:
        arrays = " ".join(sorted({job.partition("_")[0] for job in ids.values()}))
        logger.warning(
            "the jobs go on; the same command again waits for them, scancel %s ends them", arrays
        )
        raise


def watch(ids: Mapping[Cell, str], root: Path, progress: Progress) -> dict[Cell, str]:
    """Wait until every cell is finished or its job has ended without that."""
    waiting, failures = dict(ids), {}
    since: dict[Cell, float] = {}  # when a job was first seen running
    looks = dict.fromkeys(waiting, 0)
    while True:
        states = slurm.states(waiting.values())
        now = time.monotonic()
        for cell, job in list(waiting.items()):
            folder = cell.folder(root)
            state = "" if states is None else states.get(job, "no longer in the queue, cancelled?")
            if state == "RUNNING":
                since.setdefault(cell, now)
            if RunReader(folder).finished:
                del waiting[cell]
                progress.show(_running(waiting, since, now))
                progress.done(cell.name, now - since[cell] if cell in since else None)
                continue
            # Locked: another process than the job is running it.
            if states is None or state in slurm.ALIVE or locked(folder):
                continue
            failure = RunReader(folder).failure
            looks[cell] += 1
            if failure is None and looks[cell] < PATIENCE:
                continue
            if failure is None:
                failure = f"its job {job} ended without a word: {state}"
                write_failure(folder, failure)
            del waiting[cell]
            failures[cell] = failure
            progress.show(_running(waiting, since, now))
            progress.failed(cell.name, failure)
        if not waiting:
            return failures
        progress.show(_running(waiting, since, now))
        time.sleep(ASK_SECONDS)


def _running(
    waiting: Collection[Cell], since: Mapping[Cell, float], now: float
) -> dict[str, float]:
    return {cell.name: now - start for cell, start in since.items() if cell in waiting}

"""Carry out the cells of a table: what is missing, several at once, each failure its own.

Here in processes that divide the cores or GPUs, in a job array of SLURM, or as one command a line
for any other scheduler. All of them run a cell by ``cell_run.carry_out`` or by ``star run``, and
both go on from the last complete round. Several sweeps may work on one table: a cell that
another process is running is left to it.
"""

from __future__ import annotations

import json
import logging
import shlex
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from star.config import Config, check, config_hash
from star.errors import InputError
from star.files import atomic_write, read_json
from star.grid import FIRST_ROUNDS, Cell
from star.sweeping import slurm
from star.sweeping.adopting import adopt
from star.sweeping.cell_run import (
    ELSEWHERE,
    Task,
    carry_out,
    failure_file,
    finished,
    locked,
    log_file,
    read_failure,
    run_star,
    write_failure,
)
from star.sweeping.dividing import environments
from star.sweeping.ordering import Groups, beginning, choose, leaders_first, past_round_0
from star.sweeping.progress import Progress
from star.sweeping.workers import Workers

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between two looks at the processes here
ASK_SECONDS = 10.0  # between two questions to SLURM
PATIENCE = 3  # looks at an ended job's folder: a shared file system may be late

Run = Callable[[Cell, Path], None]


def sweep(
    cells: Sequence[Cell],
    root: Path,
    *,
    executor: Literal["local", "slurm"] = "local",
    jobs: int | None = None,
    options: slurm.Options | None = None,
    run: Run = run_star,
) -> list[Cell]:
    """Run the cells that are not finished, several at once; return those that failed.

    Args:
        cells: In the order to run them, but for a round 0 that several share, which comes first.
        root: Folder of the table's folder.
        executor: Processes here, or a SLURM job array.
        jobs: ``local``: processes at once; ``None``: one a GPU, without GPUs one a core.
        options: ``slurm``: what a job asks for.
        run: What a cell's process calls, a module's function; it leaves ``result.json``.

    Raises:
        InputError: See :func:`missing`; nothing is started then. SLURM refuses the jobs.
        KeyboardInterrupt: No process of this sweep is left here; jobs of SLURM go on.
    """
    todo, groups = _check(cells, root)
    adopted = set(adopt(todo, root))
    todo = [cell for cell in todo if cell not in adopted]
    if len(todo) < len(cells):
        logger.info("%d of %d cells are finished already", len(cells) - len(todo), len(cells))
    if todo:
        _make(root / todo[0].table)
    failures: dict[Cell, str] = {}
    if todo and executor == "slurm":
        ordered = leaders_first(todo, groups)
        with Progress(len(todo)) as progress:
            failures = _on_slurm(ordered, root, options or slurm.Options(), run, progress)
    elif todo:
        divided = environments(jobs)
        with Progress(len(todo), at_once=min(len(divided), len(todo))) as progress:
            failures = _here(todo, groups, root, divided, run, progress)
    if cells and not failures:  # adapters, and nothing is left that would read them
        shutil.rmtree(root / cells[0].table / FIRST_ROUNDS, ignore_errors=True)
    for cell, error in failures.items():
        log = log_file(cell.folder(root))
        logger.error("error: cell %s/%s failed: %s (see %s)", cell.table, cell.name, error, log)
    return list(failures)


def commands(cells: Sequence[Cell], root: Path) -> list[str]:
    """Return a shell command for each cell that is not finished, to be run from this folder.

    Those that make what others share come first.

    Raises:
        InputError: See :func:`missing`.
    """
    todo = leaders_first(*_check(cells, root))
    return [shlex.join(["star", "run", *cell.arguments(root)]) for cell in todo]


def missing(cells: Sequence[Cell], root: Path) -> list[Cell]:
    """Check all cells and return those that are not finished.

    Raises:
        InputError: A configuration that ``star run`` would refuse, or a run folder of another
            configuration: its numbers would stand for a cell that they are not of.
    """
    return _check(cells, root)[0]


def _check(cells: Sequence[Cell], root: Path) -> tuple[list[Cell], Groups]:
    loaded: dict[Any, Config] = {}
    groups: dict[Cell, str] = {}
    todo, foreign = [], []
    for cell in cells:
        # Seeds differ in nothing else, and reading YAML takes a while.
        key = (cell.column, cell.row, cell.config, cell.preset, cell.words)
        if key not in loaded:
            loaded[key] = cell.load(root)
        config = replace(loaded[key], seed=cell.seed)
        check(config)
        groups[cell] = beginning(config)
        folder = cell.folder(root)
        if _stored_hash(folder) not in (None, config_hash(config)):
            foreign.append(folder)
        elif not finished(folder):
            todo.append(cell)
    if foreign:
        more = f" (and {len(foreign) - 1} more like it)" if len(foreign) > 1 else ""
        raise InputError(
            f"{foreign[0]} holds a run of another configuration than its cell has now{more}; "
            "remove it, or set another --output-dir"
        )
    return todo, groups


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write to {folder}: {error.strerror}; set another --output-dir"
        ) from None


def _stored_hash(folder: Path) -> str | None:
    """Return the hash of the configuration whose run a folder holds; ``None``: none yet."""
    for name in ("result.json", "environment.json"):
        if (folder / name).is_file():
            content = read_json(folder / name)
            return str(content.get("config_hash") if isinstance(content, dict) else "")
    return None


# --- here ---------------------------------------------------------------------------------------


def _here(
    todo: Sequence[Cell],
    groups: Groups,
    root: Path,
    divided: Sequence[Mapping[str, str]],
    run: Run,
    progress: Progress,
) -> dict[Cell, str]:
    """Run cells in processes of this machine; return the failed ones and their errors."""
    waiting, failures = list(todo), {}
    elsewhere: set[Cell] = set()
    past = past_round_0(groups, root)
    with Workers(carry_out, divided) as workers:
        while waiting or workers.running:
            ready = [c for c in waiting if c not in elsewhere or not locked(c.folder(root))]
            if ready and workers.free:
                cell = choose(ready, [task.cell for task in workers.running], groups, past)
                waiting.remove(cell)
                if finished(cell.folder(root)):  # another sweep was faster
                    progress.done(cell.name, None)
                else:
                    elsewhere.discard(cell)
                    failure_file(cell.folder(root)).unlink(missing_ok=True)
                    workers.start(Task(cell, root, run))
                continue
            progress.show(_by_name(workers))
            for ended in workers.wait(LOOK_SECONDS):
                cell = ended.task.cell
                progress.show(_by_name(workers))
                if ended.error is not None:
                    failures[cell] = ended.error
                    if read_failure(cell.folder(root)) is None:  # it could not say so itself
                        write_failure(cell.folder(root), ended.error, ended.trace)
                    progress.failed(cell.name, ended.error)
                elif ended.value == ELSEWHERE:
                    elsewhere.add(cell)
                    waiting.append(cell)
                    progress.say(f"{cell.name}: another process is running it, left to that one")
                else:
                    progress.done(cell.name, ended.seconds)
    return failures


def _by_name(workers: Workers) -> dict[str, float]:
    return {task.cell.name: seconds for task, seconds in workers.running.items()}


# --- SLURM --------------------------------------------------------------------------------------


def _on_slurm(
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
        failure_file(cell.folder(root)).unlink(missing_ok=True)
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
        return _watch(ids, root, progress)
    except KeyboardInterrupt:
        arrays = " ".join(sorted({job.partition("_")[0] for job in ids.values()}))
        logger.warning(
            "the jobs go on; the same command again waits for them, scancel %s ends them", arrays
        )
        raise


def _watch(ids: Mapping[Cell, str], root: Path, progress: Progress) -> dict[Cell, str]:
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
            if finished(folder):
                del waiting[cell]
                progress.show(_running(waiting, since, now))
                progress.done(cell.name, now - since[cell] if cell in since else None)
                continue
            # Locked: another process than the job is running it.
            if states is None or state in slurm.ALIVE or locked(folder):
                continue
            failure = read_failure(folder)
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

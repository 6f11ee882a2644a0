"""Carry out the cells of a table: what is missing, several at once, each failure its own.

Here in processes that divide the cores or GPUs, in a job array of SLURM, or as one command a line
for any other scheduler. All of them run a cell by ``cell_run.carry_out`` or by ``star run``, and
both go on from the last complete round. Several sweeps may work on one table: a cell that
another process is running is left to it.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from star.active_learning.contents import Contents, changes
from star.active_learning.locking import locked
from star.active_learning.round_0 import key_of_round_0
from star.active_learning.run_checks import check_run
from star.active_learning.run_reader import RunReader
from star.config import Config, check, config_hash, own_strategy
from star.errors import InputError
from star.experiments.sweep import slurm
from star.experiments.sweep.adopting import adopt
from star.experiments.sweep.cell_run import (
    ELSEWHERE,
    Run,
    Task,
    carry_out,
    log_file,
    run_star,
    write_failure,
)
from star.experiments.sweep.dividing import environments
from star.experiments.sweep.on_slurm import on_slurm
from star.experiments.sweep.ordering import Groups, choose, leaders_first, past_round_0
from star.experiments.sweep.progress import Progress
from star.experiments.sweep.workers import Workers
from star.experiments.table import FIRST_ROUNDS, Cell
from star.files import read_json
from star.run_files import ENVIRONMENT, FAILURE, RESULT

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between two looks at the processes here


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
        InputError: A configuration that ``star run`` would refuse, or a run folder of another
            configuration: its numbers would stand for a cell that they are not of. Or a finished
            one that is damaged. Nothing is started then. Or SLURM refuses the jobs.
        KeyboardInterrupt: No process of this sweep is left here; jobs of SLURM go on.
    """
    configs = _check(cells, root)
    groups = {cell: key_of_round_0(config) for cell, config in configs.items()}
    todo = _unfinished(cells, root)
    divided = environments(jobs, len(todo)) if executor == "local" else []
    if todo:
        _make(root / todo[0].table)
    adopted = set(adopt({cell: configs[cell] for cell in todo}, root))
    todo = [cell for cell in todo if cell not in adopted]
    if len(todo) < len(cells):
        logger.info("%d of %d cells are finished already", len(cells) - len(todo), len(cells))
    failures: dict[Cell, str] = {}
    if todo and executor == "slurm":
        ordered = leaders_first(todo, groups)
        with Progress(len(todo)) as progress:
            failures = on_slurm(ordered, root, options or slurm.Options(), run, progress)
    elif todo:
        with Progress(len(todo), at_once=min(len(divided), len(todo))) as progress:
            failures = _here(todo, groups, root, divided, run, progress)
    if cells and not failures:
        _tidy(root / cells[0].table)
    for cell, error in failures.items():
        log = log_file(cell.folder(root))
        logger.error("error: cell %s/%s failed: %s (see %s)", cell.table, cell.name, error, log)
    return list(failures)


def commands(cells: Sequence[Cell], root: Path) -> list[str]:
    """Return a shell command for each cell that is not finished, to be run from this folder.

    Those that make what others share come first.

    Raises:
        InputError: As :func:`sweep`.
    """
    configs = _check(cells, root)
    groups = {cell: key_of_round_0(config) for cell, config in configs.items()}
    todo = leaders_first(_unfinished(cells, root), groups)
    return [shlex.join(["star", "run", *cell.arguments(root)]) for cell in todo]


def _unfinished(cells: Sequence[Cell], root: Path) -> list[Cell]:
    return [cell for cell in cells if not RunReader(cell.folder(root)).finished]


def _check(cells: Sequence[Cell], root: Path) -> dict[Cell, Config]:
    """Return the cells' configurations; see :func:`sweep` for what is refused."""
    loaded: dict[Any, Config] = {}
    found: dict[Cell, Config] = {}
    foreign = []
    for cell in cells:
        # Seeds differ in nothing else, and reading YAML takes a while.
        key = (cell.column, cell.row, cell.config, cell.preset, cell.words)
        if key not in loaded:
            loaded[key] = cell.load(root)
            strategy = own_strategy(loaded[key].acquisition)
            if strategy is not None:
                _resolve(cell, strategy)
        config = replace(loaded[key], seed=cell.seed)
        check(config)
        found[cell] = config
        folder = cell.folder(root)
        if _stored_hash(folder) not in (None, config_hash(config)):
            foreign.append(folder)
        elif RunReader(folder).finished:
            check_run(folder)
    if foreign:
        more = f" (and {len(foreign) - 1} more like it)" if len(foreign) > 1 else ""
        raise InputError(
            f"{foreign[0]} holds a run of another configuration than its cell has now{more}; "
            "remove it, or set another --output-dir"
        )
    _refuse_other_content(found, root)
    return found


def _refuse_other_content(configs: Mapping[Cell, Config], root: Path) -> None:
    """Refuse finished runs of other data, models or strategies than their cells name now."""
    now, others, unknown = Contents(), [], None
    for cell, config in configs.items():
        folder = cell.folder(root)
        if RunReader(folder).finished and RunReader(folder).has_environment():
            try:
                content = now.of(config)
            except InputError as error:  # not to be had on this machine, maybe; its runs are there
                unknown = unknown or error
                continue
            others += [(folder, told) for told in changes(folder, content).values()]
    if unknown is not None:
        logger.warning("whether what is finished is of today's content cannot be told: %s", unknown)
    if others:
        folder, told = others[0]
        more = f" (and {len(others) - 1} more like it)" if len(others) > 1 else ""
        raise InputError(
            f"{folder} was made on another content of {told}{more}; restore it, remove what was "
            "made on it, or set another --output-dir"
        )


def _resolve(cell: Cell, strategy: str) -> None:
    from star.acquisition.user_function import resolve

    try:
        resolve(strategy)
    except InputError as error:
        raise InputError(f"cell {cell.table}/{cell.name}: {error}") from None


def _tidy(table: Path) -> None:
    """Remove the first rounds, which hold adapters, once no run of the table is on its way.

    Another sweep's, of other columns or seeds, may still read them; so may a cell that failed: one
    that was refused leaves a note, and no folder.
    """
    places = [path for path in table.glob("*/*/seed*") if path.is_dir()]
    failed = any(table.glob(f"*/*/seed*{FAILURE}"))
    if all(RunReader(place).finished for place in places) and not failed:
        shutil.rmtree(table / FIRST_ROUNDS, ignore_errors=True)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write to {folder}: {error.strerror}; set another --output-dir"
        ) from None


def _stored_hash(folder: Path) -> str | None:
    """Return the hash of the configuration whose run a folder holds; ``None``: none yet."""
    for name in (RESULT, ENVIRONMENT):
        if (folder / name).is_file():
            try:
                content = read_json(folder / name)
            except InputError as error:
                raise InputError(f"{error}; remove {folder} to run its cell again") from None
            return str(content.get("config_hash") if isinstance(content, dict) else "")
    return None


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
                if RunReader(cell.folder(root)).finished:  # another sweep was faster
                    progress.done(cell.name, None)
                else:
                    elsewhere.discard(cell)
                    with contextlib.suppress(OSError):  # its own run will fail, and alone
                        RunReader(cell.folder(root)).failure_file.unlink(missing_ok=True)
                    workers.start(Task(cell, root, run))
                continue
            progress.show(_by_name(workers))
            for ended in workers.wait(LOOK_SECONDS):
                cell = ended.task.cell
                progress.show(_by_name(workers))
                if ended.error is not None:
                    failures[cell] = ended.error
                    if RunReader(cell.folder(root)).failure is None:  # it could not say so itself
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

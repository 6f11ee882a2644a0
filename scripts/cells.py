"""Run many small configurations, several at once, and only those that are not finished.

A grid script (``probes.py``) is its cells, what it gathers from their runs, and a report of that;
:func:`carry_out` is the rest. A cell that fails is named at the end and stops no other; started
again, only what is missing runs, and a run that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

After = Callable[["Cell", Path], None]
QUIET = ("tracking.progress=false", "tracking.save_adapters=none")


@dataclass(frozen=True)
class Cell:
    """One run: a name for its row, a configuration, a preset, ``key=value`` words, a seed."""

    name: str
    config: str
    words: tuple[str, ...] = ()
    preset: str = "star"
    seed: int = 0

    @property
    def task(self) -> str:
        """The task: its configuration is called so, but for the one that newcomers start with."""
        stem = Path(self.config).stem
        return "arithmetic" if stem == "quickstart" else stem

    def folder(self, root: Path) -> Path:
        """Return the run folder: one a name, task and seed."""
        return root / self.task / self.name / f"seed{self.seed}"

    def load(self, root: Path):  # noqa: ANN201  star is imported late, in the workers
        """Return the cell's configuration, its run folder under ``root``."""
        from star.config import load

        place = [f"output_dir={root}", f"run_name={self.folder(root).relative_to(root)}"]
        return load(
            self.config,
            [f"seed={self.seed}", *QUIET, *place, *self.words],
            preset=self.preset,
        )


def _end_with_parent() -> None:
    """End this worker when the process that started it is gone: killed, it cannot say so."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run(cell: Cell, root: Path, after: After | None) -> float:
    start = time.monotonic()
    from star.active_learning.loop import run

    run(cell.load(root))
    if after is not None:
        after(cell, root)
    return time.monotonic() - start


def finished(cell: Cell, root: Path) -> bool:
    """Whether the cell's run is there and finished.

    Raises:
        InputError: It is that of other settings, an earlier version's of the cell, say.
    """
    from star.config import config_hash
    from star.errors import InputError
    from star.files import read_json

    path = cell.folder(root) / "result.json"
    if not path.is_file():
        return False
    if read_json(path)["config_hash"] != config_hash(cell.load(root)):
        raise InputError(
            f"{path.parent} holds a run of other settings than the cell has now; remove {root}, or "
            "name another folder with --runs"
        )
    return True


def run_missing(
    cells: Iterable[Cell], root: Path, *, workers: int | None = None, after: After | None = None
) -> list[Cell]:
    """Run what is not finished yet, one thread a process; return the cells that failed.

    Args:
        cells: In the order to run them.
        root: Folder of the run folders.
        workers: Processes at once; ``None`` = one a core.
        after: Called in the worker with every cell that is run, or was run before, and ``root``:
            what else a cell needs; it leaves alone what it finds done.
    """
    from star.active_learning.contents import Contents, refuse_other

    wanted, now = list(cells), Contents()
    for cell in wanted:
        config = cell.load(root)  # a setting that is refused is refused before hours of work
        if finished(cell, root):
            refuse_other(cell.folder(root), now.of(config))
    todo = [cell for cell in wanted if not finished(cell, root) or after is not None]
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the workers when they load torch
    workers = workers or len(os.sched_getaffinity(0))
    failed: list[Cell] = []
    # Spawned, so that no worker inherits threads of this process.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _end_with_parent) as pool:
        jobs = {pool.submit(_run, cell, root, after): cell for cell in todo}
        for done, job in enumerate(as_completed(jobs), 1):
            cell = jobs[job]
            try:
                said = f"{job.result():.0f} s"
            except Exception as error:  # whatever it is, the other cells go on
                failed.append(cell)
                said = f"failed: {error!r}"
            name = cell.folder(root).relative_to(root)
            print(f"[{done}/{len(todo)}] {name}: {said}", file=sys.stderr, flush=True)
    return failed


def provenance(cells: Sequence[Cell], root: Path) -> dict[str, Any]:
    """Return what made these runs: commits, versions, hardware, dates, seeds."""
    from star.files import read_json

    found: dict[str, Any] = {"seeds": sorted({cell.seed for cell in cells}), "runs": len(cells)}
    for cell in cells:
        told = read_json(cell.folder(root) / "environment.json")
        for key in ("star", "hardware", "packages"):
            if told.get(key) is not None and told[key] not in found.setdefault(key, []):
                found[key].append(told[key])
        found.setdefault("started", []).append(str(told.get("started", ""))[:10])
    found["started"] = sorted(set(found.get("started", [])))
    return found


def say_failed(failed: Sequence[Cell]) -> int:
    """Name the cells that failed on stderr; return the exit status."""
    for cell in failed:
        print(f"error: cell {cell.name}, {cell.config}, seed {cell.seed} failed", file=sys.stderr)
    return 1 if failed else 0


def options(about: str | None, name: str) -> argparse.ArgumentParser:
    """Return the options that every grid has; results go to ``scripts/results/NAME``."""
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--runs", type=Path, default=Path("runs") / name, help="run folders")
    parser.add_argument("--output", type=Path, default=Path("scripts/results") / name)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, help="runs at once; as many as cores by default")
    return parser


def carry_out(
    wanted: Sequence[Cell],
    root: Path,
    output: Path,
    gather: Callable[[list[Cell], Path], dict[str, Any]],
    write_report: Callable[[Path], str],
    *,
    workers: int | None = None,
    after: After | None = None,
) -> int:
    """Run what is missing, write what the finished runs say, report it; return the exit status.

    Args:
        wanted: All cells.
        root: Folder of the run folders.
        output: The JSON file to write.
        gather: Finished cells and ``root`` to the file's content.
        write_report: Writes ``table.md`` and pictures beside the file, returns the table.
        workers: Processes at once; ``None`` = one a core.
        after: See :func:`run_missing`.

    Returns:
        0, 1 if a cell failed, 2 for what the user can mend.
    """
    from star.errors import InputError
    from star.files import write_json

    try:
        failed = run_missing(wanted, root, workers=workers, after=after)
        done = [cell for cell in wanted if cell not in failed]
        output.parent.mkdir(parents=True, exist_ok=True)
        write_json(output, gather(done, root) | {"provenance": provenance(done, root)})
        print(write_report(output.parent))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return say_failed(failed)

"""Job arrays: what SLURM is asked for, and a small table through a real one where it is installed.

The real one is what ``sinfo`` finds (see SLURM_CONF), else one of one node that
``tests/slurm_one_node.sh`` starts for the test.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import runs

from star.active_learning.run_reader import RunReader
from star.errors import InputError
from star.experiments.sweep import cell_run, on_slurm, slurm
from star.experiments.sweep.sweep import sweep
from star.experiments.table import Cell

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parents[1] / "slurm_one_node.sh"
QUICK = (
    "task.pool_limit=30", "task.test_limit=4", "pool.initial_size=4", "pool.query_size=2",
    "pool.rounds=2", "train.max_steps=1", "acquisition.mc_dropout.passes=0",
    'evaluation.views=["full"]',
)  # fmt: skip


# --- without SLURM ------------------------------------------------------------------------------


class FakeExecutor:
    """Submitit's, as far as it is used: notes what it is asked for."""

    made: list[FakeExecutor]

    def __init__(self, folder: Path, cluster: str) -> None:
        self.folder, self.cluster, self.arrays = folder, cluster, []
        self.made.append(self)

    def update_parameters(self, **asked: Any) -> None:
        self.asked = asked

    def map_array(self, function: Any, tasks: list[Any]) -> list[Any]:
        self.arrays.append([function(task) for task in tasks])
        number = len(self.arrays)
        return [types.SimpleNamespace(job_id=f"{number}_{i}") for i in range(len(tasks))]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeExecutor]:
    monkeypatch.setitem(sys.modules, "submitit", types.SimpleNamespace(AutoExecutor=FakeExecutor))
    monkeypatch.setattr(shutil, "which", lambda command: f"/usr/bin/{command}")
    monkeypatch.setattr(FakeExecutor, "made", [], raising=False)
    return FakeExecutor


def double(number: int) -> int:
    return 2 * number


def test_what_slurm_is_asked_for(fake: type[FakeExecutor], tmp_path: Path) -> None:
    options = slurm.Options("long", minutes=90, cpus=4, gpus=1, memory_gb=16, parallel=3)
    ids = slurm.submit(double, [1, 2, 3], folder=tmp_path, name="star-main", options=options)
    assert ids == ["1_0", "1_1", "1_2"]
    (executor,) = fake.made
    assert (executor.folder, executor.cluster) == (tmp_path, "slurm")
    assert executor.arrays == [[2, 4, 6]]
    asked = executor.asked
    assert asked["timeout_min"] == 90 and asked["cpus_per_task"] == 4
    assert asked["gpus_per_node"] == 1 and asked["mem_gb"] == 16
    assert asked["slurm_partition"] == "long" and asked["slurm_array_parallelism"] == 3
    assert "export OMP_NUM_THREADS=4" in asked["slurm_setup"]


def test_more_jobs_than_an_array_may_have(fake: type[FakeExecutor], tmp_path: Path) -> None:
    ids = slurm.submit(
        double, list(range(2500)), folder=tmp_path, name="x", options=slurm.Options(parallel=9)
    )
    (executor,) = fake.made
    assert [len(array) for array in executor.arrays] == [1000, 1000, 500]
    assert executor.asked["slurm_array_parallelism"] == 3  # nine in all three
    assert len(set(ids)) == 2500
    assert {"gpus_per_node", "mem_gb", "slurm_partition"}.isdisjoint(executor.asked)


@pytest.mark.parametrize(
    "options", [{"minutes": 1}, {"cpus": 0}, {"gpus": -1}, {"memory_gb": 0}, {"parallel": 0}]
)
def test_options_out_of_range(
    options: dict[str, int], fake: type[FakeExecutor], tmp_path: Path
) -> None:
    (name,) = options
    with pytest.raises(InputError, match=name):
        slurm.submit(double, [1], folder=tmp_path, name="x", options=slurm.Options(**options))
    assert fake.made == []


def test_what_is_not_installed(
    fake: type[FakeExecutor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest: dict[str, Any] = {"folder": tmp_path, "name": "x", "options": slurm.Options()}
    monkeypatch.setattr(shutil, "which", lambda command: None)
    with pytest.raises(InputError, match="no sbatch here"):
        slurm.submit(double, [1], **rest)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(InputError, match="pip install submitit"):
        slurm.submit(double, [1], **rest)


def test_the_queue_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tmp_path / "squeue"
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def answer(script: str) -> None:
        asked.write_text(f"#!/bin/sh\n{script}\n")
        asked.chmod(0o755)

    answer(
        'case "$*" in *--jobs=5*) printf "5_0 RUNNING\\n5_1 PENDING\\n5_9 FAILED\\n";;'
        ' *) echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1;; esac'
    )
    assert slurm.states(["5_0", "5_1", "6"]) == {"5_0": "RUNNING", "5_1": "PENDING"}
    answer('echo "Unable to contact slurm controller" >&2; exit 1')
    assert slurm.states(["5_0"]) is None
    assert slurm.states([]) == {}
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert slurm.states(["5_0"]) is None


# --- with SLURM ---------------------------------------------------------------------------------


def answers() -> bool:
    """Whether a SLURM with a working node answers."""
    try:
        shown = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True, timeout=30
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    return any(word in shown for word in ("idle", "mixed", "allocated"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    pytest.importorskip("submitit")
    if shutil.which("sbatch") is None:
        pytest.skip("SLURM is not installed")
    if answers():
        yield
        return
    daemons = os.environ["PATH"] + ":/usr/sbin:/sbin"
    if not all(shutil.which(name, path=daemons) for name in ("munged", "slurmctld", "slurmd")):
        pytest.skip("no SLURM answers, and its daemons are not installed")
    folder = tmp_path_factory.mktemp("slurm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_ONE_NODE", str(folder))
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        try:
            subprocess.run([str(SCRIPT), "start"], check=True, timeout=120)
            yield
        finally:
            subprocess.run([str(SCRIPT), "stop"], check=True, timeout=120)


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    """Return six cells, two of which cannot be run; the run folders go below this folder."""
    monkeypatch.setattr(on_slurm, "ASK_SECONDS", 1.0)
    monkeypatch.chdir(tmp_path)
    rows = {
        "random": ("acquisition.select=random",),
        "broken": (f"model.name_or_path={tmp_path / 'nowhere'}",),
        "star": (),
    }
    config = ROOT / "configs" / "tiny" / "choice.yaml"
    return [
        Cell("small", "choice", row, seed, config, None, (*QUICK, *words))
        for seed in (0, 1)
        for row, words in rows.items()
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_table_through_slurm(grid: list[Cell], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="star")
    options, root = slurm.Options(minutes=20, parallel=2), Path("runs")
    failed = sweep(grid, root, executor="slurm", options=options)
    assert {one.name for one in failed} == {f"choice/broken/seed{seed}" for seed in (0, 1)}
    assert "4 done, 2 failed, 0 running, 0 remaining" in caplog.text
    for one in grid:
        folder = one.folder(root)
        if one in failed:
            assert "no such folder" in str(RunReader(folder).failure)
            continue
        content = json.loads((folder / "result.json").read_text())
        assert len(content["rounds"]) == 2
        assert "round 0" in cell_run.log_file(folder).read_text()
    assert runs.unfinished(grid, root) == [one for one in grid if one in failed]
    assert not sweep([one for one in grid if one not in failed], root, executor="slurm")


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_jobs_outlive_the_sweep_and_are_found_again(
    grid: list[Cell],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO, logger="star")
    cells = [one for one in grid if one.row != "broken"]

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(on_slurm, "watch", interrupt)
        with pytest.raises(KeyboardInterrupt):
            sweep(cells, tmp_path, executor="slurm", options=slurm.Options(parallel=1))
    assert "the jobs go on" in caplog.text
    queued = (tmp_path / "small" / ".slurm" / "jobs.json").read_text()
    assert sweep(cells, tmp_path, executor="slurm") == []
    assert "4 cells have a job in the queue already" in caplog.text
    assert (tmp_path / "small" / ".slurm" / "jobs.json").read_text() == queued
    logs = [cell_run.log_file(one.folder(tmp_path)).read_text() for one in cells]
    assert [log.count("process") for log in logs] == [1] * 4  # each was started once


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_job_that_is_cancelled_is_a_failure(
    grid: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two that make a first round, one that shares it; the first has long to go when SLURM is asked.
    long = replace(grid[0], words=(*grid[0].words, "pool.rounds=12"))
    cells = [long, grid[3], grid[2]]
    ids: list[str] = []
    submit, ask = slurm.submit, slurm.states

    def note(*arguments: Any, **rest: Any) -> list[str]:
        ids.extend(submit(*arguments, **rest))
        return ids

    def cancel(asked: Any) -> dict[str, str] | None:
        found = ask(asked)
        # The first while it runs, the second while it waits for the first.
        if found and found.get(ids[0]) == "RUNNING":
            subprocess.run(["scancel", *ids[:2]], check=True)
        return found

    monkeypatch.setattr(slurm, "submit", note)
    monkeypatch.setattr(slurm, "states", cancel)
    options = slurm.Options(parallel=1)
    assert set(sweep(cells, tmp_path, executor="slurm", options=options)) == set(cells[:2])
    told = {one: str(RunReader(one.folder(tmp_path)).failure) for one in cells}
    assert "CANCELLED" in told[cells[0]] and "cancelled" in told[cells[1]]
    assert told[cells[2]] == "None"


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_jobs_that_slurm_refuses(grid: list[Cell], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"SLURM refused the jobs: .*partition"):
        sweep(grid, tmp_path, executor="slurm", options=slurm.Options("nowhere"))


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("told", [True, False])
def test_a_job_that_is_told_of_its_limit_queues_itself_again(told: bool, tmp_path: Path) -> None:
    """``scancel --signal`` does what SLURM does before the limit; ``scancel`` ends the job."""
    command = tmp_path / "star"  # stands for a run: stopped once, done the second time
    command.write_text(
        "#!/bin/sh\n"
        "[ ! -e begun ] || { touch done; exit 0; }\n"
        "touch begun\n"
        "trap 'exit 75' USR1 TERM\n"
        "while :; do sleep 0.1; done\n"
    )
    command.chmod(0o755)
    script = str(ROOT / "configs" / "accelerate" / "slurm.sh")
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    one = ["--time=5", "--nodes=1", "--ntasks-per-node=1", "--cpus-per-task=1", "--gpus-per-node=0"]
    number = subprocess.run(
        ["sbatch", "--parsable", "--output=log", *one, script, "CONFIG"],
        cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip

    def state() -> str:
        words = ["squeue", "--noheader", "--format=%T", "--jobs", number]
        return subprocess.run(words, capture_output=True, text=True).stdout.strip()

    def until(there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 400  # SLURM waits two minutes with a job that came back
        while not there():
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.2)

    until((tmp_path / "begun").exists)
    signal = ["--signal=USR1", "--batch"] if told else []
    subprocess.run(["scancel", *signal, number], check=True)
    if told:
        until((tmp_path / "done").exists)
    else:
        until(lambda: state() in ("", "CANCELLED"))
        assert not (tmp_path / "done").exists()

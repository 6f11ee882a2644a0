"""A process of several that dies or stops ends the others: soon, and with a line that says why."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import runs

pytestmark = pytest.mark.slow

WORKER = Path(__file__).parents[1] / "support" / "dying_worker.py"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
LIMIT = 60  # seconds


@pytest.fixture(scope="module")
def words(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("dying")
    data = runs.write_data(folder / "data", pool=24, test=4)
    return ["run", "-", *runs.words(tiny_llama, data, folder, "pool.rounds=2")]


def launch(count: int, arguments: list[str], folder: Path) -> list[subprocess.Popen[bytes]]:
    """Start the processes of a job as SLURM's srun does: nobody looks after them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    sizes = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    processes = []
    for rank in range(count):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        with (folder / f"{rank}.out").open("w") as out, (folder / f"{rank}.err").open("w") as err:
            processes.append(
                subprocess.Popen(
                    [sys.executable, str(WORKER), *arguments],
                    env=ENVIRONMENT | place | sizes | own, stdout=out, stderr=err,
                )
            )  # fmt: skip
    return processes


def stopped(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process has ended or stands still."""
    status = Path(f"/proc/{process.pid}/status")
    return process.poll() is not None or "\nState:\tT" in status.read_text()


@pytest.mark.parametrize(
    "count, rank, way, phase, said",
    [
        (3, 1, "kill", "training", "rank 1 of 3 stopped: it died"),
        (2, 0, "kill", "scoring", "it died"),
        (2, 1, "kill", "generation", "rank 1 of 2 stopped: it died"),
        (3, 2, "input", "start", "rank 2 of 3 stopped: this disk is full; make room"),
        (2, 0, "input", "training", "rank 0 of 2 stopped: this disk is full; make room"),
        (2, 1, "fault", "training", "rank 1 of 2 stopped: AssertionError: this cannot be"),
        (2, 1, "term", "scoring", "stopped by SIGTERM; what was done is kept"),
        (2, 1, "freeze", "scoring", "rank 1 of 2 stopped: it gave no sign of life for 30 s"),
    ],
)
def test_the_others_stop(
    count: int, rank: int, way: str, phase: str, said: str, words: list[str], tmp_path: Path
) -> None:
    arguments = [str(rank), way, phase, *words, f"run_name={tmp_path.name}"]
    processes = launch(count, arguments, tmp_path)
    try:
        begun = time.monotonic()
        while not stopped(processes[rank]):
            assert time.monotonic() - begun < 300
            time.sleep(0.05)
        ended = time.monotonic()
        for other in set(range(count)) - {rank}:
            status = processes[other].wait(timeout=LIMIT - (time.monotonic() - ended))
            out, err = ((tmp_path / f"{other}.{name}").read_text() for name in ("out", "err"))
            assert status == {"input": 2, "term": 75}.get(way, 1), err
            lines = [line for line in err.splitlines() if said in line]
            assert len(lines) == 1 and lines[0] == err.splitlines()[-1] and out == ""
            assert lines[0].startswith("stopped" if way == "term" else "error: ")
            assert "Traceback" not in err
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()


def test_a_launcher_sees_it_too(words: list[str], tmp_path: Path) -> None:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    arguments = ["1", "kill", "training", *words, f"run_name={tmp_path.name}"]
    begun = time.monotonic()
    done = subprocess.run(
        [*start, str(WORKER), *arguments],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=300 + LIMIT,
    )  # fmt: skip
    assert done.returncode != 0 and "exitcode  : -9" in done.stderr
    assert time.monotonic() - begun < 300

"""Processes that carry out one task after another: one that dies takes its own task with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from star import signals
from star.errors import InputError
from star.experiments.sweep import dividing
from star.experiments.sweep import workers as module
from star.experiments.sweep.workers import Outcome, Workers, one_line

# Where a process that unpickles a function of this file looks for it, and for what it imports.
PLACES = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

Function = Callable[[Any], Any]


def double(number: int) -> int:
    return 2 * number


def process_of(_: Any) -> int:
    return os.getpid()


def variable(name: str) -> str | None:
    return os.environ.get(name)


def misfortune(kind: str) -> str:
    if kind == "error":
        raise ValueError("line one\n  line two")
    if kind == "exit":
        sys.exit(3)
    if kind == "gone":
        os._exit(3)
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    return kind


def sleep(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def keep(task: tuple[Path, float, float]) -> None:
    """Work until it is asked to stop, then take some seconds to keep what was done.

    Args:
        task: Where it is kept, those seconds, and ``signals.PATIENCE``.
    """
    place, seconds, signals.PATIENCE = task
    with signals.held():
        place.with_suffix(".began").write_text(str(os.getpid()))
        while not signals.requested():
            time.sleep(0.01)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.01)
        place.touch()


def stay(place: Path) -> None:
    """Not even be asked."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    place.write_text(str(os.getpid()))
    time.sleep(100)


def number_in(place: Path) -> int:
    """Return the number in a file, once it is there."""
    until = time.monotonic() + 60
    while not (place.exists() and place.read_text()):
        assert time.monotonic() < until
        time.sleep(0.01)
    return int(place.read_text())


def all_of(function: Function, tasks: list[Any], jobs: int = 1, **variables: str) -> list[Outcome]:
    """Carry out the tasks; return how they ended, in that order."""
    waiting, ended = list(tasks), []
    with Workers(function, [variables] * jobs) as workers:
        while waiting or workers.running:
            if waiting and workers.free:
                workers.start(waiting.pop(0))
            else:
                ended += workers.wait(30)
    return ended


def gone(process: int) -> bool:
    """Whether a process has ended, within a few seconds."""
    for _ in range(100):
        try:
            # A child of init that nobody waits for stays as a zombie in some containers.
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        # Its other threads may live a moment longer than the first.
        if state == "Z" and len(os.listdir(f"/proc/{process}/task")) == 1:
            return True
        time.sleep(0.1)
    return False


def test_every_task_is_carried_out_once() -> None:
    ended = all_of(double, [3, 1, 2, 5, 4], jobs=2)
    assert sorted(outcome.value for outcome in ended) == [2, 4, 6, 8, 10]
    for outcome in ended:
        assert outcome.value == 2 * outcome.task and outcome.seconds >= 0
        assert (outcome.error, outcome.trace) == (None, "")


def test_a_process_is_kept_for_the_next_task() -> None:
    processes = [outcome.value for outcome in all_of(process_of, list(range(4)))]
    assert len(set(processes)) == 1 and processes[0] != os.getpid()
    assert gone(processes[0])


def test_the_death_of_a_process_is_its_tasks_alone() -> None:
    kinds = ["fine", "killed", "better", "error", "gone", "exit", "well"]
    ended = {outcome.task: outcome for outcome in all_of(misfortune, kinds)}
    assert set(ended) == set(kinds)
    for kind in ("fine", "better", "well"):
        assert (ended[kind].value, ended[kind].error) == (kind, None)
    assert ended["error"].error == "ValueError: line one line two"
    assert "in misfortune" in ended["error"].trace
    assert ended["exit"].error == "SystemExit: 3"
    assert "SIGKILL" in str(ended["killed"].error) and "memory" in str(ended["killed"].error)
    assert "exit status 3" in str(ended["gone"].error)


def test_one_that_died_while_it_waited_is_replaced() -> None:
    with Workers(process_of, [{}]) as workers:
        workers.start(0)
        (first,) = workers.wait(30)
        os.kill(first.value, signal.SIGKILL)
        assert gone(first.value)
        workers.start(1)
        (second,) = workers.wait(30)
        assert second.error is None and second.value != first.value


def test_what_is_running_and_for_how_long() -> None:
    with Workers(sleep, [{}, {}]) as workers:
        assert workers.free and workers.running == {}
        assert workers.wait(0.01) == []
        workers.start(100.0)
        assert workers.free
        workers.start(200.0)
        assert not workers.free and list(workers.running) == [100.0, 200.0]
        assert all(0 <= seconds < 30 for seconds in workers.running.values())
        with pytest.raises(ValueError, match="busy"):
            workers.start(300.0)
        assert workers.wait(0.1) == []
        begun = time.monotonic()
    assert time.monotonic() - begun < 20  # they are ended, not waited for


def test_each_is_asked_once_to_end(tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("a", "b", "c")]
    with Workers(keep, [{}] * 3) as workers:
        for place, seconds in zip(places, (0.5, 1.0, 0.0), strict=True):
            workers.start((place, seconds, 0.0))
        for place in places:
            number_in(place.with_suffix(".began"))
    assert all(place.exists() for place in places)


def test_who_was_asked_by_another_keeps_what_was_done(tmp_path: Path) -> None:
    with Workers(keep, [{}]) as workers:
        workers.start((tmp_path / "kept", 0.5, 60.0))
        os.kill(number_in(tmp_path / "kept.began"), signal.SIGTERM)  # as to a whole group
        time.sleep(0.1)
    assert (tmp_path / "kept").exists()


def test_who_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS_TO_END", 0.3)
    with Workers(stay, [{}]) as workers:
        workers.start(tmp_path / "number")
        process = number_in(tmp_path / "number")
    assert gone(process)


def test_a_variable_is_set_before_the_process_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAR_TEST_B", "ours")
    (one,) = all_of(variable, ["STAR_TEST_A"], STAR_TEST_A="theirs", STAR_TEST_B="theirs")
    assert one.value == "theirs"
    assert "STAR_TEST_A" not in os.environ and os.environ["STAR_TEST_B"] == "ours"


SLEEPERS = """
import sys, time
sys.path[:0] = {path!r}
from test_workers import sleep
from star.experiments.sweep.workers import Workers

if __name__ == "__main__":
    with Workers(sleep, [{{}}, {{}}]) as workers:
        for _ in range(2):
            workers.start(0.0)
        first = workers.wait(60)
        while len(first) < 2:
            first += workers.wait(60)
        for _ in range(2):
            workers.start(100.0)
        print(*(outcome.value for outcome in first), flush=True)
        workers.wait(100)
"""


@pytest.fixture
def sleepers(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Give a process with two workers that sleep, and the workers' numbers."""
    script = tmp_path / "sleepers.py"
    script.write_text(SLEEPERS.format(path=PLACES))
    # A session of its own: Ctrl-C goes to all of its processes.
    started = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    with started:
        assert started.stdout is not None
        yield started, [int(word) for word in started.stdout.readline().split()]
        started.kill()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_the_process_that_started_them(
    sleepers: tuple[subprocess.Popen[str], list[int]], number: int
) -> None:
    started, processes = sleepers
    assert len(set(processes)) == 2
    started.send_signal(number)
    assert all(gone(process) for process in processes)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
def test_an_interrupt_is_the_first_process_affair(
    sleepers: tuple[subprocess.Popen[str], list[int]],
) -> None:
    started, processes = sleepers
    os.killpg(started.pid, signal.SIGINT)
    _, told = started.communicate(timeout=60)
    assert all(gone(process) for process in processes)
    # One traceback, of the process that was asked; none of those that it ended.
    assert told.count("Traceback") == 1 and told.rstrip().endswith("KeyboardInterrupt")


BARRED = """
import sys
sys.path[:0] = {path}
from test_workers import with_a_bar
from star.experiments.sweep.workers import Workers

if __name__ == "__main__":
    with Workers(with_a_bar, [{{}}]) as workers:
        workers.start(3)
        print(workers.wait(60)[0].value)
"""


def with_a_bar(count: int) -> int:
    from tqdm import tqdm

    return sum(1 for _ in tqdm(range(count), disable=True))


def test_a_progress_bar_leaves_nothing_behind(tmp_path: Path) -> None:
    script = tmp_path / "barred.py"
    script.write_text(BARRED.format(path=PLACES))
    ended = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120
    )  # the warning comes when all processes have ended
    assert (ended.stdout, ended.stderr) == ("3\n", "")


def test_an_error_in_one_line() -> None:
    assert one_line(ValueError(" a\n b ")) == "ValueError: a b"
    assert one_line(KeyError()) == "KeyError"


# --- dividing the machine -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "cores, jobs, threads", [(8, 2, ["4"] * 2), (8, 3, ["2"] * 3), (2, 4, ["1"] * 4)]
)
def test_cores_are_divided(
    cores: int, jobs: int, threads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(dividing, "available_cores", lambda: cores)
    monkeypatch.setattr(dividing, "gpus", list)
    divided = dividing.environments(jobs)
    assert [one["OMP_NUM_THREADS"] for one in divided] == threads
    assert all("CUDA_VISIBLE_DEVICES" not in one for one in divided)
    assert len(dividing.environments(None)) == cores
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert dividing.environments(jobs)[0] == {"OMP_NUM_THREADS": "7"}


def test_gpus_are_dealt_out_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dividing, "gpus", lambda: ["0", "3"])
    given = [one["CUDA_VISIBLE_DEVICES"] for one in dividing.environments(3)]
    assert given == ["0", "3", "0"]
    assert len(dividing.environments(None)) == 2
    with pytest.raises(InputError, match="at least 1, got 0"):
        dividing.environments(0)
    assert len(dividing.environments(5, 2)) == 2 and len(dividing.environments(2, 0)) == 2


def test_which_gpus_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for chosen, found in (
        ("", []),
        ("-1", []),
        ("2,0", ["2", "0"]),
        ("GPU-ab, 1", ["GPU-ab", "1"]),
    ):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
        assert dividing.gpus() == found
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert dividing.gpus() == []
    lists = tmp_path / "nvidia-smi"
    lists.write_text(
        "#!/bin/sh\necho 'GPU 0: NVIDIA A (UUID: GPU-1)'\necho '  MIG 1g Device 0: (UUID: MIG-1)'\n"
        "echo 'GPU 1: NVIDIA B (UUID: GPU-2)'\n"
    )
    lists.chmod(0o755)
    assert dividing.gpus() == ["0", "1"]
    lists.write_text("#!/bin/sh\necho 'no driver'\nexit 9\n")
    assert dividing.gpus() == []
    assert dividing.available_cores() >= 1

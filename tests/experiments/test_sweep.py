"""A sweep runs what is missing, each cell's failure is its own, and it goes on where it stopped."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import random
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import runs

from star.active_learning import contents, locking
from star.active_learning.round_0 import key_of_round_0
from star.active_learning.run_reader import RunReader
from star.cli.main import main
from star.config import config_hash
from star.errors import InputError
from star.experiments.sweep import cell_run, on_slurm, progress, slurm
from star.experiments.sweep import sweep as sweeping
from star.experiments.sweep.ordering import choose, leaders_first
from star.experiments.sweep.sweep import commands, sweep
from star.experiments.table import FIRST_ROUNDS, Cell

# Where a process that unpickles a function of this file looks for it, and for what it imports.
PLACES = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

ROOT = Path(__file__).parents[2]
CHOICE = ROOT / "configs" / "tiny" / "choice.yaml"


def cell(row: str = "a", seed: int = 0, column: str = "one", *words: str) -> Cell:
    return Cell("table", column, row, seed, CHOICE, None, words)


def pretend(one: Cell, root: Path) -> None:
    """Take the place of a run: note the start, do as the row says, leave result.json."""
    with (root / "starts.txt").open("a") as file:
        file.write(f"{one.name} {os.getpid()} {time.monotonic()}\n")
    folder = one.folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    os.write(1, b"said by a library\n")
    if one.row == "bad":
        raise ValueError("it\ncannot be")
    if one.row == "refused":
        raise InputError("not this one")
    if one.row == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if one.row == "slow":
        time.sleep(0.4)
    if one.row == "empty":
        return
    if one.row == "locked":
        with (folder / ".lock").open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError("another process is writing") from None
    content = runs.fake_result(config_hash(one.load(root)))
    (folder / "result.json").write_text(json.dumps(content))


def starts(root: Path) -> list[str]:
    """Return the names of the cells in the order they were started."""
    file = root / "starts.txt"
    return [line.split()[0] for line in file.read_text().splitlines()] if file.exists() else []


def names(cells: list[Cell]) -> list[str]:
    return [one.name for one in cells]


@pytest.fixture(autouse=True)
def _hear(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="star")


# --- what is run --------------------------------------------------------------------------------


def test_only_what_is_missing_is_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cells = [cell(row, seed) for seed in (0, 1) for row in ("a", "b")]
    assert sweep(cells[:1], tmp_path, jobs=1, run=pretend) == []
    assert sweep(cells, tmp_path, jobs=2, run=pretend) == []
    assert sorted(starts(tmp_path)) == sorted(names(cells))
    assert "1 of 4 cells are finished already" in caplog.text
    assert "3 done, 0 failed, 0 running, 0 remaining" in caplog.messages[-1]
    assert runs.unfinished(cells, tmp_path) == []
    assert sweep(cells, tmp_path, run=pretend) == []  # nothing to do: no process either
    assert len(starts(tmp_path)) == 4


def test_what_is_finished_answers_for_its_own_content_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cells = [cell("a", seed) for seed in (0, 1)]
    assert sweep(cells, tmp_path, jobs=1, run=pretend) == []
    of_now = {"data": "d" * 64, "model": "e" * 64, "strategy": None}
    for part, now in of_now.items():
        monkeypatch.setitem(contents.LOOK, part, lambda config, now=now: now)
    told: dict[str, Any] = {"data": {"fingerprint": "d" * 64}, "model": {"revision": "e" * 64}}
    files = [one.folder(tmp_path) / "environment.json" for one in cells]
    for file in files:
        file.write_text(json.dumps({"config_hash": "", **told}))
    assert sweep(cells, tmp_path, run=pretend) == []
    for file in files:
        other = {"data": {"fingerprint": "0" * 64}}
        file.write_text(json.dumps({"config_hash": "", **told, **other}))
    for verb in (sweep, commands):
        said = r"seed0 was made on another content of the data .* \(and 1 more like it\); restore"
        with pytest.raises(InputError, match=said):
            verb(cells, tmp_path)

    looks = []

    def away(config: Any) -> str:
        looks.append(config)
        raise InputError("no such file")

    monkeypatch.setitem(contents.LOOK, "data", away)
    assert sweep(cells, tmp_path, run=pretend) == []  # on another machine, or later
    assert "cannot be told: no such file" in caplog.text and len(looks) == 1


@pytest.mark.slow  # test_cli_tables has a smaller one
def test_a_failure_stops_no_other_cell(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = ("a", "bad", "b", "killed", "c", "refused", "d", "empty", "e")
    cells = [cell(row) for row in rows]
    failed = sweep(cells, tmp_path, jobs=1, run=pretend)
    assert names(failed) == [f"one/{row}/seed0" for row in ("bad", "killed", "refused", "empty")]
    assert runs.unfinished(cells, tmp_path) == failed
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(told) == 4
    assert "table/one/bad/seed0 failed: ValueError: it cannot be (see " in told[0]
    assert "SIGKILL" in told[1] and "no result.json" in told[3]
    folder = failed[0].folder(tmp_path)
    lines = RunReader(folder).failure_file.read_text().splitlines()
    assert lines[0] == RunReader(folder).failure == "ValueError: it cannot be"
    assert lines[2].startswith("Traceback") and "in pretend" in "\n".join(lines)
    log = cell_run.log_file(folder).read_text()
    assert "cell one/bad/seed0, process" in log and "said by a library" in log
    assert "Traceback" in log
    assert "SIGKILL" in str(RunReader(failed[1].folder(tmp_path)).failure)
    assert RunReader(failed[2].folder(tmp_path)).failure == "InputError: not this one"
    assert RunReader(cells[0].folder(tmp_path)).failure is None


def succeed(one: Cell, root: Path) -> None:
    assert RunReader(one.folder(root)).failure is None  # gone before the run begins
    pretend(Cell(one.table, one.column, "fine", one.seed, one.config, None, ()), root)
    fine = root / "table" / one.column / "fine" / f"seed{one.seed}" / "result.json"
    fine.rename(one.folder(root) / "result.json")


@pytest.mark.slow
def test_a_failed_cell_is_run_again(tmp_path: Path) -> None:
    bad = cell("bad")
    assert sweep([bad], tmp_path, jobs=1, run=pretend) == [bad]
    assert RunReader(bad.folder(tmp_path)).failure is not None
    assert sweep([bad], tmp_path, jobs=1, run=succeed) == []
    assert RunReader(bad.folder(tmp_path)).failure is None
    assert cell_run.log_file(bad.folder(tmp_path)).read_text().count("cell one/bad/seed0") == 2


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "table").write_text("a file")
    with pytest.raises(InputError, match="cannot write to"):
        sweep([cell("a")], tmp_path, jobs=1, run=pretend)


def test_a_fault_in_a_configuration_is_told_before_anything_runs(tmp_path: Path) -> None:
    cells = [cell("a"), cell("b", 0, "one", "pool.ruonds=3")]
    with pytest.raises(InputError, match=r"cell table/one/b/seed0: .*did you mean"):
        sweep(cells, tmp_path, jobs=1, run=pretend)
    assert starts(tmp_path) == []


@pytest.mark.parametrize("name", ["result.json", "environment.json"])
def test_a_run_of_another_configuration_is_never_overwritten(tmp_path: Path, name: str) -> None:
    cells = [cell("a", seed) for seed in range(3)]
    other = cell("a", 1, "one", "pool.rounds=3")
    folder = other.folder(tmp_path)
    folder.mkdir(parents=True)
    content = runs.fake_result(config_hash(other.load(tmp_path)))
    (folder / name).write_text(json.dumps(content))
    assert runs.unfinished([other], tmp_path) == ([] if name == "result.json" else [other])
    with pytest.raises(InputError) as caught:
        sweep(cells, tmp_path, jobs=1, run=pretend)
    told = str(caught.value)
    assert str(folder) in told and "another configuration" in told and "remove it" in told
    assert "\n" not in told and starts(tmp_path) == []
    (folder / name).write_text("{")
    with pytest.raises(InputError, match=f"not JSON: .*; remove {folder} to run its cell again"):
        runs.unfinished(cells, tmp_path)


def test_a_strategy_that_is_not_there_is_told_before_anything_runs(tmp_path: Path) -> None:
    cells = [cell("a"), cell("b", 0, "one", "acquisition.strategy=absent_module:f")]
    with pytest.raises(InputError, match=r"cell table/one/b/seed0: .*No module named 'absent_mod"):
        sweep(cells, tmp_path, jobs=1, run=pretend)
    assert starts(tmp_path) == []


@pytest.mark.slow
def test_a_file_in_the_way_is_one_cells_failure(tmp_path: Path) -> None:
    (tmp_path / "table/one").mkdir(parents=True)
    (tmp_path / "table/one/b").write_text("in the way")
    cells = [cell("a"), cell("b"), cell("c")]
    assert sweep(cells, tmp_path, jobs=1, run=pretend) == [cells[1]]
    assert runs.unfinished(cells, tmp_path) == [cells[1]]


# --- the order ----------------------------------------------------------------------------------


def test_a_first_round_is_left_to_one_cell_while_there_is_other_work() -> None:
    grid = [cell(row, 0, column) for column in ("one", "two") for row in ("a", "b")]
    a1, b1, a2, b2 = grid
    groups = {one: one.column for one in grid}
    past: set[str] = set()
    ask = (groups, past.__contains__)
    assert choose(grid, [], *ask) == a1
    assert choose([b1, a2, b2], [a1], *ask) == a2
    assert choose([b1, b2], [a1, a2], *ask) == b1  # nothing else: no core is left idle
    past.add("one")
    assert choose([b1, a2, b2], [a1], *ask) == b1
    assert choose([b1, b2], [a2], *ask) == b1  # a1 has failed: b1 makes the round
    assert leaders_first(grid, groups) == [a1, a2, b1, b2]
    assert leaders_first([], groups) == []


def test_what_begins_alike(tmp_path: Path) -> None:
    def begins(*arguments: Any) -> str:
        return key_of_round_0(cell(*arguments).load(tmp_path))

    one = begins("a")
    assert begins("b", 0, "one", "acquisition.measure=margin", "pool.rounds=2") == one
    assert begins("a", 1) != one
    for word in ("train.learning_rate=0.1", "pool.initial_size=5", "regularizer.kind=none"):
        assert begins("a", 0, "one", word) != one


def share(one: Cell, root: Path) -> None:
    """Complete round 0; a ends when c has started, and fails if it does not until a has ended."""
    (one.folder(root) / "rounds" / "00").mkdir(parents=True)
    with (root / "starts.txt").open("a") as file:
        file.write(f"{one.name}\n")
    until = time.monotonic() + 90
    while one.row == "a" and "one/c/seed0" not in starts(root):
        if time.monotonic() > until:
            raise TimeoutError("c has not started while a was running")
        time.sleep(0.02)
    pretend(Cell(one.table, one.column, one.row, one.seed, one.config, None, ()), root / "aside")
    content = runs.fake_result(config_hash(one.load(root)))
    (one.folder(root) / "result.json").write_text(json.dumps(content))


@pytest.mark.slow
def test_others_start_once_the_first_round_is_there(tmp_path: Path) -> None:
    cells = [cell(row) for row in ("a", "b", "c")]
    (tmp_path / "aside").mkdir()
    assert sweep(cells, tmp_path, jobs=2, run=share) == []
    # Which process has loaded its libraries first is the machine's concern.
    assert sorted(starts(tmp_path)) == ["one/a/seed0", "one/b/seed0", "one/c/seed0"]


# --- several at work ----------------------------------------------------------------------------


def test_a_cell_of_another_process_is_left_to_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "LOOK_SECONDS", 0.1)
    taken, other = cell("locked"), cell("a")
    folder = taken.folder(tmp_path)
    folder.mkdir(parents=True)
    with (folder / ".lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert locking.locked(folder)

        def end_the_other_run() -> None:
            while "one/a/seed0" not in starts(tmp_path):
                time.sleep(0.05)
            time.sleep(0.5)
            content = runs.fake_result(config_hash(taken.load(tmp_path)))
            (folder / "result.json").write_text(json.dumps(content))
            fcntl.flock(file, fcntl.LOCK_UN)

        thread = threading.Thread(target=end_the_other_run)
        thread.start()
        assert sweep([taken, other], tmp_path, jobs=1, run=pretend) == []
        thread.join()
    assert starts(tmp_path) == ["one/locked/seed0", "one/a/seed0"]
    assert "another process is running it" in caplog.text
    assert RunReader(folder).failure is None
    assert not locking.locked(folder) and not locking.locked(tmp_path / "nowhere")


def test_a_cell_whose_process_died_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "LOOK_SECONDS", 0.1)
    taken = cell("locked")
    folder = taken.folder(tmp_path)
    folder.mkdir(parents=True)
    with (folder / ".lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        def die() -> None:
            while not starts(tmp_path):
                time.sleep(0.05)
            time.sleep(0.5)
            fcntl.flock(file, fcntl.LOCK_UN)

        thread = threading.Thread(target=die)
        thread.start()
        assert sweep([taken], tmp_path, jobs=1, run=pretend) == []
        thread.join()
    assert starts(tmp_path) == ["one/locked/seed0"] * 2


INTERRUPTED = """
import sys
sys.path[:0] = {path!r}
import test_sweep
from pathlib import Path
from star.experiments.sweep.sweep import sweep

if __name__ == "__main__":
    cells = [test_sweep.cell("slow", seed) for seed in range(8)]
    print("ready", flush=True)
    sweep(cells, Path({root!r}), jobs=2, run=test_sweep.pretend)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["interrupt", "kill"])
def test_interrupted_anywhere_it_goes_on(tmp_path: Path, kind: str) -> None:
    cells = [cell("slow", seed) for seed in range(8)]
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED.format(path=PLACES, root=str(tmp_path)))
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as started:  # fmt: skip
        assert started.stdout is not None and started.stdout.readline() == "ready\n"
        until = time.monotonic() + 60
        while len(starts(tmp_path)) < 3 and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(random.Random().uniform(0, 0.5))
        if kind == "interrupt":
            os.killpg(started.pid, signal.SIGINT)  # as Ctrl-C in a terminal does
        else:
            started.kill()
        started.communicate(timeout=60)
    lines = [line.split() for line in (tmp_path / "starts.txt").read_text().splitlines()]
    before = [line[0] for line in lines]
    for process in {int(line[1]) for line in lines}:
        assert _ended(process)
    left = names(runs.unfinished(cells, tmp_path))
    assert 0 < len(left) < 8 and len(before) == len(set(before))
    assert sweep(cells, tmp_path, jobs=2, run=pretend) == []
    assert sorted(starts(tmp_path)[len(before) :]) == sorted(left)
    assert runs.unfinished(cells, tmp_path) == []


def _ended(process: int) -> bool:
    for _ in range(100):
        try:
            os.kill(process, 0)
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


# --- commands -----------------------------------------------------------------------------------


def test_commands_are_shell_words_of_star_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "a folder; with 'signs' & $HOME"
    words = ('task.prompt=It\'s {question}\nso; $HOME "x" #', "train.learning_rate=0.01")
    cells = [cell("a", 0, "one", *words), cell("b", 0, "one", *words), cell("a", 1, "one", *words)]
    cells = [Cell(c.table, c.column, c.row, c.seed, c.config, "star", c.words) for c in cells]
    done = cells[1].folder(root)
    done.mkdir(parents=True)
    content = runs.fake_result(config_hash(cells[1].load(root)))
    (done / "result.json").write_text(json.dumps(content))
    lines = commands(cells, root)
    assert len(lines) == 2
    for line, one in zip(lines, (cells[0], cells[2]), strict=True):
        # What a shell makes of the line, one word a line of a NUL-separated list.
        shown = subprocess.run(
            ["sh", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True
        ).stdout.split("\0")[:-1]
        assert shown == shlex.split(line) == ["star", "run", *one.arguments(root)]
        assert main([*shown[1:], "--print-config"]) == 0
        from star.config import to_yaml

        assert capsys.readouterr().out == to_yaml(one.load(root))


# --- progress -----------------------------------------------------------------------------------


def test_the_time_to_go(caplog: pytest.LogCaptureFixture) -> None:
    with progress.Progress(10, at_once=2) as told:
        assert told.seconds_to_go() is None and "to go" not in str(told)
        told.show({"b": 0.0})
        told.done("a", 60.0)
        told.failed("c", "no")
        told.done("d", None)
        told.show({"b": 15.0, "e": 100.0})
        # Five wait for 60 s each, b has 45 s to go, e is late; two at once.
        assert told.seconds_to_go() == (5 * 60 + 45) / 2
        assert str(told) == "2 done, 1 failed, 2 running, 5 remaining, about 3 min to go"
    assert caplog.messages[0].startswith(
        "a: done in 60 s [1 done, 0 failed, 1 running, 8 remaining"
    )
    assert caplog.messages[1].startswith("c: FAILED: no [")
    assert [progress.spoken(s) for s in (5, 99, 600, 7200)] == ["5 s", "99 s", "10 min", "2.0 h"]


def test_a_terminal_gets_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress.Progress(3) as told:
        told.show({"a": 1.0})
        told.done("a", 2.0)
        told.failed("b", "because")
        told.show({})
    shown = capsys.readouterr().err
    assert "1 done, 1 failed, 0 running, 1 remaining" in shown and "b: FAILED: because" in shown
    assert "67%" in shown


# --- SLURM without SLURM ------------------------------------------------------------------------


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Take SLURM's place: jobs get numbers, and their states are what the test says."""
    states: dict[str, str] = {}
    tasks: dict[str, cell_run.Task] = {}

    def submit(function: Any, given: list[cell_run.Task], **_: Any) -> list[str]:
        ids = [f"7_{len(tasks) + i}" for i in range(len(given))]
        tasks.update(zip(ids, given, strict=True))
        states.update(dict.fromkeys(ids, "PENDING"))
        return ids

    def ask(ids: Any) -> dict[str, str]:
        ids = set(ids)
        for one, state in states.items():
            if one in ids and state == "PENDING" and tasks[one].cell.row != "waits":
                states[one] = "COMPLETED"
                try:
                    cell_run.carry_out(tasks[one])
                except ValueError:
                    states[one] = "FAILED"
        return {one: state for one, state in states.items() if one in ids}

    monkeypatch.setattr(slurm, "submit", submit)
    monkeypatch.setattr(slurm, "states", ask)
    monkeypatch.setattr(on_slurm, "ASK_SECONDS", 0.01)
    return states


def test_jobs_of_slurm(
    tmp_path: Path, queue: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    cells = [cell(row) for row in ("a", "bad", "b")]
    assert names(sweep(cells, tmp_path, executor="slurm", run=pretend)) == ["one/bad/seed0"]
    assert RunReader(cells[1].folder(tmp_path)).failure == "ValueError: it cannot be"
    assert "2 done, 1 failed" in caplog.text and "cell table/one/bad/seed0 failed" in caplog.text
    # Again: what is finished has no job, what failed has a new one.
    assert names(sweep(cells, tmp_path, executor="slurm", run=pretend)) == ["one/bad/seed0"]
    assert list(queue) == ["7_0", "7_1", "7_2", "7_3"]


@pytest.mark.usefixtures("queue")
def test_jobs_of_slurm_that_end_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = cell("waits")
    monkeypatch.setattr(slurm, "states", lambda ids: {"7_0": "OUT_OF_MEMORY"})
    assert sweep([lost], tmp_path, executor="slurm", run=pretend) == [lost]
    told = RunReader(lost.folder(tmp_path)).failure
    assert told == "its job 7_0 ended without a word: OUT_OF_MEMORY"


def test_jobs_of_slurm_outlive_the_sweep(
    tmp_path: Path,
    queue: dict[str, str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cells = [cell("waits"), cell("a")]

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        # The module's own: waiting for git sleeps too.
        patch.setattr(on_slurm, "time", SimpleNamespace(sleep=interrupt, monotonic=time.monotonic))
        with pytest.raises(KeyboardInterrupt):
            sweep(cells, tmp_path, executor="slurm", run=pretend)
    assert "the jobs go on" in caplog.text and "scancel 7 ends them" in caplog.text
    assert runs.unfinished(cells, tmp_path) == cells[:1]
    queue["7_0"] = "RUNNING"

    def finish(_: float) -> None:
        pretend(cells[0], tmp_path)

    monkeypatch.setattr(on_slurm, "time", SimpleNamespace(sleep=finish, monotonic=time.monotonic))
    assert sweep(cells, tmp_path, executor="slurm", run=pretend) == []
    assert "1 cells have a job in the queue already" in caplog.text
    assert list(queue) == ["7_0", "7_1"]  # no second job


# --- real cells ---------------------------------------------------------------------------------

QUICK = (
    "task.pool_limit=30", "task.test_limit=4", "pool.initial_size=4", "pool.query_size=2",
    "pool.rounds=2", "train.max_steps=1", "acquisition.mc_dropout.passes=0",
    'evaluation.views=["full"]',
)  # fmt: skip


@pytest.mark.slow
def test_real_cells(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = {
        "random": ("acquisition.select=random",),
        "broken": (f"model.name_or_path={tmp_path / 'nowhere'}",),
        "star": (),
    }
    cells = [cell(row, 0, "choice", *QUICK, *words) for row, words in rows.items()]
    failed = sweep(cells, tmp_path, jobs=1)
    assert names(failed) == ["choice/broken/seed0"]
    told = str(RunReader(failed[0].folder(tmp_path)).failure)
    assert told.startswith("InputError: ") and "no such folder" in told
    for one in (cells[0], cells[2]):
        content = json.loads((one.folder(tmp_path) / "result.json").read_text())
        assert content["config_hash"] == config_hash(one.load(tmp_path))
        assert [point["round"] for point in content["rounds"]] == [0, 1]
        assert "round 0" in cell_run.log_file(one.folder(tmp_path)).read_text()
    assert "round 0" not in capfd.readouterr().err
    assert runs.unfinished(cells, tmp_path) == failed
    shared = tmp_path / "table" / FIRST_ROUNDS
    assert any(shared.iterdir())  # for the cell that failed
    again = [cell("again", 0, "choice", *QUICK)]
    sweep(again, tmp_path, jobs=1)
    assert any(shared.iterdir()), "another sweep may be on its way to it"
    folder = failed[0].folder(tmp_path)
    folder.with_name(f"{folder.name}.failed.txt").unlink()
    sweep(again, tmp_path, jobs=1)
    assert not shared.exists()

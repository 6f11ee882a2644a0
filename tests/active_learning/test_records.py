"""The run folder: atomic files, kills, foreign folders, the lock, provenance."""

import dataclasses
import errno
import io
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from star import provenance
from star.active_learning.run_folder import RunFolder
from star.active_learning.run_names import folder_of
from star.config import Config, config_hash, load
from star.data.pool import Pool
from star.errors import InputError
from star.files import atomic_write, read_json, read_npz, write_json, write_jsonl, write_npz
from star.provenance import environment


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load(None, [f"output_dir={tmp_path / 'runs'}"])


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# --- files -------------------------------------------------------------------------------------


def test_json_takes_numpy_and_keeps_the_order(tmp_path: Path) -> None:
    content = {"z": np.float32(0.5), "a": np.arange(3), "n": np.int64(7), "b": np.bool_(True)}
    write_json(tmp_path / "x.json", content)
    text = (tmp_path / "x.json").read_text()
    assert list(json.loads(text).items()) == [("z", 0.5), ("a", [0, 1, 2]), ("n", 7), ("b", True)]
    assert text.startswith('{\n  "z"') and text.endswith("}\n")


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32("nan"), np.array([1.0, np.inf])])
def test_json_refuses_what_is_no_number(tmp_path: Path, value: object) -> None:
    write_json(tmp_path / "x.json", {"loss": 1.0})
    before = snapshot(tmp_path)
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"loss": value})
    with pytest.raises(ValueError):
        write_jsonl(tmp_path / "x.json", [{"loss": 2.0}, {"loss": value}])
    assert snapshot(tmp_path) == before


def test_json_refuses_other_kinds(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="set"):
        write_json(tmp_path / "x.json", {"indices": {1, 2}})
    assert snapshot(tmp_path) == {}


def test_jsonl_is_one_value_a_line(tmp_path: Path) -> None:
    rows = [{"text": "a\nb\u2028ü"}, {"index": np.int64(3)}]
    write_jsonl(tmp_path / "x.jsonl", iter(rows))
    lines = (tmp_path / "x.jsonl").read_bytes().split(b"\n")
    assert [json.loads(line) for line in lines[:-1]] == [{"text": "a\nb\u2028ü"}, {"index": 3}]
    assert lines[-1] == b""


def test_read_json_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.json"):
        read_json(tmp_path / "missing.json")
    (tmp_path / "cut.json").write_text('{"a": ')
    with pytest.raises(InputError, match=r"cut\.json is not JSON"):
        read_json(tmp_path / "cut.json")


def test_npz_round_trip_in_equal_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {"index": np.array([3, 1]), "base": np.array([0.5, np.nan], dtype=np.float32)}
    write_npz(tmp_path / "a.npz", **arrays)
    monkeypatch.setattr("time.time", lambda: 2e9)  # a later day writes the same bytes
    write_npz(tmp_path / "b.npz", **arrays)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {item.date_time for item in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    for name, array in read_npz(tmp_path / "a.npz").items():
        np.testing.assert_array_equal(array, arrays[name])
        assert array.dtype == arrays[name].dtype


def test_npz_never_pickles(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="texts"):
        write_npz(tmp_path / "a.npz", texts=np.array(["a", None], dtype=object))
    np.savez(tmp_path / "foreign.npz", texts=np.array([None], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        read_npz(tmp_path / "foreign.npz")


def test_an_interrupted_write_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "x") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert snapshot(tmp_path) == {"x": b"old"}


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "x") as one:
        one.write(b"one")
        with atomic_write(tmp_path / "x") as two:
            two.write(b"two")
        assert (tmp_path / "x").read_bytes() == b"two"
    assert snapshot(tmp_path) == {"x": b"one"}


# --- where the folder is -----------------------------------------------------------------------


def test_folder_name(tmp_path: Path) -> None:
    config = load(None, [f"output_dir={tmp_path}", "seed=3", "acquisition.select=random"])
    expected = tmp_path / "arithmetic" / "random" / f"seed3-{config_hash(config)[:8]}"
    assert folder_of(config) == expected


@pytest.mark.parametrize(
    "strategy, folder",
    [
        ("my.module:pick", "my.module-pick"),
        ("a/b", "a-b"),
        ("../../up", "-..-up"),
        ("..", "unnamed"),
    ],
)
def test_strategy_names_make_safe_folders(strategy: str, folder: str, tmp_path: Path) -> None:
    config = load(None, [f"output_dir={tmp_path}", f"acquisition.name={strategy}"])
    path = folder_of(config)
    assert path.parent == tmp_path / "arithmetic" / folder
    assert path.resolve().is_relative_to(tmp_path.resolve() / "arithmetic")


def test_run_name(tmp_path: Path) -> None:
    assert folder_of(load(None, [f"output_dir={tmp_path}", "run_name=a/b"])) == tmp_path / "a" / "b"


@pytest.mark.parametrize("name", ["../x", "/x", ".", "a/../../x"])
def test_run_name_stays_inside(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run_name"):
        folder_of(load(None, [f"output_dir={tmp_path}", f"run_name={name}"]))


# --- open --------------------------------------------------------------------------------------


def test_a_new_folder_describes_the_run(config: Config) -> None:
    with RunFolder.open(config) as run:
        run.describe({"name": "tiny"}, {"name": "arithmetic"})
        assert load(run.path / "config.yaml") == config
        stored = read_json(run.path / "environment.json")
        assert stored["config_hash"] == config_hash(config)
        assert stored["model"] == {"name": "tiny"} and stored["data"] == {"name": "arithmetic"}
        assert not run.finished and run.complete_rounds() == 0
        assert not (run.path / "initial.json").exists()


def test_opening_again_changes_nothing_and_later_processes_are_appended(config: Config) -> None:
    with RunFolder.open(config) as run:
        run.describe({"name": "tiny"}, {})
    before = snapshot(run.path)
    with RunFolder.open(config) as run:
        assert {**snapshot(run.path), ".lock": b""} == {**before, ".lock": b""}
        run.describe({"name": "tiny"}, {})
    stored = read_json(run.path / "environment.json")
    assert [entry["model"] for entry in stored["resumed"]] == [{"name": "tiny"}]
    assert stored["started"] == json.loads(before["environment.json"])["started"]


def test_keys_outside_the_hash_may_differ(tmp_path: Path) -> None:
    words = [f"output_dir={tmp_path}", "run_name=x"]
    RunFolder.open(load(None, words)).close()
    before = (tmp_path / "x" / "config.yaml").read_bytes()
    RunFolder.open(load(None, [*words, "tracking.progress=false"])).close()
    assert (tmp_path / "x" / "config.yaml").read_bytes() == before


def test_another_configuration_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    words = [f"output_dir={tmp_path}", "run_name=x"]
    with RunFolder.open(load(None, words)) as run, run.new_round(0) as folder:
        write_json(folder / "metrics.json", {"accuracy": 0.5})
    before = snapshot(tmp_path)
    with pytest.raises(InputError) as refused:
        RunFolder.open(load(None, [*words, "pool.rounds=3"]))
    message = str(refused.value)
    assert "pool.rounds is 10 there, 3 here" in message and "run_name" in message
    assert "\n" not in message
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("content", ["pool: {roundz: 3}\n", "pool: [\n", "- a\n"])
def test_an_unreadable_configuration_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "config.yaml").write_text(content)
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match="cannot read"):
        RunFolder.open(load(None, [f"output_dir={tmp_path}", "run_name=x"]))
    assert snapshot(tmp_path) == before


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "thesis.tex").write_text("precious")
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match=r"thesis\.tex"):
        RunFolder.open(load(None, [f"output_dir={tmp_path}", "run_name=x"]))
    (tmp_path / "y").write_text("a file")
    with pytest.raises(InputError, match="is a file"):
        RunFolder.open(load(None, [f"output_dir={tmp_path}", "run_name=y"]))
    with pytest.raises(InputError, match="output_dir"):
        RunFolder.open(load(None, [f"output_dir={tmp_path / 'y'}", "run_name=z"]))
    assert snapshot(tmp_path) == {**before, "y": b"a file"}


def test_a_kill_before_the_configuration_was_written(config: Config) -> None:
    path = folder_of(config)
    path.mkdir(parents=True)
    (path / ".lock").write_text("123\n")
    (path / ".config.yaml.0a1b2c3d.tmp").write_text("acq")
    with RunFolder.open(config) as run:
        assert load(run.path / "config.yaml") == config


# --- rounds ------------------------------------------------------------------------------------


def test_a_round_is_complete_or_absent(config: Config) -> None:
    with RunFolder.open(config) as run:
        with run.new_round(0) as folder:
            (folder / "adapter").mkdir()
            (folder / "adapter" / "weights").write_bytes(b"w")
            write_json(folder / "metrics.json", {"accuracy": 0.5})
            assert run.complete_rounds() == 0 and not run.round_folder(0).exists()
        assert run.complete_rounds() == 1 and not folder.exists()
        assert run.metrics(0) == {"accuracy": 0.5}
        assert (run.round_folder(0) / "adapter" / "weights").read_bytes() == b"w"
        with pytest.raises(RuntimeError, match="NaN"), run.new_round(1) as folder:
            write_json(folder / "metrics.json", {"accuracy": 0.6})
            raise RuntimeError("NaN loss")
        # The state is kept for a look, but it is no round.
        assert (folder / "metrics.json").exists() and run.complete_rounds() == 1
        with run.new_round(1) as folder:
            assert list(folder.iterdir()) == []
        assert run.complete_rounds() == 2
        with pytest.raises(FileExistsError), run.new_round(1):
            pass


def test_a_gap_between_rounds_is_refused(config: Config) -> None:
    with RunFolder.open(config) as run:
        for t in (0, 2):
            with run.new_round(t):
                pass
        with pytest.raises(InputError, match="rounds/01 is missing, but 02 is there"):
            run.complete_rounds()
        assert run.round_folder(7).name == "07" and run.round_folder(123).name == "123"


def test_a_missing_file_of_a_round_is_named(config: Config) -> None:
    with RunFolder.open(config) as run:
        with run.new_round(0):
            pass
        with pytest.raises(InputError, match=r"00.selected\.json"):
            run.selected(0)


def test_a_stored_query_is_of_unlabelled_examples(config: Config) -> None:
    pool: Pool[None] = Pool([1, 2, 3, 4])
    pool.add({1: None})
    with RunFolder.open(config) as run:
        for t, indices in enumerate(([4, 2], [2, 1], [9], [3, 3])):
            with run.new_round(t) as folder:
                write_json(folder / "selected.json", {"indices": indices})
        with run.new_round(4):
            pass
        assert run.stored_query(0, pool) == [4, 2]
        for t, what in enumerate((r"asks for \[1\]", r"asks for \[9\]", "twice", "is missing"), 1):
            with pytest.raises(InputError, match=rf"0{t}/selected\.json .*{what}.*remove"):
                run.stored_query(t, pool)


def test_initial_and_result(config: Config) -> None:
    with RunFolder.open(config) as run:
        run.write_initial(np.array([5, 2, 9]), validation=np.array([9]))
        assert read_json(run.path / "initial.json") == {"indices": [5, 2, 9], "validation": [9]}
        with pytest.raises(ValueError, match="validation"):
            run.write_initial([1, 2], validation=[3])
        with pytest.raises(ValueError, match="unique"):
            run.write_initial([1, 1])
        assert not run.finished
        run.write_result({"status": "done"})
        assert run.finished and read_json(run.path / "result.json") == {"status": "done"}


class Other:
    """One of several processes, not the main one, as Accelerate's state says it."""

    is_main_process = False

    def __init__(self, waits: list[str]) -> None:
        self.waits = waits

    def wait_for_everyone(self) -> None:
        self.waits.append("")


def test_other_ranks_write_nothing(config: Config) -> None:
    waits: list[str] = []
    other = RunFolder.open(config, Other(waits))
    assert not other.path.exists() and not other.write and len(waits) == 1
    with RunFolder.open(config) as run:
        run.write_initial([1, 2])
        assert read_json(other.path / "initial.json") == {"indices": [1, 2], "validation": []}
        before = snapshot(run.path)
        other.write_initial([3])
        other.write_result({})
        other.describe({}, {})
        assert len(waits) == 2
        with other.new_round(0) as folder:
            assert not folder.exists()
        assert snapshot(run.path) == before and other.complete_rounds() == 0
        assert len(waits) == 3


def test_the_one_who_writes_lets_the_others_go_on_when_all_is_there(config: Config) -> None:
    class Main(Other):
        is_main_process = True

        def wait_for_everyone(self) -> None:
            names = sorted(p.name for p in folder_of(config).rglob("*.json"))
            self.waits.append(" ".join(n for n in names if n != "checksums.json"))

    waits: list[str] = []
    with RunFolder.open(config, Main(waits)) as run:
        with run.new_round(0) as folder:
            write_json(folder / "metrics.json", {})
        run.write_result({})
        with pytest.raises(RuntimeError, match="NaN"), run.new_round(1):
            raise RuntimeError("NaN")  # which ends the job
    assert waits == [
        "environment.json",
        "environment.json metrics.json",
        "environment.json metrics.json result.json",
    ]


KILLED = """
    import os, signal, sys
    from star.config import load
    from star.files import write_json
    from star.active_learning.run_folder import RunFolder
    run = RunFolder.open(load(None, [f"output_dir={sys.argv[1]}", "run_name=x"]))
    run.write_initial([3, 5])
    with run.new_round(0) as folder:
        write_json(folder / "metrics.json", {"round": 0, "labeled": 2, "accuracy": 0.5})
    with run.new_round(1) as folder:
        write_json(folder / "metrics.json", {"accuracy": 0.6})
        print("in round 1", flush=True)
        sys.stdin.read()
"""


def test_a_killed_process_leaves_complete_rounds_and_no_lock(tmp_path: Path) -> None:
    config = load(None, [f"output_dir={tmp_path}", "run_name=x"])
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in round 1\n"
        before = snapshot(tmp_path)
        with pytest.raises(InputError, match=f"pid {process.pid}"):
            RunFolder.open(config)
        assert snapshot(tmp_path) == before
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with RunFolder.open(config) as run:
        assert run.complete_rounds() == 1
        with run.new_round(1) as folder:
            assert list(folder.iterdir()) == []
        assert run.complete_rounds() == 2


def test_the_lock_holds_within_a_process_and_is_given_back(config: Config) -> None:
    with RunFolder.open(config) as run:
        with pytest.raises(InputError, match=f"pid {os.getpid()}"):
            RunFolder.open(config)
        assert not RunFolder(run.path).write  # readers need no lock
    with pytest.raises(RuntimeError), RunFolder.open(config):
        raise RuntimeError
    RunFolder.open(config).close()
    run.close()  # twice is harmless


def _lock_is_a_folder(path: Path, patch: pytest.MonkeyPatch) -> None:
    (path / ".lock").mkdir()


def _lock_is_a_link(path: Path, patch: pytest.MonkeyPatch) -> None:
    (path.parent / "precious").write_text("precious")
    (path / ".lock").symlink_to(path.parent / "precious")


def _lock_leads_to_a_full_device(path: Path, patch: pytest.MonkeyPatch) -> None:
    (path / ".lock").symlink_to("/dev/full")


def _lock_cannot_be_opened(number: int) -> Callable[[Path, pytest.MonkeyPatch], None]:
    real = os.open

    def refuse(place: Any, *arguments: Any, **options: Any) -> int:
        if Path(place).name == ".lock":
            raise OSError(number, os.strerror(number), str(place))
        return real(place, *arguments, **options)

    return lambda path, patch: patch.setattr(os, "open", refuse)


def _lock_cannot_be_written(path: Path, patch: pytest.MonkeyPatch) -> None:
    real = os.fdopen

    class Full(io.BytesIO):
        def __init__(self, file: Any) -> None:
            super().__init__()
            self.file, self.fileno = file, file.fileno  # type: ignore[method-assign]

        def close(self) -> None:
            self.file.close()
            super().close()

        def write(self, content: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patch.setattr(os, "fdopen", lambda *given: Full(real(*given)))


FAILURES = {
    "a folder": _lock_is_a_folder,
    "a link": _lock_is_a_link,
    "a full device": _lock_leads_to_a_full_device,
    "no room for its content": _lock_cannot_be_written,
    **{errno.errorcode[n]: _lock_cannot_be_opened(n) for n in (28, 122, 13, 30, 24)},
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("state", ["new", "begun", "interrupted"])
def test_a_folder_that_cannot_be_locked_keeps_all_its_files(
    config: Config, state: str, failure: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = folder_of(config)
    if state != "new":
        with RunFolder.open(config) as run:
            run.write_initial([1, 2])
            if state != "begun":
                with run.new_round(0) as place:
                    (place / "metrics.json").write_text("{}")
        (path / ".lock").unlink()
    elif failure.startswith("a "):
        path.mkdir(parents=True)
    FAILURES[failure](path, monkeypatch)
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match=rf"cannot write {path}/\.lock: "):
        RunFolder.open(config)
    monkeypatch.undo()
    assert snapshot(tmp_path) == before
    if state == "new":  # nor is what was made for it left behind
        assert (tmp_path / "runs").exists() == failure.startswith("a ")


# --- provenance --------------------------------------------------------------------------------


def test_environment_is_json_and_complete(tmp_path: Path) -> None:
    write_json(tmp_path / "e.json", environment({"name": "tiny"}, {"hash": "ab"}))
    stored = read_json(tmp_path / "e.json")
    assert {"torch", "transformers", "peft", "accelerate", "numpy"} <= stored["packages"].keys()
    assert stored["packages"]["numpy"] == np.__version__
    assert {"cpu", "cores", "threads", "ram_gib", "gpus"} == stored["hardware"].keys()
    assert stored["started"].endswith("+00:00")
    assert stored["python"] and stored["platform"]


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_commit_and_dirty_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "star" / "provenance.py"
    module.parent.mkdir()
    module.write_text("# a\n")
    monkeypatch.setattr(provenance, "__file__", str(module))
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # set inside a git hook
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    nothing = {"commit": None, "dirty": None}
    assert environment({}, {})["star"].items() >= nothing.items()
    git(tmp_path, "init", "-q")
    # Inside a checkout, but not of it: as an installed copy in somebody's virtual environment.
    assert environment({}, {})["star"].items() >= nothing.items()
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "a")
    clean = {"commit": git(tmp_path, "rev-parse", "HEAD"), "dirty": False}
    assert environment({}, {})["star"].items() >= clean.items()
    (tmp_path / "new-result.json").write_text("{}")
    assert environment({}, {})["star"].items() >= clean.items()
    module.write_text("# b\n")
    assert environment({}, {})["star"].items() >= {**clean, "dirty": True}.items()


def test_config_is_not_changed_by_a_run(config: Config) -> None:
    before = dataclasses.asdict(config)
    RunFolder.open(config).close()
    assert dataclasses.asdict(config) == before

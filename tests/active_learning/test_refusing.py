"""Runs that cannot be begun or go on: said in one line, nothing left behind, nothing lost."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import runs

import star
from star import checksums, files
from star.acquisition import scores
from star.active_learning import loop, rounds
from star.active_learning.plan import plan
from star.active_learning.run_folder import RunFolder
from star.active_learning.run_names import check_path, folder_of
from star.cli.main import main
from star.config import load
from star.errors import InputError
from star.experiments import probes
from star.experiments.estimate import estimate as estimating
from star.models import adapter, distributed
from star.models import loading as models

ONCE = ("pool.rounds=2", "train.num_train_epochs=1")


@pytest.fixture(scope="module", autouse=True)
def _one_model(tiny_llama: Path) -> Any:
    """Load the model once for all runs; a folder that is not there is still refused."""
    read = models.load
    loaded = read(load(None, [f"model.name_or_path={tiny_llama}"]).model)

    def one(config: Any, **options: Any) -> Any:
        return loaded if config.name_or_path == str(tiny_llama) else read(config, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load", one)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.write_data(tmp_path_factory.mktemp("data"), pool=16, test=4)


def refused(capsys: pytest.CaptureFixture[str], words: list[str], *parts: str) -> str:
    """Check for exit status 2 and a last line on stderr with ``parts`` in it; return all of it."""
    assert main(["run", "-", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    *_, last = said.err.splitlines()
    assert last.startswith("error: ") and said.err.count("error: ") == 1
    for part in parts:
        assert part in last
    return said.err


# --- a refused run leaves nothing behind ----------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["task.data_dir=nowhere"],
        ["model.name_or_path=nowhere/there"],
        ["pool.initial_size=99"],
        ["acquisition.strategy=no_such_module:f"],
    ],
    ids=lambda words: words[0].partition("=")[0],
)
@pytest.mark.parametrize("there", [False, True])
def test_no_folder_is_left(
    words: list[str],
    there: bool,
    tiny_llama: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "a" / "b"
    if there:
        out.mkdir(parents=True)
        (out / "notes.txt").write_text("mine")
    refused(capsys, runs.words(tiny_llama, data, out, *words))
    left = [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))]
    assert left == (["a", "a/b", "a/b/notes.txt"] if there else [])


def test_a_run_that_has_begun_stays(
    tiny_llama: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run_name=x", *ONCE, "acquisition.select=random"]
    rows = Path(shutil.copytree(data, tmp_path / "data"))
    folder = runs.go(tiny_llama, rows, tmp_path, *words)
    (folder / "result.json").unlink()
    shutil.rmtree(folder / "rounds/01")
    kept = {path: path.read_bytes() for path in folder.rglob("*.json*")}
    text = (rows / "train.jsonl").read_text()
    (rows / "train.jsonl").write_text(text.replace("ann", "tom", 1))
    refused(capsys, runs.words(tiny_llama, rows, tmp_path, *words), "another content of the data")
    assert {path: path.read_bytes() for path in folder.rglob("*.json*")} == kept


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["run_name", "output_dir", "acquisition.name"])
@pytest.mark.parametrize(
    "value, part",
    [
        ("a\nb", "'a\\nb'"),
        ("a\x00b", "'a\\x00b'"),
        ("a\x7f", "\\x7f"),
        ("a\u2028b", "\\u2028"),
        (os.fsdecode(b"caf\xe9"), "not UTF-8"),
        ("x" * 300, "got one of 300"),
        ("é" * 128, "got one of 256"),
    ],
    ids=["newline", "nul", "control", "separator", "latin-1", "long", "long in bytes"],
)
def test_names_that_no_folder_can_have(
    key: str, value: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load(None, [])
    section, _, name = key.rpartition(".")
    holder = getattr(config, section) if section else config
    object.__setattr__(holder, name, value)  # however it came there
    for open_ in (folder_of, RunFolder.open):
        with pytest.raises(InputError, match=key) as caught:
            open_(config)
        assert part in str(caught.value)
        assert str(caught.value).isprintable() and len(str(caught.value)) < 400
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["x" * 255, "é" * 127, "日本", "a b", "a'b", "α/β"])
def test_names_that_stay_as_they_are(value: str, tmp_path: Path) -> None:
    check_path("run_name", value)
    config = load(None, [f"output_dir={tmp_path}"])
    object.__setattr__(config, "run_name", value)
    with RunFolder.open(config) as folder:
        assert folder.path == tmp_path / value and (folder.path / "config.yaml").is_file()


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    config = load(None, [])
    object.__setattr__(config, "output_dir", str(tmp_path / "/".join(["x" * 200] * 30)))
    with pytest.raises(InputError, match="a path of at most 4000 bytes, got 6"):
        RunFolder.open(config)


def test_a_home_that_is_not_there() -> None:
    config = load(None, ["output_dir=~nobody-of-that-name/x"])
    with pytest.raises(InputError, match=r"output_dir: .*home"):
        folder_of(config)


# --- disks ----------------------------------------------------------------------------------------


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "owner, name",
    [
        (rounds, "write_jsonl"),
        (scores, "write_npz"),
        (rounds, "write_json"),
        (adapter, "save"),
        (checksums, "seal"),
    ],
)
def test_a_disk_that_fills_up_in_mid_run(
    owner: Any,
    name: str,
    tiny_llama: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    more = [*ONCE, "tracking.save_adapters=all"]
    words = runs.words(tiny_llama, data, tmp_path, *more)
    with monkeypatch.context() as patch:
        write = rounds.write_round
        second = iter((False, True))

        def fails_in_round_1(*arguments: Any) -> None:
            if next(second):
                patch.setattr(owner, name, full)
            write(*arguments)

        patch.setattr(rounds, "write_round", fails_in_round_1)
        if name == "write_npz":  # the last round has no scores
            second = iter((True,))
        said = refused(
            capsys, words, "cannot write", "No space left on device", "MB free there", "make room"
        )
        assert "Traceback" not in said
    [place] = tmp_path.glob("*/*/*/config.yaml")
    kept = [path.name for path in place.parent.glob("rounds/[0-9]*")]
    assert kept == ([] if name == "write_npz" else ["00"])
    before = {k: v for k, v in runs.content(place.parent).items() if ".partial" not in k}
    assert main(["run", "-", *words]) == 0
    assert before.items() <= runs.content(place.parent).items()
    assert len(runs.result(place.parent)["rounds"]) == 2


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a file system of 1 MB, where this user may make one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no right to mount a file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_real_disk_that_is_full(
    tiny_llama: Path,
    data: Path,
    tiny_disk: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    words = runs.words(tiny_llama, data, tiny_disk / "out", *ONCE, "tracking.save_adapters=all")
    filler = tiny_disk / "filler"
    filler.write_bytes(b"x" * (2**20 - 4096))  # a page is left
    refused(capsys, words, "No space left on device", "0.0 MB free there")
    filler.write_bytes(b"x" * (2**20 - 48 * 2**10))  # room to begin, but for no adapter
    refused(capsys, words, "No space left on device", "make room")
    assert list(tiny_disk.glob("out/*/*/*/initial.json"))
    filler.unlink()
    assert main(["run", "-", *words]) == 0
    (folder,) = (path.parent for path in tiny_disk.glob("out/*/*/*/result.json"))
    capsys.readouterr()
    (folder / ".lock").unlink()
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:  # to the last byte
            file.write(b"x" * 4096)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for command in (
        ["run", "-", *words],
        ["report", str(folder)],
        ["replay", str(folder)],
        ["predict", str(folder), "ann has 1 eggs plus 2 , how many ?"],
    ):
        assert main(command) == 0, command
    assert "finished already" in caplog.text
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    assert main(["run", "-", *words]) == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO])
def test_a_folder_that_takes_nothing_is_refused_before_the_work(
    number: int,
    tiny_llama: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("star.active_learning.locking.lock", refuse)
    monkeypatch.setattr(loop, "prepare", None)  # never called
    words = runs.words(tiny_llama, data, tmp_path / "out")
    refused(capsys, words, "cannot write", os.strerror(number), "set output_dir")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x" * 200, "x" * 241, "x" * 242, "x" * 255, "é" * 127])
def test_a_long_name_has_a_temporary_name_that_fits(name: str, tmp_path: Path) -> None:
    files.write_json(tmp_path / name, {"a": 1})
    assert [path.name for path in tmp_path.iterdir()] == [name]


# --- a pool that ends -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "unlabelled, size, rounds, expected",
    [(8, 5, 6, 3), (10, 5, 6, 3), (11, 5, 6, 4), (25, 5, 6, 6), (0, 5, 6, 1), (0, 1, 1, 1)],
)
def test_possible_rounds(unlabelled: int, size: int, rounds: int, expected: int) -> None:
    words = (f"pool.query_size={size}", f"pool.rounds={rounds}", "pool.initial_size=6")
    assert len(plan(load(None, words), 6 + unlabelled).rounds) == expected


SHORT = ("task.pool_limit=14", "pool.rounds=6", "train.num_train_epochs=1")  # 6 + 5 + 3


@pytest.fixture(scope="module")
def short(tiny_llama: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.go(tiny_llama, data, tmp_path_factory.mktemp("short"), *SHORT)


def weights(folder: Path) -> list[float]:
    queries = [runs.read(path)["query"] for path in sorted(folder.glob("rounds/*/metrics.json"))]
    return [query["base_weight"] for query in queries if query]


def test_lambda_runs_over_the_rounds_there_will_be(short: Path, tiny_llama: Path) -> None:
    assert weights(short) == [1 - 1 / 3, 1 - 2 / 3]
    assert [runs.read(p)["rounds"] for p in short.glob("rounds/*/metrics.json")] == [3, 3, 3]
    result = runs.result(short)
    assert result["rounds_asked"] == 6 and len(result["rounds"]) == 3
    rows = star.replay(short)
    assert [row["base_weight"] for row in rows] == weights(short)
    assert all(row["overlap"] == 1.0 for row in rows)
    probed = probes.weights(short)
    assert sorted({row["base_weight"] for row in probed}, reverse=True) == weights(short)
    told = estimating.estimate(
        load(short / "config.yaml"), flops_per_second=1e12, bytes_per_second=1e12
    )
    assert len(told["rounds"]) == 3
    assert any("3 of the rounds of pool.rounds=6" in note for note in told["notes"])
    kept = star.replay(short, ["acquisition.base_weight.rounds=10"])
    assert [row["base_weight"] for row in kept] == [0.9, 0.8]


def test_it_is_said_before_the_start(
    tiny_llama: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    more = ("acquisition.base_weight.rounds=8", "acquisition.base_weight.schedule=linear")
    folder = runs.go(tiny_llama, data, tmp_path, *SHORT, *more)
    said = [record.getMessage() for record in caplog.records]
    [line] = [text for text in said if "can happen" in text]
    assert "3 of the rounds of pool.rounds=6 can happen: the pool of 14 examples" in line
    assert said.index(line) < next(i for i, text in enumerate(said) if text.startswith("round 0"))
    assert weights(folder) == [1 - 1 / 8, 1 - 2 / 8]  # as it was asked for


def test_a_run_that_an_earlier_version_began_keeps_its_schedule(
    short: Path, tiny_llama: Path, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / short.relative_to(short.parents[2])
    shutil.copytree(short, folder)
    (folder / "result.json").unlink()
    for t in (1, 2):
        shutil.rmtree(folder / f"rounds/{t:02d}")
    metrics = runs.read(folder / "rounds/00/metrics.json")
    metrics.pop("rounds")
    files.write_json(folder / "rounds/00/metrics.json", metrics)
    runs.earlier(folder)
    assert runs.go(tiny_llama, data, tmp_path, *SHORT) == folder
    assert weights(folder)[1] == 1 - 2 / 6
    assert [p["labeled"] for p in runs.result(folder)["rounds"]] == [6, 11, 14]


def test_a_pool_that_is_labelled_whole_at_once(
    tiny_llama: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    more = ("pool.initial_size=16", "train.num_train_epochs=1")
    folder = runs.go(tiny_llama, data, tmp_path, *more, "pool.rounds=1")
    assert "can happen" not in caplog.text and "rounds_asked" not in runs.result(folder)
    folder = runs.go(tiny_llama, data, tmp_path, *more, "pool.rounds=4")
    assert "1 of the rounds of pool.rounds=4 can happen" in caplog.text
    assert [p["labeled"] for p in runs.result(folder)["rounds"]] == [16]


# --- a strategy of the user's own -----------------------------------------------------------------

OWN = """
import numpy as np
def inner(pool):
    return {{}}["no such key"]
def fails(pool):
    if pool.round == 1 and not pool.made_up:
        {body}
    return np.asarray(pool.blended)
"""


@pytest.mark.parametrize(
    "body, parts, trace",
    [
        ("inner(pool)", ["KeyError: 'no such key'"], ["in inner", "in fails"]),
        ("raise ValueError('two\\nlines')", ["ValueError: two lines"], ["in fails"]),
        ("raise SystemExit(3)", ["SystemExit: 3"], ["in fails"]),
        ("pool.score('fool', 'margin')", ["AttributeError"], ["in fails"]),
        ("return [[1.0], [2.0, 3.0]]", ["must return"], []),
        ("return pool.blended * np.nan", ["not finite", "own_and_bad:fails"], []),
    ],
)
def test_an_error_in_a_strategy_of_one_s_own(
    body: str,
    parts: list[str],
    trace: list[str],
    tiny_llama: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "own_and_bad", raising=False)
    (tmp_path / "own_and_bad.py").write_text(OWN.format(body=body))
    more = ["acquisition.strategy=own_and_bad:fails", "pool.rounds=3", "train.num_train_epochs=1"]
    words = runs.words(tiny_llama, data, tmp_path / "out", *more)
    refused(capsys, words, "own_and_bad:fails", "round 1", *parts)
    shown = "\n".join(r.getMessage() for r in caplog.records if r.levelname == "ERROR")
    for part in trace:
        assert part in shown
    assert ("own_and_bad.py" in shown) == bool(trace)
    assert "in scores\n" not in shown and "active_learning.py" not in shown  # star's own frames
    [place] = (tmp_path / "out").glob("*/*/*/rounds/00")
    assert place.is_dir()


@pytest.mark.parametrize(
    "kind, said", [(dict, "hold different labels in round 0"), (int, "choose different examples a")]
)
def test_processes_that_share_no_batch_train_on_none(
    kind: type, said: str, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "equal", lambda value: not isinstance(value[0], kind))
    with pytest.raises(InputError, match=f"the processes of this job {said}"):
        runs.go(tiny_llama, runs.write_data(tmp_path / "data"), tmp_path, "pool.rounds=2")

"""A run that ends early, twice, badly, or in several processes comes to the same numbers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
from safetensors.torch import load_file

from star.active_learning import learner
from star.active_learning.run_folder import RunFolder
from star.config import load
from star.errors import InputError
from star.models import loading as models
from star.models import training


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(tiny_llama: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of three rounds that nothing disturbed."""
    return runs.go(tiny_llama, data, tmp_path_factory.mktemp("whole"))


def same(first: Path, second: Path) -> None:
    assert runs.result(first) == runs.result(second)
    assert runs.content(first) == runs.content(second)
    assert not list(first.rglob(".*.partial"))


class Killed(BaseException):
    """As KeyboardInterrupt, nothing the program may catch."""


def after(calls: int, function: Any) -> Any:
    """Return the function, but its call number ``calls`` (from 0) ends in ``Killed``."""
    seen = iter(range(1000))

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if next(seen) == calls:
            raise Killed
        return function(*args, **kwargs)

    return wrapped


@pytest.mark.parametrize(
    "place, calls, complete",
    [("evaluate", 0, 0), ("evaluate", 1, 1), ("evaluate", 2, 2), ("write_result", 0, 3)],
)
def test_a_run_goes_on_after_its_last_complete_round(
    place: str,
    calls: int,
    complete: int,
    tiny_llama: Path,
    data: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        owner: Any = RunFolder if place == "write_result" else learner.Learner
        patch.setattr(owner, place, after(calls, getattr(owner, place)))
        with pytest.raises(Killed):
            runs.go(tiny_llama, data, tmp_path)
    (folder,) = (path.parent for path in tmp_path.rglob("config.yaml"))
    assert not (folder / "result.json").exists()
    assert len(list(folder.glob("rounds/[0-9]*"))) == complete
    before = {p: p.stat().st_mtime_ns for p in folder.glob("rounds/[0-9]*/**/*")}
    assert runs.go(tiny_llama, data, tmp_path) == folder
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    same(folder, whole)
    environment = runs.read(folder / "environment.json")
    assert len(environment["resumed"]) == 1


def stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    files = [path for path in folder.rglob("*") if path.name != ".lock"]
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in files}


def test_a_finished_run_does_nothing(
    tiny_llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs.go(tiny_llama, data, tmp_path, "pool.rounds=1")
    before = stamps(folder)
    monkeypatch.setattr(models, "load", after(0, models.load))  # data and hashes are enough
    assert runs.go(tiny_llama, data, tmp_path, "pool.rounds=1") == folder
    assert stamps(folder) == before


CHANGES = {
    "data": ("data/test.jsonl", '"answer": "', '"answer": "1'),
    "model": ("model/tokenizer_config.json", "{", '{"star": 1,'),
    "strategy": ("near_by.py", "1.0", "2.0"),
}


def test_a_finished_run_answers_for_its_own_content_alone(
    tiny_llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(data, tmp_path / "data")
    shutil.copytree(tiny_llama, tmp_path / "model")
    (tmp_path / "far_off.py").write_text("import near_by\n\ndef f(p):\n    return near_by.g(p)\n")
    (tmp_path / "near_by.py").write_text("def g(pool):\n    return 1.0 * pool.blended\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    places = [tmp_path / "model", tmp_path / "data", tmp_path / "out"]
    words = ["pool.rounds=1", "acquisition.strategy=far_off:f"]
    folder = runs.go(*places, *words)
    monkeypatch.setattr(models, "load", after(0, models.load))
    assert runs.go(*places, *words) == folder
    before = stamps(folder)
    for part, (file, old, new) in CHANGES.items():
        text = (tmp_path / file).read_text()
        assert old in text
        (tmp_path / file).write_text(text.replace(old, new, 1))
        with pytest.raises(
            InputError, match=rf"another content of the {part} \(.*restore the {part},"
        ):
            runs.go(*places, *words)
        (tmp_path / file).write_text(text)
    for file, old, new in CHANGES.values():
        (tmp_path / file).write_text((tmp_path / file).read_text().replace(old, new, 1))
    with pytest.raises(InputError, match="restore the data and the model and the strategy, or set"):
        runs.go(*places, *words)
    assert stamps(folder) == before
    shutil.rmtree(tmp_path / "model")
    with pytest.raises(InputError, match="no such folder"):
        runs.go(*places, *words)
    assert stamps(folder) == before


def test_nothing_to_do_is_said_without_torch(tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    words = ("pool.rounds=1", "acquisition.select=random")
    folder = runs.go(tiny_llama, data, tmp_path, *words)
    look = (
        "import sys; from star.cli.main import main; status = main(['run', *sys.argv[1:]]); "
        "sys.exit(status or 3 * bool({'torch', 'transformers'} & {*sys.modules}))"
    )

    def start() -> subprocess.CompletedProcess[str]:
        every = ["-", *runs.words(tiny_llama, data, tmp_path, *words)]
        call = [sys.executable, "-c", look, *every]
        return subprocess.run(
            call, env=ENVIRONMENT, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )

    done = start()
    assert (done.returncode, done.stdout) == (0, f"{folder}\n"), done.stderr
    assert "finished already; nothing to do" in done.stderr
    stored = runs.read(folder / "environment.json")
    stored["model"]["revision"] = "0" * 64
    (folder / "environment.json").write_text(json.dumps(stored))
    before = stamps(folder)
    done = start()
    assert done.returncode == 2 and not done.stdout and stamps(folder) == before
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_going_on_with_other_software_is_said(
    tiny_llama: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    words = (tiny_llama, data, tmp_path, "pool.rounds=1")
    with monkeypatch.context() as patch:
        patch.setattr(learner.Learner, "evaluate", after(0, learner.Learner.evaluate))
        with pytest.raises(Killed):
            runs.go(*words)
    [file] = tmp_path.rglob("environment.json")
    stored = runs.read(file)
    stored["model"]["computation"]["libraries"]["torch"] = "1.0"
    stored["model"]["computation"]["device"] = "cuda NVIDIA A100"
    file.write_text(json.dumps(stored))
    runs.earlier(file.parent)
    runs.go(*words)
    [line] = [text for text in caplog.messages if "goes on with other" in text]
    assert "device cuda NVIDIA A100, now cpu" in line and "torch 1.0, now " in line
    assert "transformers" not in line


def cut_short(
    patch: pytest.MonkeyPatch, model: Path, data: Path, out: Path, *words: str, rounds: int
) -> Path:
    """Return the folder of a run that was killed in the round behind so many complete ones."""
    with patch.context() as killing:
        killing.setattr(learner.Learner, "evaluate", after(rounds, learner.Learner.evaluate))
        with pytest.raises(Killed):
            runs.go(model, data, out, *words)
    [file] = out.rglob("config.yaml")
    return file.parent


SIZE = ("train.per_device_train_batch_size=3", "train.gradient_accumulation_steps=2")


def test_a_run_tells_how_many_rows_its_updates_have(
    tiny_llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cut_short(monkeypatch, tiny_llama, data, tmp_path, *SIZE, rounds=1)
    assert runs.go(tiny_llama, data, tmp_path, *SIZE) == folder
    stored = runs.read(folder / "environment.json")
    for start in (stored, *stored["resumed"]):
        assert (start["processes"], start["rows_per_update"]) == (1, 6)


def told(folder: Path, **changes: int | None) -> None:
    """Let a run's last start tell something else, or (``None``) nothing."""
    stored = runs.read(folder / "environment.json")
    start = [stored, *stored.get("resumed", [])][-1]
    start |= changes
    for key in [key for key, value in changes.items() if value is None]:
        del start[key]
    (folder / "environment.json").write_text(json.dumps(stored))
    runs.earlier(folder)


@pytest.mark.parametrize("begun", [0, 1])
def test_a_run_with_updates_of_other_rows_is_not_gone_on_with(
    begun: int, tiny_llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cut_short(monkeypatch, tiny_llama, data, tmp_path, *SIZE, rounds=1)
    if begun:  # what counts is the last start: an earlier version may have begun
        cut_short(monkeypatch, tiny_llama, data, tmp_path, *SIZE, rounds=0)
    told(folder, processes=2, rows_per_update=12)
    before = {path: content for path, content in stamps(folder).items() if path.is_file()}
    refused = r"12 rows in an update, got 6 .*1 process instead of 2.*start it with 2 processes,"
    with pytest.raises(InputError, match=refused) as line:
        runs.go(tiny_llama, data, tmp_path, *SIZE)
    assert "\n" not in str(line.value)
    now = {path: content for path, content in stamps(folder).items() if path.is_file()}
    assert {path: now.get(path) for path in before} == before


@pytest.mark.parametrize("complete", [0, 1])
def test_where_nothing_contradicts_it_goes_on(
    complete: int, tiny_llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cut_short(monkeypatch, tiny_llama, data, tmp_path, *SIZE, rounds=complete)
    if complete:  # as an earlier version left it
        told(folder, processes=None, rows_per_update=None)
    else:  # no round has been trained
        told(folder, processes=2, rows_per_update=12)
    assert runs.go(tiny_llama, data, tmp_path, *SIZE) == folder
    assert runs.read(folder / "environment.json")["resumed"][-1]["rows_per_update"] == 6


@pytest.mark.parametrize("select", [pytest.param("random", marks=pytest.mark.slow), "top_k"])
def test_the_last_query_takes_what_is_left(
    select: str,
    tiny_llama: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    words = ["task.pool_limit=14", "pool.rounds=6", f"acquisition.select={select}"]
    words += ["tracking.save_adapters=last"]
    folder = runs.go(tiny_llama, data, tmp_path / "a", *words)  # 6 + 5, then 3 are left
    assert "round 1: 3 unlabelled left, all are queried" in caplog.text
    result = runs.result(folder)
    assert [point["labeled"] for point in result["rounds"]] == [6, 11, 14]
    assert [len(query) for query in runs.queries(folder)] == [5, 3]
    bought = runs.read(folder / "initial.json")["indices"] + [
        i for q in runs.queries(folder) for i in q
    ]
    assert sorted(bought) == list(range(14))
    assert runs.read(folder / "rounds/01/metrics.json")["query"]["exhausted"]
    assert [p.parent.name for p in folder.glob("rounds/*/adapter")] == ["02"]
    # Killed between the last round and the result: no further round is made up.
    monkeypatch.setattr(RunFolder, "write_result", after(0, RunFolder.write_result))
    with pytest.raises(Killed):
        runs.go(tiny_llama, data, tmp_path / "b", *words)
    same(runs.go(tiny_llama, data, tmp_path / "b", *words), folder)


# --- held-out rows, adapters, refusals ---------------------------------------------------------


def test_validation_rows_are_labels_but_never_trained_on(
    tiny_llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[set[int], set[int]]] = []
    fit = training.fit

    def spy(model: Any, adapted: Any, rows: Any, **options: Any) -> Any:
        trained.append(({r.index for r in rows}, {r.index for r in options["validation"]}))
        return fit(model, adapted, rows, **options)

    monkeypatch.setattr(training, "fit", spy)
    words = ["task.validation_size=4", "train.keep=best", "tracking.save_adapters=all"]
    folder = runs.go(tiny_llama, data, tmp_path, *words)
    initial = runs.read(folder / "initial.json")
    held = set(initial["validation"])
    assert len(held) == 4 and held < set(initial["indices"]) and len(initial["indices"]) == 10
    assert [p["labeled"] for p in runs.result(folder)["rounds"]] == [10, 15, 20]
    bought = set(initial["indices"]) - held
    for t, (rows, validation) in enumerate(trained):
        assert (rows, validation) == (bought, held)
        notes = runs.read(folder / f"rounds/{t:02d}/metrics.json")["training"]
        best = int(np.argmin(notes["validation_loss"]))
        assert len(notes["validation_loss"]) == 2 and notes["kept_epoch"] == best
        if t < 2:
            bought |= set(runs.queries(folder)[t])
    assert not held & {i for q in runs.queries(folder) for i in q}
    saved = sorted(folder.glob("rounds/*/adapter/adapter_model.safetensors"))
    assert [path.parts[-3] for path in saved] == ["00", "01", "02"]


def test_too_small_a_pool(tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="5 available / 6 requested"):
        runs.go(tiny_llama, data, tmp_path, "task.pool_limit=5")
    with pytest.raises(InputError, match="9 available / 11 requested"):
        runs.go(tiny_llama, data, tmp_path, "task.pool_limit=9", "task.validation_size=5")


def test_duplicates_are_reported_and_used_once(
    tiny_llama: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = Path(shutil.copytree(data, tmp_path / "data"))
    lines = (copy / "train.jsonl").read_text().splitlines()[:10]
    (copy / "train.jsonl").write_text("\n".join([lines[0], lines[0], *lines[1:], lines[3]]))
    folder = runs.go(tiny_llama, copy, tmp_path, "pool.initial_size=3", "pool.query_size=99")
    assert "2 duplicate questions" in caplog.text
    noted = runs.read(folder / "environment.json")["data"]
    assert noted["counts"]["duplicates"] == 2 and "duplicate" in noted["notes"][0]
    bought = runs.read(folder / "initial.json")["indices"] + runs.queries(folder)[0]
    assert sorted(bought) == [0, *range(2, 11)]  # rows left out never renumber the others


def test_other_content_under_the_same_name_is_refused(
    tiny_llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, model = tmp_path / "data", Path(shutil.copytree(tiny_llama, tmp_path / "model"))
    shutil.copytree(data, copy)
    with monkeypatch.context() as patch:
        patch.setattr(learner.Learner, "evaluate", after(1, learner.Learner.evaluate))
        with pytest.raises(Killed):
            runs.go(model, copy, tmp_path / "out")
    before = runs.content(tmp_path / "out")
    train = copy / "train.jsonl"
    text = train.read_text()
    train.write_text(text.replace("ann", "tom", 1))
    with pytest.raises(InputError, match="another content of the data"):
        runs.go(model, copy, tmp_path / "out")
    train.write_text(text)
    settings = json.loads((model / "generation_config.json").read_text())
    (model / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": [2, 3]}))
    with pytest.raises(InputError, match="another content of the model"):
        runs.go(model, copy, tmp_path / "out")
    assert runs.content(tmp_path / "out") == before


def test_a_run_does_not_go_on_where_its_ece_meant_something_else(
    tiny_llama: Path, data: Path, whole: Path, tmp_path: Path
) -> None:
    there = tmp_path / whole.relative_to(whole.parents[2])
    shutil.copytree(whole, there)
    (there / "result.json").unlink()
    shutil.rmtree(there / "rounds/02")
    path = there / "rounds/01/metrics.json"
    metrics = runs.read(path)
    path.write_text(json.dumps({k: v for k, v in metrics.items() if "conf" not in k}))
    runs.earlier(there)
    before = runs.content(there)
    with pytest.raises(InputError, match=r"earlier version .round 1.*output_dir"):
        runs.go(tiny_llama, data, tmp_path)
    assert runs.content(there) == before and not (there / "result.json").exists()


def test_another_configuration_of_the_same_name_is_refused(
    tiny_llama: Path, data: Path, tmp_path: Path
) -> None:
    words = ["run_name=mine", "pool.rounds=1"]
    folder = runs.go(tiny_llama, data, tmp_path, *words)
    assert folder == tmp_path / "mine"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with pytest.raises(InputError, match=r"pool\.rounds is 1 there, 2 here"):
        runs.go(tiny_llama, data, tmp_path, *words, "pool.rounds=2")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


# --- real processes ----------------------------------------------------------------------------


def command(words: list[str], *, processes: int = 1) -> list[str]:
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m"]
    return [*start, "star", "run", "-", *words]


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


@pytest.mark.slow
def test_a_killed_process(tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    def start_and_end(words: list[str]) -> Path:
        done = subprocess.run(command(words), env=ENVIRONMENT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return Path(done.stdout.splitlines()[-1])

    # Both in processes of their own: another number of threads would round differently.
    whole = start_and_end(runs.words(tiny_llama, data, tmp_path / "whole"))
    tmp_path = tmp_path / "killed"
    words = runs.words(tiny_llama, data, tmp_path)
    process = subprocess.Popen(command(words), env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*/*/*/rounds/01")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(tmp_path.rglob("result.json"))
    same(start_and_end(words), whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    "select, count, launch",
    [
        ("random", 2, {}),
        ("top_k", 2, {}),
        ("top_k", 3, {}),
        # As `accelerate launch` sets them for a configuration with fsdp_version: 2.
        ("top_k", 2, {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}),
        ("top_k", 3, {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}),
    ],
)
def test_several_processes(
    select: str, count: int, launch: dict[str, str], tiny_llama: Path, data: Path, tmp_path: Path
) -> None:
    words = [f"acquisition.select={select}", "adapter.lora_dropout=0"]
    words += ["acquisition.mc_dropout.passes=0", "tracking.save_adapters=last"]
    size = "train.per_device_train_batch_size={}".format
    one = runs.go(tiny_llama, data, tmp_path / "one", *words, size(6))
    # 2 × 3 or 3 × 2 examples an update, as 1 × 6: the same optimisation, configured otherwise.
    words = runs.words(tiny_llama, data, tmp_path / "several", *words, size(6 // count))
    done = subprocess.run(
        command(words, processes=count), env=ENVIRONMENT | launch, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    several = Path(done.stdout.splitlines()[-1])
    assert done.stdout.splitlines().count(str(several)) == 1  # one of them talks
    np.testing.assert_allclose(runs.losses(several), runs.losses(one), atol=1e-5)
    assert runs.queries(several) == runs.queries(one)
    assert files(several) == files(one)
    name = "rounds/02/adapter/adapter_model.safetensors"
    adapters = [load_file(folder / name) for folder in (one, several)]
    assert adapters[0].keys() == adapters[1].keys()
    for key, weight in adapters[0].items():
        np.testing.assert_allclose(adapters[1][key].numpy(), weight.numpy(), atol=1e-4)
    load(several / "config.yaml")


@pytest.mark.slow
def test_several_do_not_go_on_with_what_one_has_begun(
    tiny_llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["acquisition.select=random", "train.per_device_train_batch_size=4"]
    folder = cut_short(monkeypatch, tiny_llama, data, tmp_path, *words, rounds=1)
    before = stamps(folder)
    done = subprocess.run(
        command(runs.words(tiny_llama, data, tmp_path, *words), processes=2),
        env=ENVIRONMENT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if "4 rows in an update, got 8" in line]
    assert lines and all("; start it with 1 process, or set" in line for line in lines)
    assert stamps(folder) == before


@pytest.mark.slow
def test_processes_that_see_different_rounds_are_refused(
    tiny_llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["acquisition.select=random", "run_name=r"]
    cut_short(monkeypatch, tiny_llama, data, tmp_path / "0", *words, rounds=1)
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    own = f'exec "$0" -m star run - "$@" output_dir="{tmp_path}/$RANK"'  # each node's own disk
    done = subprocess.run(
        [*start, "--no-python", "sh", "-c", own, sys.executable,
         *runs.words(tiny_llama, data, tmp_path, *words)],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode != 0
    refused = "read different data or models, or see different rounds in "
    assert refused in done.stderr and "an output_dir that all of them share" in done.stderr


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}

"""Trackers beside a run: what they are told, once, and that none of them can stop it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import runs
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from own_trackers import Noting

from star.active_learning import learner, trackers
from star.active_learning.run_folder import RunFolder
from star.config import checks, config_hash, load
from star.errors import InputError

WORDS = ("pool.rounds=2", "model.device=cpu")
SECRET = "hf_never_to_be_seen"
BROKEN = ("AtInit", "AtStart", "AtSettings", "AtLog", "AtImages", "AtFinish")


def log_with(*names: str) -> str:
    return f"tracking.log_with={','.join(names)}"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def plain(tiny_llama: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run without trackers."""
    return runs.go(tiny_llama, data, tmp_path_factory.mktemp("plain"), *WORDS)


@pytest.fixture
def made() -> Iterator[list[Noting]]:
    Noting.made.clear()
    yield Noting.made
    Noting.made.clear()


def same(first: Path, second: Path) -> None:
    assert runs.result(first) == runs.result(second)
    assert runs.content(first) == runs.content(second)


def test_a_tracker_that_fails_leaves_the_run_as_it_is(
    tiny_llama: Path,
    data: Path,
    plain: Path,
    tmp_path: Path,
    made: list[Noting],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)  # not installed
    own = [f"own_trackers:{name}" for name in (*BROKEN, "Absent", "NoTracker", "Noting")]
    with caplog.at_level(logging.WARNING, logger="star"):
        folder = runs.go(
            tiny_llama, data, tmp_path, *WORDS, log_with(*own, "no_such_module:Tracker", "mlflow")
        )
    same(folder, plain)
    lines = [r.getMessage() for r in caplog.records if "tracking.log_with" in r.getMessage()]
    failed = [*own[:-1], "no_such_module:Tracker", "mlflow"]
    assert sorted(line.split()[1] for line in lines) == sorted(failed)  # one line each
    assert not any("\n" in line for line in lines)
    verbs = {name: line for line in lines for name in BROKEN if f":{name} " in line}
    assert "failed to start (ConnectionError: no network)" in verbs["AtInit"]
    assert "failed to log (SystemExit: 3)" in verbs["AtLog"]
    assert "failed to draw the curve" in verbs["AtImages"]
    assert "failed to end" in verbs["AtFinish"]
    assert any("mlflow failed to start (pip install mlflow)" in line for line in lines)
    whole = next(tracker for tracker in made if type(tracker) is Noting)
    assert whole.told[-1][0] == "finish"  # the others' failures are not its own
    assert not capsys.readouterr().out  # the run's folder alone goes there


def test_what_a_tracker_is_told(
    tiny_llama: Path,
    data: Path,
    tmp_path: Path,
    made: list[Noting],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    root = tmp_path / "table"
    folder = runs.go(tiny_llama, data, root, *WORDS, log_with("own_trackers:Noting"))
    (tracker,) = made
    assert tracker.run_name == "-".join(folder.relative_to(root).parts)
    verbs = [verb for verb, *_ in tracker.told]
    assert verbs[:2] == ["start", "settings"] and verbs[-2:] == ["images", "finish"]
    told = tracker.told[1][1]
    config = load(folder / "config.yaml")
    assert told["pool.rounds"] == 2 and told["config_hash"] == config_hash(config)
    assert told["task.hub_id"] == "null"  # trackers take no None
    assert all(isinstance(value, (bool, int, float, str)) for value in told.values())
    labels = [point["labeled"] for point in runs.read(folder / "result.json")["rounds"]]
    assert tracker.rounds() == list(enumerate(labels))
    assert tracker.updates() == list(range(1, len(runs.losses(folder)) + 1))
    rounds = [v for verb, v, _ in tracker.told if verb == "log" and "round" in v]
    for point, values in zip(runs.read(folder / "result.json")["rounds"], rounds, strict=True):
        assert values["labels"] == point["labeled"]
        for name in ("accuracy", "ece", "overconfidence"):
            assert values[f"test/{name}"] == point[name]
        assert values["seconds/train"] == point["seconds"]["train"]
        assert values["training/loss"] in runs.losses(folder)
    image = next(v for verb, v, _ in tracker.told if verb == "images")["learning_curve"]
    assert image.shape[0] == 1 and image.shape[-1] == 3 and image.min() < image.max()
    everything = repr([entry for entry in tracker.told if entry[0] != "images"])
    assert SECRET not in everything
    assert "ann has" not in everything and "tom has" not in everything  # the rows' words


class Killed(BaseException):
    pass


def interrupted(patch: pytest.MonkeyPatch, *given: Any) -> None:
    """Run, and be killed in the second round."""
    seen, ours = [], learner.Learner.evaluate

    def once(*words: Any, **more: Any) -> Any:
        seen.append(1)
        if len(seen) == 2:
            raise Killed
        return ours(*words, **more)

    with patch.context() as inside:
        inside.setattr(learner.Learner, "evaluate", once)
        with pytest.raises(Killed):
            runs.go(*given)


def test_a_run_that_goes_on_logs_each_round_once(
    tiny_llama: Path,
    data: Path,
    plain: Path,
    tmp_path: Path,
    made: list[Noting],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def continuing(project: str, title: str, run: str | None, folder: Path) -> Noting:
        return Noting(f"{project}/{title}", run=run)

    monkeypatch.setitem(trackers.NAMED, "mlflow", continuing)
    monkeypatch.setitem(trackers.RUN_OF, "mlflow", lambda tracker: "number 7")
    monkeypatch.setattr(Noting, "log_figure", lambda *_: None, raising=False)
    words = (*WORDS, log_with("mlflow", "own_trackers:Noting"))
    interrupted(monkeypatch, tiny_llama, data, tmp_path / "table", *words)
    assert [tracker.told[-1][0] for tracker in made] == ["finish"] * 2  # and no curve
    folder = runs.go(tiny_llama, data, tmp_path / "table", *words)
    same(folder, plain)
    first, _, again, anew = made
    assert first.run_name.startswith("table/") and first.run is None and again.run == "number 7"
    # Its own run goes on: round 0 stays there; a new run gets all of them.
    assert [t for t, _ in first.rounds()] == [0] and [t for t, _ in again.rounds()] == [1]
    assert [t for t, _ in anew.rounds()] == [0, 1]
    assert first.updates() + again.updates() == anew.updates()
    assert "settings" not in [verb for verb, *_ in again.told]
    made.clear()
    runs.go(tiny_llama, data, tmp_path / "table", *words)
    assert not made  # a finished run has nothing to tell


def test_the_main_process_alone_has_trackers(tmp_path: Path, made: list[Noting]) -> None:
    config = load(None, [log_with("own_trackers:Noting")])
    with trackers.Trackers(config, RunFolder(tmp_path, write=False)) as beside:
        beside.update()
    assert not made and not list(tmp_path.iterdir())


def test_what_log_with_may_be() -> None:
    assert checks.TRACKERS == tuple(trackers.NAMED) == tuple(trackers.RUN_OF)
    assert {*trackers.NAMED} <= {str(name) for name in LOGGER_TYPE_TO_CLASS}
    plain, tracked = load(), load(None, [log_with("wandb", "accelerate.tracking:AimTracker")])
    assert tracked.tracking.log_with == ["wandb", "accelerate.tracking:AimTracker"]
    assert config_hash(plain) == config_hash(tracked)
    with pytest.raises(InputError, match=r"log_with holds tensorboard, .*did you mean 'wandb'"):
        load(None, [log_with("wandbb")])
    with pytest.raises(InputError, match=r"did you mean 'tracking\.log_with'"):
        load(None, ["report_to=wandb"])


# --- real ones -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_reads_what_was_logged(
    tiny_llama: Path, data: Path, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = (*WORDS, log_with("tensorboard"))
    interrupted(monkeypatch, tiny_llama, data, tmp_path, *words)
    folder = runs.go(tiny_llama, data, tmp_path, *words)
    same(folder, plain)
    events = EventAccumulator(str(folder / "trackers/tensorboard"))
    events.Reload()
    points = runs.read(folder / "result.json")["rounds"]
    logged = [(event.step, event.value) for event in events.Scalars("test/accuracy")]
    assert logged == [(p["labeled"], pytest.approx(p["accuracy"])) for p in points]
    updates = [event.value for event in events.Scalars("update/loss")]
    assert updates == pytest.approx(runs.losses(folder), rel=1e-5)
    assert events.Tags()["images"] == ["learning_curve"]
    assert list((folder / "trackers/tensorboard").rglob("hparams.yml"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_trackio_reads_what_was_logged(
    tiny_llama: Path, data: Path, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    trackio = pytest.importorskip("trackio", reason="pip install 'star-al[trackio]'")
    words = (*WORDS, log_with("trackio"))
    interrupted(monkeypatch, tiny_llama, data, tmp_path / "table", *words)
    folder = runs.go(tiny_llama, data, tmp_path / "table", *words)
    same(folder, plain)
    storage = pytest.importorskip("trackio.sqlite_storage").SQLiteStorage
    (run,) = trackio.Api().runs("table")
    assert run.config["pool.rounds"] == 2
    rows = storage.get_logs("table", run.name)
    logged = [(row["step"], row["test/accuracy"]) for row in rows if "test/accuracy" in row]
    points = runs.read(folder / "result.json")["rounds"]
    assert logged == [(p["labeled"], p["accuracy"]) for p in points]
    assert [row["update/loss"] for row in rows if "update/loss" in row] == runs.losses(folder)

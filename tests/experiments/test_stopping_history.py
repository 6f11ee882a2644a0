from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from runs import go, read, write_data

from star.active_learning.run_reader import RunReader
from star.errors import InputError
from star.evaluation.stopping import outcome, rounds, stable
from star.experiments.stopping_history import history


@pytest.fixture(scope="module")
def folder(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("stopping")
    return go(tiny_llama, write_data(place / "data"), place / "runs")


def test_a_finished_run_says_what_the_rules_ask_for(folder: Path) -> None:
    told = history(RunReader(folder))
    points = read(folder / "result.json")["rounds"]
    assert list(told.labels) == [point["labeled"] for point in points]
    assert list(told.accuracy) == [point["accuracy"] for point in points]
    assert told.uncertainty is not None and all(0 <= u <= 1 for u in told.uncertainty)
    assert {len(answers) for answers in told.predictions} == {6}
    first = outcome(told, rounds(told, 1), prices=(0.1,), served=100)
    assert first.saved == told.labels[-1] - told.labels[0] and first.stopped
    assert stable(told, threshold=-1.0, window=len(points)) is None


def test_a_run_that_lacks_what_they_ask_for_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no complete round"):
        history(RunReader(tmp_path))
    lacking = shutil.copytree(folder, tmp_path / "run")
    predictions = lacking / "rounds" / "01" / "predictions.jsonl"
    lines = predictions.read_text(encoding="utf-8").splitlines(keepends=True)
    predictions.write_text("".join(lines[1:]), encoding="utf-8")
    with pytest.raises(InputError, match="other rows than round 0's"):
        history(RunReader(lacking))
    predictions.unlink()
    with pytest.raises(InputError, match=r"cannot read .*predictions"):
        history(RunReader(lacking))

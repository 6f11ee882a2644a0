"""A file of a run folder that was lost, cut, edited or put there is named by whoever reads it."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
import yaml

import star
from star.active_learning.loop import run
from star.active_learning.run_checks import check_run
from star.config import load
from star.errors import InputError
from star.experiments import probes, table_file
from star.experiments import table as grid
from star.experiments.report.gathering import gather
from star.experiments.report.single_runs import of_runs
from star.experiments.sweep import adopting, sweep
from star.experiments.table import Cell
from star.files import read_npz
from star.models import loading as models

FILES = (
    "config.yaml",
    "environment.json",
    "initial.json",
    "checksums.json",
    "result.json",
    "rounds/00/metrics.json",
    "rounds/00/predictions.jsonl",
    "rounds/00/training.jsonl",
    "rounds/00/scores.npz",
    "rounds/00/selected.json",
    "rounds/00/checksums.json",
    "rounds/01/selected.json",
    "rounds/00/adapter/adapter_config.json",
    "rounds/01/adapter/adapter_model.safetensors",
)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    # Of the first digit, where there is one: most files stay readable.
    start = max(data.find(b"metrics.json"), 0)  # in checksums, behind those of the adapter
    place = next((i for i, b in enumerate(data[start:], start) if chr(b).isdigit()), len(data) // 2)
    data[place] ^= 1
    path.write_bytes(bytes(data))


def edited(path: Path) -> None:
    """Change what a file says, and no part of its form."""
    if path.suffix == ".npz":
        arrays = read_npz(path)
        np.savez(path, **(arrays | {"full": arrays["full"] + 1.0}))
    elif path.suffix == ".json":
        told = runs.read(path)
        first = next(iter(told))
        changes = {"indices": lambda v: v[::-1], "config_hash": lambda v: v[::-1]}
        told[first] = changes.get(first, lambda v: v)(told[first])
        told["note"] = "mine"
        path.write_text(json.dumps(told), encoding="utf-8")
    else:
        path.write_bytes(path.read_bytes() + b"\n")


def removed(path: Path) -> None:
    path.unlink()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


STATES = ("finished", "interrupted")
# Each kind with each file; the program cannot know a file that was cut from one that was edited.
QUICK = {cut: FILES[:5], flipped: FILES, removed: FILES, edited: FILES[8:9], a_folder: FILES[4:6]}
DAMAGED = [
    pytest.param(name, damage, id=f"{name} {damage.__name__}", marks=marks)
    for damage in (cut, emptied, flipped, edited, removed, a_folder)
    for name in FILES
    for marks in [() if name in QUICK.get(damage, ()) else pytest.mark.slow]
]


@pytest.fixture(scope="module", autouse=True)
def _one_model(tiny_llama: Path) -> Any:
    """Load the model once for all runs."""
    loaded = models.load(load(None, [f"model.name_or_path={tiny_llama}"]).model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load", lambda *_, **__: loaded)
        yield


@pytest.fixture(scope="module")
def table(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> table_file.Table:
    """Return a table of one cell, which keeps its adapters."""
    place = tmp_path_factory.mktemp("table")
    data = runs.write_data(place / "data", pool=16, test=4)
    small = ("pool.initial_size=4", "pool.query_size=3", "train.num_train_epochs=1")
    words = runs.words(tiny_llama, data, place, *small, "tracking.save_adapters=all")
    settings = {key: yaml.safe_load(value) for key, _, value in (w.partition("=") for w in words)}
    for key in ("output_dir", "tracking.progress"):
        settings.pop(key)
    (place / "base.yaml").write_text("{}\n", encoding="utf-8")
    column = {"config": "base.yaml", "about": "sums", "settings": settings}
    content = {"title": "Small", "seeds": 1, "columns": {"sums": column}, "rows": {"star": {}}}
    (place / "small.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return table_file.read_table(place / "small.yaml")


@pytest.fixture(scope="module")
def cell(table: table_file.Table) -> Cell:
    [only] = grid.cells(table)
    return only


@pytest.fixture(scope="module")
def whole(cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that holds a finished run of three rounds."""
    root = tmp_path_factory.mktemp("whole")
    run(cell.load(root))
    return root


@pytest.fixture
def finished(whole: Path, tmp_path: Path) -> Path:
    """Return a copy of it, to be spoilt."""
    return Path(shutil.copytree(whole, tmp_path / "runs"))


@pytest.fixture
def interrupted(finished: Path, cell: Cell) -> Path:
    """Return a copy of it as a kill in round 2 leaves it."""
    (cell.folder(finished) / "result.json").unlink()
    shutil.rmtree(cell.folder(finished) / "rounds/02")
    return finished


def readers(table: table_file.Table, cell: Cell, root: Path) -> dict[str, Callable[[], Any]]:
    folder = cell.folder(root)
    return {
        "run": lambda: run(cell.load(root)),
        "report RUN": lambda: of_runs([folder]),
        "report TABLE": lambda: gather(table, root),
        "replay": lambda: star.replay(folder),
        "probe of scores": lambda: probes.gap(folder),
        "probe of picks": lambda: probes.picks(folder),
        "sweep": lambda: sweep.commands([cell], root),
    }


def snapshot(root: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in root.rglob("*")
        if path.name != ".lock"
    }


def refusal(read: Callable[[], Any]) -> str:
    with pytest.raises(InputError) as refused:
        read()
    said = str(refused.value)
    assert "\n" not in said
    return said


@pytest.mark.parametrize("name, damage", DAMAGED)
def test_a_finished_run(
    name: str,
    damage: Callable[[Path], None],
    table: table_file.Table,
    cell: Cell,
    finished: Path,
) -> None:
    damage(cell.folder(finished) / name)
    before = snapshot(finished)
    for who, read in readers(table, cell, finished).items():
        if name == "result.json" and damage is removed:
            if who == "report RUN":
                assert "has not finished" in refusal(read)
            continue  # it is not finished: that it goes on is the next test's
        if "adapter" in name and who != "run":
            read()  # nobody else looks at it
            continue
        said = refusal(read)
        # A sum and the file it is of differ: which of them was changed cannot be told.
        place = "rounds/00/" if name == "rounds/00/checksums.json" else ""
        named = place if name.endswith("checksums.json") else name
        assert named in said, who
        assert "remove" in said or "restore" in said or "set another" in said
        assert snapshot(finished) == before


@pytest.mark.parametrize("name, damage", [one for one in DAMAGED if one.values[0] != FILES[4]])
def test_an_interrupted_run(
    name: str,
    damage: Callable[[Path], None],
    table: table_file.Table,
    cell: Cell,
    interrupted: Path,
) -> None:
    damage(cell.folder(interrupted) / name)
    before = snapshot(interrupted)
    for who, read in readers(table, cell, interrupted).items():
        if who not in ("run", "replay", "probe of scores", "probe of picks"):
            continue
        if "adapter" in name and who != "run":
            read()
            continue
        place = "rounds/00/" if name == "rounds/00/checksums.json" else ""
        assert (place if name.endswith("checksums.json") else name) in refusal(read), who
        assert snapshot(interrupted) == before


@pytest.mark.parametrize(
    "name, state",
    [
        # Of an interrupted run the last round, or all: as if it had been killed earlier.
        *((name, "finished") for name in ("rounds", "rounds/00", "rounds/01", "rounds/02")),
        *((f"rounds/00{part}", state) for part in ("/adapter", "") for state in STATES),
    ],
)
def test_lost_folders(
    name: str, state: str, table: table_file.Table, cell: Cell, request: pytest.FixtureRequest
) -> None:
    root: Path = request.getfixturevalue(state)
    shutil.rmtree(cell.folder(root) / name)
    said = refusal(readers(table, cell, root)["run"])
    assert "is missing" in said and (name if name != "rounds" else "rounds/00") in said


@pytest.mark.parametrize("name", ["selected.json", "scores.npz", "result.json"])
def test_files_that_no_run_wrote(
    name: str, table: table_file.Table, cell: Cell, finished: Path
) -> None:
    folder = cell.folder(finished)
    if name == "result.json":
        sums = runs.read(folder / "checksums.json")
        del sums["files"][name]
        (folder / "checksums.json").write_text(json.dumps(sums), encoding="utf-8")
    else:
        shutil.copy(folder / "rounds/00" / name, folder / "rounds/02" / name)
    for who, read in readers(table, cell, finished).items():
        assert name in refusal(read), who


def same(folder: Path, other: Path) -> None:
    assert runs.result(folder) == runs.result(other)
    assert runs.content(folder) == runs.content(other)


@pytest.mark.parametrize("name", ["rounds/01/selected.json", "rounds/01/metrics.json"])
def test_the_way_on_leads_to_the_same_numbers(
    name: str, cell: Cell, whole: Path, finished: Path
) -> None:
    folder = cell.folder(finished)
    (folder / name).unlink()
    said = refusal(lambda: run(cell.load(finished)))
    assert f"remove {folder / 'rounds/01'} and all later rounds and result.json" in said
    for path in folder.glob("rounds/0[12]"):
        shutil.rmtree(path)
    assert "result.json" in refusal(lambda: run(cell.load(finished)))
    (folder / "result.json").unlink()
    same(run(cell.load(finished)), cell.folder(whole))


@pytest.mark.parametrize("damage", [removed, cut, edited, flipped])
def test_a_result_is_made_again_from_its_rounds(
    damage: Callable[[Path], None], cell: Cell, whole: Path, finished: Path
) -> None:
    path = cell.folder(finished) / "result.json"
    damage(path)
    if path.exists():
        assert f"{path} does not fit" in refusal(lambda: run(cell.load(finished)))
        path.unlink()
    same(run(cell.load(finished)), cell.folder(whole))


def test_an_adapter_is_checked_by_who_reads_it(cell: Cell, finished: Path) -> None:
    from star.models import saved_adapter

    config = cell.load(finished)
    model = models.load(config.model)
    folder = cell.folder(finished) / "rounds/01/adapter"
    with saved_adapter.load(model, folder):
        pass
    moved = shutil.copytree(folder, finished / "elsewhere")
    flipped(folder / "adapter_model.safetensors")
    with pytest.raises(InputError, match="safetensors does not fit"):
        saved_adapter.load(model, folder).__enter__()
    with saved_adapter.load(model, moved):  # no sums, no check
        pass


def test_a_damaged_run_is_not_taken_over(
    cell: Cell, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = runs.read(cell.folder(finished) / "environment.json")["star"]
    monkeypatch.setattr(adopting, "code", lambda: told | {"dirty": False})
    environment = cell.folder(finished) / "environment.json"
    content = runs.read(environment)
    content["star"] = told | {"dirty": False}
    environment.write_text(json.dumps(content), encoding="utf-8")
    runs.earlier(cell.folder(finished))
    assert list(adopting._finished(finished).values()) == [cell.folder(finished)]
    path = cell.folder(finished) / "rounds/00/selected.json"
    path.write_text(path.read_text(encoding="utf-8").replace("[", "[9999, "), encoding="utf-8")
    assert adopting._finished(finished) == {}


# --- folders of an earlier version: no sums, but structure --------------------------------------


def put(key: str, value: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        told = runs.read(path)
        told[key] = value(told[key]) if callable(value) else value
        path.write_text(json.dumps(told), encoding="utf-8")

    return change


def rescored(**arrays: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        stored = read_npz(path)
        np.savez(path, **(stored | {k: change(stored[k]) for k, change in arrays.items()}))

    return change


def replaced(old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    return change


SELECTED = "rounds/00/selected.json"
METRICS = "rounds/01/metrics.json"
STRUCTURE: list[tuple[str, Callable[[Path], None], str]] = [
    ("config.yaml", cut, "config.yaml"),
    ("config.yaml", replaced("learning_rate: 0.01", "learning_rate: 0.02"), "was cut or edited"),
    ("config.yaml", replaced("seed: 0\n", ""), "was cut or edited"),
    ("config.yaml", replaced("seed: 0\n", "seed: 1\n"), "was cut or edited"),
    ("result.json", put("config_hash", "0" * 16), "config.yaml has the hash"),
    ("environment.json", put("config_hash", "0" * 16), "config.yaml has the hash"),
    ("environment.json", put("data", -1), "a mapping under 'data'"),
    ("environment.json", put("model", [1]), "a mapping under 'model'"),
    ("environment.json", put("strategy", "x"), "a mapping under 'strategy'"),
    ("environment.json", put("resumed", {"model": {}}), "a list of starts under 'resumed'"),
    ("environment.json", put("resumed", [{"model": 3}]), "a mapping under 'model'"),
    ("result.json", cut, "is not JSON"),
    ("result.json", put("seed", None), "no such 'seed'"),
    ("result.json", put("auc", 7.0), "no such 'auc'"),
    ("result.json", put("rounds", []), "tells of no round"),
    ("result.json", put("rounds", lambda v: v[:2]), "tells of 2 rounds, but"),
    ("result.json", put("rounds", lambda v: [*v[:2], v[2] | {"accuracy": 0.9}]), "in 'accuracy'"),
    ("initial.json", removed, "is missing"),
    ("initial.json", put("indices", [0, 1, 1, 2]), "distinct pool indices"),
    ("initial.json", put("indices", lambda v: v[:3]), "labeled 4, expected 3"),
    (METRICS, removed, "is missing"),
    (METRICS, cut, "is not JSON"),
    (METRICS, put("accuracy", "high"), "accuracy, a number from 0 to 1"),
    (METRICS, put("accuracy", 0.9), "in 'accuracy' of round 1"),
    (METRICS, put("labeled", 8), "labeled 8, expected 7"),
    (SELECTED, removed, "is missing"),
    (SELECTED, put("indices", lambda v: [*v[:2], 9999]), "9999, which was not scored"),
    (SELECTED, put("indices", lambda v: [v[0], v[0], v[1]]), "distinct pool indices"),
    (SELECTED, put("indices", lambda v: [str(i) for i in v]), "distinct pool indices"),
    (SELECTED, put("indices", lambda v: [float(i) for i in v]), "distinct pool indices"),
    (SELECTED, put("indices", lambda v: [-1, *v[1:]]), "distinct pool indices"),
    (SELECTED, put("indices", lambda v: [True, *v[1:]]), "distinct pool indices"),
    (SELECTED, put("indices", lambda v: v[:2]), "2 indices, metrics.json says 3"),
    (SELECTED, put("indices", None), "distinct pool indices"),
    (SELECTED, replaced("{", "["), "is not JSON"),
    ("rounds/00/scores.npz", removed, "is missing"),
    ("rounds/00/scores.npz", cut, "cannot be read"),
    ("rounds/00/scores.npz", rescored(index=lambda i: i[::-1]), "do not ascend"),
    ("rounds/00/scores.npz", rescored(index=lambda i: i + 0.5), "must hold pool indices"),
    ("rounds/00/scores.npz", rescored(index=lambda i: i[:0]), "must hold pool indices"),
    ("rounds/01/checksums.json", replaced("", ""), "checksums.json is missing"),
]


@pytest.mark.parametrize("name, damage, message", STRUCTURE)
def test_without_sums_the_structure_tells(
    name: str,
    damage: Callable[[Path], None],
    message: str,
    table: table_file.Table,
    cell: Cell,
    finished: Path,
) -> None:
    folder = cell.folder(finished)
    sums = folder / "rounds/01/checksums.json"
    kept = sums.read_bytes()
    runs.earlier(folder)
    if name.endswith("checksums.json"):
        sums.write_bytes(kept)
    else:
        damage(folder / name)
    assert message in refusal(lambda: check_run(folder))
    if name in ("config.yaml", "rounds/00/scores.npz"):  # they all ask it first, as seen above
        before = snapshot(finished)
        for read in readers(table, cell, finished).values():
            refusal(read)
            assert snapshot(finished) == before


def test_an_earlier_version_s_run_is_read(
    table: table_file.Table, cell: Cell, finished: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from star.active_learning import run_checks

    caplog.set_level(logging.INFO, logger="star")
    run_checks._say_once.cache_clear()
    runs.earlier(cell.folder(finished))
    before = snapshot(finished)
    for read in readers(table, cell, finished).values():
        read()
    assert snapshot(finished) == before  # not even sums are added
    assert caplog.text.count("of an earlier version") == 1


def test_an_earlier_version_s_run_goes_on_with_sums(
    table: table_file.Table, cell: Cell, whole: Path, interrupted: Path
) -> None:
    folder = cell.folder(interrupted)
    runs.earlier(folder)
    same(run(cell.load(interrupted)), cell.folder(whole))
    assert runs.read(folder / "checksums.json")["rounds_without"] == 2
    assert [path.parent.name for path in folder.glob("rounds/*/checksums.json")] == ["02"]
    for read in readers(table, cell, interrupted).values():
        read()
    edited(folder / "rounds/02/metrics.json")
    assert "rounds/02/metrics.json does not fit" in refusal(lambda: star.replay(folder))


@pytest.mark.parametrize(
    "indices", [lambda v: [*v[:2], 9999], lambda v: v[:2], lambda v: ["a", *v[1:]]]
)
def test_bad_indices_without_scores(
    indices: Callable[[list[Any]], list[Any]], tiny_llama: Path, tmp_path: Path
) -> None:
    # Random choice scores nothing that would tell what was in the pool.
    data = runs.write_data(tmp_path / "data", pool=16, test=4)
    words = [tiny_llama, data, tmp_path / "out", "acquisition.select=random"]
    folder = runs.go(*words, "pool.rounds=2", "train.num_train_epochs=1")
    (folder / "result.json").unlink()
    shutil.rmtree(folder / "rounds/01")
    runs.earlier(folder)
    put("indices", indices)(folder / SELECTED)
    before = runs.content(folder)
    said = refusal(lambda: runs.go(*words, "pool.rounds=2", "train.num_train_epochs=1"))
    assert "00/selected.json" in said and "remove" in said
    assert runs.content(folder) == before

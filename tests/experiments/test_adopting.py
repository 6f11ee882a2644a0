"""What another table has run with the same configuration and code is taken over."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import runs
import yaml

from star.active_learning import contents
from star.config import config_hash, load
from star.errors import InputError
from star.experiments import table, table_file
from star.experiments.sweep import adopting
from star.experiments.table import Cell
from star.provenance import installed

NOW = {"version": "0", "commit": "abc", "dirty": False}
LIBRARIES = {name: installed(name) for name in ("torch", "transformers", "tokenizers", "numpy")}
CONTENT = {"data": "d1", "model": "m1", "strategy": None}


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Cell]]:
    """Return the cells of two tables that share a row under two names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(adopting, "code", lambda: NOW)
    for part, now in CONTENT.items():
        monkeypatch.setitem(contents.LOOK, part, lambda config, now=now: now)
    Path("c.yaml").write_text("pool: {rounds: 2}\n")
    rows: dict[str, Any] = {"one": {"a": {}, "b": {"settings": {"pool.query_size": 3}}}}
    rows["two"] = {"c": {}, "d": {"settings": {"pool.query_size": 4}}}
    found = {}
    for name, part in rows.items():
        content = {"columns": {"x": {"config": "c.yaml"}}, "rows": part, "seeds": 2}
        Path(f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        cells = table.cells(table_file.read_table(f"{name}.yaml"))
        found[name] = {f"{cell.row}{cell.seed}": cell for cell in cells}
    return found


def adopt(cells: dict[str, Cell], root: Path) -> list[Cell]:
    return adopting.adopt({cell: cell.load(root) for cell in cells.values()}, root)


def finish(cell: Cell, root: Path, star: Any = NOW, **told: Any) -> Path:
    folder = cell.folder(root)
    folder.mkdir(parents=True)
    (folder / ".lock").write_text("1")
    content = {"data": {"fingerprint": "d1"}, "model": {"revision": "m1"}, "packages": LIBRARIES}
    content |= told
    (folder / "environment.json").write_text(json.dumps({"star": star, **content}))
    result = runs.fake_result(config_hash(cell.load(root)), cell.seed)
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def test_equal_configurations_are_copied(tables: Any, tmp_path: Path) -> None:
    source = finish(tables["one"]["a0"], tmp_path)
    finish(tables["one"]["b0"], tmp_path)
    cells = tables["two"]
    assert adopt(cells, tmp_path) == [cells["c0"]]
    copy = cells["c0"].folder(tmp_path)
    assert {p.name for p in copy.iterdir()} == {"environment.json", "result.json"}
    assert (copy / "result.json").read_bytes() == (source / "result.json").read_bytes()
    assert [p.name for p in copy.parent.iterdir()] == ["seed0"]
    assert adopt(cells, tmp_path) == []


@pytest.mark.parametrize("star", [NOW | {"commit": "old"}, NOW | {"dirty": True}, None])
def test_runs_of_other_code_are_not(tables: Any, tmp_path: Path, star: Any) -> None:
    finish(tables["one"]["a0"], tmp_path, star)
    assert adopt(tables["two"], tmp_path) == []


@pytest.mark.parametrize(
    "changed, same",
    [
        ({}, True),
        ({"star": NOW | {"commit": "old"}}, False),
        ({"star": NOW | {"dirty": True}}, False),
        ({"packages": LIBRARIES | {"torch": "1.0"}}, False),
    ],
)
@pytest.mark.parametrize("starts", [1, 2])
def test_runs_that_went_on_with_other_code_are_not(
    tables: Any, tmp_path: Path, changed: Any, same: bool, starts: int
) -> None:
    # Begun and ended with the code of now; in between it was another's.
    start = {"star": NOW, "packages": LIBRARIES}
    later = [start | changed, *[start] * (starts - 1)]
    finish(tables["one"]["a0"], tmp_path, resumed=later)
    assert adopt(tables["two"], tmp_path) == ([tables["two"]["c0"]] if same else [])


@pytest.mark.parametrize(
    "told",
    [
        {"data": {"fingerprint": "d0"}},
        {"data": None},
        {"model": {"revision": "m0"}},
        {"model": {"revision": None}},
        {"model": {}},
        {"packages": LIBRARIES | {"torch": "1.0"}},
        {"packages": LIBRARIES | {"transformers": "4.0"}},
        {"packages": None},
        {"model": {"revision": "m1", "computation": {"libraries": {"bitsandbytes": "0.1"}}}},
    ],
)
def test_runs_on_other_content_are_not(tables: Any, tmp_path: Path, told: Any) -> None:
    finish(tables["one"]["a0"], tmp_path, **told)
    assert adopt(tables["two"], tmp_path) == []


@pytest.mark.parametrize("rows, same", [(8, True), (16, False), (None, True)])
@pytest.mark.parametrize("later", [False, True])
def test_runs_with_updates_of_other_rows_are_not(
    tables: Any, tmp_path: Path, rows: int | None, same: bool, later: bool
) -> None:
    start = {} if rows is None else {"rows_per_update": rows}
    later_start = {"star": NOW, "packages": LIBRARIES, **start}
    finish(tables["one"]["a0"], tmp_path, **({"resumed": [later_start]} if later else start))
    assert adopt(tables["two"], tmp_path) == ([tables["two"]["c0"]] if same else [])


@pytest.mark.parametrize("sha, same", [("s1", True), ("s0", False)])
def test_runs_of_a_strategy_that_was_changed_are_not(
    tables: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sha: str, same: bool
) -> None:
    monkeypatch.setitem(contents.LOOK, "strategy", lambda config: "s1")
    finish(tables["one"]["a0"], tmp_path, strategy={"sha256": sha})
    assert adopt(tables["two"], tmp_path) == ([tables["two"]["c0"]] if same else [])


def test_content_that_cannot_be_looked_at_is_not_the_same(
    tables: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(config: Any) -> str:
        raise InputError("no such file")

    monkeypatch.setitem(contents.LOOK, "data", refuse)
    finish(tables["one"]["a0"], tmp_path)
    assert adopt(tables["two"], tmp_path) == []


def test_what_names_stand_for_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["task.name=jsonl", "task.data_dir=d", "acquisition.strategy=mine:spread"]
    Path("d").mkdir()

    def look(answer: str, source: str) -> list[str | None]:
        for split in ("train", "test"):
            row = {"question": f"{split}?", "answer": answer}
            Path(f"d/{split}.jsonl").write_text(json.dumps(row))
        Path("mine.py").write_text(source)
        config = load(None, words)
        return [contents.LOOK[part](config) for part in ("data", "strategy", "model")]

    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    source = "def spread(pool): return pool.blended\n"
    first = look("1", source)
    assert look("1", source) == first
    data, strategy, model = look("2", f"{source}# changed\n")
    assert data != first[0] and strategy != first[1] and model == first[2]
    assert len({*first}) == 3 and None not in first


def test_no_checkout_takes_nothing(
    tables: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = {"version": "0", "commit": None, "dirty": None}
    finish(tables["one"]["a0"], tmp_path, unknown)
    monkeypatch.setattr(adopting, "code", lambda: unknown)
    assert adopt(tables["two"], tmp_path) == []


def test_a_changed_checkout_takes_nothing(
    tables: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = NOW | {"dirty": True}
    finish(tables["one"]["a0"], tmp_path, changed)
    monkeypatch.setattr(adopting, "code", lambda: changed)
    assert adopt(tables["two"], tmp_path) == []


def test_what_has_begun_goes_on(tables: Any, tmp_path: Path) -> None:
    finish(tables["one"]["a0"], tmp_path)
    folder = tables["two"]["c0"].folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("begun")
    assert adopt(tables["two"], tmp_path) == []
    assert (folder / "config.yaml").read_text() == "begun"


def test_a_damaged_result_is_left_to_its_own_table(tables: Any, tmp_path: Path) -> None:
    (finish(tables["one"]["a0"], tmp_path) / "result.json").write_text("{")
    assert adopt(tables["two"], tmp_path) == []


def test_a_folder_that_cannot_be_made_is_left_to_the_run(tables: Any, tmp_path: Path) -> None:
    finish(tables["one"]["a0"], tmp_path)
    (tmp_path / "two").write_text("in the way")
    assert adopt(tables["two"], tmp_path) == []

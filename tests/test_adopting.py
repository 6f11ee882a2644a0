"""What another table has run with the same configuration and code is taken over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from star import grid
from star.config import config_hash
from star.grid import Cell
from star.sweeping import adopting

NOW = {"version": "0", "commit": "abc", "dirty": False}


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Cell]]:
    """Return the cells of two tables that share a row under two names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(adopting, "code", lambda: NOW)
    Path("c.yaml").write_text("pool: {rounds: 2}\n")
    rows: dict[str, Any] = {"one": {"a": {}, "b": {"settings": {"pool.query_size": 3}}}}
    rows["two"] = {"c": {}, "d": {"settings": {"pool.query_size": 4}}}
    found = {}
    for name, part in rows.items():
        content = {"columns": {"x": {"config": "c.yaml"}}, "rows": part, "seeds": 2}
        Path(f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        cells = grid.cells(grid.read_table(f"{name}.yaml"))
        found[name] = {f"{cell.row}{cell.seed}": cell for cell in cells}
    return found


def finish(cell: Cell, root: Path, star: Any = NOW) -> Path:
    folder = cell.folder(root)
    folder.mkdir(parents=True)
    (folder / ".lock").write_text("1")
    (folder / "environment.json").write_text(json.dumps({"star": star}))
    (folder / "result.json").write_text(json.dumps({"config_hash": config_hash(cell.load(root))}))
    return folder


def test_equal_configurations_are_copied(tables: Any, tmp_path: Path) -> None:
    source = finish(tables["one"]["a0"], tmp_path)
    finish(tables["one"]["b0"], tmp_path)
    cells = tables["two"]
    assert adopting.adopt(cells.values(), tmp_path) == [cells["c0"]]
    copy = cells["c0"].folder(tmp_path)
    assert {p.name for p in copy.iterdir()} == {"environment.json", "result.json"}
    assert (copy / "result.json").read_bytes() == (source / "result.json").read_bytes()
    assert [p.name for p in copy.parent.iterdir()] == ["seed0"]
    assert adopting.adopt(cells.values(), tmp_path) == []


@pytest.mark.parametrize("star", [NOW | {"commit": "old"}, NOW | {"dirty": True}, None])
def test_runs_of_other_code_are_not(tables: Any, tmp_path: Path, star: Any) -> None:
    finish(tables["one"]["a0"], tmp_path, star)
    assert adopting.adopt(tables["two"].values(), tmp_path) == []


def test_a_changed_checkout_takes_nothing(
    tables: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = NOW | {"dirty": True}
    finish(tables["one"]["a0"], tmp_path, changed)
    monkeypatch.setattr(adopting, "code", lambda: changed)
    assert adopting.adopt(tables["two"].values(), tmp_path) == []


def test_what_has_begun_goes_on(tables: Any, tmp_path: Path) -> None:
    finish(tables["one"]["a0"], tmp_path)
    folder = tables["two"]["c0"].folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("begun")
    assert adopting.adopt(tables["two"].values(), tmp_path) == []
    assert (folder / "config.yaml").read_text() == "begun"


def test_a_damaged_result_is_left_to_its_own_table(tables: Any, tmp_path: Path) -> None:
    (finish(tables["one"]["a0"], tmp_path) / "result.json").write_text("{")
    assert adopting.adopt(tables["two"].values(), tmp_path) == []

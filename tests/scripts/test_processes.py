"""``scripts/benchmark/processes.py``: what it makes of runs, and a small one to the end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


def test_runs_are_held_to_the_first() -> None:
    from benchmark.processes import compared, table

    one = {"processes": 1, "kind": "", "chosen": [[3, 1]], "losses": [2.0, 1.0], "seconds": 4.0}
    two = one | {"processes": 2, "kind": "DDP", "losses": [2.0, 1.25]}
    three = one | {"processes": 3, "kind": "FSDP2", "chosen": [[1, 3]]}
    rows = compared([one, two, three])
    assert [row["same"] for row in rows] == [True, True, False]
    assert [row["difference"] for row in rows] == [0, 0.25, 0]
    assert table(rows).splitlines()[3] == "| 2 | DDP | yes | 2.5e-01 | 4 |"
    with pytest.raises(ValueError):  # another number of updates is no rounding
        compared([one, two | {"losses": [2.0]}])


@pytest.mark.slow
def test_the_embedded_model_chooses_alike(tmp_path: Path) -> None:
    words = "task.pool_limit=40 task.test_limit=8 pool.initial_size=12 pool.query_size=6"
    words += " pool.rounds=2 train.num_train_epochs=1 train.per_device_train_batch_size=6"
    done = subprocess.run(
        [
            *(sys.executable, str(SCRIPTS / "benchmark" / "processes.py")),
            *("configs/tiny/choice.yaml", *words.split()),
            *("--processes", "2", "--output", str(tmp_path)),
        ],
        cwd=SCRIPTS.parent, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "processes.json").read_text())["rows"]
    assert [(row["processes"], row["kind"]) for row in rows] == [(1, ""), (2, "DDP"), (2, "FSDP2")]
    assert all(row["same"] and row["difference"] <= 1e-5 for row in rows)

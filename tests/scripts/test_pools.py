"""Large pools: memory does not grow with the rows, and kills change no number."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from benchmark import pools

from star.files import read_npz
from star.run_files import SCORES, SELECTED

SMALL, LARGE = 2_000, 20_000
ROOM = 600  # bytes a row: its scores, tokens and index, several times; as objects it has 6,000


def test_all_questions_differ() -> None:
    count = 30_000
    assert len({pools.question(i)["question"] for i in range(count)}) == count


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_a_pool_on_disk_needs_no_memory_and_survives_kills(tmp_path: Path) -> None:
    often = "tracking.checkpoint_minutes=0.005"
    small = pools.measure(SMALL, tmp_path / "small", 0)
    killed = pools.measure(LARGE, tmp_path / "killed", 2, often)
    whole = pools.measure(LARGE, tmp_path / "whole", 0)
    assert [start["killed"] for start in killed["starts"]] == [True, True, False]
    for run in (killed, whole):
        grown = (run["own_mb"] - small["own_mb"]) * 2**20
        # What the allocator keeps differs by some MB from run to run.
        assert grown < ROOM * (LARGE - SMALL) + 16 * 2**20
    folders = [tmp_path / name / "runs" / str(LARGE) for name in ("killed", "whole")]
    rounds = [folder / "rounds" / "00" for folder in folders]
    one, other = (read_npz(place / SCORES) for place in rounds)
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)
    picked = [json.loads((place / SELECTED).read_text(encoding="utf-8")) for place in rounds]
    assert picked[0] == picked[1]

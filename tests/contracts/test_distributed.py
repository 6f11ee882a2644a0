"""One process, two or three: the same scores, answers and training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed_worker import results

from star.models.distributed import collect, is_main, share

# As `accelerate launch` sets them for a configuration with fsdp_version: 2.
FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


def test_one_process_has_it_all() -> None:
    assert list(share(3)) == [0, 1, 2] and is_main()
    assert collect({1: "b", 0: "a"}, 2) == ["a", "b"]
    assert collect({}, 0) == []


def test_one_of_several_ends_before_the_interpreter_takes_itself_apart() -> None:
    code = (
        "import atexit, os\n"
        "from star.__main__ import _end_of_several\n"
        "class Lock:\n"
        "    def __del__(self, abort=os.abort): abort()\n"
        "lock = Lock()\n"
        "atexit.register(print, 'registered')\n"
        "_end_of_several(1)  # nothing was computed together yet\n"
        "import star.models.distributed\n"
        "print('written')\n"
        "_end_of_several(75)\n"
    )
    ends = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "WORLD_SIZE": size},
            capture_output=True,
            text=True,
        )
        for size in "12"
    ]
    assert [end.stdout.split() for end in ends] == [["written", "registered"]] * 2
    assert [end.returncode for end in ends] == [-signal.SIGABRT, 75]


def close(one: Any, two: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for name in one:
            close(one[name], two[name])
    else:
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("launch", [{}, FSDP], ids=["whole", "FSDP2"])
def test_several_processes_give_what_one_gives(
    launch: dict[str, str], count: int, tiny_llama: Path, tmp_path: Path
) -> None:
    here, out = Path(__file__).parents[1] / "support", tmp_path / "out.json"
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    start += [f"--nproc_per_node={count}", str(here / "distributed_worker.py")]
    done = subprocess.run(
        [*start, str(tiny_llama), str(out), str(count)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | launch,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    expected = json.loads(json.dumps(results(str(tiny_llama), processes=1)))
    every = json.loads(out.read_text())
    assert len(every) == count
    for found in every:
        assert found.pop("answers") == expected["answers"]
        for name, values in found.items():
            close(values, expected[name])

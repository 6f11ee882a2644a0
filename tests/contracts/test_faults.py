"""Killed at any moment, asked to stop, on a disk that fills: the result is the undisturbed one.

The tally of the slow ones goes to the file that ``STAR_TALLY`` names; the committed one is in
``scripts/results/reliability``.
"""

from __future__ import annotations

import collections
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import faulty
import pytest
import runs
import yaml

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")

KILLS = int(os.environ.get("STAR_KILLS", "25"))  # of a run, and as many of a sweep
# Rounds, epochs, views and passes of each kind, and something kept after each update and batch.
SMALL = (
    *("pool.rounds=3", "task.validation_size=3", "train.keep=best", "tracking.save_adapters=last"),
    *("tracking.checkpoint_minutes=0", "evaluation.max_batch_tokens=60"),
)
LONGEST = 600.0  # seconds that anything may take here, on a machine that others share


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.write_data(tmp_path_factory.mktemp("data"), pool=24, test=4)


@pytest.fixture(scope="module")
def tally() -> Iterator[collections.Counter[str]]:
    counts: collections.Counter[str] = collections.Counter()
    yield counts
    if "STAR_TALLY" in os.environ:
        path = Path(os.environ["STAR_TALLY"])
        before = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(before | dict(sorted(counts.items())), indent=2) + "\n")


def content(folder: Path) -> dict[str, bytes]:
    """Return what an equal run must write to the byte, adapters too."""
    weights = sorted(folder.rglob("*.safetensors"))
    return runs.content(folder) | {str(p.relative_to(folder)): p.read_bytes() for p in weights}


def same(folder: Path, whole: Path) -> None:
    assert runs.result(folder) == runs.result(whole)
    assert content(folder) == content(whole)
    assert not list(folder.glob("rounds/.*"))


def finish(words: Sequence[str], said: Path) -> float:
    """Carry out a command to its end; return its seconds."""
    start = time.monotonic()
    status = faulty.status(faulty.start(words, said), LONGEST)
    assert status == 0, said.read_text()[-3000:]
    return time.monotonic() - start


def disturb(
    words: Callable[[Path], list[str]],
    compare: Callable[[Path], None],
    place: Path,
    *,
    number: signal.Signals,
    times: int,
    seconds: float,
    tally: collections.Counter[str],
    kind: str,
) -> None:
    """Send a signal at random moments, start again each time, and compare all that comes to an end.

    Args:
        words: The command, for an output folder.
        compare: Raises if what is in that folder is not the undisturbed result.
        place: For outputs.
        number: The signal.
        times: How many of them.
        seconds: That the command takes undisturbed.
        tally: Of what happened.
        kind: Its name there.
    """
    drawn, hits, attempt, said = random.Random(kind), 0, 0, place / "said.txt"
    while hits < times:
        attempt += 1
        out, pieces = place / str(attempt), 0
        while True:
            process = faulty.start(words(out), said)
            assert process.pid is not None
            # Never: the last piece of the last attempt comes to its end.
            wait = drawn.uniform(0, seconds) if hits < times else LONGEST
            ended = faulty.status(process, wait)
            pieces += 1
            if ended is None:
                everyone = faulty.family(process.pid)
                victim = drawn.choice(everyone) if number == signal.SIGKILL else process.pid
                hits += faulty.send(victim, number)
                ended = faulty.status(process, LONGEST)
                tally[f"{kind}, status {ended}"] += 1
                assert ended is not None and faulty.gone(everyone), "it hangs"
            if ended == 0:
                break
            assert ended in (-number, 1 if number == signal.SIGKILL else 75), said.read_text()[
                -3000:
            ]
            assert pieces < 40, "it does not go on"
        compare(out)
        tally[f"{kind}, results equal to the undisturbed one"] += 1
        shutil.rmtree(out)


@pytest.mark.slow
@pytest.mark.parametrize(
    "number, times", [(signal.SIGKILL, KILLS), (signal.SIGTERM, 10), (signal.SIGUSR1, 3)]
)
def test_a_run(
    number: signal.Signals,
    times: int,
    tiny_llama: Path,
    data: Path,
    tmp_path: Path,
    tally: collections.Counter[str],
) -> None:
    def words(out: Path) -> list[str]:
        own = f"tracking.cache_dir={out}-cache"  # base scores are made anew
        return ["run", "-", *runs.words(tiny_llama, data, out, *SMALL, "run_name=it", own)]

    finish(["--version"], tmp_path / "said.txt")  # the server loads its libraries
    seconds = finish(words(tmp_path / "whole"), tmp_path / "said.txt")
    whole = tmp_path / "whole/it"

    def compare(out: Path) -> None:
        same(out / "it", whole)

    disturb(
        words, compare, tmp_path, number=number, times=times, seconds=seconds, tally=tally,
        kind=f"{number.name} in a run",
    )  # fmt: skip


@pytest.mark.slow
def test_a_sweep(
    tiny_llama: Path, data: Path, tmp_path: Path, tally: collections.Counter[str]
) -> None:
    given = (w.partition("=") for w in runs.words(tiny_llama, data, tmp_path, *SMALL))
    settings = {key: yaml.safe_load(value) for key, _, value in given}
    for key in ("output_dir", "tracking.progress"):
        settings.pop(key)
    (tmp_path / "base.yaml").write_text("{}\n", encoding="utf-8")
    table = {
        "title": "Small",
        "seeds": 1,
        "rows": {"star": {}, "random": {"settings": {"acquisition.select": "random"}}},
    }
    table["columns"] = {"sums": {"config": "base.yaml", "about": "sums", "settings": settings}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(table), encoding="utf-8")

    def words(out: Path) -> list[str]:
        return ["sweep", str(tmp_path / "small.yaml"), "--output-dir", str(out), "--jobs", "2"]

    finish(["--version"], tmp_path / "said.txt")  # the server loads its libraries
    seconds = finish(words(tmp_path / "whole"), tmp_path / "said.txt")
    cells = [path.parent for path in (tmp_path / "whole").rglob("result.json")]
    assert len(cells) == 2

    def compare(out: Path) -> None:
        for cell in cells:
            same(out / cell.relative_to(tmp_path / "whole"), cell)

    disturb(
        words, compare, tmp_path, number=signal.SIGKILL, times=KILLS, seconds=seconds, tally=tally,
        kind="SIGKILL in a sweep",
    )  # fmt: skip

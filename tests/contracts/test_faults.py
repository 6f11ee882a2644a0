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
import subprocess
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
FILLED = 24  # sizes of a disk
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


# --- disks that fill or take nothing, files that are torn -----------------------------------------

# Every kind of file that a run writes: the history and embeddings of a strategy too.
ALL = (
    *(*SMALL, "task.choices=['true','false']", "tracking.save_adapters=all", "run_name=it"),
    *("acquisition.select=uherding_calibrated", "acquisition.combine=none"),
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of its own, where this user may make one; :func:`resize` sizes it."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no right to mount a file system")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def resize(disk: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(disk)], check=True)


def last_line(words: Sequence[str], said: Path) -> tuple[int | None, str]:
    """Carry out a command; return how it ended, and what an error's one line says, else nothing."""
    said.write_bytes(b"")
    status = faulty.status(faulty.start(words, said), LONGEST)
    text = said.read_text()
    assert "Traceback" not in text
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(errors) == (status == 2) and status in (0, 2), text[-3000:]
    return status, "".join(errors)


@pytest.mark.slow
def test_a_disk_that_fills(
    disk: Path, tiny_llama: Path, data: Path, tmp_path: Path, tally: collections.Counter[str]
) -> None:
    """At every size it is refused in one line, or done; with room it ends as if nothing was."""

    def words(out: Path) -> list[str]:
        own = f"tracking.cache_dir={out}/cache"
        return ["run", "-", *runs.words(tiny_llama, data, out, *SMALL, "run_name=it", own)]

    said = tmp_path / "said.txt"
    finish(words(disk / "whole"), said)
    whole = Path(shutil.copytree(disk / "whole/it", tmp_path / "whole"))
    pages = sum(-(-p.stat().st_size // 4096) for p in (disk / "whole").rglob("*") if p.is_file())
    shutil.rmtree(disk / "whole")
    for step in range(FILLED):
        out = disk / str(step)
        resize(disk, f"size={4096 * (1 + pages * step // (FILLED - 3))}")
        status, error = last_line(words(out), said)
        assert status == 0 or "No space left on device" in error
        tally[f"full disk, status {status}"] += 1
        resize(disk, "size=64m")
        finish(words(out), said)
        same(out / "it", whole)
        tally["full disk, results equal to the undisturbed one"] += 1
        shutil.rmtree(out)


@pytest.mark.slow
def test_a_disk_that_takes_nothing_for_a_while(
    disk: Path, tiny_llama: Path, data: Path, tmp_path: Path, tally: collections.Counter[str]
) -> None:
    def words(out: Path) -> list[str]:
        own = f"tracking.cache_dir={tmp_path}/cache"
        return ["run", "-", *runs.words(tiny_llama, data, out, *SMALL, "run_name=it", own)]

    said = tmp_path / "said.txt"
    seconds = finish(words(tmp_path / "whole"), said)
    drawn = random.Random("read-only")
    for step in range(3):
        out = disk / str(step)
        process = faulty.start(words(out), said)
        if faulty.status(process, drawn.uniform(0, seconds)) is None:
            faulty.send(process.pid or 0, signal.SIGKILL)
        faulty.status(process, LONGEST)
        resize(disk, "ro")
        status, error = last_line(words(out), said)
        finished = (out / "it/result.json").is_file()
        assert status == (0 if finished else 2)
        assert finished or "Read-only file system" in error
        tally[f"read-only disk, status {status}"] += 1
        resize(disk, "rw")
        finish(words(out), said)
        same(out / "it", tmp_path / "whole/it")
        tally["read-only disk, results equal to the undisturbed one"] += 1


def cut(path: Path, drawn: random.Random) -> None:
    """Cut a file at any place."""
    content = path.read_bytes()
    path.write_bytes(content[: drawn.randrange(len(content))])


def flipped(path: Path, drawn: random.Random) -> None:
    """Flip any bit of a file."""
    content = bytearray(path.read_bytes())
    content[drawn.randrange(len(content))] ^= 1 << drawn.randrange(8)
    path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("state", ["under way", "finished"])
@pytest.mark.parametrize("damage", [cut, flipped])
def test_torn_files(
    damage: Callable[[Path, random.Random], None],
    state: str,
    tiny_llama: Path,
    tmp_path: Path,
    tally: collections.Counter[str],
) -> None:
    """Whatever file is torn: it is named and refused, or the result is the undisturbed one."""
    data = runs.write_data(tmp_path / "data", pool=24, test=4, choices=True)

    def words(out: Path) -> list[str]:
        own = f"tracking.cache_dir={out}/cache"
        return ["run", "-", *runs.words(tiny_llama, data, out, *ALL, own)]

    said = tmp_path / "said.txt"
    finish(words(tmp_path / "whole"), said)
    whole, begun = tmp_path / "whole", tmp_path / "begun"
    if state == "under way":  # in round 1, with something of its scores kept
        process = faulty.start(words(begun), said)
        deadline = time.monotonic() + LONGEST
        while not list(begun.glob("it/rounds/.unfinished/scores*")) or not list(
            begun.glob("it/rounds/00")
        ):
            assert faulty.status(process, 0.002) is None and time.monotonic() < deadline
        faulty.send(process.pid or 0, signal.SIGKILL)
        faulty.status(process, LONGEST)
    else:
        shutil.copytree(whole, begun)
    drawn = random.Random(state)
    torn = [p for p in sorted(begun.rglob("*")) if p.is_file() and p.stat().st_size]
    assert len({p.suffix for p in torn}) >= 5
    for path in torn:
        out = Path(shutil.copytree(begun, tmp_path / "torn"))
        # Where a run and its cache are is not among what decides its numbers.
        name = path.relative_to(begun)
        damage(out / name, drawn)
        status, error = last_line(words(out), said)
        if status == 0:
            same(out / "it", whole / "it")
        else:
            named = str(name.parent) if path.name == "checksums.json" else str(name)
            assert named in error, error
        what = "results equal to the undisturbed one" if status == 0 else "refused, the file named"
        tally[f"torn file ({damage.__name__}) of a run {state}, {what}"] += 1
        shutil.rmtree(out)

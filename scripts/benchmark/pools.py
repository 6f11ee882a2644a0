"""Runs over pools of 10⁴ to 10⁶ rows from disk: what a row costs, and whether memory grows.

python scripts/benchmark/pools.py [--rows 10000 100000 1000000] [--kills 2] [--json FILE]

Made-up true-or-false questions of the embedded family's form in an Arrow file; two rounds of STAR
with the embedded model, whose query scores the pool under both views (one pass each). Each run is a
process of its own. The largest is killed (SIGKILL) while it scores the base view, started again,
killed while it scores the full one, and started again. A run over 1,000 rows stands for what does
not depend on the pool. What came: scripts/results/pools/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from star.data.tasks.embedded.families import ITEMS, MAX_NUMBER, NAMES
from star.files import write_json, write_jsonl

CONFIG = Path(__file__).parents[2] / "configs" / "tiny" / "truefalse.yaml"
WORDS = (
    *("task.name=jsonl", "task.choices=true,false", "task.prompt=Passage: {question} Answer:"),
    *("pool.rounds=2", "pool.query_size=20", "acquisition.mc_dropout.passes=0"),
    *("train.num_train_epochs=1", "evaluation.views=full", "tracking.progress=false"),
)
TEST, FIXED = 100, 1_000
PAIRS = [(one, other) for one in ITEMS for other in ITEMS if one != other]
MOST = len(NAMES) * len(PAIRS) * MAX_NUMBER**2
STRIDE = 1_000_003  # a prime: every question once, in no order


def question(number: int) -> dict[str, str]:
    """Return one of ``MOST`` different questions, with its answer."""
    number = number * STRIDE % MOST
    number, left = divmod(number, MAX_NUMBER)
    number, right = divmod(number, MAX_NUMBER)
    name, (item, other) = NAMES[number % len(NAMES)], PAIRS[number // len(NAMES)]
    text = f"{name} has {left + 1} {item} and {right + 1} {other}."
    return {"question": text, "answer": "true" if left > right else "false"}


def write_pool(folder: Path, count: int) -> None:
    """Write ``train.arrow`` with ``count`` rows, and ``test.jsonl``."""
    import pyarrow
    import pyarrow.ipc

    if count + TEST > MOST:
        raise SystemExit(f"error: --rows must be at most {MOST - TEST}, got {count}")
    folder.mkdir(parents=True, exist_ok=True)
    schema = pyarrow.schema({"question": pyarrow.string(), "answer": pyarrow.string()})
    with pyarrow.ipc.new_file(folder / "train.arrow", schema) as file:
        for start in range(0, count, 10_000):
            rows = [question(i) for i in range(start, min(count, start + 10_000))]
            file.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
    write_jsonl(folder / "test.jsonl", (question(count + i) for i in range(TEST)))


class Watched:
    """A run in a process of its own: its processor's seconds and its most memory, in bytes."""

    def __init__(self, words: list[str]) -> None:
        command = [sys.executable, "-m", "star", "run", str(CONFIG), *WORDS, *words]
        self.start = time.perf_counter()
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.peak = self.own = 0

    def wait(self, kill: Callable[[], bool]) -> dict[str, Any]:
        """Wait for the end, or bring it about once ``kill`` says so; return what it took.

        ``peak`` counts the pages of mapped files, which the system can take back; ``own`` does not.
        """
        pid, ended, killed = self._process.pid, 0, False
        while not ended:
            time.sleep(0.2)
            self._look(pid)
            if not killed and kill():
                os.kill(pid, signal.SIGKILL)
                killed = True
            ended, status, used = os.wait4(pid, os.WNOHANG)
        code = self._process.returncode = os.waitstatus_to_exitcode(status)
        if code not in (0, -signal.SIGKILL if killed else 0):
            raise SystemExit(f"error: a run ended with status {code}")
        return {
            "killed": code != 0,
            "seconds": round(time.perf_counter() - self.start, 1),
            "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
            "peak_mb": self.peak // 2**20,
            "own_mb": self.own // 2**20,
        }

    def _look(self, pid: int) -> None:
        try:
            text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        except OSError:
            return
        held = {name: 1024 * int(n) for name, n in re.findall(r"(\w+):\s+(\d+) kB", text)}
        self.peak = max(self.peak, held.get("VmHWM", 0))
        self.own = max(self.own, held.get("RssAnon", 0))


def when_to_kill(run: Path, cache: Path, kills: int) -> Iterator[Callable[[], bool]]:
    """Yield for each start what says that it is time: two more parts of a view are kept."""

    def parts() -> int:
        return len([*run.glob("rounds/.unfinished/scores-*")])

    def in_base() -> bool:
        return parts() >= 2

    def in_full() -> bool:
        nonlocal based
        if based is None and any(cache.glob("base/*.npz")):
            based = parts()
        return based is not None and parts() >= based + 2

    based: int | None = None
    yield from (in_base, in_full)[:kills]
    while True:
        yield lambda: False


def measure(count: int, work: Path, kills: int, *words: str) -> dict[str, Any]:
    """Return what a run over ``count`` rows took, all its starts together."""
    data, run, cache = work / f"rows-{count}", work / "runs" / f"{count}", work / f"cache-{count}"
    write_pool(data, count)
    given = [
        *(f"task.data_dir={data}", f"output_dir={work / 'runs'}", f"run_name={count}"),
        *(f"tracking.cache_dir={cache}", *words),
    ]
    starts: list[dict[str, Any]] = []
    for kill in when_to_kill(run, cache, kills):
        starts.append(Watched(given).wait(kill))
        print(json.dumps({"rows": count, **starts[-1]}), flush=True)
        if not starts[-1]["killed"]:
            break
    told = json.loads((run / "rounds" / "00" / "metrics.json").read_text(encoding="utf-8"))
    return {
        "rows": count,
        "bytes_on_disk": (data / "train.arrow").stat().st_size,
        "tokens": told["tokens"]["score"],
        "seconds": round(sum(start["seconds"] for start in starts), 1),
        "cpu_seconds": round(sum(start["cpu_seconds"] for start in starts), 1),
        "peak_mb": max(start["peak_mb"] for start in starts),
        "own_mb": max(start["own_mb"] for start in starts),
        "starts": starts,
    }


def main() -> None:
    """Measure, print a Markdown table, and write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--kills", type=int, default=2, choices=(0, 1, 2), help="of the largest")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", type=Path, help="keep rows, runs and caches here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        fixed = measure(FIXED, work, 0)
        table = []
        for count in sorted(options.rows):
            largest = count == max(options.rows)
            minutes = f"tracking.checkpoint_minutes={max(0.02, count / 1e6)}"
            got = measure(count, work, options.kills if largest else 0, minutes)
            spent = got["cpu_seconds"] - fixed["cpu_seconds"] * len(got["starts"])
            got["cpu_microseconds_a_row"] = round(1e6 * spent / (count - FIXED))
            table.append(got)
            if options.json is not None:
                write_json(options.json, {"threads": threads(), "fixed": fixed, "pools": table})
    names = ("rows", "seconds", "cpu_seconds", "cpu_microseconds_a_row", "peak_mb", "own_mb")
    print("|".join(("", *names, "starts", "")) + "\n" + "|---:" * (len(names) + 1) + "|")
    for got in table:
        print("|".join(("", *(str(got[name]) for name in names), str(len(got["starts"])), "")))


def threads() -> str:
    """Return how many threads a run computes with, as it is told."""
    return os.environ.get("OMP_NUM_THREADS", f"all of {os.cpu_count()}")


if __name__ == "__main__":
    main()

"""The memory of scoring a large pool over that of a small one, each in a process of its own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import overload

from benchmark.bench import Bench
from benchmark.lines import Line, Side, say
from benchmark.timing import Ratio
from star.acquisition.pool_scorer import PoolScorer
from star.config import AcquisitionConfig, ModelConfig
from star.data.pool import Oracle
from star.data.task import Example
from star.models import loading as models
from star.models.batching import Batching
from star.models.truncation import Limits, encode_choices

POOLS = (1_000_000, 10_000)
COMMAND = Path(__file__).parent  # python scripts/benchmark: a fresh process of it scores one pool


class LazyPool(Sequence[Example]):
    """A pool of short true-or-false questions, each made when it is asked for."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> list[Example]: ...
    def __getitem__(self, place: int | slice) -> Example | list[Example]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(self._count))]
        i = range(self._count)[place]
        prompt = f"Ann has {i % 51} coins and {i // 51 % 51} books. Answer:"
        return Example(i, prompt, choices=(" true", " false"))


def score_pool(count: int) -> dict[str, float]:
    """Score a pool of short rows with the embedded model, S = 1, in this process."""
    model, pool = models.load(ModelConfig(), batching=Batching(256)), LazyPool(count)
    longest = max(len(row) for group in encode_choices(model, pool[:2601]) for row in group)
    if longest > 16:
        raise AssertionError(f"short rows have at most 16 tokens, got {longest}")
    config = AcquisitionConfig(continuation="choices")
    limits = Limits(max_new_tokens=1)
    start = time.perf_counter()
    scorer = PoolScorer(model, pool, config=config, limits=limits, oracle=Oracle({}))
    tokens = scorer.base().tokens
    return {"bytes": peak_bytes(), "tokens": tokens, "seconds": time.perf_counter() - start}


def peak_bytes() -> int:
    """Return the most memory that this process held.

    From /proc where there is one: what ``getrusage`` says of a child begins with what its parent
    held when it was forked.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def memory(_: Bench, name: str) -> list[Line]:
    """Return the peak memory of scoring a large pool over that of a small one, each scored once."""
    found = []
    for count in POOLS:
        say(f"scoring {count:,} rows")
        command = [sys.executable, str(COMMAND), "--memory-of", str(count)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    large, small = found
    value = large["bytes"] / small["bytes"]
    note = " / ".join(f"{one['bytes'] / 2**20:,.0f} MiB" for one in found)
    sides = [Side([one["seconds"]], int(one["tokens"])) for one in found]
    once = Ratio(value, value, value)
    return [Line(name, "short rows", once, sides[0], sides[1], f"{note}; once each")]

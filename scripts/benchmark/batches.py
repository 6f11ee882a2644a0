"""How long it takes to pick a batch from a large pool, beside what the operations predict.

python scripts/benchmark/batches.py [--rows N] [--dim D] [--labelled L] [--count K] [--only NAMES]

Rows are made up, of the size of SST-2's in a small sentence encoder: 300 kinds, rows of length 1.
``predicted`` is the FLOP of the large matrix products at the rate that one of them has here, and
nothing else: what an element-wise pass or the memory takes is on top. Both are in seconds of one
processor, so that other work on the machine does not count. What came: in
``scripts/results/benchmark/log.md``.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

if not __package__:  # the folder's own modules are imported as benchmark.…
    sys.path[0] = str(Path(__file__).parents[1])

from star.acquisition import diversity, gradients, information, representative

Floats = NDArray[np.float32]


def made(rows: int, dim: int, random: np.random.Generator, kinds: int = 300) -> Floats:
    """Return rows of length 1 around the middles of some kinds, some kinds larger than others."""
    middles = random.normal(size=(kinds, dim)).astype(np.float32)
    kind = (kinds * random.random(rows) ** 2).astype(np.int64)
    noise = random.standard_normal(size=(rows, dim), dtype=np.float32)
    return representative.unit(middles[kind] + 0.8 * noise)


def rate(dim: int, random: np.random.Generator) -> float:
    """Return FLOP a second of a processor, in products of the size of a block of distances."""
    left = random.standard_normal(size=(4096, dim), dtype=np.float32)
    right = np.ascontiguousarray(left[:1024].T)
    left @ right
    start = time.process_time()
    for _ in range(20):
        left @ right
    return 20 * 2 * 4096 * 1024 * dim / (time.process_time() - start)


Job = tuple[float, Callable[[], object]]  # FLOP of its large products, and the call


def jobs(options: argparse.Namespace, random: np.random.Generator) -> dict[str, Job]:
    """Return what is measured, by name."""
    size, dim, known, count = options.rows, options.dim, options.labelled, options.count
    rows = made(size + known, dim, random)
    pool, labelled = rows[known:], rows[:known]
    unsure = random.random(size)
    probabilities = random.dirichlet(np.ones(2), size=size)
    log_probs = np.log(random.dirichlet(np.ones(2), size=(size, 10)))
    pairs = 2.0 * size * dim
    few = representative.sample(size, count, random)
    clusters = min(known + count, 500)

    def herding() -> list[int]:
        width = representative.kernel_width(labelled)
        return representative.herding(
            pool[few], labelled, count, uncertainty=unsure[few], width=width
        )

    def naive_k_center() -> None:
        """Update all rows after each pick, as one would write it."""
        norms = np.square(pool).sum(axis=1)
        distance = np.full(size, np.inf, dtype=np.float32)
        last = pool[0]
        for _ in range(count):
            np.minimum(distance, norms + last @ last - 2 * (pool @ last), out=distance)
            last = pool[int(distance.argmax())]

    near = 2.0 * dim * len(few)
    return {
        "k_center": (
            pairs * (known + count),
            lambda: diversity.k_center(pool, labelled, count),
        ),
        "naive_k_center": (pairs * count, naive_k_center),
        "weighted_k_center": (
            pairs * (known + count),
            lambda: diversity.weighted_k_center(pool, labelled, unsure, count),
        ),
        "uncertain_then_k_center": (
            2.0 * 4 * count * dim * (known + count),
            lambda: diversity.uncertain_then_k_center(pool, labelled, unsure, count),
        ),
        "cluster": (
            math.nan,
            lambda: diversity.cluster_then_uncertain(pool, unsure, count, random),
        ),
        "badge": (
            2.0 * size * (dim + 2) * count,
            lambda: gradients.badge(probabilities, pool, count, random),
        ),
        "typiclust": (
            pairs * size / clusters,
            lambda: representative.typiclust(pool, labelled, count, random),
        ),
        "uherding": (near * (len(few) + known) + 2.0 * known**2 * dim, herding),
        "epig": (
            2.0 * size * 1000 * 4 * 10,
            lambda: information.epig(log_probs, log_probs[:1000]),
        ),
    }


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--rows", type=int, default=67_349, help="unlabelled rows")
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--labelled", type=int, default=1000)
    parser.add_argument("--count", type=int, default=1000, help="rows to pick")
    parser.add_argument("--only", metavar="NAMES", help="measure these, with commas between")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    speed = rate(options.dim, random)
    print(
        f"{options.rows:,} x {options.dim} float32, {options.labelled:,} labelled, "
        f"{options.count:,} picked; products at {speed / 1e9:.0f} GFLOP/s a processor\n\n"
        "| batch | GFLOP | predicted | processor seconds | seconds |\n|---|---|---|---|---|"
    )
    measured = jobs(options, random)
    names = measured if options.only is None else options.only.split(",")
    for name in names:
        flop, call = measured[name]
        start, used = time.perf_counter(), time.process_time()
        call()
        seconds, used = time.perf_counter() - start, time.process_time() - used
        said = ("–", "–") if math.isnan(flop) else (f"{flop / 1e9:,.0f}", f"{flop / speed:.1f}")
        print(f"| {name} | {' | '.join(said)} | {used:.1f} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()

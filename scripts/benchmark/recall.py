"""What part of the true top K is among M candidates, by how these are chosen.

python scripts/benchmark/recall.py RUN [--count 20 200] [--parts 0.5 0.2 0.1 0.05] [--json FILE]

RUN has scored its whole pool (``scripts/benchmark/pools.py --work DIR`` leaves some): its blended
scores of round 0 say which K are the best. Drawn candidates are drawn 100 times; the embeddings are
the base model's.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from star import load_config
from star.acquisition.blending import top_k
from star.acquisition.candidates import candidates
from star.acquisition.scores import Scores
from star.active_learning.run_reader import RunReader
from star.config import AcquisitionConfig
from star.data import loading as tasks
from star.data.sequences import ByIndex
from star.files import write_json
from star.models import loading as models
from star.models.batching import Batching
from star.models.embedding import Encoder

DRAWS = 100


def main() -> None:
    """Print a Markdown table, and write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--count", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--parts", type=float, nargs="+", default=[0.5, 0.2, 0.1, 0.05])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folder = RunReader.checked(options.run)
    config = load_config(folder.config)
    scores = Scores.load(folder.scores(0))
    pool = tasks.load(config.task, seed=config.seed).pool
    model = models.load(config.model, batching=Batching.of(config))
    encode = Encoder(model, None, ByIndex(pool.indices, pool.examples))
    vectors = encode("base", pool.indices)
    labelled = folder.stored_initial()["indices"]

    def recall(by: str, size: int, count: int, seed: int = 0) -> float:
        asked = replace(AcquisitionConfig(), candidates=size, candidates_by=by)
        chosen = candidates(
            scores.index, asked, labelled=labelled, seed=seed, t=0,
            embed=lambda _, index: vectors[np.searchsorted(pool.indices, index)],
        )  # fmt: skip
        best = top_k(scores.arrays["blended"], scores.index, count)
        return float(np.isin(best, chosen).mean())

    rows: list[dict[str, Any]] = []
    print("| N | M | K | drawn | spread |\n|---:|---:|---:|---:|---:|")
    for part in options.parts:
        size = round(part * len(scores.index))
        for count in options.count:
            drawn = [recall("random", size, count, seed) for seed in range(DRAWS)]
            mean, spread = float(np.mean(drawn)), recall("embeddings", size, count)
            rows.append({"N": len(scores.index), "M": size, "K": count, "random": mean})
            rows[-1] |= {"random_deviation": float(np.std(drawn)), "embeddings": spread}
            print(
                f"| {len(scores.index)} | {size} | {count} | {mean:.3f} | {spread:.3f} |",
                flush=True,
            )
    if options.json is not None:
        write_json(options.json, rows)


if __name__ == "__main__":
    main()

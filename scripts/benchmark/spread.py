"""How far the passes of each kind spread, as a share of the spread between examples.

python scripts/benchmark/spread.py [--labels 60] [--passes 8] [--seed 0] [--output DIR]

The embedded families ``choice`` and ``arithmetic``, a round trained on as many random labels as
three rounds of the quickstart have; all kinds score the pool with the same adapter. ``spread`` is
the mean over examples of the deviation between passes, over the deviation between examples
(``star.experiments.probes.dropout``); ``top K`` is the share of the K highest that two single
passes have in common. What came: in ``star/acquisition/README.md``.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from star import load_config, run
from star.experiments import probes

CONFIGS = Path(__file__).parents[2] / "configs"
FAMILIES = {"choice": CONFIGS / "tiny" / "choice.yaml", "arithmetic": CONFIGS / "quickstart.yaml"}
KINDS = {
    "dropout": ("passes=dropout",),
    "tfb": ("passes=tfb",),
    "tfb, tolerance 0.1": ("passes=tfb", "tfb_tolerance=0.1"),
    "tfb, tolerance 1": ("passes=tfb", "tfb_tolerance=1"),
    "ensemble": ("passes=ensemble",),
}


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--labels", type=int, default=60)
    parser.add_argument("--passes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("runs/spread"))
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s")  # onto stderr
    logging.getLogger("star").setLevel(logging.INFO)  # σ, and the training NLL
    print("| family | passes | spread | top K |\n|---|---|---|---|")
    for family, path in FAMILIES.items():
        for kind, settings in KINDS.items():
            words = [
                *(f"acquisition.{word}" for word in settings),
                f"acquisition.mc_dropout.passes={options.passes}",
                f"pool.initial_size={options.labels}",
                "pool.rounds=2",
                "evaluation.views=full",
                f"seed={options.seed}",
                f"output_dir={options.output}",
                f"tracking.first_rounds={options.output / 'first'}",
                "tracking.progress=false",
            ]
            got = probes.dropout(run(load_config(path, words)), passes=(1,))
            same = got["top_k_stability"]["1"]
            print(f"| {family} | {kind} | {got['spread']:.1%} | {same:.0%} |", flush=True)


if __name__ == "__main__":
    main()

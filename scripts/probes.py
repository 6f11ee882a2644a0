"""The paper's probes on the embedded families, and some of them on a real LLM.

python scripts/probes.py [--runs DIR] [--output DIR] [--seeds N] [--smollm2 SST2_FOLDER]

Runs what is missing, gathers what the runs say into ``probes.json``, and makes ``table.md`` and a
picture a probe from that file alone (``probe_report.py``):

(a) gap       base and full uncertainty of the same pool, on a continuation both score
(b) beta      calibration of LoRA without and with the constraint, as beta grows
(c) weights   what lambda(t) weighs in effect under each normalisation
(d) dropout   spread of the MC-dropout passes, and how many a steady ranking takes
(e) picks     what is asked to be labelled: lengths, repeats, kinds, overlap of strategies
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from cells import Cell, carry_out, options

FAMILIES = ("arithmetic", "truefalse", "choice")
SIZES = ("pool.rounds=5", "pool.query_size=45")
# The gap is asked on a continuation both views share; the choices are one, own answers are not.
SHARED = {"arithmetic": ("acquisition.continuation=base",)}
PICKS = {
    "star": (),
    "naive": ("acquisition.combine=none",),
    "random": ("acquisition.select=random",),
}
BETAS = {
    "none": ("none", None),
    **{f"decoupled-{b:g}": ("decoupled", b) for b in (0.5, 5.0, 80.0)},
    **{f"loss-{b:g}": ("loss", b) for b in (0.01, 1.0)},
}
TRAINED_ONCE = ("pool.initial_size=100", "pool.rounds=1", "acquisition.select=random")
PASSES = 8
SCORED_ONCE = ("pool.initial_size=100", "pool.rounds=2", "pool.query_size=20")
# Nothing is asked of these runs' predictions.
UNTESTED = ("task.test_limit=20", 'evaluation.views=["full"]')


def dropout(passes: int) -> dict[str, tuple[str, ...]]:
    """Return the cells of probe (d): name to words."""
    asked = f"acquisition.mc_dropout.passes={passes}"
    return {
        "consistent": (asked,),
        "token": (asked, "acquisition.mc_dropout.masks=token"),
        "off": ("acquisition.mc_dropout.passes=0",),
    }


def beta(name: str) -> tuple[str, ...]:
    """Return the words of a regulariser."""
    kind, value = BETAS[name]
    words = (f"regularizer.kind={kind}",)
    return words if value is None else (*words, f"regularizer.beta={value}")


def cells(seeds: int) -> list[Cell]:
    """Return all cells of the embedded families, seed by seed."""
    found = []
    for seed in range(seeds):
        for family in FAMILIES:
            config, shared = f"configs/tiny/{family}.yaml", SHARED.get(family, ())
            rows = {f"picks-{name}": (*SIZES, *shared, *words) for name, words in PICKS.items()}
            rows |= {f"beta-{name}": (*TRAINED_ONCE, *beta(name)) for name in BETAS}
            rows |= {
                f"dropout-{name}": (*SCORED_ONCE, *UNTESTED, *shared, *words)
                for name, words in dropout(PASSES).items()
            }
            found += [Cell(name, config, words, "star", seed) for name, words in rows.items()]
    return found


def smollm2_cells(folder: Path, seeds: int) -> list[Cell]:
    """Return the cells of SmolLM2 on SST-2: probes (a) to (d) at a size for two cores."""
    small = (f"task.data_dir={folder}", "task.pool_limit=220", "task.test_limit=200")
    once = ("pool.initial_size=64",)
    rows = {"picks-star": ("pool.rounds=4", "pool.query_size=25")}
    rows |= {
        f"beta-{name}": (*once, "pool.rounds=1", "acquisition.select=random", *beta(name))
        for name in ("none", "decoupled-5", "decoupled-80", "loss-1")
    }
    rows |= {
        f"dropout-{name}": (*once, "pool.rounds=2", "pool.query_size=20", *UNTESTED, *words)
        for name, words in dropout(8).items()
    }
    config = "configs/smollm2/sst2.yaml"
    return [
        Cell(name, config, (*small, *words), "star", seed)
        for seed in range(seeds)
        for name, words in rows.items()
    ]


def gather(done: list[Cell], root: Path) -> dict[str, Any]:
    """Return what the finished runs say, as ``probes.json`` holds it."""
    from star import probes
    from star.files import read_json

    found: dict[str, Any] = {k: [] for k in ("gap", "beta", "weights", "dropout", "picks")}
    for cell in done:
        run = cell.folder(root)
        kind, _, name = cell.name.partition("-")
        mark = {"task": Path(cell.config).stem, "name": name, "seed": cell.seed}
        if kind == "picks":
            result = read_json(run / "result.json")
            told = {"auc": result["auc"], "label_free": result["label_free"]}
            found["picks"].append(mark | told | probes.picks(run))
            if name == "star":
                found["gap"] += [mark | row for row in probes.gap(run)]
                found["weights"] += [mark | row for row in probes.weights(run)]
        elif kind == "beta":
            metrics = read_json(run / "rounds/00/metrics.json")
            full = metrics["calibration"]["full"]
            kept = {k: full[k] for k in ("accuracy", "ece", "nll", "brier", "auroc", "aurc")}
            bins = [[b["count"], b["confidence"], b["accuracy"]] for b in full["reliability"]]
            norms = {k: metrics["training"]["last"][k] for k in ("norm_A", "norm_B")}
            found["beta"].append(mark | kept | norms | {"reliability": bins})
        elif name != "off":
            off = Cell("dropout-off", cell.config, seed=cell.seed).folder(root)
            without = off if (off / "result.json").is_file() else None
            found["dropout"].append(mark | probes.dropout(run, without=without))
    return found


def main() -> int:
    """Return the exit status: 0, 1 if a cell failed, 2 for what the user can mend."""
    parser = options(__doc__, "probes")
    parser.add_argument("--smollm2", type=Path, metavar="SST2_FOLDER", help="SmolLM2 instead")
    words = parser.parse_args()
    wanted = smollm2_cells(words.smollm2, words.seeds) if words.smollm2 else cells(words.seeds)
    from probe_report import write_report

    return carry_out(wanted, words.runs, words.output / "probes.json", gather, write_report)


if __name__ == "__main__":
    sys.exit(main())

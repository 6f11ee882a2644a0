"""The paper's probes on the embedded families, and some of them on a real LLM.

python scripts/probes.py [--runs DIR] [--output DIR] [--seeds N] [--workers N] [--only gap,beta]
                         [--smollm2 SST2_FOLDER]

Runs what is missing, gathers what the runs say into ``probes.json``, and makes ``table.md`` and a
picture a probe from that file alone (``probe_report.py``). With ``--only`` the other probes stay
what the file has of them, with what made them. Pool and test questions are drawn anew for each
seed, so that the intervals over seeds cover both.

(a) gap       base and full uncertainty of the same pool, on a continuation both score, and how well
              each, as it is acquired with, tells the full model's errors
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

FAMILIES = {  # to their configurations
    "arithmetic": "configs/quickstart.yaml",
    "truefalse": "configs/tiny/truefalse.yaml",
    "choice": "configs/tiny/choice.yaml",
}
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
DRAWN = "task.draw=seeded"
# Which cells a probe is made of.
NEEDS = {
    "gap": ("picks-star",),
    "beta": tuple(f"beta-{name}" for name in BETAS),
    "weights": ("picks-star",),
    "dropout": ("dropout-consistent", "dropout-token", "dropout-off"),
    "picks": tuple(f"picks-{name}" for name in PICKS),
}
KEPT = "tracking.save_adapters=all"  # for `acquired`
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
        for family, config in FAMILIES.items():
            shared = SHARED.get(family, ())
            rows = {f"picks-{name}": (*SIZES, *shared, *words) for name, words in PICKS.items()}
            rows["picks-star"] += (KEPT,)
            rows |= {f"beta-{name}": (*TRAINED_ONCE, *beta(name)) for name in BETAS}
            rows |= {
                f"dropout-{name}": (*SCORED_ONCE, *UNTESTED, *shared, *words)
                for name, words in dropout(PASSES).items()
            }
            found += [
                Cell(name, config, (DRAWN, *words), "star", seed) for name, words in rows.items()
            ]
    return found


def smollm2_cells(folder: Path, seeds: int) -> list[Cell]:
    """Return the cells of SmolLM2 on SST-2: probes (a) to (d) at a size for two cores."""
    small = (f"task.data_dir={folder}", "task.pool_limit=220", "task.test_limit=200")
    once = ("pool.initial_size=64",)
    rows: dict[str, tuple[str, ...]] = {"picks-star": ("pool.rounds=4", "pool.query_size=25", KEPT)}
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


def acquired_file(cell: Cell, root: Path) -> Path:
    """Return where ``acquired`` puts what it has measured."""
    return root / "acquired" / cell.task / f"seed{cell.seed}.json"


def acquired(cell: Cell, root: Path) -> None:
    """Measure how well what a run acquired with tells its model's errors; reads the pool's labels.

    Kept with the hash of the run's configuration, and not done again while that is the same.
    """
    from star.experiments.error_ranking import error_ranking
    from star.files import read_json, write_json

    if cell.name != "picks-star":
        return
    path, run = acquired_file(cell, root), cell.folder(root)
    made = read_json(run / "result.json")["config_hash"]
    if path.is_file() and read_json(path)["config_hash"] == made:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"config_hash": made, "rounds": error_ranking(run)})


def _calibration(run: Path) -> dict[str, Any]:
    """Return what probe (b) keeps of a run: the full view, and the base's beside it."""
    from star.files import read_json

    metrics = read_json(run / "rounds/00/metrics.json")
    full, base = (metrics["calibration"][view] for view in ("full", "base"))
    keys = ("accuracy", "ece", "overconfidence", "nll", "brier", "auroc", "aurc")
    found = {k: full[k] for k in keys} | {f"base_{k}": base[k] for k in keys}
    for name, view in (("", full), ("base_", base)):
        for key in ("ece", "overconfidence"):  # of choices, which have one confidence, the same
            found[f"{name}{key}_token_mean"] = view.get("token_mean", view)[key]
    bins = [[b["count"], b["confidence"], b["accuracy"]] for b in full["reliability"]]
    norms = {k: metrics["training"]["last"][k] for k in ("norm_A", "norm_B")}
    return found | norms | {"reliability": bins}


def gather(done: list[Cell], root: Path) -> dict[str, Any]:
    """Return what the finished runs say, as ``probes.json`` holds it."""
    from star.experiments import probes
    from star.files import read_json

    found: dict[str, Any] = {name: [] for name in NEEDS}
    for cell in done:
        run = cell.folder(root)
        kind, _, name = cell.name.partition("-")
        mark = {"task": cell.task, "name": name, "seed": cell.seed}
        mark["draw"] = "seeded" if DRAWN in cell.words else "fixed"
        if kind == "picks":
            result = read_json(run / "result.json")
            told = {"auc": result["auc"], "label_free": result["label_free"]}
            found["picks"].append(mark | told | probes.picks(run))
            if name == "star":
                measured = read_json(acquired_file(cell, root))["rounds"]
                rows = zip(probes.gap(run), measured, strict=True)
                found["gap"] += [mark | row | other for row, other in rows]
                found["weights"] += [mark | row for row in probes.weights(run)]
        elif kind == "beta":
            found["beta"].append(mark | _calibration(run))
        elif name != "off":
            off = Cell("dropout-off", cell.config, seed=cell.seed).folder(root)
            without = off if (off / "result.json").is_file() else None
            found["dropout"].append(mark | probes.dropout(run, without=without))
    return found


def main() -> int:
    """Return the exit status: 0, 1 if a cell failed, 2 for what the user can mend."""
    parser = options(__doc__, "probes")
    parser.add_argument("--smollm2", type=Path, metavar="SST2_FOLDER", help="SmolLM2 instead")
    parser.add_argument("--only", default=",".join(NEEDS), help="probes, e.g. gap,beta")
    words = parser.parse_args()
    only = words.only.split(",")
    if not set(only) <= NEEDS.keys():
        parser.error(f"--only takes some of {','.join(NEEDS)}, got {words.only}")
    every = smollm2_cells(words.smollm2, words.seeds) if words.smollm2 else cells(words.seeds)
    wanted = [cell for cell in every if any(cell.name in NEEDS[probe] for probe in only)]
    from probe_report import write_report

    path = words.output / "probes.json"
    return carry_out(
        wanted,
        words.runs,
        path,
        lambda done, root: gather(done, root) | kept(path, only),
        write_report,
        workers=words.workers,
        after=acquired,
    )


def kept(path: Path, only: list[str]) -> dict[str, Any]:
    """Return what ``probes.json`` has of all other probes, and ``earlier``: what made each."""
    from star.files import read_json

    if not path.is_file() or set(only) == NEEDS.keys():
        return {name: [] for name in NEEDS if name not in only}
    old = read_json(path)
    others = [name for name in NEEDS if name not in only and old[name]]
    made = {name: old.get("earlier", {}).get(name, old["provenance"]) for name in others}
    return {name: old[name] if name in others else [] for name in NEEDS if name not in only} | {
        "earlier": made
    }


if __name__ == "__main__":
    sys.exit(main())

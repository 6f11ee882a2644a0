"""The paper's probes on the embedded families, and some of them on a real LLM.

python scripts/probes.py [--runs DIR] [--output DIR] [--seeds N] [--smollm2 SST2_FOLDER]
"""

from __future__ import annotations

from pathlib import Path

from cells import Cell

FAMILIES = ("arithmetic", "truefalse", "choice")
SIZES = ("pool.rounds=5", "pool.query_size=45")
# The gap is asked on a continuation both views share; the choices are one, own answers are not.
SHARED = {"arithmetic": ("acquisition.continuation=base",)}
PICKS = {
    "star": (),
    "naive": ("acquisition.combine=none",),
    "sum": ("acquisition.reduction=sum",),
    "random": ("acquisition.select=random",),
}
BETAS = {
    "none": "regularizer.kind=none",
    **{f"decoupled-{b:g}": f"regularizer.kind=decoupled,{b}" for b in (0.5, 5.0, 20.0, 80.0)},
    **{f"loss-{b:g}": f"regularizer.kind=loss,{b}" for b in (0.001, 0.01, 0.1, 1.0)},
}
TRAINED_ONCE = ("pool.initial_size=100", "pool.rounds=1", "acquisition.select=random")
PASSES = 16
DROPOUT = {
    "consistent": (f"acquisition.mc_dropout.passes={PASSES}",),
    "token": (f"acquisition.mc_dropout.passes={PASSES}", "acquisition.mc_dropout.masks=token"),
    "off": ("acquisition.mc_dropout.passes=0",),
}
SCORED_ONCE = (
    *("pool.initial_size=100", "pool.rounds=2", "pool.query_size=20"),
    *("task.test_limit=20", 'evaluation.views=["full"]'),
)


def beta_words(word: str) -> tuple[str, ...]:
    """Return the words of a regulariser: ``kind`` or ``kind,beta``."""
    kind, _, beta = word.partition(",")
    return (kind, f"regularizer.beta={beta}") if beta else (kind,)


def cells(seeds: int) -> list[Cell]:
    """Return all cells of the embedded families, seed by seed."""
    found = []
    for seed in range(seeds):
        for family in FAMILIES:
            config, shared = f"configs/tiny/{family}.yaml", SHARED.get(family, ())
            found += [
                Cell(f"picks-{name}", config, (*SIZES, *shared, *words), "star", seed)
                for name, words in PICKS.items()
            ]
            found += [
                Cell(f"beta-{name}", config, (*TRAINED_ONCE, *beta_words(word)), "star", seed)
                for name, word in BETAS.items()
            ]
            found += [
                Cell(f"dropout-{name}", config, (*SCORED_ONCE, *shared, *words), "star", seed)
                for name, words in DROPOUT.items()
            ]
    return found


def smollm2_cells(folder: Path, seeds: int) -> list[Cell]:
    """Return the cells of SmolLM2 on SST-2: probes (a), (b) and (d) at a size for two cores."""
    config = "configs/smollm2/sst2.yaml"
    small = (f"task.data_dir={folder}", "task.pool_limit=220", "task.test_limit=200")
    gap = ("pool.rounds=4", "pool.query_size=25")
    found = []
    for seed in range(seeds):
        found.append(Cell("picks-star", config, (*small, *gap), "star", seed))
        for name in ("none", "decoupled-5", "decoupled-80", "loss-0.01", "loss-1"):
            words = (*small, "pool.initial_size=64", "pool.rounds=1", "acquisition.select=random")
            words = (*words, *beta_words(BETAS[name]))
            found.append(Cell(f"beta-{name}", config, words, "star", seed))
        for name, words in DROPOUT.items():
            once = ("pool.initial_size=64", "pool.rounds=2", "pool.query_size=20")
            once = (*small, *once, "task.test_limit=20", 'evaluation.views=["full"]')
            words = tuple(w.replace(f"={PASSES}", "=8") for w in words)
            found.append(Cell(f"dropout-{name}", config, (*once, *words), "star", seed))
    return found

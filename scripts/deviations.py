"""What each difference between paper, released code and this package costs: the README's column.

python scripts/deviations.py [--runs DIR] [--output DIR] [--seeds N]

On the embedded family ``arithmetic``: random choice, the three presets, and over preset ``star``
each of the released code's faults alone. Five rounds from 20 to 200 labels; every row has the same
seeds, so the same initial sets, as the others. Runs what is missing, then writes small result files
and ``table.md``: the difference in the area under the learning curve to preset ``star``, paired by
seed, with its 95 % t-interval, and, where the scores kept by the ``star`` runs are enough
(``star replay``), the share of the query that would have been the same.
"""

from __future__ import annotations

from cells import Cell

CONFIG = "configs/tiny/arithmetic.yaml"
# Fewer rounds and the same labels at the end as the file: 40 seconds a cell.
SIZES = ("pool.rounds=5", "pool.query_size=45", 'evaluation.views=["full"]')
A, T = "acquisition.", "train."
ROWS: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "star": ("star", ()),
    "random": ("star", (f"{A}select=random",)),
    "paper": ("paper", ()),
    "released": ("released", ()),
    "naive": ("star", (f"{A}combine=none",)),
    "gold": ("star", (f"{A}continuation=gold",)),
    "dropout-off": ("star", (f"{A}mc_dropout.passes=0",)),
    "base-minmax": ("star", (f"{A}normalization=base_minmax",)),
    "sum": ("star", (f"{A}reduction=sum",)),
    "max-entropy": ("star", (f"{A}measure=max_entropy",)),
    "entropy-floor": ("star", (f"{A}measure=max_entropy", f"{A}entropy_floor=1.0e-6")),
    "schedule-test": ("star", (f"{T}schedule_from=test",)),
    "unconstrained": ("star", ("regularizer.kind=none",)),
    "no-eos": ("star", (f"{T}append_eos=false",)),
    "loss-mask": ("star", (f"{T}loss_mask=released",)),
}


def cells(seeds: int) -> list[Cell]:
    """Return all cells, seed by seed, so that an interrupted grid is whole for fewer seeds."""
    return [
        Cell(name, CONFIG, (*SIZES, *words), preset, seed)
        for seed in range(seeds)
        for name, (preset, words) in ROWS.items()
    ]

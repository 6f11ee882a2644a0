"""What each difference between paper, released code and this package costs: the README's column.

python scripts/deviations.py [--runs DIR] [--output DIR] [--seeds N]

On the embedded family ``arithmetic``: random choice, the three presets, and over preset ``star``
each of the released code's faults alone. Five rounds from 20 to 200 labels; every row has the same
seeds, so the same initial sets, as the others. Runs what is missing, then writes
``deviations.json`` and ``table.md``: the difference to preset ``star`` in the area under the
learning curve, paired by seed, with its 95 % t-interval, and, where the scores kept by the ``star``
runs are enough (``star replay``), the share of the query that would have been the same.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from cells import Cell, carry_out, options

CONFIG = "configs/tiny/arithmetic.yaml"
WORDED = "configs/tiny/truefalse.yaml"
# Fewer rounds than the file, and the same labels at the end.
SIZES = ("pool.rounds=5", "pool.query_size=45", 'evaluation.views=["full"]')
ONCE = ("pool.initial_size=100", "pool.rounds=2", "pool.query_size=20", "task.test_limit=20")
SMALL = ("task.test_limit=53",)
A, T = "acquisition.", "train."
ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "star": ("star", ()),
    "random": ("star", (f"{A}select=random",)),
    "paper": ("paper", ()),
    "released": ("released", ()),
    "naive": ("star", (f"{A}combine=none",)),
    "gold": ("star", (f"{A}continuation=gold",)),
    "base-continuation": ("star", (f"{A}continuation=base",)),
    "dropout-off": ("star", (f"{A}mc_dropout.passes=0",)),
    "base-minmax": ("star", (f"{A}normalization=base_minmax",)),
    "sum": ("star", (f"{A}reduction=sum",)),
    # One query by the same adapter: only the ranking is asked for.
    "max-entropy": ("star", (f"{A}measure=max_entropy", *ONCE)),
    "entropy-floor": ("star", (f"{A}measure=max_entropy", f"{A}entropy_floor=1.0e-6", *ONCE)),
    "schedule-test": ("star", (f"{T}schedule_from=test",)),
    # As small beside the labels as GSM8K's: at 200 labels 72 % of the updates are at rate 0.
    "small-test": ("star", SMALL),
    "schedule-small-test": ("star", (*SMALL, f"{T}schedule_from=test")),
    "unconstrained": ("star", ("regularizer.kind=none",)),
    "no-eos": ("star", (f"{T}append_eos=false",)),
    "loss-mask": ("star", (f"{T}loss_mask=released",)),
    # The embedded tokenizer makes an <unk> of it: how much of `released` is that?
    "prompt-space": ("star", ("task.trailing_space=prompt",)),
    "released-no-space": ("released", ("task.trailing_space=answer",)),
}
REPLAYED = {
    "base-minmax": f"{A}normalization=base_minmax",
    "no-normalization": f"{A}normalization=none",
    "rank-normalization": f"{A}normalization=rank",
    "sum": f"{A}reduction=sum",
    "naive": f"{A}combine=none",
    "lambda-of-ten-rounds": f"{A}base_weight.rounds=10",
    "one-pass": f"{A}mc_dropout.passes=1",
}
# What changes the scores alone: the first query beside that of another row, same adapter.
COMPARED = {"entropy-floor": "max-entropy", "base-continuation": "star"}
# Answers in words, read as digits: the accuracy of the same model, both ways.
DIGITS = {"words": "evaluation.extraction=task", "digits": "evaluation.extraction=digits"}


def cells(seeds: int) -> list[Cell]:
    """Return all cells, seed by seed, so that an interrupted grid is whole for fewer seeds."""
    generated = ("pool.rounds=1", f"{A}select=random", "evaluation.choice_by=generation")
    return [
        cell
        for seed in range(seeds)
        for cell in [
            *(Cell(n, CONFIG, (*SIZES, *w), preset, seed) for n, (preset, w) in ROWS.items()),
            *(Cell(n, WORDED, (*generated, w), "star", seed) for n, w in DIGITS.items()),
        ]
    ]


def gather(done: list[Cell], root: Path) -> dict[str, Any]:
    """Return what the finished runs say, as ``deviations.json`` holds it."""
    from star.files import read_json
    from star.replaying import replay

    found: dict[str, Any] = {"runs": [], "replayed": [], "compared": []}
    for cell in done:
        run = cell.folder(root)
        result = read_json(run / "result.json")
        mark = {"task": result["task"], "name": cell.name, "seed": cell.seed}
        curve = [[r["labeled"], r["accuracy"]] for r in result["rounds"]]
        found["runs"].append(mark | {"label_free": result["label_free"], "auc": result["auc"]})
        found["runs"][-1] |= {"curve": curve, "ece": result["rounds"][-1]["ece"]}
        if cell.name == "star":
            for name, word in REPLAYED.items():
                rows = replay(run, [word])
                mean = sum(row["overlap"] for row in rows) / len(rows)
                chance = sum(row["chance"] for row in rows) / len(rows)
                found["replayed"].append({**mark, "name": name, "word": word, "overlap": mean})
                found["replayed"][-1]["chance"] = chance
        if cell.name in COMPARED:
            plain = Cell(COMPARED[cell.name], CONFIG, seed=cell.seed).folder(root)
            found["compared"].append(mark | _compared(plain, run))
    return found


def _compared(plain: Path, other: Path) -> dict[str, float]:
    """Return how the first queries of two runs differ, scored by the same adapter."""
    from star.acquisition import spearman
    from star.files import read_json, read_npz

    picked = [set(read_json(r / "rounds/00/selected.json")["indices"]) for r in (plain, other)]
    scores = [read_npz(r / "rounds/00/scores.npz")["full"] for r in (plain, other)]
    rho = spearman(*scores)
    return {
        "overlap": len(picked[0] & picked[1]) / len(picked[0]),
        "rank_correlation": float("nan") if rho is None else rho,
        "mean_added_nats": float((scores[1] - scores[0]).mean()),
    }


def make_table(found: dict[str, Any]) -> str:
    """Return the Markdown tables of ``deviations.json``."""
    from probe_report import made_by, said, table, where

    rows, body = [r for r in found["runs"] if r["task"] == "arithmetic"], []
    star, small = ({r["seed"]: r for r in where(rows, name=n)} for n in ("star", "small-test"))
    for name, (preset, words) in ROWS.items():
        mine = where(rows, name=name)
        if not mine or ONCE[0] in words:
            continue
        same = small if SMALL[0] in words else star
        change = [100 * (r["auc"] - same[r["seed"]]["auc"]) for r in mine if r["seed"] in same]
        label = name + ("" if mine[0]["label_free"] else " (label-using)")
        command = " ".join((f"--preset {preset}", *words))
        final = said((100 * r["curve"][-1][1] for r in mine), ".1f")
        auc = said((100 * r["auc"] for r in mine), ".1f")
        versus = "" if name in ("star", "small-test") else said(change, "+.1f")
        body.append([label, f"`{command}`", auc, versus, final, str(len(mine))])
    head = ["row", "words", "AUC, %", "difference to star, points", "accuracy at 200, %", "n"]
    parts = [table(head, body)]
    replayed = [
        [name, f"`star replay RUN {word}`"]
        + [said(r[k] for r in where(found["replayed"], name=name)) for k in ("overlap", "chance")]
        for name, word in REPLAYED.items()
    ]
    parts.append(table(["replayed", "command", "share of the query kept", "by chance"], replayed))
    keys = ("overlap", "rank_correlation", "mean_added_nats")
    compared = [
        [name, other]
        + [said((r[k] for r in where(found["compared"], name=name)), ".4f") for k in keys]
        for name, other in COMPARED.items()
    ]
    head = [
        "first query of",
        "beside",
        "share kept",
        "rank correlation of the full view",
        "added nats a token",
    ]
    parts.append(table(head, compared))
    both = [
        [name, said((100 * r["curve"][0][1] for r in found["runs"] if r["name"] == name), ".1f")]
        for name in DIGITS
    ]
    parts.append(table(["truefalse, generated answers read as", "accuracy, %"], both))
    parts.append(f"{made_by(found['provenance'])} Differences are paired by seed.")
    return "\n\n".join(parts) + "\n"


def write_report(folder: Path) -> str:
    """Write ``table.md`` into the folder of ``deviations.json``; return the table."""
    from star.files import read_json

    text = make_table(read_json(folder / "deviations.json"))
    (folder / "table.md").write_text(text, encoding="utf-8")
    return text


def main() -> int:
    """Return the exit status: 0, 1 if a cell failed, 2 for what the user can mend."""
    words = options(__doc__, "deviations").parse_args()
    output = words.output / "deviations.json"
    return carry_out(cells(words.seeds), words.runs, output, gather, write_report)


if __name__ == "__main__":
    sys.exit(main())

"""From ``probes.json`` to a table and a picture a probe; means and 95 % t-intervals over seeds.

python scripts/probe_report.py scripts/results/probes
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from star.evaluation.learning_curves import mean_interval
from star.experiments.report.style import panels_figure
from star.files import read_json

Row = Mapping[str, Any]
Point = tuple[float, float, float | None, float | None]


def tasks_of(rows: Iterable[Row]) -> list[str]:
    """Return the tasks in the order they come."""
    return list(dict.fromkeys(row["task"] for row in rows))


def where(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """Return the rows that have these values."""
    return [row for row in rows if all(row[k] == v for k, v in wanted.items())]


def line(rows: list[Row], x: str, y: str) -> list[Point]:
    """Return the mean and interval of ``y`` over seeds at each value of ``x``."""
    points = []
    for place in sorted({row[x] for row in rows}):
        values = [row[y] for row in rows if row[x] == place and row[y] is not None]
        if values:
            points.append((place, *mean_interval(values)))
    return points


def said(values: Iterable[float | None], form: str = ".3f") -> str:
    """Return ``mean ± half of the interval`` of what is known."""
    known = [v for v in values if v is not None]
    if not known:
        return "–"
    mean, low, high = mean_interval(known)
    if low is None or high is None:
        return f"{mean:{form}}"
    return f"{mean:{form}} ± {(high - low) / 2:{form.lstrip('+')}}"


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def made_by(told: Mapping[str, Any]) -> str:
    """Return what made the runs (``cells.provenance``), in words."""
    machine = "; ".join(f"{h['cores']} cores, {h['cpu']}" for h in told["hardware"])
    commits = ", ".join(
        f"{s['commit'][:10]}{' with changes' if s['dirty'] else ''}" for s in told["star"]
    )
    return (
        f"{told['runs']} runs, seeds {told['seeds']}, {', '.join(told['started'])}, {machine}, "
        f"commit {commits}. Mean ± half of the 95 % t-interval over seeds."
    )


ACQUIRED = {
    "base, test": "acquired_test_base",
    "full, test": "acquired_test_full",
    "base, unlabelled *": "acquired_pool_base",
    "full, unlabelled *": "acquired_pool_full",
}
# Records of before 2026-11-26 call these auroc_base and so on.
IN_FULL_ANSWER = {
    "base": "full_answer_auroc_base",
    "full": "full_answer_auroc_full",
    "MC": "full_answer_auroc_mc",
}
LEGEND = """\
AUROC: how well a score tells the full model's errors, 0.5 is chance. u as acquired: the score that
the view brings into the blend. * label-using: reads the answers of rows that were unlabelled then,
as a simulation can and a run cannot. In the full model's answer: AUROC of one minus each view's
probability of that answer on the test rows; of the base it is the opinion of another's answer, and
not what is acquired with."""


def gap(rows: list[Row], folder: Path) -> str:
    """Return the table of probe (a) and draw it."""
    rows = [_with_new_names(row) for row in rows]
    measured = any(row.get("acquired_test_full") is not None for row in rows)
    views = ACQUIRED if measured else IN_FULL_ANSWER
    panels = {
        task: {name: line(where(rows, task=task), "labeled", key) for name, key in views.items()}
        for task in tasks_of(rows)
    }
    y = "AUROC of u, as acquired, against error" if measured else "AUROC in the full's answer"
    panels_figure(panels, folder / "gap.png", x="labelled examples", y=y)
    keys = ["spearman", "top_k_overlap", "chance", "mean_difference"]
    head = ["task", "labels", "rank correlation", "overlap of the two top K", "by chance"]
    head += ["mean difference full − base"]
    if measured:
        keys += ACQUIRED.values()
        head += [f"AUROC u as acquired: {name}" for name in ACQUIRED]
    keys += IN_FULL_ANSWER.values()
    head += [f"AUROC in the full model's answer: {name}" for name in IN_FULL_ANSWER]
    body = []
    for task in tasks_of(rows):
        for t in sorted({row["round"] for row in where(rows, task=task)}):
            mine = where(rows, task=task, round=t)
            labels = str(mine[0]["labeled"])
            body.append([task, labels, *(said(row.get(key) for row in mine) for key in keys)])
    return f"{table(head, body)}\n\n{LEGEND}"


def _with_new_names(row: Row) -> Row:
    old = {name: f"full_answer_{name}" for name in ("auroc_base", "auroc_full", "auroc_mc")}
    return {old.get(key, key): value for key, value in row.items()}


CONFIDENCES = """\
Over-confidence: mean confidence − accuracy. The confidence in a generated answer is the probability
of the whole answer; token mean: the geometric mean of its tokens' probabilities, which is the
probability of nothing. A choice has one confidence."""


def beta(rows: list[Row], folder: Path) -> str:
    """Return the table of probe (b) and draw it."""
    kinds = {"decoupled": "decoupled", "loss": "in the loss"}
    panels: dict[str, dict[str, list[Point]]] = {}
    change: dict[tuple[str, str], list[float]] = {}  # paired by seed
    for task in tasks_of(rows):
        plain = {r["seed"]: r["ece"] for r in where(rows, task=task, name="none")}
        placed: dict[str, list[Row]] = {kind: [] for kind in kinds}
        for row in where(rows, task=task):
            kind, _, value = row["name"].partition("-")
            if kind in kinds and row["seed"] in plain:
                difference = row["ece"] - plain[row["seed"]]
                change.setdefault((task, row["name"]), []).append(difference)
                placed[kind].append({"beta": float(value), "ece": difference})
        panels[task] = {name: line(placed[kind], "beta", "ece") for kind, name in kinds.items()}
    y = "ECE, difference to no constraint"
    panels_figure(panels, folder / "beta.png", x="β", y=y, log_x=True)
    keys = ("ece", "overconfidence", "ece_token_mean", "overconfidence_token_mean", "nll", "auroc")
    body = []
    for task in tasks_of(rows):
        for name in dict.fromkeys(row["name"] for row in where(rows, task=task)):
            mine = where(rows, task=task, name=name)
            cells = [said(row.get(key) for row in mine) for key in ("accuracy", *keys)]
            cells.insert(2, "" if name == "none" else said(change.get((task, name), ()), "+.3f"))
            body.append([task, name, said((r["norm_B"] for r in mine), ".2f"), *cells])
        # The base model is the same in all of them: one run a seed.
        plain = where(rows, task=task, name="none")
        if any("base_ece" in row for row in plain):
            cells = [said(row.get(f"base_{key}") for row in plain) for key in ("accuracy", *keys)]
            body.append([task, "(base model)", "", *cells[:2], "", *cells[2:]])
    head = ["task", "constraint", "‖B‖", "accuracy", "ECE", "to none", "over-confidence"]
    head += ["ECE, token mean", "over-confidence, token mean", "NLL", "AUROC"]
    return table(head, body) + (f"\n\n{CONFIDENCES}" if "overconfidence" in rows[0] else "")


def weights(rows: list[Row], folder: Path) -> str:
    """Return the table of probe (c) and draw it."""
    names = list(dict.fromkeys(row["normalization"] for row in rows))
    panels = {
        task: {
            name: line(where(rows, task=task, normalization=name), "base_weight", "base")
            for name in names
        }
        for task in tasks_of(rows)
    }
    panels_figure(
        panels, folder / "weights.png", x="λ(t), nominal", y="rank correlation of blend and base"
    )
    body = []
    for task in tasks_of(rows):
        for weight in sorted({row["base_weight"] for row in rows}, reverse=True):
            mine = where(rows, task=task, base_weight=weight)
            cells = [
                f"{said(r['base'] for r in where(mine, normalization=n))} / "
                f"{said(r['full'] for r in where(mine, normalization=n))}"
                for n in names
            ]
            if mine:
                body.append([task, f"{weight:.2f}", *cells])
    return table(["task", "λ", *(f"{n}: base / full" for n in names)], body)


def dropout(rows: list[Row], folder: Path) -> str:
    """Return the table of probe (d) and draw it."""
    panels: dict[str, dict[str, list[Point]]] = {}
    for task in tasks_of(rows):
        series = {}
        for masks in ("consistent", "token"):
            placed = [
                {"S": int(s), "rho": rho}
                for row in where(rows, task=task, masks=masks)
                for s, rho in row["stability"].items()
            ]
            series[masks] = line(placed, "S", "rho")
        panels[task] = series
    y = "rank correlation of S passes with S others"
    panels_figure(panels, folder / "dropout.png", x="S", y=y)
    body = []
    for task in tasks_of(rows):
        for masks in ("consistent", "token"):
            mine = where(rows, task=task, masks=masks)
            counts = ("1", "4") if mine else ()
            steady = [said(r["stability"].get(s) for r in mine) for s in counts]
            top = [said(r["top_k_stability"].get(s) for r in mine) for s in counts]
            rest = [said(r.get(k) for r in mine) for k in ("spearman_without", "overlap_without")]
            body.append([task, masks, said(r["spread"] for r in mine), *steady, *top, *rest])
    head = ["task", "masks", "spread", "stability S = 1", "S = 4"]
    head += ["same top K, S = 1", "S = 4", "rank correlation with no dropout", "same top K"]
    return table(head, body)


def picks(rows: list[Row], folder: Path) -> str:
    """Return the tables of probe (e) and draw the kinds."""
    body, shares, panels, names_of_kinds = [], [], {}, {}
    for task in tasks_of(rows):
        mine = where(rows, task=task)
        names = list(dict.fromkeys(row["name"] for row in mine))
        for name in names:
            some = where(mine, name=name)
            lengths = said((r["prompt_words"] for r in some), ".1f")
            auc = said((100 * r["auc"] for r in some), ".1f")
            label = name if some[0]["label_free"] else f"{name} (label-using)"
            body.append([task, label, auc, lengths, said(r["repeats"] for r in some)])
        pool = mine[0]
        known = [f"{pool['pool_prompt_words']:.1f}", f"{pool['pool_repeats']:.3f}"]
        body.append([task, "(the pool)", "", *known])
        for one, two in combinations(names, 2):
            shared = [_jaccard(mine, one, two, seed) for seed in {r["seed"] for r in mine}]
            shares.append([task, f"{one}, {two}", said(shared)])
        kinds = sorted(pool["pool_kinds"], key=pool["pool_kinds"].__getitem__)
        names_of_kinds[task] = kinds
        panels[task] = {
            name: [
                (place, *mean_interval([r["kinds"].get(kind, 0.0) for r in where(mine, name=name)]))
                for place, kind in enumerate(kinds)
            ]
            for name in names
        }
        panels[task]["pool"] = [(i, pool["pool_kinds"][k], None, None) for i, k in enumerate(kinds)]
    if any(names_of_kinds.values()):
        y, x = "share of the queried examples", "kind, rarest in the pool first"
        panels_figure(panels, folder / "picks.png", x=x, y=y, ticks=names_of_kinds)
    first = table(["task", "strategy", "AUC, %", "words a prompt", "repeats"], body)
    return f"{first}\n\n{table(['task', 'strategies', 'Jaccard of what was queried'], shares)}"


def _jaccard(rows: list[Row], one: str, two: str, seed: int) -> float | None:
    sets = [set(r["queried"]) for n in (one, two) for r in where(rows, name=n, seed=seed)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1]) if len(sets) == 2 else None


PROBES: dict[str, tuple[str, Callable[[list[Row], Path], str]]] = {
    "gap": ("(a) Uncertainty gap", gap),
    "beta": ("(b) Calibration and the constraint", beta),
    "weights": ("(c) What λ weighs in effect", weights),
    "dropout": ("(d) MC dropout", dropout),
    "picks": ("(e) What gets picked", picks),
}


def write_report(folder: Path) -> str:
    """Write ``table.md`` and the pictures into the folder of ``probes.json``; return the table."""
    found = read_json(folder / "probes.json")
    parts = []
    for name, (title, make) in PROBES.items():
        if found[name]:
            parts.append(f"## {title}\n\n{make(found[name], folder)}")
            if name in found.get("earlier", {}):
                parts.append(f"Earlier runs: {made_by(found['earlier'][name])}")
            elif any(row.get("draw") == "seeded" for row in found[name]):
                parts.append("Pool and test questions are drawn by the seed.")
    parts.append(made_by(found["provenance"]))
    text = "\n\n".join(parts) + "\n"
    (folder / "table.md").write_text(text, encoding="utf-8")
    return text


if __name__ == "__main__":
    print(write_report(Path(sys.argv[1])))

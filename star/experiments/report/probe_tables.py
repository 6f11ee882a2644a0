"""From the probes' record to a table and a picture a probe.

A record is what ``probes.json`` holds (:mod:`star.experiments.report.probe_record`); nothing else
is read. Means and 95 % t-intervals are over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from star.errors import InputError
from star.evaluation.learning_curves import mean_interval
from star.experiments.report.style import Point, panels_figure

Row = Mapping[str, Any]
Picture = dict[str, Any]  # arguments of panels_figure but for the path

ACQUIRED = {
    "base, test": "acquired_test_base",
    "full, test": "acquired_test_full",
    "base, unlabelled *": "acquired_pool_base",
    "full, unlabelled *": "acquired_pool_full",
}
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
CONFIDENCES = """\
Over-confidence: mean confidence − accuracy. The confidence in a generated answer is the probability
of the whole answer; token mean: the geometric mean of its tokens' probabilities, which is the
probability of nothing. A choice has one confidence."""


def write_tables(record: Mapping[str, Any]) -> str:
    """Return the tables in Markdown, and what made their runs.

    Raises:
        InputError: A row of the record lacks what the probes measure.
    """
    parts = []
    for name, rows in _with_rows(record):
        parts.append(f"## {PROBES[name][0]}\n\n{_made(name, rows)[0]}")
        if name in record.get("earlier", {}):
            parts.append(f"Earlier runs: {_made_by(record['earlier'][name])}")
        elif any(row.get("draw") == "seeded" for row in rows):
            parts.append("Pool and test questions are drawn by the seed.")
    notes = "\n".join(f"* {note}" for note in record.get("notes", ()))
    parts += [notes] if notes else []
    return "\n\n".join([*parts, _made_by(record["provenance"])]) + "\n"


def draw(record: Mapping[str, Any], folder: Path, ending: str = "png") -> list[Path]:
    """Draw ``folder/<probe>.<ending>`` of each probe that has anything to draw; return these.

    Raises:
        InputError: As :func:`write_tables`.
    """
    paths = []
    for name, rows in _with_rows(record):
        picture = _made(name, rows)[1]
        if picture and any(any(series.values()) for series in picture["panels"].values()):
            paths.append(panels_figure(path=folder / f"{name}.{ending}", **picture))
    return paths


def _with_rows(record: Mapping[str, Any]) -> Iterable[tuple[str, list[Row]]]:
    return ((name, record[name]) for name in PROBES if record[name])


def _made(name: str, rows: list[Row]) -> tuple[str, Picture | None]:
    try:
        return PROBES[name][1](rows)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"probe {name}: a row is not what the probe measures: {error!r}") from None


def _made_by(told: Mapping[str, Any]) -> str:
    machine = "; ".join(f"{h['cores']} cores, {h['cpu']}" for h in told["hardware"])
    commits = ", ".join(
        f"{str(s['commit'])[:10]}{' with changes' if s['dirty'] else ''}" for s in told["star"]
    )
    whole = told["runs"] == told.get("cells", told["runs"])  # records of before have no cells
    count = f"{told['runs']}" if whole else f"{told['runs']} of {told['cells']}"
    return (
        f"{count} runs, seeds {told['seeds']}, {', '.join(told['started'])}, {machine}, "
        f"commit {commits}. Mean ± half of the 95 % t-interval over seeds."
    )


def _tasks(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row["task"] for row in rows))


def _where(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    return [row for row in rows if all(row[k] == v for k, v in wanted.items())]


def _line(rows: list[Row], x: str, y: str) -> list[Point]:
    """Return the mean and interval of ``y`` over seeds at each value of ``x``."""
    points: list[Point] = []
    for place in sorted({row[x] for row in rows}):
        values = [row[y] for row in rows if row[x] == place and row[y] is not None]
        if values:
            points.append((place, *mean_interval(values)))
    return points


def _interval(values: Iterable[float | None], form: str = ".3f") -> str:
    """Return ``mean ± half of the interval`` of the values that are not ``None``."""
    known = [v for v in values if v is not None]
    if not known:
        return "–"
    mean, low, high = mean_interval(known)
    if low is None or high is None:
        return f"{mean:{form}}"
    return f"{mean:{form}} ± {(high - low) / 2:{form.lstrip('+')}}"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _gap(rows: list[Row]) -> tuple[str, Picture]:
    measured = any(row.get("acquired_test_full") is not None for row in rows)
    views = ACQUIRED if measured else IN_FULL_ANSWER
    panels = {
        task: {n: _line(_where(rows, task=task), "labeled", key) for n, key in views.items()}
        for task in _tasks(rows)
    }
    keys = ["spearman", "top_k_overlap", "chance", "mean_difference"]
    head = ["task", "labels", "rank correlation", "overlap of the two top K", "by chance"]
    head += ["mean difference full − base"]
    if measured:
        keys += ACQUIRED.values()
        head += [f"AUROC u as acquired: {name}" for name in ACQUIRED]
    keys += IN_FULL_ANSWER.values()
    head += [f"AUROC in the full model's answer: {name}" for name in IN_FULL_ANSWER]
    body = []
    for task in _tasks(rows):
        for t in sorted({row["round"] for row in _where(rows, task=task)}):
            seeds = _where(rows, task=task, round=t)
            cells = [_interval(row.get(key) for row in seeds) for key in keys]
            body.append([task, str(seeds[0]["labeled"]), *cells])
    y = "AUROC of u, as acquired, against error" if measured else "AUROC in the full's answer"
    picture = {"panels": panels, "x": "labelled examples", "y": y}
    return f"{_table(head, body)}\n\n{LEGEND}", picture


def _beta(rows: list[Row]) -> tuple[str, Picture]:
    kinds = {"decoupled": "decoupled", "loss": "in the loss"}
    panels: dict[str, dict[str, list[Point]]] = {}
    change: dict[tuple[str, str], list[float]] = {}  # paired by seed
    for task in _tasks(rows):
        plain = {r["seed"]: r["ece"] for r in _where(rows, task=task, name="none")}
        placed: dict[str, list[Row]] = {kind: [] for kind in kinds}
        for row in _where(rows, task=task):
            kind, _, value = row["name"].partition("-")
            if kind in kinds and row["seed"] in plain:
                difference = row["ece"] - plain[row["seed"]]
                change.setdefault((task, row["name"]), []).append(difference)
                placed[kind].append({"beta": float(value), "ece": difference})
        panels[task] = {name: _line(placed[kind], "beta", "ece") for kind, name in kinds.items()}
    keys = ("ece", "overconfidence", "ece_token_mean", "overconfidence_token_mean", "nll", "auroc")
    body = []
    for task in _tasks(rows):
        for name in dict.fromkeys(row["name"] for row in _where(rows, task=task)):
            seeds = _where(rows, task=task, name=name)
            cells = [_interval(row.get(key) for row in seeds) for key in ("accuracy", *keys)]
            to_none = _interval(change.get((task, name), ()), "+.3f")
            cells.insert(2, "" if name == "none" else to_none)
            body.append([task, name, _interval((r["norm_B"] for r in seeds), ".2f"), *cells])
        # The base model is the same in all of them: one run a seed.
        base = _where(rows, task=task, name="none")
        if any("base_ece" in row for row in base):
            cells = [_interval(r.get(f"base_{key}") for r in base) for key in ("accuracy", *keys)]
            body.append([task, "(base model)", "", *cells[:2], "", *cells[2:]])
    head = ["task", "constraint", "‖B‖", "accuracy", "ECE", "to none", "over-confidence"]
    head += ["ECE, token mean", "over-confidence, token mean", "NLL", "AUROC"]
    y = "ECE, difference to no constraint"
    legend = f"\n\n{CONFIDENCES}" if "overconfidence" in rows[0] else ""
    return _table(head, body) + legend, {"panels": panels, "x": "β", "y": y, "log_x": True}


def _weights(rows: list[Row]) -> tuple[str, Picture]:
    names = list(dict.fromkeys(row["normalization"] for row in rows))
    panels = {
        task: {
            name: _line(_where(rows, task=task, normalization=name), "base_weight", "base")
            for name in names
        }
        for task in _tasks(rows)
    }
    body = []
    for task in _tasks(rows):
        for weight in sorted({row["base_weight"] for row in rows}, reverse=True):
            some = _where(rows, task=task, base_weight=weight)
            cells = [
                " / ".join(
                    _interval(r[view] for r in _where(some, normalization=name))
                    for view in ("base", "full")
                )
                for name in names
            ]
            if some:
                body.append([task, f"{weight:.2f}", *cells])
    y = "rank correlation of blend and base"
    text = _table(["task", "λ", *(f"{name}: base / full" for name in names)], body)
    return text, {"panels": panels, "x": "λ(t), nominal", "y": y}


def _dropout(rows: list[Row]) -> tuple[str, Picture]:
    panels: dict[str, dict[str, list[Point]]] = {}
    body = []
    for task in _tasks(rows):
        panels[task] = {}
        for masks in ("consistent", "token"):
            seeds = _where(rows, task=task, masks=masks)
            stable = [{"S": int(s), "rho": v} for r in seeds for s, v in r["stability"].items()]
            panels[task][masks] = _line(stable, "S", "rho")
            steady = [_interval(r["stability"].get(s) for r in seeds) for s in ("1", "4")]
            top = [_interval(r["top_k_stability"].get(s) for r in seeds) for s in ("1", "4")]
            keys = ("spearman_without", "overlap_without")
            rest = [_interval(r.get(key) for r in seeds) for key in keys]
            spread = _interval(r["spread"] for r in seeds)
            body.append([task, masks, spread, *steady, *top, *rest])
    head = ["task", "masks", "spread", "stability S = 1", "S = 4"]
    head += ["same top K, S = 1", "S = 4", "rank correlation with no dropout", "same top K"]
    y = "rank correlation of S passes with S others"
    return _table(head, body), {"panels": panels, "x": "S", "y": y}


def _picks(rows: list[Row]) -> tuple[str, Picture | None]:
    body, shares, panels, kinds_of = [], [], {}, {}
    for task in _tasks(rows):
        some = _where(rows, task=task)
        names = list(dict.fromkeys(row["name"] for row in some))
        for name in names:
            seeds = _where(some, name=name)
            label = name if seeds[0]["label_free"] else f"{name} (label-using)"
            auc = _interval((100 * r["auc"] for r in seeds), ".1f")
            lengths = _interval((r["prompt_words"] for r in seeds), ".1f")
            body.append([task, label, auc, lengths, _interval(r["repeats"] for r in seeds)])
        pool = some[0]
        known = [f"{pool['pool_prompt_words']:.1f}", f"{pool['pool_repeats']:.3f}"]
        body.append([task, "(the pool)", "", *known])
        for one, two in combinations(names, 2):
            shared = [_jaccard(some, one, two, seed) for seed in {r["seed"] for r in some}]
            shares.append([task, f"{one}, {two}", _interval(shared)])
        kinds = sorted(pool["pool_kinds"], key=pool["pool_kinds"].__getitem__)
        kinds_of[task] = kinds
        panels[task] = {
            name: [
                (x, *mean_interval([r["kinds"].get(kind, 0.0) for r in _where(some, name=name)]))
                for x, kind in enumerate(kinds)
            ]
            for name in names
        }
        panels[task]["pool"] = [(x, pool["pool_kinds"][k], None, None) for x, k in enumerate(kinds)]
    first = _table(["task", "strategy", "AUC, %", "words a prompt", "repeats"], body)
    second = _table(["task", "strategies", "Jaccard of what was queried"], shares)
    y, x = "share of the queried examples", "kind, rarest in the pool first"
    picture = {"panels": panels, "x": x, "y": y, "ticks": kinds_of}
    return f"{first}\n\n{second}", picture if any(kinds_of.values()) else None


def _jaccard(rows: list[Row], one: str, two: str, seed: int) -> float | None:
    sets = [set(r["queried"]) for n in (one, two) for r in _where(rows, name=n, seed=seed)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1]) if len(sets) == 2 else None


PROBES: dict[str, tuple[str, Callable[[list[Row]], tuple[str, Picture | None]]]] = {
    "gap": ("(a) Uncertainty gap", _gap),
    "beta": ("(b) Calibration and the constraint", _beta),
    "weights": ("(c) What λ weighs in effect", _weights),
    "dropout": ("(d) MC dropout", _dropout),
    "picks": ("(e) What gets picked", _picks),
}

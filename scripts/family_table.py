"""Collect the result files of reproduce_families.sh; write the families' table and curves.

python scripts/family_table.py RUNS OUTPUT

Copies each run's ``result.json`` to ``OUTPUT/<task>/<strategy>/seed<k>.json`` with the hardware and
date of its run, then makes ``OUTPUT/table.md`` and a picture a family from those copies alone.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from star.errors import InputError
from star.experiments.report.style import mean_curves_figure
from star.files import read_json, write_json

FAMILIES = ("arithmetic", "truefalse", "choice")
LABELS = (60, 120, 200)


def main() -> int:
    """Return the exit status: 0, or 2 for what the user can mend."""
    parser = argparse.ArgumentParser(description="Table and curves of the embedded families.")
    parser.add_argument("runs", metavar="RUNS", type=Path, help="folder of runs")
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="folder of result files")
    words = parser.parse_args()
    try:
        collect(words.runs, words.output)
        table = make_table(words.output)
        (words.output / "table.md").write_text(table, encoding="utf-8")
        print(table)
        for family in FAMILIES:
            curves = {
                name: [read_json(p) for p in sorted((words.output / family / name).glob("*.json"))]
                for name in ("star-predictive_entropy", "random")
            }
            print(mean_curves_figure(curves, words.output / f"{family}.png", title=family))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def collect(runs: Path, output: Path) -> None:
    """Copy finished results, with what ran them."""
    for path in sorted(runs.glob("*/*/*/result.json")):
        result = read_json(path)
        name = result["strategy"]
        if not (result["label_free"] or name.endswith("-gold")):
            name += "-label-using"  # a run may call itself as it likes, but not pass for another
        environment = read_json(path.parent / "environment.json")
        result["environment"] = {
            key: environment.get(key)
            for key in ("started", "star", "python", "packages", "hardware")
        }
        target = output / result["task"] / name / f"seed{result['seed']}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_json(target, result)


def make_table(output: Path) -> str:
    """Return the Markdown table: accuracies in percent, mean ± standard error over seeds (n)."""
    heads = ["family", "base", "strategy", *(f"{n} labels" for n in LABELS), "AUC", "whole pool"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for family in FAMILIES:
        base, whole = (
            _last(read_json(path)) if path.is_file() else None
            for path in (output / family / s / "seed0.json" for s in ("base", "whole-pool"))
        )
        for strategy in ("random", "star-predictive_entropy"):
            results = [
                read_json(p) for p in sorted((output / family / strategy).glob("seed*.json"))
            ]
            cells = [_cell(_at(r, n) for r in results) for n in LABELS]
            cells.append(_cell(r["auc"] for r in results))
            lines.append(
                f"| {family} | {_percent(base)} | {strategy} | "
                + " | ".join(cells)
                + f" | {_percent(whole)} |"
            )
    return "\n".join(lines) + "\n"


def _last(result: dict[str, Any]) -> float:
    value: float = result["rounds"][-1]["accuracy"]
    return value


def _at(result: dict[str, Any], labels: int) -> float | None:
    return next((r["accuracy"] for r in result["rounds"] if r["labeled"] == labels), None)


def _cell(values: Iterable[float | None]) -> str:
    found = [v for v in values if v is not None]
    if not found:
        return "missing"
    error = statistics.stdev(found) / len(found) ** 0.5 if len(found) > 1 else 0.0
    return f"{100 * statistics.mean(found):.1f} ± {100 * error:.1f} ({len(found)})"


def _percent(value: float | None) -> str:
    return "missing" if value is None else f"{100 * value:.1f}"


if __name__ == "__main__":
    sys.exit(main())

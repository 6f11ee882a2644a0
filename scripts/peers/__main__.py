"""Beside peers: small-text on the rows, first labels and test questions of a table's runs.

    ./scripts/reproduce_peers.sh --data-dir FOLDER             makes its environment, runs, reports
    ./scripts/reproduce_peers.sh --data-dir FOLDER --smoke     30 pool rows, two rounds: minutes

One process runs what is missing, a cell after the other; stopped, start the same command again. The
report stands what is there beside the table's own runs, or its committed record.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if not __package__:  # python scripts/peers puts the folder itself into sys.path
    sys.path[0] = str(Path(__file__).parents[1])

from peers import report
from star.config import Config
from star.data import loading as tasks
from star.data.pool import Pool, first_labels
from star.errors import InputError
from star.experiments import table as grid
from star.experiments.table_file import read_table
from star.files import read_json, write_json
from star.models import sources

HERE = Path(__file__).resolve().parent
TWINS = {"random": "random", "breaking-ties": "margin", "greedy-coreset": "k-center",
         "badge": "badge"}  # fmt: skip
"""Of small-text's strategies the row of ours that does the same; others stand alone."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the missing cells and write the report."""
    options = _options(words)
    try:
        return _run(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python scripts/peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--python", metavar="FILE", help="of small-text's environment; none: report"
    )
    parser.add_argument("--table", default="configs/tables/sst2_study.yaml", metavar="FILE")
    parser.add_argument("--data-dir", metavar="FOLDER", help="task.data_dir; none: the Hub")
    parser.add_argument("--seeds", type=int, metavar="N", help="the first N of the table's")
    parser.add_argument(
        "--strategies", default=",".join(TWINS), help="least-confidence too; default: %(default)s"
    )
    parser.add_argument(
        "--learning-rate", type=float, metavar="RATE", help="instead of small-text's own, 2e-5"
    )
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--output", default="runs/peers", metavar="FOLDER", help="of the cells")
    parser.add_argument("--report", metavar="FOLDER", help="default: report in the cells' folder")
    parser.add_argument("--runs", metavar="FOLDER", help="of the table's own runs; default: runs")
    parser.add_argument(
        "--smoke", action="store_true", help="one seed, tiny, in a folder of its own"
    )
    return parser.parse_args(words)


def _run(options: argparse.Namespace) -> int:
    table = read_table(options.table)
    seeds = list(table.seeds)[: 1 if options.smoke else options.seeds]
    output = Path(options.output) / "smoke" if options.smoke else Path(options.output)
    words = [] if options.data_dir is None else [f"task.data_dir={options.data_dir}"]
    if options.smoke:
        words += ["task.pool_limit=30", "task.test_limit=10", "pool.initial_size=12"]
        words += ["pool.query_size=4", "pool.rounds=2"]
    strategies = options.strategies.split(",")
    if options.python is not None:
        [cell, *_] = grid.cells(table, rows=[table.baseline], seeds=seeds, words=words)
        config = cell.load(output)
        word = _word(options, config, seeds, strategies, output)
        missing = [part for part in word["cells"] if not _finished(part)]
        print(f"{len(missing)} of {len(word['cells'])} cells are to be run", flush=True)
        if missing:
            file = output / "word.json"
            write_json(file, word)
            command = [options.python, str(HERE / "small_text_cells.py"), str(file)]
            if subprocess.run(command, check=False).returncode:
                raise InputError("small-text stopped; what it finished is kept: start again")
    folder = Path(options.report) if options.report else output / "report"
    cells = report.read_cells(output)
    if not cells:
        raise InputError(f"{output} holds no cell; run with --python, or set --output")
    ours = None if options.smoke else report.ours_of(table, options.runs, cells, TWINS)
    report.write(folder, cells, ours, TWINS)
    print(folder)
    return 0


def _finished(cell: Mapping[str, Any]) -> bool:
    """Whether a cell's file is there, of these rows and sizes."""
    file = Path(cell["file"])
    if not file.is_file():
        return False
    told = read_json(file)
    for key in ("rows", "query_size", "trainings"):
        if told.get(key) != cell[key]:
            raise InputError(
                f"{file} is of other {key.replace('_', ' ')} than are wanted now; remove it, or "
                "set another --output"
            )
    return True


def _word(
    options: argparse.Namespace,
    config: Config,
    seeds: Sequence[int],
    strategies: Sequence[str],
    output: Path,
) -> dict[str, Any]:
    """Return what is to be run, its rows written."""
    model, _ = sources.resolve(config.model, sources.cache_root(config.tracking.cache_dir))
    rows, prints = {}, {}
    for seed in seeds:
        file = output / "rows" / f"seed{seed}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        content = rows_of(replace(config, seed=seed))
        write_json(file, content)
        rows[seed], prints[seed] = str(file), content["fingerprint"]
    rate = options.learning_rate
    kind = "own" if rate is None else f"rate{rate:g}"
    return {
        "model": str(model),
        "rows": rows,
        "threads": options.threads,
        "cells": [
            {
                "strategy": name,
                "seed": seed,
                "learning_rate": rate,
                "epochs": 1 if options.smoke else None,  # None: small-text's own
                "query_size": config.pool.query_size,
                "trainings": config.pool.rounds,
                "rows": prints[seed],
                "file": str(output / "cells" / kind / name / f"seed{seed}.json"),
            }
            for seed in seeds
            for name in strategies
        ],
    }


def rows_of(config: Config) -> dict[str, Any]:
    """Return what a run of ours works on: its pool, its test rows, and what it labels first."""
    data = tasks.load(config.task, seed=config.seed)
    classes = list(data.task.labels or ())

    def plain(split: tasks.Split) -> list[dict[str, object]]:
        return [
            {"index": example.index, "text": example.prompt, "label": classes.index(answer.gold)}
            for example, answer in zip(split.examples, split.answers, strict=True)
        ]

    pool: Pool[object] = Pool([example.index for example in data.pool.examples])
    _, initial = first_labels(
        pool,
        held_out=config.task.validation_size,
        initial=config.pool.initial_size,
        seed=config.seed,
    )
    return {
        "classes": classes,
        "pool": plain(data.pool),
        "test": plain(data.test),
        "initial": initial,
        "fingerprint": data.fingerprint,
    }


if __name__ == "__main__":
    raise SystemExit(main())

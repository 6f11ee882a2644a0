"""``star sweep``: run the cells of a table."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from star import signals
from star.errors import InputError

DESCRIPTION = """\
Run the cells of a table that are not finished: one `star run` a column, row and seed, in
OUTPUT_DIR/TABLE/COLUMN/ROW/seedK. One cell's failure stops no other: it is named at the end, exit
status 1, and told in seedK.failed.txt. Interrupted, or failed, start the same command again.
"""

NOTES = """\
examples:
  star sweep configs/tables/main.yaml
  star sweep configs/tables/main.yaml --columns arithmetic --seeds 3 --jobs 2
  star sweep configs/tables/main_paper.yaml --executor slurm --gpus 1 --cpus 8 --minutes 600
  star sweep configs/tables/main.yaml --executor print | parallel -j 4
  star sweep configs/tables/ablation.yaml --output-dir elsewhere pool.rounds=3

Words key=value change every cell; give them an --output-dir of their own. What several cells need
is made once: base scores, the first round of rows of a seed that train alike, and (not by print)
runs that another table in OUTPUT_DIR has finished with the same configuration, data, model and
code, from a clean checkout.
"""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser(
        "sweep",
        help="run the cells of a table that are not finished",
        description=DESCRIPTION,
        epilog=NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("table", metavar="TABLE", help="a file of configs/tables, or your own")
    verb.add_argument("overrides", metavar="key=value", nargs="*", help="override a key")
    verb.add_argument("--executor", choices=("local", "slurm", "print"), default="local")
    verb.add_argument("--rows", metavar="A,B", help="these rows alone")
    verb.add_argument("--columns", metavar="A,B", help="these columns alone")
    verb.add_argument(
        "--seeds", metavar="N", help="the first N of the table's seeds; 4,7 or 4,: just these"
    )
    verb.add_argument("--output-dir", metavar="DIR", default="runs", help="default: runs")
    verb.add_argument(
        "--jobs", type=int, metavar="N", help="local: cells at once; one a GPU, else one a core"
    )
    cluster = verb.add_argument_group("--executor slurm")
    cluster.add_argument("--partition", metavar="NAME")
    cluster.add_argument("--minutes", type=int, default=60, help="time limit of a cell")
    cluster.add_argument("--cpus", type=int, default=1, help="cores of a cell")
    cluster.add_argument("--gpus", type=int, default=0, help="GPUs of a cell")
    cluster.add_argument("--memory-gb", type=float, metavar="GB", help="memory of a cell")
    cluster.add_argument("--parallel", type=int, metavar="N", help="cells at once at most")
    verb.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Run what is not finished, and print the table's folder; 1 where a cell failed."""
    from star.experiments import table as grid
    from star.experiments import table_file
    from star.experiments.sweep import sweep
    from star.experiments.sweep.slurm import Options
    from star.outputs import refuse_inside_run

    table = table_file.read_table(options.table)
    cells = grid.cells(
        table,
        rows=_names(options.rows),
        columns=_names(options.columns),
        seeds=_seeds(options.seeds, table.seeds),
        words=options.overrides,
    )
    if not cells:
        raise InputError(f"{options.table} has no such cells: --rows and --columns share none")
    root = Path(options.output_dir).expanduser()
    refuse_inside_run(root)
    if options.executor == "print":
        print("".join(f"{line}\n" for line in sweep.commands(cells, root)), end="")
        return 0
    asked = ("partition", "minutes", "cpus", "gpus", "memory_gb", "parallel")
    with signals.heeded():
        failed = sweep.sweep(
            cells,
            root,
            executor=options.executor,
            jobs=options.jobs,
            options=Options(**{name: getattr(options, name) for name in asked}),
        )
    print(root / table.name)
    return 1 if failed else 0


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _seeds(text: str | None, known: tuple[int, ...]) -> tuple[int, ...] | None:
    if text is None:
        return None
    names = _names(text) or []
    if not names or not all(name.isdecimal() for name in names):
        raise InputError(f"--seeds must be a number of seeds or seeds with commas, got '{text}'")
    if "," in text:
        return tuple(dict.fromkeys(map(int, names)))
    if not 1 <= int(text) <= len(known):
        raise InputError(
            f"--seeds: the table has {len(known)} seeds, got {text}; a single seed is '{text},'"
        )
    return known[: int(text)]

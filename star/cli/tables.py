"""The verbs on whole tables: ``star sweep`` and ``star report``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from star.errors import InputError

SWEEP_DESCRIPTION = """\
Run the cells of a table that are not finished: one `star run` a column, row and seed, in
OUTPUT_DIR/TABLE/COLUMN/ROW/seedK. One cell's failure stops no other: it is named at the end, exit
status 1, and told in seedK.failed.txt. Interrupted, or failed, start the same command again.
"""

SWEEP_NOTES = """\
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

REPORT_DESCRIPTION = """\
Tables of results, with intervals over seeds and corrected comparisons, from result files alone: of
a table file, its run folders in OUTPUT_DIR (where none is given, runs, or else the record under
scripts/results); of a record (results.json, or its folder); of run folders, or all finished ones
below a folder.
"""

REPORT_NOTES = """\
examples:
  star report configs/tables/main.yaml
  star report configs/tables/main.yaml --format latex > main.tex
  star report configs/tables/main.yaml --output scripts/results/main
  star report runs
  star report runs/arithmetic/random/seed0-1a2b3c4d runs/arithmetic/star-max_entropy/seed0-5e6f7a8b

--output writes everything into a folder: the record results.json, from which all of it can be had
again, table.md, table.tex, table.csv, table.json, and the figures.
"""

FORMATS = ("md", "latex", "csv", "json")


def add_to(verbs: Any) -> None:
    """Add both verbs to the subparsers of the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    sweep = verbs.add_parser(
        "sweep",
        help="run the cells of a table that are not finished",
        description=SWEEP_DESCRIPTION,
        epilog=SWEEP_NOTES,
        formatter_class=raw,
    )
    sweep.add_argument("table", metavar="TABLE", help="a file of configs/tables, or your own")
    sweep.add_argument("overrides", metavar="key=value", nargs="*", help="override a key")
    sweep.add_argument("--executor", choices=("local", "slurm", "print"), default="local")
    sweep.add_argument("--rows", metavar="A,B", help="these rows alone")
    sweep.add_argument("--columns", metavar="A,B", help="these columns alone")
    sweep.add_argument(
        "--seeds", metavar="N", help="the first N of the table's seeds; 4,7 or 4,: just these"
    )
    sweep.add_argument("--output-dir", metavar="DIR", default="runs", help="default: runs")
    sweep.add_argument(
        "--jobs", type=int, metavar="N", help="local: cells at once; one a GPU, else one a core"
    )
    cluster = sweep.add_argument_group("--executor slurm")
    cluster.add_argument("--partition", metavar="NAME")
    cluster.add_argument("--minutes", type=int, default=60, help="time limit of a cell")
    cluster.add_argument("--cpus", type=int, default=1, help="cores of a cell")
    cluster.add_argument("--gpus", type=int, default=0, help="GPUs of a cell")
    cluster.add_argument("--memory-gb", type=float, metavar="GB", help="memory of a cell")
    cluster.add_argument("--parallel", type=int, metavar="N", help="cells at once at most")
    sweep.set_defaults(call=_sweep)

    report = verbs.add_parser(
        "report",
        help="tables and figures from results",
        description=REPORT_DESCRIPTION,
        epilog=REPORT_NOTES,
        formatter_class=raw,
    )
    report.add_argument("sources", metavar="TABLE|RUN|FOLDER", nargs="+")
    report.add_argument("--format", choices=FORMATS, default="md", help="on stdout; default: md")
    report.add_argument("--output", metavar="DIR", help="write record, tables and figures there")
    report.add_argument(
        "--figures", choices=("png", "pdf", "svg"), help="with --output; default: png"
    )
    report.add_argument("--output-dir", metavar="DIR", help="of a table's run folders")
    report.set_defaults(call=_report)


def _sweep(options: argparse.Namespace) -> int:
    from star.experiments import table as grid
    from star.experiments import table_file
    from star.experiments.sweep import sweep
    from star.experiments.sweep.slurm import Options

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
    if options.executor == "print":
        print("".join(f"{line}\n" for line in sweep.commands(cells, root)), end="")
        return 0
    asked = ("partition", "minutes", "cpus", "gpus", "memory_gb", "parallel")
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


def _report(options: argparse.Namespace) -> int:
    from star.experiments.report import results, tables

    if options.figures is not None and options.output is None:
        raise InputError(
            f"--figures {options.figures} writes no picture without --output DIR; add it"
        )
    root = None if options.output_dir is None else Path(options.output_dir).expanduser()
    records = results.find_all(options.sources, root=root)
    if options.output is not None:
        if len(records) > 1:
            raise InputError(f"--output is for one table, got {len(records)}")
        from star.experiments.report.plots import draw

        folder = Path(options.output).expanduser()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            results.write_record(folder / results.FILE, records[0])
            for name, text in _texts(tables, records[0]).items():
                (folder / f"table.{name}").write_text(text, encoding="utf-8")
            draw(records[0], folder, ending=options.figures or "png")
        except OSError as error:
            raise InputError(f"cannot write {options.output}: {error.strerror}") from None
        print(folder)
        return 0
    if len(records) > 1 and options.format in ("csv", "json"):
        raise InputError(f"--format {options.format} is for one table, got {len(records)}")
    ending = "tex" if options.format == "latex" else options.format
    sys.stdout.write("\n".join(_texts(tables, record)[ending] for record in records))
    return 0


def _texts(tables: Any, record: Any) -> dict[str, str]:
    """Return a record's tables by their files' endings."""
    return {
        "md": tables.markdown(record),
        "tex": tables.latex(record),
        "csv": tables.csv(record),
        "json": tables.json(record),
    }

"""``star report``: tables and figures from results."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from star.errors import InputError

DESCRIPTION = """\
Tables of results, with intervals over seeds and corrected comparisons, from result files alone: of
a table file, its run folders in OUTPUT_DIR (where none is given, runs, or else the record under
scripts/results); of a record (results.json, or its folder); of run folders, or all finished ones
below a folder. Of a table with report: probes, the probes and their record, probes.json.
"""

NOTES = """\
examples:
  star report configs/tables/main.yaml
  star report configs/tables/main.yaml --format latex > main.tex
  star report configs/tables/main.yaml --output scripts/results/main
  star report runs
  star report runs/arithmetic/random/seed0-1a2b3c4d runs/arithmetic/star-max_entropy/seed0-5e6f7a8b

--output writes everything into a folder: the record results.json, from which all of it can be had
again, table.md, table.tex, table.csv, table.json, and the figures; and stopping.md, what rules
of stopping would have saved and cost, which --format stopping prints.
"""

FORMATS = ("md", "latex", "csv", "json", "stopping")
STOPPING = "stopping.md"


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser(
        "report",
        help="tables and figures from results",
        description=DESCRIPTION,
        epilog=NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("sources", metavar="TABLE|RUN|FOLDER", nargs="+")
    verb.add_argument("--format", choices=FORMATS, default="md", help="on stdout; default: md")
    verb.add_argument("--output", metavar="DIR", help="write record, tables and figures there")
    verb.add_argument(
        "--force", action="store_true", help="replace files in DIR that are not of this report"
    )
    verb.add_argument(
        "--figures", choices=("png", "pdf", "svg"), help="with --output; default: png"
    )
    verb.add_argument("--output-dir", metavar="DIR", help="of a table's run folders")
    verb.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Print the tables, or write all into a folder and print that."""
    from star.experiments.report import formats, probe_record, results
    from star.experiments.report.record import write_record
    from star.experiments.report.stopping import stopping_sheet
    from star.experiments.report.summary import summary

    if options.figures is not None and options.output is None:
        raise InputError(
            f"--figures {options.figures} writes no picture without --output DIR; add it"
        )
    root = None if options.output_dir is None else Path(options.output_dir).expanduser()
    probed = probe_record.find(options.sources, root=root)
    if probed is not None:
        return _report_probes(probed, options)
    records = results.find_all(options.sources, root=root)
    if options.output is not None:
        if len(records) > 1:
            raise InputError(f"--output is for one table, got {len(records)}")
        from star.experiments.report.figures import draw

        folder = Path(options.output).expanduser()
        names = [STOPPING, *(f"table.{ending}" for ending in formats.ENDINGS.values())]
        results.refuse_others(folder, records[0], names, options.force)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_record(folder / results.FILE, records[0])
            whole = summary(records[0])
            for kind, ending in formats.ENDINGS.items():
                text = formats.FORMATS[kind](whole)
                (folder / f"table.{ending}").write_text(text, encoding="utf-8")
            if stopping_sheet(records[0]) is not None:
                text = formats.stopping_rules(whole)
                (folder / STOPPING).write_text(text, encoding="utf-8")
            else:  # records made before know no answers; what stands there is of other runs
                (folder / STOPPING).unlink(missing_ok=True)
            draw(records[0], folder, ending=options.figures or "png")
        except OSError as error:
            raise InputError(f"cannot write {options.output}: {error.strerror}") from None
        print(folder)
        return 0
    if len(records) > 1 and options.format in ("csv", "json"):
        raise InputError(f"--format {options.format} is for one table, got {len(records)}")
    form = (formats.FORMATS | {"stopping": formats.stopping_rules})[options.format]
    sys.stdout.write("\n".join(form(summary(record)) for record in records))
    return 0


def _report_probes(record: dict[str, Any], options: argparse.Namespace) -> int:
    from star.experiments.report import probe_record, probe_tables
    from star.files import write_json

    if options.format != "md":
        raise InputError(
            f"--format {options.format}: the probes have md alone; their figures are in "
            f"{probe_record.FILE}, which --output writes"
        )
    text = probe_tables.write_tables(record)
    if options.output is None:
        sys.stdout.write(text)
        return 0
    folder = Path(options.output).expanduser()
    probe_record.refuse_others(folder, record, options.force)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / probe_record.FILE, record)
        (folder / "table.md").write_text(text, encoding="utf-8")
        probe_tables.draw(record, folder, options.figures or "png")
    except OSError as error:
        raise InputError(f"cannot write {options.output}: {error.strerror}") from None
    print(folder)
    return 0

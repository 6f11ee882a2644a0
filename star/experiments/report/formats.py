"""A table as Markdown, LaTeX, CSV or JSON. The same record gives the same bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from csv import DictWriter
from dataclasses import asdict, fields
from json import dumps
from typing import Any

from star.evaluation.learning_curves import LabelShares
from star.experiments.report.balance import balance_sheets
from star.experiments.report.comparisons import QUERY, VERSUS, Interval, Shared, Versus
from star.experiments.report.confidences import NAMES
from star.experiments.report.gains import gain_sheets, gains_of
from star.experiments.report.layout import Sheet, sheets_of
from star.experiments.report.likeness import stale
from star.experiments.report.made_by import provenance, provenance_line
from star.experiments.report.notes import legend
from star.experiments.report.record import CellResult, Point, Record
from star.experiments.report.single_runs import RUNS
from star.experiments.report.stopping import checked_sheet
from star.experiments.report.summary import AREAS, BASE, Summary

FIELDS = {
    **dict.fromkeys(("accuracy", "auc", "ripl", *AREAS, *NAMES, *BASE), Interval),
    "label_share": LabelShares,
    **dict.fromkeys(VERSUS, Versus),
    **dict.fromkeys(QUERY, Shared),
}
LISTS = ("labels", "seeds", "missing", "failed")


def markdown(summary: Summary) -> str:
    """Return all rows by all columns, then the details of each column, and how to read them."""
    record = summary.record
    parts = [f"# {_text(record.title)}"]
    if record.since:
        parts.append("\n".join(f"> {_text(sentence)}" for sentence in record.since))
    for sheet in [*sheets_of(summary), *gain_sheets(record), *balance_sheets(record)]:
        parts += [f"## {_text(sheet.title)}", *_section(sheet)]
    if record.table == RUNS:
        for column in record.columns:
            parts += [f"## {_text(column.name)}: round by round"]
            parts += ["Accuracy ± one standard error over the test examples."]
            parts += [_round_by_round(record.results(column.name))]
    if any(row.about or row.preset or row.settings for row in record.rows):
        parts += ["## Rows", _rows(record)]
    parts += ["## How to read this", "\n".join(f"* {_text(said)}" for said in legend(summary))]
    return "\n\n".join([*parts, _text(provenance_line(record))]) + "\n"


def stopping_rules(summary: Summary) -> str:
    """Return as Markdown what rules of stopping would have saved and cost; see ``stopping``.

    Raises:
        InputError: The record does not hold what they look at.
    """
    sheet, record = checked_sheet(summary.record), summary.record
    head = f"# {_text(record.title)}: {_text(sheet.title[0].lower() + sheet.title[1:])}"
    return "\n\n".join([head, *_section(sheet), _text(provenance_line(record))]) + "\n"


def _section(sheet: Sheet) -> list[str]:
    """Return what stands below a sheet's title."""
    about = [_text(sheet.about)] if sheet.about else []
    notes = ["\n".join(f"* {_text(note)}" for note in sheet.notes)] if sheet.notes else []
    return [*about, _grid(sheet), *notes]


def _grid(sheet: Sheet) -> str:
    body = [
        [_bold(_text(cell), (i, j) in sheet.bold) for j, cell in enumerate(row)]
        for i, row in enumerate(sheet.body)
    ]
    return _lines([list(map(_text, sheet.head)), *body], right=True)


def _round_by_round(cells: Sequence[CellResult]) -> str:
    """Return the accuracy of single runs over their label counts, in percent."""
    one = len({cell.seed for cell in cells}) == 1
    names = [cell.row if one else f"{cell.row}, seed {cell.seed}" for cell in cells]
    curves = [{point.labeled: point for point in cell.rounds} for cell in cells]
    rows = [["labels", *map(_text, names)]]
    for labels in sorted(set().union(*curves)):
        points = [curve.get(labels) for curve in curves]
        rows.append(
            [str(labels), *("–" if point is None else _accuracy(point) for point in points)]
        )
    return _lines(rows, right=True)


def _accuracy(point: Point) -> str:
    shown = f"{100 * point.accuracy:.1f}"
    error = point.accuracy_stderr
    return shown if error is None else f"{shown} ± {100 * error:.1f}"


def _rows(record: Record) -> str:
    """Return what each row is: words for readers, and the settings it stands for."""
    body = [["row", "what", "settings"]]
    for row in record.rows:
        preset = [f"--preset {row.preset}"] if row.preset else []
        words = " ".join([*preset, *row.settings])
        body.append([_text(row.name), _text(row.about), _code(words)])
    every = " ".join(record.settings)
    table = _lines(body, right=False)
    parts = [table, *([f"Of every row: {_code(every)}"] if every else [])]
    others = dict.fromkeys(cell.row for cell in record.results() if stale(cell))
    if others:
        parts.append(
            f"These are the table file's settings now; runs of {_text(', '.join(others))} had "
            "others, see the notes above."
        )
    return "\n\n".join(parts)


def _lines(rows: Sequence[Sequence[str]], *, right: bool) -> str:
    rule = ["---"] + ["---:" if right else "---"] * (len(rows[0]) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], rule, *rows[1:]])


def _bold(text: str, on: bool) -> str:
    return f"**{text}**" if on else text


def _text(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*|]|<(?=[A-Za-z/!?]))", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """Return a text as code; in a table only the bar is special there."""
    shown = " ".join(text.split()).replace("|", "\\|")
    fence = "``" if "`" in shown else "`"
    return f"{fence}{shown}{fence}" if shown else ""


def latex(summary: Summary) -> str:
    """Return a ``table`` environment for all columns and one for each.

    Needs the packages booktabs and graphicx; what is wider than the line is shrunk to it.
    """
    record = summary.record
    every = [*sheets_of(summary, brief=True), *gain_sheets(record), *balance_sheets(record)]
    said = [*(record.since or ()), *legend(summary, brief=True)]
    said = [_escaped(sentence) for sentence in said]
    parts = [f"% {_one_line(record.title)}", "% \\usepackage{booktabs,graphicx}"]
    for sheet in every:
        caption = _escaped(f"{record.title}: {sheet.title}")
        label = re.sub(r"[^A-Za-z0-9]+", "-", f"{record.table}-{sheet.name}").strip("-")
        below = [sheet.about] if sheet.about else []
        below = [*map(_escaped, [*below, *sheet.notes]), *(said if sheet is every[0] else [])]
        parts += ["", *_environment(sheet, caption, label, below)]
    return "\n".join([*parts, "", f"% {_one_line(provenance_line(record))}"]) + "\n"


def _environment(sheet: Sheet, caption: str, label: str, below: Sequence[str]) -> list[str]:
    rows = [
        [
            f"\\textbf{{{_escaped(cell)}}}" if (i, j) in sheet.bold else _escaped(cell)
            for j, cell in enumerate(row)
        ]
        for i, row in enumerate(sheet.body)
    ]
    body = [f"    {' & '.join(row)} \\\\" for row in rows]
    return [
        "\\begin{table}",
        "  \\centering",
        "  \\footnotesize",
        "  \\setlength{\\tabcolsep}{4pt}",
        f"  \\caption{{{caption}}}",
        f"  \\label{{tab:{label}}}",
        "  \\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",
        f"  \\begin{{tabular}}{{l{'r' * (len(sheet.head) - 1)}}}",
        "    \\toprule",
        f"    {' & '.join(map(_escaped, sheet.head))} \\\\",
        "    \\midrule",
        *body,
        "    \\bottomrule",
        "  \\end{tabular}}",
        *(["  \\par\\smallskip", "  \\parbox{\\linewidth}{\\footnotesize"] if below else []),
        *(f"    {sentence}" for sentence in below),
        *(["  }"] if below else []),
        "\\end{table}",
    ]


SPECIAL = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    # In braces: behind \\ a star or an opening bracket would be an option of the line break.
    **{sign: f"{{{sign}}}" for sign in "[]*"},
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "±": "$\\pm$",
    "−": "$-$",
    "×": "$\\times$",
    "–": "--",
    "…": "\\ldots{}",
    "“": "``",
    "”": "''",
    "↑": "$\\uparrow$",
    "↓": "$\\downarrow$",
    "→": "$\\rightarrow$",
    "≤": "$\\le$",
    "≥": "$\\ge$",
    "β": "$\\beta$",
    "λ": "$\\lambda$",
}


def _escaped(text: str) -> str:
    """Return a text that LaTeX sets as it is."""
    return "".join(SPECIAL.get(sign, sign) for sign in _one_line(text))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def csv(summary: Summary) -> str:
    """Return a line a row and column, in full precision: fractions, empty where there is none.

    The last field says what made the runs: a line of its own would be a row to most programs.
    """
    known = ("column", "row", "curve", "label_free", "n", "wanted")
    parts = {key: [part.name for part in fields(kind)] for key, kind in FIELDS.items()}
    names = [f"{key}_{part}" for key in parts for part in parts[key]]
    header = ["table", *known, *LISTS, *names, "notes", "provenance"]
    file = io.StringIO()
    writer = DictWriter(file, header, lineterminator="\n")
    writer.writeheader()
    always = {"table": summary.record.table, "provenance": provenance_line(summary.record)}
    for line in summary.lines:
        cells = always | {"notes": "; ".join(line.notes)}
        cells |= {key: _cell(getattr(line, key)) for key in known}
        cells |= {key: " ".join(map(str, getattr(line, key) or [])) for key in LISTS}
        for key, names in parts.items():
            figures = getattr(line, key)
            cells |= {f"{key}_{name}": getattr(figures, name, None) for name in names}
        writer.writerow(cells)
    return file.getvalue()


def _cell(value: Any) -> Any:
    # As JSON writes it, and as pandas reads it.
    return str(value).lower() if isinstance(value, bool) else value


def json(summary: Summary) -> str:
    """Return the figures of every row in every column for programs.

    ``{"table", "title", "baseline", "since": [sentence], "columns": [{"name", "prompts"}], "rows":
    [``Line``], "gains": [``Gains``], "provenance": {...}}``; ``gains`` where the table asks for
    them; what there is no number for is null.
    """
    record = summary.record
    content = {key: getattr(record, key) for key in ("table", "title", "baseline")}
    content["since"] = record.since or ()
    content["columns"] = [{"name": c.name, "prompts": c.prompts} for c in record.columns]
    content |= {"rows": [asdict(line) for line in summary.lines]}
    if record.gains is not None:
        content |= {"gains": [asdict(one) for one in gains_of(record)]}
    content |= {"provenance": {**provenance(record), "text": provenance_line(record)}}
    return dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


FORMATS: dict[str, Callable[[Summary], str]] = {
    "md": markdown,
    "latex": latex,
    "csv": csv,
    "json": json,
}
ENDINGS = {"md": "md", "latex": "tex", "csv": "csv", "json": "json"}

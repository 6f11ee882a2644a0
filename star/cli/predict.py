"""``star predict``: what a run's model answers to texts of any origin."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from star.errors import InputError

DESCRIPTION = """\
Answer texts with the model that a run has trained: its base model with the adapter of the last
round that has kept it. The prompt is the run's own; a text stands for its one column, and a prompt
of several (a passage and a question) needs a file with these columns. No label is read, and nothing
is written into RUN.
"""

NOTES = """\
examples:
  star predict RUN "i feel a little lost today" "what a day"
  star predict RUN --file texts.txt --abstain 0.7
  tail -5 texts.txt | star predict RUN --file -
  star predict RUN --file rows.jsonl --output answers.csv
  star predict RUN "Ann has 3 coins ..." --format jsonl

what comes back, a row a text, order kept:
  index, id      row of the input from 0; its id, where it has one; input: the text, if it is one
  label, probability, probabilities
                 of tasks with labels: the likeliest, its probability, and that of every label
  abstained      with --abstain P: whether the probability is below P; there is no label then
  answer, text, confidence
                 of generated answers: the final answer, the whole text, and its probability
                 (sequence) and the geometric mean over its tokens (token_mean)
  calibrated     whether confidences are scaled by the temperature that the round fitted on rows
                 held out from training (task.validation_size)
  truncated      whether the prompt was cut to fit the model
In CSV a label's probability is in the column p:LABEL, and text that a spreadsheet would take for a
formula has a ' in front.
"""

FORMATS = ("table", "jsonl", "csv")
WIDTH = 60  # characters of a text in the table


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser(
        "predict",
        help="answer texts with the model that a run has trained",
        description=DESCRIPTION,
        epilog=NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("run", metavar="RUN", help="a run folder")
    verb.add_argument("texts", metavar="TEXT", nargs="*", help="behind --, if it begins with a -")
    verb.add_argument(
        "--file",
        metavar="FILE",
        help=".jsonl, .json, .csv, .parquet or .arrow: rows; .txt: a text a line; -: such on stdin",
    )
    verb.add_argument("--round", type=int, metavar="N", help="whose adapter, from 0; default: last")
    verb.add_argument("--abstain", type=float, metavar="P", help="no label below this probability")
    verb.add_argument("--output", "-o", metavar="OUT", help="write OUT.jsonl or OUT.csv")
    verb.add_argument("--force", action="store_true", help="replace OUT if it is there")
    verb.add_argument("--format", choices=FORMATS, help="default: table, or as OUT is called")
    verb.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Print or write the answers."""
    from star.active_learning.trained_run import TrainedRun
    from star.data.questions import examples_of

    questions, places = _questions(options)
    form = _format(options)
    trained = TrainedRun.of(options.run, options.round)
    examples, texts = examples_of(trained.task, questions, places)
    # Behind all that is wrong with the words and the files: it takes seconds to load.
    from star.active_learning.predictor import Predictor, check_abstention

    check_abstention(trained, options.abstain)
    with Predictor.of(trained, progress=sys.stderr.isatty()) as predictor:
        answers = predictor.predict(examples, places=places, abstain=options.abstain)
    rows = [
        {"index": example.index}
        | _identity(question)
        | ({} if text is None else {"input": text})
        | answer
        for example, question, text, answer in zip(examples, questions, texts, answers, strict=True)
    ]
    from star.models.distributed import is_main

    if is_main():
        _put(rows, form, options.output, trained.summary())
    return 0


def _questions(options: argparse.Namespace) -> tuple[Sequence[Any], Sequence[str]]:
    """Return what is asked, and where each question stands."""
    if options.file is not None:
        from star.data.questions import read_questions

        if options.texts:
            raise InputError("TEXT and --file are two sources, give one of them")
        return read_questions(Path(options.file))
    if not options.texts:
        raise InputError("there is nothing to answer; give a TEXT, or --file FILE")
    return options.texts, [f"text {number}" for number in range(1, len(options.texts) + 1)]


def _identity(question: Any) -> dict[str, Any]:
    named = question.get("id") if isinstance(question, Mapping) else None
    return {"id": named} if isinstance(named, (str, int)) else {}


def _format(options: argparse.Namespace) -> str:
    """Return how the answers are written; refuse an output that cannot be."""
    if options.output is None:
        return options.format or "table"
    from star.data.questions import STDIN
    from star.outputs import refuse_output

    ending = Path(options.output).suffix[1:].lower()
    form = options.format or (ending if ending in FORMATS[1:] else None)
    if form is None:
        raise InputError(
            f"--output {options.output} must end in .jsonl or .csv; or say it by --format"
        )
    sources = [] if options.file in (None, STDIN) else [options.file]
    refuse_output(options.output, force=options.force, sources=sources)
    return str(form)


def _put(rows: list[dict[str, Any]], form: str, output: str | None, summary: str) -> None:
    from star.files import atomic_write, json_line, writing

    if form == "table":
        content = _table(rows, summary).encode()
    elif form == "csv":
        content = _csv(rows).encode()
    else:
        content = b"".join(map(json_line, rows))
    if output is None:
        sys.stdout.write(content.decode())
        return
    with writing(output, "name another file"), atomic_write(output) as file:
        file.write(content)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    from star.annotation.formats.flat import escaped

    flat = [_flat(row) for row in rows]
    names = dict.fromkeys(name for row in flat for name in row)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(names), lineterminator="\n")
    writer.writeheader()
    for row in flat:  # texts are anybody's, and what a model generates is too
        writer.writerow({k: escaped(v) if isinstance(v, str) else v for k, v in row.items()})
    return out.getvalue()


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row without mappings in it, as a table's cells."""
    cells = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            start = "p:" if name == "probabilities" else f"{name}_"
            cells |= {f"{start}{key}": v for key, v in value.items()}
        else:
            cells[name] = str(value).lower() if isinstance(value, bool) else value
    return cells


def _table(rows: Sequence[Mapping[str, Any]], summary: str) -> str:
    """Return answers, confidences and the texts' beginnings, aligned, and whose they are."""
    cells = [[*map(_shown, _cells(row))] for row in rows]
    head = ["label", "probability", "text"]
    if "answer" in rows[0]:
        head = ["answer", "sequence", "token mean", "text"]
    cells.insert(0, head)
    widths = [max(len(row[i]) for row in cells) for i in range(len(head) - 1)]
    lines = [
        "  ".join([*(c.ljust(w) for c, w in zip(row[:-1], widths, strict=True)), row[-1]]).rstrip()
        for row in cells
    ]
    cut = sum(row["truncated"] for row in rows)
    notes = [f"{cut} cut to fit the model"] if cut else []
    return "\n".join([*lines, "", "; ".join([summary, *notes]), ""])


def _cells(row: Mapping[str, Any]) -> list[str]:
    text = str(row.get("input", f"row {row['index']}"))
    if "answer" in row:
        sure = [f"{row['confidence'][name]:.3f}" for name in ("sequence", "token_mean")]
        return ["(none)" if row["answer"] is None else row["answer"], *sure, text]
    label = "(abstains)" if row["label"] is None else row["label"]
    return [label, f"{row['probability']:.3f}", text]


def _shown(text: str) -> str:
    """Return the beginning of a text in one line, without what a terminal would obey."""
    plain = " ".join(text.split())
    shown = plain if len(plain) <= WIDTH else f"{plain[: WIDTH - 1]}…"
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in shown)

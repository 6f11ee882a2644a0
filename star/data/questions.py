"""Questions without answers, to be answered: texts, rows of columns, and files of either."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from star.data.readers import READERS
from star.data.task import Example, Task
from star.errors import InputError, listed, nearest, placed
from star.files import kind_of

Question = str | Mapping[str, Any]
"""A text alone, or the columns of a row."""

TEXTS = "txt"  # a text a line
STDIN = "-"


def read_questions(path: Path) -> tuple[list[Question], list[str]]:
    """Return the questions of a file, rows or (``.txt``) lines, and where each stands.

    ``-`` is standard input, lines.

    Raises:
        InputError: No such file, another ending, malformed content, or nothing in it.
    """
    if str(path) == STDIN:
        return _apart(_lines("stdin", sys.stdin.buffer.read()), "stdin")
    kind, ending = kind_of(path), path.suffix[1:].lower()
    if kind is None:
        raise InputError(f"file {path} not found")
    if not path.is_file():
        raise InputError(f"{path} must be a file, it is {kind}")
    if ending not in (*READERS, TEXTS):
        raise InputError(f"the name of {path} must end in .{', .'.join((*READERS, TEXTS))}")
    try:
        if ending in READERS:
            return _apart([*READERS[ending](path)], str(path))
        return _apart(_lines(str(path), path.read_bytes()), str(path))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None


def _apart(there: Sequence[tuple[str, Question]], name: str) -> tuple[list[Question], list[str]]:
    if not there:
        raise InputError(f"{name} holds no rows")
    return [question for _, question in there], [place for place, _ in there]


def _lines(name: str, content: bytes) -> list[tuple[str, Question]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8 ({error.reason} at byte {error.start})") from None
    # Not splitlines(): a text may hold U+2028. Behind the last text nothing is meant.
    lines = [line.removesuffix("\r") for line in text.rstrip("\r\n").split("\n")] if text else []
    if not any(line.strip() for line in lines):
        return []
    return [(f"{name}, line {number}", line) for number, line in enumerate(lines, start=1)]


def examples_of(
    task: Task, questions: Sequence[Question], places: Sequence[str]
) -> tuple[list[Example], list[str | None]]:
    """Return questions as a model sees them, and each one's text where it is one text.

    Args:
        task: Whose prompt it is.
        questions: N of them; a text stands for the column, if there is one alone.
        places: (N,) what each is called in a message.

    Raises:
        InputError: A column is missing, empty or no text, and where.
    """
    forms = task.inputs
    text = next((form[0] for form in forms if len(form) == 1), None)
    examples, texts = [], []
    for index, (question, place) in enumerate(zip(questions, places, strict=True)):
        if isinstance(question, str):
            if text is None:
                raise InputError(
                    f"{place}: a text alone is no question of {task.name}, whose prompt needs the "
                    f"columns {_forms(forms)}; give rows with these"
                )
            question = {text: question}
        columns = next((form for form in forms if set(form) <= question.keys()), None)
        if columns is None:
            lacking = [name for name in forms[0] if name not in question]
            raise InputError(
                f"{place}: no column '{lacking[0]}'; a question of {task.name} needs "
                f"{_forms(forms)}, the row has {listed(question)}{nearest(lacking[0], question)}"
            )
        with placed(place):
            examples.append(task.example(question, index))
            given = question[columns[0]] if len(columns) == 1 else None
        texts.append(given if isinstance(given, str) else None)
    return examples, texts


def _forms(forms: Sequence[tuple[str, ...]]) -> str:
    return "; or ".join(listed(form) for form in forms)

"""What is refused or said of rows that can be read, but not learnt from as they are.

What may look at answers here looks at those of the test questions alone: the pool's stay where they
are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from star.data.prompts import as_text
from star.data.task import Answer, Task
from star.errors import InputError, folded

FEW = 20
"""Different answers that are taken for labels, at most."""
REPEATED = 4
"""Questions for each of them, at least."""


def refuse_unreadable(task: Task, answer: Answer) -> None:
    """Refuse an answer that its own target does not give back: it could never be right.

    Raises:
        InputError: What the target is read as.
    """
    if task.labels is not None:  # judged by likelihood; see `hints`
        return
    for strict in (True, False):
        given = task.extract(answer.target, strict=strict)
        if not task.is_correct(given, answer.gold, strict=strict):
            raise InputError(
                f"the answer is {answer.gold!r}, but what would be learnt is read as {given!r}: "
                f"...{answer.target[-60:]!r}"
            )


def refuse_shown(task: Task, rows: Sequence[Mapping[str, Any]], answers: Sequence[Answer]) -> None:
    """Refuse a column in the prompt that holds the answer of every row, whatever its name.

    Raises:
        InputError: Names the column.
    """
    if len({answer.gold for answer in answers}) < 2:
        return
    for name in task.prompt.names:
        if all(
            as_text(task.columns(row).get(name), name) == answer.gold
            for row, answer in zip(rows, answers, strict=True)
        ):
            raise InputError(
                f"task.prompt: column '{name}' is the answer in every test row, so the prompt "
                "would show it; leave it out, or set task.columns"
            )


def hints(
    task: Task, rows: Sequence[Mapping[str, Any]], answers: Sequence[Answer], place: str
) -> list[str]:
    """Return what looks like a mistake, a sentence each.

    Args:
        task: The task.
        rows: Of the test split.
        answers: Parallel to them.
        place: The name of the split.
    """
    golds = sorted({answer.gold for answer in answers})
    few = 2 <= len(golds) <= FEW and len(answers) >= REPEATED * len(golds)
    notes = []
    if few and task.name == "jsonl" and task.labels is None:
        notes.append(
            f"task.choices is not set, so answers are generated and compared as texts; the "
            f"{len(answers)} rows of {place} have {len(golds)} different ones: if they are labels, "
            f"set 'task.choices={json.dumps(golds, ensure_ascii=False)}'"
        )
        notes += _alike(golds, place)
    if task.classifies:
        notes += _alike(task.labels or (), "the classes")
    for label in task.labels or ():
        target = task.target(label)
        if {task.extract(target, strict=strict) for strict in (True, False)} != {label}:
            notes.append(
                f"the choice {label!r} is not read as itself out of a generated text; judge by "
                "evaluation.choice_by=likelihood, or rename it"
            )
    if few:
        for name in task.prompt.names:
            texts = [as_text(task.columns(row).get(name), name) for row in rows]
            pairs = {(text, a.gold) for text, a in zip(texts, answers, strict=True)}
            if len(pairs) == len(golds) == len(set(texts)):
                notes.append(
                    f"column '{name}' of the prompt tells the answer: each of its {len(golds)} "
                    f"values in {place} goes with one answer"
                )
    return notes


def _alike(golds: Sequence[str], place: str) -> list[str]:
    """Return a note for each pair of answers that differ in capitals, blanks or Unicode form."""
    first: dict[str, str] = {}
    notes = []
    for gold in golds:
        other = first.setdefault(folded(gold), gold)
        if other != gold:
            notes.append(
                f"answers {other!a} and {gold!a} in {place} differ in capitals, white "
                "space or Unicode form alone"
            )
    return notes

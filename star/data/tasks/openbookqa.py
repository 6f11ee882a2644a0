"""OpenBookQA: elementary science questions with four options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from star.data.prompts import column
from star.data.task import Answer, Task
from star.errors import InputError

LABELS = ("A", "B", "C", "D")
_WORDING = re.compile(
    r"(?P<question>.+?)"
    + "".join(rf"\n\s*Answer{label}:? (?P<{label}>.+?)" for label in LABELS)
    + r"\s*(?:\n\s*The correct answer is:?\s*)?",
    re.DOTALL,
)


class Openbookqa(Task):
    """Four options, one right; the answer is its letter.

    Two stored forms give the same prompt: the Hub's rows (``question_stem``, ``choices``,
    ``answerKey``) and rows in the wording of the STAR authors' files. Those write the options
    ``AnswerA x`` in train and ``AnswerA: x`` in test; here both are read as question and options
    and worded alike, ``AnswerA: x``. A template may use ``{question}``, the bare question, and
    ``{A}`` to ``{D}``, the options.
    """

    name: ClassVar[str] = "openbookqa"
    version: ClassVar[int] = 1
    hub_id: ClassVar[str | None] = "allenai/openbookqa"
    hub_config: ClassVar[str | None] = "main"
    template: ClassVar[str] = (
        "{question}\nAnswerA: {A}\nAnswerB: {B}\nAnswerC: {C}\nAnswerD: {D}\nThe correct answer is"
    )

    hidden = ("answer", "answerKey")
    labels = LABELS

    def columns(self, row: Mapping[str, Any]) -> dict[str, str]:
        """Return the bare question and the options."""
        return _hub_parts(row) if "question_stem" in row else _worded_parts(row)

    @property
    def inputs(self) -> list[tuple[str, ...]]:
        """Both forms; one text holds a worded question with its options."""
        return [("question",), ("question_stem", "choices")]

    def answer(self, row: Mapping[str, Any], index: int) -> Answer:
        """Return the letter as the continuation of ``The correct answer is``."""
        return self.labelled(column(row, "answerKey" if "question_stem" in row else "answer"))


def _hub_parts(row: Mapping[str, Any]) -> dict[str, str]:
    question = column(row, "question_stem")
    choices = row.get("choices")
    try:
        options = dict(zip(choices["label"], choices["text"], strict=True))  # type: ignore[index]
    except (TypeError, KeyError, ValueError):
        raise InputError(
            "column 'choices' must hold equally long lists 'label' and 'text', "
            f"got {str(choices)[:80]}"
        ) from None
    if sorted(map(str, options)) != list(LABELS):
        raise InputError(f"column 'choices' must have the labels A, B, C, D, got {list(options)}")
    return {"question": question, **{label: column(options, label) for label in LABELS}}


def _worded_parts(row: Mapping[str, Any]) -> dict[str, str]:
    question = column(row, "question")
    found = _WORDING.fullmatch(question)
    if found is None:
        raise InputError(
            "the question must go on with the lines 'AnswerA: ...' to 'AnswerD: ...', "
            f"got {question[:80]!r}"
        )
    return {name: text.strip() for name, text in found.groupdict().items()}

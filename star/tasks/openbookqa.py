"""OpenBookQA: elementary science questions with four options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from star.config import TaskConfig
from star.errors import InputError
from star.tasks.answers import first_label
from star.tasks.base import Answer, Example, Task
from star.tasks.prompts import Template, column

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

    def __init__(self, config: TaskConfig) -> None:
        super().__init__(config)
        self._prompt = Template.parse(
            config.prompt or self.template,
            hidden=("answer", "answerKey"),
            space=config.trailing_space,
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """The four letters."""
        return LABELS

    def example(self, row: Mapping[str, Any], index: int) -> Example:
        """Return the prompt of a row and the four letters as continuations."""
        parts = _hub_parts(row) if "question_stem" in row else _worded_parts(row)
        choices = tuple(f"{self._prompt.separator}{label}" for label in LABELS)
        return Example(index=index, prompt=self._prompt.fill(parts), choices=choices)

    def answer(self, row: Mapping[str, Any], index: int) -> Answer:
        """Return the letter as the continuation of ``The correct answer is``."""
        gold = column(row, "answerKey" if "question_stem" in row else "answer")
        if gold not in LABELS:
            raise InputError(f"the answer must be A, B, C or D, got {gold[:40]!r}")
        return Answer(target=f"{self._prompt.separator}{gold}", gold=gold)

    def extract(self, text: str, *, strict: bool) -> str | None:
        """Return the letter a generated text answers with."""
        return first_label(text, LABELS, strict=strict)


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

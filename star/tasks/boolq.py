"""BoolQ: questions people typed into a search engine, answered by true or false."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from star.config import TaskConfig
from star.errors import InputError
from star.tasks.answers import first_label
from star.tasks.base import Answer, Example, Task
from star.tasks.prompts import Template, column

LABELS = ("true", "false")
_WORDING = re.compile(
    r"Please answer the following question with true or false, question: (?P<question>.*?)"
    r"\??\s*Answer format: true/false",
    re.DOTALL,
)
_ANSWER = re.compile(r"(?:the correct answer is\s+)?(true|false)\.?", re.IGNORECASE)


class Boolq(Task):
    """Closed book: the model sees the question, not the passage.

    Two stored forms give the same prompt: the Hub's rows (``question`` without a question mark, a
    boolean ``answer``, ``passage``) and rows in the wording of the STAR authors' files (``Please
    answer the following question with true or false, question: ...?``, ``the correct answer is
    true``). A template may use ``{question}``, the bare question without its question mark, and the
    row's other columns, e.g. ``{passage}``. The Hub has no answers for its test questions;
    its validation split (3,270 rows) is evaluated.
    """

    name: ClassVar[str] = "boolq"
    version: ClassVar[int] = 1
    hub_id: ClassVar[str | None] = "google/boolq"
    hub_splits: ClassVar[Mapping[str, str]] = {"test": "validation"}
    template: ClassVar[str] = (
        "Please answer the following question with true or false, question: {question}?\n\n"
        "Answer format: true/false\nThe correct answer is"
    )

    def __init__(self, config: TaskConfig) -> None:
        super().__init__(config)
        self._prompt = Template.parse(
            config.prompt or self.template, hidden=("answer",), space=config.trailing_space
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """``true`` and ``false``."""
        return LABELS

    def example(self, row: Mapping[str, Any], index: int) -> Example:
        """Return the prompt of a row and the two continuations."""
        stored = column(row, "question")
        worded = _WORDING.fullmatch(stored)
        bare = (worded["question"] if worded else stored).strip().removesuffix("?").rstrip()
        prompt = self._prompt.fill({**row, "question": bare})
        choices = tuple(f"{self._prompt.separator}{label}" for label in LABELS)
        return Example(index=index, prompt=prompt, choices=choices)

    def answer(self, row: Mapping[str, Any], index: int) -> Answer:
        """Return the label as the continuation of ``The correct answer is``."""
        text = column(row, "answer")
        found = _ANSWER.fullmatch(text)
        if found is None:
            raise InputError(f"the answer must be true or false, got {text[:40]!r}")
        gold = found[1].lower()
        return Answer(target=f"{self._prompt.separator}{gold}", gold=gold)

    def extract(self, text: str, *, strict: bool) -> str | None:
        """Return the label a generated text answers with."""
        return first_label(text, LABELS, strict=strict)

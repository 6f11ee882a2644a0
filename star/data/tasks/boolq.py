"""BoolQ: questions people typed into a search engine, answered by true or false."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from star.data.prompts import column
from star.data.task import Answer, Task

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

    labels = ("true", "false")

    def columns(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the row with its question bare."""
        stored = column(row, "question")
        worded = _WORDING.fullmatch(stored)
        bare = (worded["question"] if worded else stored).strip().removesuffix("?").rstrip()
        return {**self.other_columns(row), "question": bare}

    def answer(self, row: Mapping[str, Any], index: int) -> Answer:
        """Return the label as the continuation of ``The correct answer is``."""
        text = column(row, "answer")
        found = _ANSWER.fullmatch(text)
        return self.labelled(found[1].lower() if found else text)

"""The user's own data: any table of questions and answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from star.config import TaskConfig
from star.data.answers import canonical_number, final_number, first_label
from star.data.prompts import column
from star.data.task import Answer, Task
from star.errors import InputError, listed, nearest, visible
from star.files import refuse_half_characters

ROLES = ("question", "answer")


class Jsonl(Task):
    """Stored JSONL, JSON, CSV or Parquet splits in ``task.data_dir``.

    ``task.columns`` says which columns hold question and answer, ``task.prompt`` may use
    ``{question}`` and every other column but the answer's, ``task.choices`` makes it a choice task
    whose answers must be among the choices. Without choices an answer is right

    * strictly, if the whole generated text equals it;
    * flexibly, if its whole text or first line equals it but for capitals, white space and a full
      stop, or, where the gold answer is a number, if the text's final number has the same value.
    """

    name: ClassVar[str] = "jsonl"
    version: ClassVar[int] = 1
    template: ClassVar[str] = "{question}\nAnswer:"

    def __init__(self, config: TaskConfig) -> None:
        given = dict(config.columns or {})
        for role in given:
            if role not in ROLES:
                raise InputError(
                    f"task.columns maps question and answer, got '{role}'{nearest(role, ROLES)}"
                )
        self._question = given.get("question", "question")
        self.gold = given.get("answer", "answer")
        if self._question == self.gold:
            raise InputError(
                f"task.columns: question and answer are both '{self.gold}', so the prompt would "
                "show the answer; name two columns"
            )
        # The answers stand in a column called question: `{question}` is the other one.
        renamed = self.gold == "question" != self._question
        self.hidden = () if renamed else (self.gold,)
        super().__init__(config)
        self.labels = _labels(config.choices)

    def columns(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the columns but the answer's, the question under the name ``question`` too."""
        shown = self.other_columns(row)
        if "question" in self.prompt.names:
            text = column(row, self._question, hint="; set task.columns.question")
            stored = row[self._question]
            as_stored = self.prompt.ending is not None and isinstance(stored, str)
            shown["question"] = stored if as_stored else text
        return shown

    @property
    def inputs(self) -> list[tuple[str, ...]]:
        """The columns as they are stored."""
        stored = {"question": self._question}
        return [tuple(dict.fromkeys(stored.get(name, name) for name in self.prompt.names))]

    def answer(self, row: Mapping[str, Any], index: int) -> Answer:
        """Return the answer as text; of a choice task it must be one of the choices."""
        return self.labelled(column(row, self.gold, hint="; set task.columns.answer"))

    def labelled(self, text: str) -> Answer:
        """Return a text as the answer; of a choice task it must be one of the choices."""
        if self.labels is not None and text not in self.labels:
            raise InputError(
                f"the answer must be one of task.choices ({listed(self.labels)}), "
                f"got {text[:80]!r}{nearest(text, self.labels)}"
            )
        return Answer(target=self.continuation(text), gold=text)

    def reading(self, gold: str) -> str:
        """Return a choice as it is, a number by its value, a text but for its blanks and case."""
        return gold if self.labels is not None else canonical_number(gold) or _normal(gold)

    def extract(self, text: str, *, strict: bool) -> str | None:
        """Return the label a text answers with, or without choices the text itself."""
        if self.labels is not None:
            return first_label(text, self.labels, strict=strict)
        return text.strip() or None

    def is_correct(self, prediction: str | None, gold: str, *, strict: bool = False) -> bool:
        """Whether an extracted answer equals the gold one, see the class."""
        if prediction is None or strict or self.labels is not None:
            return prediction == gold
        number = canonical_number(gold)
        if number is not None:
            return final_number(prediction, strict=False) == number
        lines = (prediction, prediction.partition("\n")[0])
        return _normal(gold) in {_normal(line) for line in lines}


def _normal(text: str) -> str:
    return " ".join(text.split()).removesuffix(".").casefold()


def _labels(choices: list[str] | None) -> tuple[str, ...] | None:
    if choices is None:
        return None
    labels = tuple(choice.strip() for choice in choices)
    if len(labels) < 2 or "" in labels or len(set(labels)) < len(labels):
        raise InputError(f"task.choices must be two or more different texts, got {list(choices)}")
    first: dict[str, str] = {}
    for label in labels:
        refuse_half_characters(label, "task.choices")
        other = first.setdefault(visible(label), label)
        if other != label:
            raise InputError(
                f"task.choices {other!a} and {label!a} look the same, they differ in "
                "white space or Unicode form alone; keep one, and spell the answers alike"
            )
    return labels

"""What a task is: rows of a benchmark as prompts, answers, extraction and correctness.

One benchmark is one file beside this one. A task turns stored rows into :class:`Example` (what a
scorer may see) and :class:`Answer` (what only the oracle and the evaluation may see); the two never
travel in one object, so code that holds examples alone cannot read a label.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from star.config import TaskConfig
from star.data.answers import first_label, released_number
from star.data.prompts import Template, column
from star.data.tasks.embedded.families import Family
from star.errors import InputError


@dataclass(frozen=True)
class Shot:
    """An example with its bought answer, shown before other prompts.

    Attributes:
        index: Its pool index.
        prompt: As of an :class:`Example`.
        answer: Continuation text behind it, as of an :class:`Answer`.
    """

    index: int
    prompt: str
    answer: str


@dataclass(frozen=True)
class Example:
    """One row as a model sees it, without its answer.

    Attributes:
        index: 0-based row in its stored split. For the train split this is the pool index.
        prompt: Text before the continuation. It does not end in white space, so that the
            tokenisation of prompt and continuation does not depend on each other.
        choices: For choice tasks, the continuation texts to compare, in the order of
            ``Task.labels``; ``None`` for tasks that are answered by generation alone.
        kind: Name of the planted kind in the embedded families, else ``None``. Diagnostics only.
        text: What the prompt shows of the row, without the words round it, for a sentence encoder;
            empty: the prompt itself.
        shots: What is shown before the prompt (``task.num_fewshot``): others, never itself.
    """

    index: int
    prompt: str
    choices: tuple[str, ...] | None = None
    kind: str | None = None
    text: str = ""
    shots: tuple[Shot, ...] = ()


@dataclass(frozen=True)
class Answer:
    """The label of one row.

    Attributes:
        target: Continuation text to train on, without the end-of-sequence token.
        gold: Canonical final answer to compare with (``"18"``, ``"true"``, ``"B"``).
        stored: The target as the data set spells it, where that differs (``#### 18``); what the
            released code counts its answer tokens in.
    """

    target: str
    gold: str
    stored: str | None = None


class Task:
    """A benchmark: where its rows are, what the model sees, and when an answer is right.

    A choice task whose column ``answer`` holds the label is its attributes alone; a task that is
    answered by generation brings :meth:`answer` and :meth:`extract` of its own.

    Attributes:
        name: Value of ``task.name``.
        version: Raised when prompt, target or extraction change meaning, so that results of
            different versions are never compared unknowingly. Part of every cache key.
        hub_id, hub_config: Data set on the Hugging Face Hub, ``None`` for generated families.
        hub_splits: Names of splits that are called otherwise on the Hub.
        splits: Splits that are read in another's place, wherever the rows are stored.
        family: Of a generated family, what makes its rows.
        template: Default prompt; ``{column}`` stands for a column of the row.
        separator: What continuations begin with if the prompt does not end in white space.
        gold: The column that holds the answer.
        hidden: Columns that no prompt may show.
        classifies: Whether its labels are classes, whose figures one by one mean something; the
            letters of a question's options are none.
        added: Columns that a template may show and that are the same for every row.
        labels: Canonical answers in the order of ``Example.choices``; ``None`` if answers are free,
            or not read from the rows yet.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    hub_id: ClassVar[str | None] = None
    hub_config: ClassVar[str | None] = None
    hub_revision: ClassVar[str] = "main"
    hub_splits: ClassVar[Mapping[str, str]] = {}
    splits: ClassVar[Mapping[str, str]] = {}
    family: ClassVar[Family | None] = None
    template: ClassVar[str]
    separator: ClassVar[str] = " "
    gold: str = "answer"
    hidden: tuple[str, ...] = ("answer",)
    classifies: ClassVar[bool] = False
    added: ClassVar[tuple[str, ...]] = ()
    labels: tuple[str, ...] | None = None

    def __init__(self, config: TaskConfig) -> None:
        self.config = config
        if config.prompt is not None and not config.prompt.strip():
            raise InputError(
                f"task.prompt is empty, got {config.prompt!r}; null is the task's own, "
                f"{self.template!r}"
            )
        self.prompt = Template.parse(
            self.template if config.prompt is None else config.prompt,
            hidden=self.hidden,
            separator=self.separator,
            space=config.trailing_space,
        )

    @property
    def is_choice(self) -> bool:
        """Whether there are labels to choose from; else answers are generated."""
        return self.labels is not None

    def settle(self, splits: Iterable[Iterable[tuple[str, Mapping[str, Any]]]]) -> list[str]:
        """Take from stored rows what the configuration leaves open; return what to say of it.

        Args:
            splits: Of each, every row behind its place in words.
        """
        return []

    def name_labels(self, labels: Iterable[str], place: str) -> None:
        """Set the labels, in this order; ``place`` is where they stand, for messages."""
        self.labels = tuple(labels)

    def target(self, label: str) -> str:
        """Return the continuation that stands for a label."""
        return self.continuation(label)

    def continuation(self, text: str) -> str:
        """Return ``text`` as it goes on behind a prompt."""
        return f"{self.prompt.separator}{text}"

    def columns(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what a template may show of a stored row."""
        return row

    def other_columns(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the columns but the answer's; of those that no prompt shows the names alone."""
        names = self.prompt.names
        return {name: row[name] if name in names else None for name in row if name != self.gold}

    @property
    def inputs(self) -> list[tuple[str, ...]]:
        """The stored columns that make a question; where there are several forms, each of them."""
        return [tuple(dict.fromkeys(n for n in self.prompt.names if n not in self.added))]

    def example(self, row: Mapping[str, Any], index: int) -> Example:
        """Return what a model may see of a stored row, which need not have an answer."""
        columns = self.columns(row)
        prompt, text = self.prompt.fill(columns), self.prompt.shown(columns, self.added)
        return Example(
            index=index,
            prompt=prompt,
            choices=tuple(map(self.target, self.labels)) if self.labels else None,
            kind=row.get("kind") if self.family else None,
            text="" if text == prompt else text,
        )

    def answer(self, row: Mapping[str, Any], index: int) -> Answer:
        """Return the row's label. Raises ``InputError`` for an empty or unreadable answer."""
        return self.labelled(column(row, self.gold))

    def labelled(self, gold: str) -> Answer:
        """Return a label as the answer of a row. Raises ``InputError`` for one that is none."""
        assert self.labels, f"task {self.name} has no labels, so it must read its answers itself"
        if gold not in self.labels:
            allowed = f"{', '.join(self.labels[:-1])} or {self.labels[-1]}"
            raise InputError(f"the answer must be {allowed}, got {gold[:40]!r}")
        return Answer(target=self.target(gold), gold=gold)

    def reading(self, gold: str) -> str:
        """Return what an answer comes to: two of people with one reading are the same answer."""
        return gold

    def extract(self, text: str, *, strict: bool) -> str | None:
        """Return the canonical final answer in a generated text, or ``None`` if there is none.

        Args:
            text: Generated continuation, without special tokens.
            strict: Accept only the form the targets are written in; else the most plausible answer.
        """
        assert self.labels, f"task {self.name} has no labels, so it must read its answers itself"
        return first_label(text, self.labels, strict=strict)

    def is_correct(self, prediction: str | None, gold: str, *, strict: bool = False) -> bool:
        """Whether an extracted answer equals the gold one; no answer is never correct.

        Args:
            prediction: What :meth:`extract` returned.
            gold: ``Answer.gold``.
            strict: As given to :meth:`extract`. Matters where two texts can mean one answer.
        """
        return prediction is not None and prediction == gold


def is_right(task: Task, said: str | None, answer: Answer, *, digits: bool) -> bool:
    """Whether an extracted answer is right; ``digits``: as the released code compares."""
    if digits:
        return said == released_number(answer.target)
    return task.is_correct(said, answer.gold)

"""Texts and classes: SST-2, emotion, and any set of one's own, as a choice among words.

The class names are part of the question, as they are for whoever labels: a causal LM is asked which
of them goes on behind the text, and each class is scored by the likelihood of its word. The word is
the class name, or what ``task.verbalizer`` says (Schick & Schütze 2021, arXiv 2001.07676).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from star.config import TaskConfig
from star.data.answers import canonical_number, first_label
from star.data.prompts import as_text, column
from star.data.task import Answer, Task
from star.errors import InputError, listed, nearest, placed, visible
from star.files import refuse_half_characters

ROLES = ("text", "label")
MOST_CLASSES = 200
_NUMBER = re.compile(r"-?\d{1,4000}")  # what int() takes: no exponents' signs, none longer
_DECIMAL = re.compile(r"-?[0-9.]+(e[+-]?[0-9]+)?", re.IGNORECASE)
CLASSES = "classes"
HIDDEN = "-1"  # what data sets store in the place of labels that are not public
COLUMN_HINT = "; set task.columns.label"


class Classification(Task):
    """A text and one label a row, in ``task.data_dir`` or the Hub data set ``task.hub_id``.

    Columns ``text`` and ``label``, or those that ``task.columns`` names. The classes are
    ``task.choices``, in that order, or every label that occurs in the rows that are read: a name
    says nothing of which row has it. A template may use ``{text}``, every other column but the
    label's, and ``{classes}``, the words of all classes.
    """

    name: ClassVar[str] = "classification"
    version: ClassVar[int] = 1
    template: ClassVar[str] = "{text}\nWhich of {classes} is it?\nAnswer:"
    classifies: ClassVar[bool] = True
    added: ClassVar[tuple[str, ...]] = (CLASSES,)
    is_choice = True
    names: ClassVar[tuple[str, ...]] = ()
    """Of a set whose labels may be stored as numbers: what each number means."""

    def __init__(self, config: TaskConfig) -> None:
        given = dict(config.columns or {})
        for role in given:
            if role not in ROLES:
                raise InputError(
                    f"task.columns maps text and label, got '{role}'{nearest(role, ROLES)}"
                )
        self._text, self.gold = given.get("text", "text"), given.get("label", "label")
        if self._text == self.gold:
            raise InputError(
                f"task.columns: text and label are both '{self.gold}', so the prompt would show "
                "the answer; name two columns"
            )
        renamed = self.gold == "text" != self._text
        self.hidden = () if renamed else (self.gold,)
        if config.classify_by == "head":  # what is asked for stands in no text
            self.template = "{text}"  # type: ignore[misc]
        super().__init__(config)
        self._words: dict[str, str] = {}
        classes = self.names or config.choices
        if self.names and config.choices:
            raise InputError(
                f"task.choices belongs to tasks of your own; {self.name} has {listed(self.names)}"
            )
        if classes is not None:
            self.name_labels(classes, "task.choices")

    def settle(self, splits: Iterable[Iterable[tuple[str, Mapping[str, Any]]]]) -> list[str]:
        """Read the classes from stored rows, where the configuration does not name them.

        Args:
            splits: Of each, every row behind its place in words.

        Returns:
            What to say of them, a sentence each.

        Raises:
            InputError: Fewer than two, more than 200, two that look the same, splits with none in
                common, or labels that are not public.
        """
        if self.labels is not None:
            return []
        of_each = [self._seen(rows) for rows in splits]
        seen = dict.fromkeys(label for _, labels in of_each for label in labels)
        for place, labels in of_each:
            if labels == [HIDDEN] and sum(HIDDEN in others for _, others in of_each) == 1:
                raise InputError(
                    f"{place}: the label is {HIDDEN}, as in all rows of this split: they are not "
                    "public; evaluate another split (task.test_split)"
                )
        if len(seen) > MOST_CLASSES:
            raise InputError(
                f"column '{self.gold}' has {len(seen)} different labels, at most {MOST_CLASSES} "
                "are taken for classes; set task.choices, or task.name=jsonl for free answers"
            )
        self._refuse_strangers(of_each)
        if len(seen) < 2:
            raise InputError(
                f"column '{self.gold}' has {listed(seen)} alone; a choice needs two classes: set "
                "task.choices, or task.columns.label"
            )
        numbers = all(_NUMBER.fullmatch(label) for label in seen)
        if HIDDEN in seen and not numbers:
            raise InputError(
                f"column '{self.gold}' has {listed(seen)}: {HIDDEN} stands for a label that is not "
                "public; leave such rows out, or set task.choices if it is a class"
            )
        self.name_labels(sorted(seen, key=(lambda s: (int(s), s)) if numbers else None), self.gold)
        notes = [f"{len(seen)} classes read from column '{self.gold}': {listed(self.labels or ())}"]
        if numbers and not (self.config.classify_by == "head" or self.config.verbalizer):
            notes.append(
                "the labels are numbers, which say nothing to a language model; name them: "
                "task.verbalizer={0: ..., 1: ...}"
            )
        return notes

    def _refuse_strangers(self, splits: Sequence[tuple[str, list[str]]]) -> None:
        """Raise ``InputError`` where two splits have labels, and not one in common."""
        for (place, labels), (other_place, others) in itertools.combinations(splits, 2):
            if labels and others and not {*map(_meant, labels)} & {*map(_meant, others)}:
                both = f"{place} ({listed(labels)}) and up to {other_place} ({listed(others)})"
                hint = "spell them alike, or read more rows (task.pool_limit, task.test_limit)"
                raise InputError(f"the labels up to {both} have none in common; {hint}")

    def _seen(self, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> tuple[str, list[str]]:
        """Return where the last row of a split stands, and the labels of all.

        Raises:
            InputError: There is hardly any, and a row without one.
        """
        seen: dict[str, None] = {}
        without: tuple[str, Mapping[str, Any]] | None = None
        place = ""
        for place, row in rows:
            with placed(place):
                label = as_text(row.get(self.gold), self.gold)
            if label:
                seen[label] = None
            elif without is None:
                without = place, row
        if len(seen) < 2 and without is not None:
            with placed(without[0]):
                column(without[1], self.gold, hint=COLUMN_HINT)
        return place, [*seen]

    def name_labels(self, labels: Iterable[str], place: str) -> None:
        """Set the classes, in this order, and their words.

        Raises:
            InputError: Fewer than two, two that look or mean the same, or an unfit verbalizer.
        """
        labels = tuple(str(label).strip() for label in labels)
        if len(labels) < 2 or "" in labels or len(set(labels)) < len(labels):
            raise InputError(f"{place} must be two or more different texts, got {list(labels)}")
        given = {str(label): word.strip() for label, word in (self.config.verbalizer or {}).items()}
        for label in given:
            if label not in labels:
                raise InputError(
                    f"task.verbalizer names the class '{label}', there are {listed(labels)}"
                    f"{nearest(label, labels)}"
                )
        self._words = {label: given.get(label, label) for label in labels}
        first: dict[str, str] = {}
        head = self.config.classify_by == "head"
        for word in self._words.values():
            if not word:
                raise InputError("task.verbalizer: a word is empty")
            refuse_half_characters(word, place)
            other = first.setdefault(_meant(word), word)
            if other != word or list(self._words.values()).count(word) > 1:
                same = "look" if visible(other) == visible(word) else "mean"
                apart = "" if head else ", or tell words apart by task.verbalizer"
                raise InputError(
                    f"classes {other!a} and {word!a} of {place} {same} the same; spell labels "
                    f"alike{apart}"
                )
        self.labels = labels

    def columns(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the columns but the label's, the text as ``text``, the words as ``classes``."""
        shown = self.other_columns(row)
        names = self.prompt.names
        if "text" in names:
            text = column(row, self._column(row), hint="; set task.columns.text")
            stored = row[self._column(row)]
            as_stored = self.prompt.ending is not None and isinstance(stored, str)
            shown["text"] = stored if as_stored else text
        if CLASSES in names:
            if CLASSES in row:
                raise InputError(
                    f"the row has a column '{CLASSES}', which means the class names in "
                    "task.prompt; rename the column"
                )
            shown[CLASSES] = _alternatives(list(self._words.values()))
        return shown

    def _column(self, row: Mapping[str, Any]) -> str:
        return self._text

    @property
    def inputs(self) -> list[tuple[str, ...]]:
        """The columns as they are stored."""
        [names] = super().inputs
        return [tuple(dict.fromkeys(self._text if name == "text" else name for name in names))]

    def target(self, label: str) -> str:
        """Return the word of a class, as it goes on behind a prompt."""
        return self.continuation(self._words[label])

    def answer(self, row: Mapping[str, Any], index: int) -> Answer:
        """Return the row's class; its word is what is trained."""
        return self.labelled(column(row, self.gold, hint=COLUMN_HINT))

    def labelled(self, text: str) -> Answer:
        """Return a class, by its name or the number it is stored as."""
        label = self._named(text)
        assert self.labels is not None
        if label not in self._words:
            raise InputError(
                f"the label must be one of {listed(self.labels)}, "
                f"got {label[:80]!r}{nearest(label, self.labels)}"
            )
        return Answer(target=self.target(label), gold=label)

    def _named(self, label: str) -> str:
        """Return the class of a label that is stored as a number, or as it is."""
        if not self.names or label in self._words:
            return label
        if label == HIDDEN:
            raise InputError(
                f"the label is {HIDDEN}: the labels of this split of {self.name} are not public"
            )
        position = int(label) if _NUMBER.fullmatch(label) else len(self.names)
        return self.names[position] if 0 <= position < len(self.names) else label

    def extract(self, text: str, *, strict: bool) -> str | None:
        """Return the class whose word a generated text answers with."""
        labels = {word: label for label, word in self._words.items()}
        word = first_label(text, list(labels), strict=strict)
        return None if word is None else labels[word]


def _meant(word: str) -> str:
    """Return what spellings of a class have in common, of which files of other kinds have others.

    What looks the same; one number, as 1 and 1.0, as which pandas stores whole numbers where one is
    missing, 1.00 or 1e0; true and True, as which JSON and Python spell it.
    """
    word = visible(word)
    if word.casefold() in ("true", "false"):
        return word.casefold()
    digits = word.removeprefix("+").removesuffix(".")
    number = canonical_number(digits) if _DECIMAL.fullmatch(digits) else None  # not $1, not 1 %
    return word if number is None else number


def _alternatives(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


class Sst2(Classification):
    """Movie-review phrases, negative or positive (Socher et al. 2013; GLUE's task SST-2).

    The labels of its test split are not public: what is evaluated is the validation split.
    """

    name: ClassVar[str] = "sst2"
    hub_id: ClassVar[str | None] = "stanfordnlp/sst2"
    splits: ClassVar[Mapping[str, str]] = {"test": "validation"}
    template: ClassVar[str] = "Movie review: {text}\nThe sentiment of this review is"
    names: ClassVar[tuple[str, ...]] = ("negative", "positive")

    def _column(self, row: Mapping[str, Any]) -> str:
        return "sentence" if self._text not in row and "sentence" in row else self._text

    @property
    def inputs(self) -> list[tuple[str, ...]]:
        """With the text in the column that is asked for, or as the Hub has it."""
        [own] = super().inputs
        hub = tuple("sentence" if name == self._text else name for name in own)
        return [own] if hub == own else [own, hub]


class Emotion(Classification):
    """English tweets, six emotions (Saravia et al. 2018; educational and research use)."""

    name: ClassVar[str] = "emotion"
    hub_id: ClassVar[str | None] = "dair-ai/emotion"
    hub_config: ClassVar[str | None] = "split"
    template: ClassVar[str] = "{text}\nThe emotion is"
    names: ClassVar[tuple[str, ...]] = ("sadness", "joy", "love", "anger", "fear", "surprise")

"""The oracle whose answers are people's decisions, in the journal of the run folder.

It sells what is decided when the run is started, and takes no decision that comes meanwhile. So a
round is trained on what ``rounds/NN/labels.json`` says, each row with its newest decision::

    {"decisions": 42,            entries of the journal that were read
     "index": […], "label": […], what is trained on, then the validation rows
     "decision": […],            the newest entry of the journal about each
     "aside": […],               what has no label and is not asked for: skipped, unsure, no label
     "test": {"index": […], "label": […], "decision": […]}}

A row that somebody has skipped, or that has none of the labels, is answered by ``None``: it leaves
the pool until somebody decides otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from star.active_learning.missing import refuse_missing, refuse_same
from star.active_learning.run_reader import RunReader
from star.annotation.journal import Entry, Journal
from star.annotation.state import Standing, standing
from star.config import Config
from star.data.loading import TaskData
from star.data.pool import LabelsMissing, NotUnlabelledError
from star.data.reading import read_folder
from star.data.split import Split
from star.data.task import Answer, Example
from star.errors import InputError
from star.run_files import JOURNAL

ID = "id"
"""The column of the user's own names for rows."""


def ids_of(config: Config) -> list[str]:
    """Return the id of each stored row of the pool.

    Raises:
        InputError: A row has none, or two have the same.
    """
    table = read_folder(str(config.task.data_dir), "train")
    ids = [row.get(ID) for row in table.rows]
    for place, name in zip(table.places, ids, strict=True):
        if not isinstance(name, str) or not name:
            raise InputError(
                f"{place}: column '{ID}' must be text, got {name!r:.60}; see star init"
            )
    twice = next((name for name, count in Counter(ids).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{config.task.data_dir}: the id {twice!r} stands twice; see star init")
    return [str(name) for name in ids]


def offered(data: TaskData) -> list[Example]:
    """Return what people can decide about: the pool, and test rows that are drawn from it."""
    return [*data.pool.examples, *([] if data.test.answers else data.test.examples)]


@dataclass(frozen=True)
class Decided:
    """What the journal comes to, by pool index.

    Attributes:
        answers: Index to answer; ``None``: set aside, since somebody skipped it, was unsure or
            found no label for it. A row without a decision, or in conflict, is not there.
        newest: Index to the number of the newest entry about it.
        conflicts: Indices on which annotators disagree.
        count: Number of entries that were read.
    """

    answers: Mapping[int, Answer | None]
    newest: Mapping[int, int]
    conflicts: Sequence[int]
    count: int


@dataclass(frozen=True)
class Provenance:
    """Where a run's labels are from; no answer is in here.

    Attributes:
        newest: As :class:`Decided` has it.
        count: Likewise.
        aside: Pool indices of what is set aside.
    """

    newest: Mapping[int, int]
    count: int
    aside: Sequence[int]

    @classmethod
    def of(cls, found: Decided) -> Provenance:
        """Return it of what the journal comes to."""
        aside = sorted(i for i, answer in found.answers.items() if answer is None)
        return cls(found.newest, found.count, aside)

    def record(self, trained: Mapping[int, Answer], tested: Mapping[int, Answer]) -> dict[str, Any]:
        """Return what ``labels.json`` holds of a round.

        Args:
            trained: What it is trained on, and the validation rows.
            tested: What it is tested on, if people have labelled that.
        """
        rows = {**self._rows(trained), "aside": list(self.aside)}
        return {"decisions": self.count, **rows, "test": self._rows(tested)}

    def _rows(self, answers: Mapping[int, Answer]) -> dict[str, list[Any]]:
        return {
            "index": list(answers),
            "label": [answer.gold for answer in answers.values()],
            "decision": [self.newest[i] for i in answers],
        }


def decided(
    entries: Sequence[Entry], ids: Sequence[str], data: TaskData, resolve: str = "none"
) -> Decided:
    """Return what a journal comes to, of the rows that are in the pool or the test.

    Args:
        entries: Of the journal, oldest first.
        ids: Of the stored rows.
        data: The rows that take part; others (``task.pool_limit``) may be labelled all the same.
        resolve: ``annotation.resolve``.

    Raises:
        InputError: A decision names a row or a label that there is not.
    """
    state = standing(entries, data.task.reading)
    index = {name: i for i, name in enumerate(ids)}
    strange = next((row for row in state.rows if row not in index), None)
    if strange is not None:
        raise InputError(f"{JOURNAL} decides on id {strange!r:.60}, which is none of the rows")
    taking_part = {example.index for example in offered(data)}
    labels, split = state.labels(), state.conflicts()
    if resolve == "majority":
        labels |= {row: label for row in split if (label := _majority(state, row)) is not None}
    answers: dict[int, Answer | None] = {}
    for row in state.rows:
        if index[row] not in taking_part:
            continue
        if row in labels:
            try:
                answers[index[row]] = data.task.labelled(labels[row])
            except InputError as error:
                raise InputError(f"{JOURNAL}, id {row!r:.60}: {error}") from None
        elif row not in split:
            answers[index[row]] = None
    newest = {index[row]: max(e.number for e in by.values()) for row, by in state.rows.items()}
    return Decided(
        answers,
        newest,
        [index[row] for row in split if row not in labels and index[row] in taking_part],
        len(entries),
    )


def _majority(state: Standing, row: str) -> str | None:
    """Return what more annotators say of a row than anything else; ``None``: a tie, or no label."""
    said = [entry.decision for entry in state.rows[row].values()]
    votes = Counter(state.reading(d.answer) if d.answer else d.outcome for d in said)
    (first, most), *others = votes.most_common(2)
    if others and others[0][1] == most:
        return None
    return next((d.answer for d in said if d.answer and state.reading(d.answer) == first), None)


class People:
    """Sells what people have decided, in the place of :class:`star.data.pool.Oracle`.

    It is asked in the loop's order: for the validation rows, the first examples, each query. What
    complete rounds were trained on comes back as it was then, with the labels of now; the open
    query comes with all else that is decided by now, whoever asked for it. A round is trained on
    something, and on something else than the one before it, as long as there are rows to ask for.

    Attributes:
        decided: What is sold.
    """

    def __init__(
        self,
        found: Decided,
        rounds: Sequence[Mapping[str, Any]],
        least: int | None,
        pool: ArrayLike,
    ) -> None:
        """Take the decisions.

        Args:
            found: From :func:`decided`.
            rounds: The ``labels.json`` of each complete round.
            least: ``annotation.min_new_labels``; ``None`` = all that was asked for.
            pool: (N,) pool indices that there are to ask for.
        """
        self.decided = found
        self._rounds = [dict(zip(map(int, r["index"]), r["label"], strict=True)) for r in rounds]
        self._aside = [set(map(int, r["aside"])) for r in rounds]
        self._least = least
        self._pool = pool
        self._calls = 0
        self._held_out: set[int] = set()
        self._sold: set[int] = set()
        self._tested: set[int] = set()

    def label(self, indices: Iterable[int]) -> dict[int, Answer | None]:
        """Return index to answer of what is decided, in the order of ``indices``, others behind.

        Raises:
            LabelsMissing: Too few of the open query are decided; nothing is sold then.
            NotUnlabelledError: An index is named twice.
        """
        wanted = [int(i) for i in indices]
        if len(set(wanted)) < len(wanted):
            raise NotUnlabelledError(f"labels are bought once, got {wanted}")
        t, self._calls = self._calls - 1, self._calls + 1
        known = self.decided.answers
        if t < 0:
            refuse_missing(wanted, known, "validation rows")
            self._held_out = {*wanted}
        elif t < len(self._rounds):
            wanted = self._trained(t)
        else:
            others = sorted(known.keys() - self._sold - self._tested - {*wanted})
            labels = sum(known[i] is not None for i in others)  # what is set aside teaches nothing
            if self._least is None:
                least = len(wanted) - labels
            else:  # a skip settles its row, and is no new label
                least = self._least - labels + sum(known.get(i, 0) is None for i in wanted)
            if t == 0 and all(known.get(i) is None for i in (*wanted, *others)):
                missing = [i for i in wanted if i not in known]  # nothing is trained on nothing
                raise LabelsMissing(missing, max(1, len(missing)), "round 0")
            refuse_missing(wanted, known, f"round {t}", least)
            if t > 0 and wanted:  # nothing is asked behind the last round
                every = {*self._sold, *wanted, *others}
                now = {i: a.gold for i in every if (a := known.get(i)) is not None}
                left = np.setdiff1d(self._pool, [*known]).size
                refuse_same(t, now, self._rounds[t - 1], self._held_out, left)
            wanted += others
        sold = {i: known[i] for i in wanted if i in known}
        self._sold |= sold.keys()
        return sold

    def _trained(self, t: int) -> list[int]:
        """Return what a complete round added to the labels, or set aside, and no round took back.

        What one took back was unlabelled in it, and may have been asked again.
        """
        rounds, aside = self._rounds[t:], set.intersection(*self._aside[t:]) - self._tested
        kept = [i for i in rounds[0] if all(i in other for other in rounds)]
        kept += sorted(i for i in aside if self.decided.answers.get(i, 0) is None)
        return [i for i in kept if i not in self._sold]

    def test(self, examples: Sequence[Example]) -> Split:
        """Return the test questions with their answers, without those that are set aside.

        Raises:
            LabelsMissing: A row is not decided: all points of a curve are of the same rows.
            InputError: There is no answer among them.
        """
        indices = [example.index for example in examples]
        refuse_missing(indices, self.decided.answers, "test rows")
        self._tested = {*indices}
        given = [(e, a) for e in examples if (a := self.decided.answers[e.index]) is not None]
        if not given:
            raise InputError(
                "no test row has a label: all were skipped, or none of the labels fits"
            )
        return Split([example for example, _ in given], [answer for _, answer in given])


def people(config: Config, folder: RunReader, data: TaskData) -> People:
    """Return the oracle of a run whose labels are people's.

    Raises:
        InputError: The journal or the rows are damaged, or do not go together.
    """
    entries = Journal(folder.path / JOURNAL).entries()
    found = decided(entries, ids_of(config), data, config.annotation.resolve)
    return selling(config, folder, data, found)


def selling(config: Config, folder: RunReader, data: TaskData, found: Decided) -> People:
    """Return the oracle of what is decided, in a run that has come so far."""
    rounds = [folder.labels(t) for t in range(folder.complete_rounds())]
    return People(found, rounds, config.annotation.min_new_labels, data.pool.indices)

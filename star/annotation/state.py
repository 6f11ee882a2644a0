"""What a project's decisions come to: the journal, folded. Pure functions.

Of each annotator the last decision about a row stands; what it replaced stays in the journal. A
retraction leaves the annotator without a decision about the row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from star.annotation.journal import Entry
from star.annotation.records import ANSWER, NO_SUCH_LABEL, RETRACTED, SKIP, UNSURE, Decision


@dataclass(frozen=True)
class Standing:
    """The decisions that stand.

    Attributes:
        rows: Id → annotator → entry, in the order in which rows and annotators first came; a row
            that nobody has a decision about is not there.
        reading: How answers are compared: equal readings are the same answer.
    """

    rows: Mapping[str, Mapping[str, Entry]]
    reading: Callable[[str], str] = str

    def label(self, row: str) -> str | None:
        """Return a row's answer; ``None`` without one, or in conflict.

        The latest final decision stands over all others, ``no such label`` too; without one, all
        who answered must say the same, and of equal readings the first one's spelling is returned.
        """
        settled = self._final(row)
        if settled is not None:
            return settled.decision.answer
        given = self._answers(row)
        return None if not given or self._disagree(row) else next(iter(given.values()))

    def labels(self) -> dict[str, str]:
        """Return the answer of each row that has one to train on."""
        return {row: label for row in self.rows if (label := self.label(row)) is not None}

    def conflicts(self) -> dict[str, dict[str, str]]:
        """Return id → annotator → answer or ``no such label`` of the rows without a common one."""
        return {
            row: {**self._answers(row), **dict.fromkeys(self._refusals(row), NO_SUCH_LABEL)}
            for row in self.rows
            if self._final(row) is None and self._disagree(row)
        }

    def without_label(self, outcome: str) -> list[str]:
        """Return the rows that nobody answered and somebody called so.

        Args:
            outcome: ``skip``, ``unsure`` or ``no such label``. A row with several is under the
                first of no such label, unsure, skip.
        """
        order = (NO_SUCH_LABEL, UNSURE, SKIP)
        found = []
        for row, by_annotator in self.rows.items():
            outcomes = {entry.decision.outcome for entry in by_annotator.values()}
            if ANSWER not in outcomes and next(o for o in order if o in outcomes) == outcome:
                found.append(row)
        return found

    def by(self, annotator: str) -> dict[str, Decision]:
        """Return id → decision that stands, of one annotator."""
        return {
            row: entries[annotator].decision
            for row, entries in self.rows.items()
            if annotator in entries
        }

    def answers(self) -> dict[str, dict[str, str]]:
        """Return id → annotator → reading of the answer, as agreement is measured on."""
        return {
            row: {who: self.reading(answer) for who, answer in given.items()}
            for row in self.rows
            if (given := self._answers(row))
        }

    def decisions(self) -> list[Decision]:
        """Return all decisions that stand, row by row, as files for others hold them."""
        return [entry.decision for row in self.rows.values() for entry in row.values()]

    def _answers(self, row: str) -> dict[str, str]:
        return {
            who: entry.decision.answer
            for who, entry in self.rows.get(row, {}).items()
            if entry.decision.answer is not None
        }

    def _refusals(self, row: str) -> list[str]:
        entries = self.rows.get(row, {}).items()
        return [who for who, entry in entries if entry.decision.outcome == NO_SUCH_LABEL]

    def _disagree(self, row: str) -> bool:
        """Whether answers differ, or one stands against ``no such label``."""
        given = self._answers(row)
        kinds = {self.reading(answer) for answer in given.values()}
        return len(kinds) > 1 or bool(given and self._refusals(row))

    def _final(self, row: str) -> Entry | None:
        entries = self.rows.get(row, {}).values()
        settling = (ANSWER, NO_SUCH_LABEL)
        final = [e for e in entries if e.decision.final and e.decision.outcome in settling]
        return max(final, key=lambda entry: entry.number, default=None)


def standing(entries: Iterable[Entry], reading: Callable[[str], str] = str) -> Standing:
    """Return what a journal's entries come to.

    Args:
        entries: Oldest first.
        reading: How answers are compared, such as a task's own reading of a number.
    """
    rows: dict[str, dict[str, Entry]] = {}
    for entry in entries:
        decision = entry.decision
        by = rows.setdefault(decision.id, {})
        if decision.outcome == RETRACTED:
            by.pop(decision.annotator, None)
        else:
            by[decision.annotator] = entry
    return Standing({row: by for row, by in rows.items() if by}, reading)


def history(entries: Iterable[Entry], row: str) -> list[Entry]:
    """Return all that was ever decided about a row, oldest first."""
    return [entry for entry in entries if entry.decision.id == row]


def undo(entries: Iterable[Entry], annotator: str, time: str) -> Decision | None:
    """Return the decision that takes back an annotator's last one; ``None``: nothing to undo.

    It says again what stood before for the row, or retracts. Called again, it goes one further
    back, since an undo is never undone.

    Args:
        entries: Oldest first.
        annotator: Whose.
        time: Of the undo, as a decision has it.
    """
    own = [entry for entry in entries if entry.decision.annotator == annotator]
    undone = {entry.decision.undoes for entry in own}
    left = [e for e in own if e.decision.undoes is None and e.number not in undone]
    if not left:
        return None
    last = left[-1]
    before = [entry.decision for entry in left[:-1] if entry.decision.id == last.decision.id]
    if before:
        return replace(before[-1], time=time, undoes=last.number)
    return Decision(last.decision.id, RETRACTED, annotator, time, undoes=last.number)

"""Decisions of a file, checked against what stands and added to the journal: all or none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from star.annotation.formats.exchange import FORMATS, take
from star.annotation.formats.sheet import Stamp
from star.annotation.journal import Entry
from star.annotation.records import ANSWER, NO_SUCH_LABEL, SKIP, UNSURE, Decision, now
from star.annotation.state import Standing, standing
from star.errors import InputError, nearest, unified
from star.project.project import Project, annotator_of


@dataclass(frozen=True)
class Taken:
    """What a file brought.

    Attributes:
        outcomes: Outcome to how many rows got it.
        corrected: Decisions that replace an earlier one of the same annotator.
        known: Decisions that stood already.
        waiting: Rows of the file without a decision.
        conflicts: Ids on which annotators disagree now, of all rows.
    """

    outcomes: dict[str, int]
    corrected: int
    known: int
    waiting: int
    conflicts: list[str]

    def __str__(self) -> str:
        """Return it in a line."""
        words = {
            ANSWER: "labelled",
            SKIP: "skipped",
            UNSURE: "unsure",
            NO_SUCH_LABEL: "no such label",
        }
        parts = [f"{self.outcomes.get(o, 0)} {word}" for o, word in words.items()]
        parts += [f"{self.corrected} of them corrected", f"{self.known} known already"]
        return ", ".join(
            [*parts, f"{self.waiting} left open", f"{len(self.conflicts)} in conflict"]
        )


def form_of(path: str | Path, form: str | None) -> str:
    """Return a file's format: as it is named, else by its ending.

    Raises:
        InputError: No such format, or an ending that does not tell.
    """
    if form is not None:
        name = form.replace("-", "_")
        if name not in FORMATS:
            raise InputError(
                f"--format must be {', '.join(FORMATS)}, got {form!r:.60}{nearest(form, FORMATS)}"
            )
        return name
    suffix = Path(path).suffix[1:]
    if suffix not in ("jsonl", "csv"):
        raise InputError(
            f"{path}: .jsonl and .csv say what they are; give --format {', '.join(FORMATS)}"
        )
    return suffix


def add(
    project: Project,
    path: str | Path,
    *,
    annotator: str,
    form: str | None = None,
    correct: bool = False,
) -> Taken:
    """Add a file's decisions to the journal.

    A decision that differs from the same annotator's earlier one is a correction, which must be
    asked for; the earlier one stays in the journal. Of two annotators both decisions stand.

    Args:
        project: Whose rows they are about.
        path: The file.
        annotator: Who decided, where the file does not say.
        form: Of the file; ``None``: by its ending.
        correct: Take corrections.

    Raises:
        InputError: Nothing was taken, and why.
    """
    stamp = Stamp(annotator_of(annotator), now())
    decisions, waiting = take(path, form_of(path, form), project.items, stamp)
    decisions = [replace(d, annotator=unified(d.annotator)) for d in decisions]
    for decision in decisions:
        if decision.answer is not None:
            project.data.task.labelled(decision.answer)
    corrected: list[Decision] = []

    def news(entries: list[Entry]) -> list[Decision]:
        """Return what is not known already, nor by another who labels at this moment."""
        state = standing(entries)
        pairs = [(d, _before(state, d)) for d in decisions]
        replaced = [(d, old) for d, old in pairs if old is not None and _said(d) != _said(old)]
        if replaced and not correct:
            d, old = replaced[0]
            raise InputError(
                f"{path}: id {old.id!r:.60} is {_said(old)!r:.60} by {old.annotator} already, and "
                f"{_said(d)!r:.60} here ({len(replaced)} of the kind); --correct records "
                "corrections, --annotator another person"
            )
        corrected.extend(d for d, _ in replaced)
        return [d for d, old in pairs if old is None or not _known(d, old)]

    # Without a decision no journal is begun.
    new = [entry.decision for entry in project.journal.decide(news)] if decisions else []
    outcomes = {o: sum(d.outcome == o for d in new) for o in {d.outcome for d in new}}
    now_split = [project.ids[i] for i in project.decided().conflicts]
    return Taken(outcomes, len(corrected), len(decisions) - len(new), waiting, now_split)


def _before(state: Standing, decision: Decision) -> Decision | None:
    entry = state.rows.get(decision.id, {}).get(decision.annotator)
    return None if entry is None else entry.decision


def _known(decision: Decision, old: Decision) -> bool:
    """Whether a decision says nothing that the same annotator's earlier one does not."""
    return (
        _said(decision) == _said(old)
        and decision.comment in ("", old.comment)
        and decision.highlights in ((), old.highlights)
        and decision.final <= old.final
    )


def _said(decision: Decision) -> str:
    """Return the label, or what was said instead of one."""
    return decision.answer if decision.answer is not None else decision.outcome

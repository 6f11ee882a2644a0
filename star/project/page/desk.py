"""The desk at which people decide: rows handed out, decisions taken, no HTTP.

A row is handed to one annotator at a time, so that two who work at once do not label the same by
chance; who wants to see what others decided asks for that queue. What is decided is in the journal
before anybody is told, and only there: a desk that was closed, or killed, is opened again with
nothing lost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from star.active_learning.open_query import Query
from star.annotation.journal import Entry
from star.annotation.records import ANSWER, RETRACTED, Decision, now
from star.annotation.state import Standing, standing, undo
from star.errors import InputError
from star.project.page.moment import Handed, Moment
from star.project.project import DATA_ANNOTATOR, Project, annotator_of
from star.run_files import INITIAL

NEW, SECOND, ASIDE, SETTLE = "new", "second", "aside", "settle"
QUEUES = (NEW, SECOND, ASIDE, SETTLE)
"""What is open; what others decided and this annotator did not; what is set aside; conflicts."""

HELD_SECONDS = 300.0
"""How long a row stays with whom it was handed to, if nothing is heard of it."""


class Overtaken(Exception):
    """What was decided does not go with what stands by now; the message says what that is."""


class Desk:
    """A project's rows and decisions, for any number of threads.

    Attributes:
        project: Whose; loaded once, since rows and settings do not change.
    """

    def __init__(self, project: Project, clock: Callable[[], float] = time.monotonic) -> None:
        """Load the rows.

        Args:
            project: Whose they are.
            clock: Seconds, for how long a row is held.

        Raises:
            InputError: The project is damaged.
        """
        self.project = project
        self._clock = clock
        self._held: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._latest: Moment | None = None
        self.moment()

    def moment(self) -> Moment:
        """Return what there is now; folded anew only when there is something new.

        Raises:
            InputError: The journal is damaged.
        """
        project = self.project
        with self._lock:
            entries = project.entries()
            # A training chooses the first examples before its round is complete.
            trained = project.run.complete_rounds(), (project.path / INITIAL).exists()
            at = self._latest
            if at is None or (at.entries, at.trained) != (entries, trained):
                state = standing(entries, project.data.task.reading)
                decided, query, fault = project.fold(entries), Query([], [], 0, ""), ""
                forced = False
                try:
                    query = project.query(decided)
                    forced = query.short > 0 and not project.query(decided, force=True).short
                except InputError as error:  # all test rows were skipped, say; an undo mends it
                    fault = str(error)
                at = Moment(entries, state, query, decided, trained, forced, fault)
                self._latest = at
            return at

    def queues(self, annotator: str, at: Moment) -> dict[str, list[str]]:
        """Return the ids that each queue has for an annotator, the next one first."""
        items, ids, rows = self.project.items, self.project.ids, at.state.rows
        others = [r for r in rows if annotator not in rows[r] and not _settled(at.state, r)]
        people = [r for r in others if set(rows[r]) != {DATA_ANNOTATOR}]
        data = [r for r in others if set(rows[r]) == {DATA_ANNOTATOR}]
        named = {
            NEW: [ids[i] for i in at.query.missing if ids[i] not in rows],
            SECOND: [*people, *data],
            ASIDE: [ids[i] for i, answer in at.decided.answers.items() if answer is None],
            SETTLE: list(at.state.conflicts()),
        }
        return {name: [row for row in named[name] if row in items] for name in QUEUES}

    def hand(self, annotator: str, queue: str = NEW, row: str | None = None) -> Handed:
        """Return the next row for an annotator; one of ``NEW`` is held, so that no other gets it.

        Args:
            annotator: Who asks.
            queue: One of ``QUEUES``.
            row: This one, whatever queue it is in, or one that the annotator once decided on: what
                was taken back is asked again.

        Raises:
            InputError: No such queue or row, a name that is none, or a row that is not open to the
                annotator: nobody has asked for it, or it is on another's screen.
        """
        annotator = annotator_of(annotator)
        if queue not in QUEUES:
            raise InputError(f"queue must be {', '.join(QUEUES)}, got {queue!r:.40}")
        if row is not None and row not in self.project.items:
            raise InputError(f"id {row!r:.60} is none of the rows")
        at = self.moment()
        queues = self.queues(annotator, at)
        waiting = queues[queue]
        reopened = {e.decision.id for e in at.entries if e.decision.annotator == annotator}
        with self._lock:
            until = self._clock()
            held = {r: h for r, h in self._held.items() if h[1] > until and h[0] != annotator}
            if row is not None and row not in reopened | {
                r for name in QUEUES for r in queues[name] if name != NEW or r not in held
            }:
                raise InputError(
                    f"id {row!r:.60} is not open to {annotator}: take what the queues give"
                )
            taken = held if queue == NEW else {}  # elsewhere two may look at the same row
            free = [r for r in waiting if r not in taken] if row is None else [row]
            self._held = {**held}
            if not free:
                return Handed(None, len(waiting), len(waiting))
            if queue == NEW:
                self._held[free[0]] = (annotator, until + HELD_SECONDS)
        answers = at.state.conflicts().get(free[0]) if queue == SETTLE else None
        return Handed(
            self.project.items[free[0]],
            len(waiting),
            sum(r in taken for r in waiting),
            self._own(at.state, free[0], annotator),
            None
            if answers is None
            else {who: self._shown(at.state, free[0], said) for who, said in answers.items()},
        )

    def _own(self, state: Standing, row: str, annotator: str) -> Entry | None:
        """Return an annotator's decision that stands, as it is shown."""
        entry = state.rows.get(row, {}).get(annotator)
        if entry is None or entry.decision.answer is None:
            return entry
        answer = self._shown(state, row, entry.decision.answer)
        return replace(entry, decision=replace(entry.decision, answer=answer))

    def _shown(self, state: Standing, row: str, said: str) -> str:
        """Return what was said; a free text that came with the row is masked, whoever took it."""
        came = state.rows.get(row, {}).get(DATA_ANNOTATOR)
        if self.project.data.task.labels is not None or came is None:
            return said
        return self.project.masked(said) if said == came.decision.answer else said

    def said_by(self, row: str, annotator: str, shown: str | None) -> str:
        """Return an annotator's answer, letter for letter, to settle a conflict by.

        Args:
            row: The id.
            annotator: Whose answer.
            shown: As it was shown to whoever settles.

        Raises:
            Overtaken: The row is in conflict no more, or there stands another answer by now. Of a
                row in no conflict nothing is told: its answers are not for others.
        """
        state = self.moment().state
        if row not in state.conflicts():
            raise Overtaken(f"id {row!r:.60} is in conflict no more")
        entry = state.rows.get(row, {}).get(annotator)
        answer = None if entry is None else entry.decision.answer
        if answer is None or self._shown(state, row, answer) != shown:
            raise Overtaken(f"{annotator} says something else about id {row!r:.60} by now")
        return answer

    def decide(self, decision: Decision, replaces: int | None = None) -> Entry:
        """Take a decision; it is on the disk when this returns.

        What says the same as the annotator's decision that stands is that one: a request that was
        sent again is recorded once.

        Args:
            decision: With any time: that of the journal counts.
            replaces: Number of the annotator's entry that it corrects; ``None``: there is none.

        Raises:
            InputError: No such row or label, or a field that is wrong.
            Overtaken: Another decision of the annotator stands, or a row to be settled is.
        """
        decision = self._checked(decision)

        def choose(entries: list[Entry]) -> list[Decision]:
            state = standing(entries, self.project.data.task.reading)
            old = state.rows.get(decision.id, {}).get(decision.annotator)
            seen = self._own(state, decision.id, decision.annotator)
            said = decision
            if old is not None and seen is not None and seen.decision.answer == said.answer:
                said = replace(said, answer=old.decision.answer)  # it came back as it was shown
            if old is not None and _same(old.decision, said):
                return [old.decision]
            if decision.final and decision.id not in state.conflicts():
                raise Overtaken(f"id {decision.id!r:.60} is in conflict no more")
            if (None if old is None else old.number) != replaces:
                stands = "nothing" if seen is None else _words(seen.decision)
                raise Overtaken(
                    f"of {decision.annotator} there stands {stands} about id {decision.id!r:.60}, "
                    "said in another window perhaps; nothing was changed"
                )
            return [said]

        [entry] = self.project.journal.decide(choose)
        with self._lock:
            self._held.pop(decision.id, None)
        return entry

    def _checked(self, decision: Decision) -> Decision:
        """Return a decision with its annotator's name in one form and the time of now."""
        items = self.project.items
        if decision.id not in items:
            raise InputError(f"id {decision.id!r:.60} is none of the rows")
        if decision.outcome == RETRACTED or decision.undoes is not None:
            raise InputError("an undo has a request of its own")
        if decision.answer is not None and decision.outcome == ANSWER:
            self.project.data.task.labelled(decision.answer)
        length = len(items[decision.id].text)
        if any(end > length for _, end in decision.highlights):
            raise InputError(f"highlights must end within the text's {length} characters")
        return replace(decision, annotator=annotator_of(decision.annotator), time=now())

    def undo(self, annotator: str, number: int) -> Entry:
        """Take back an annotator's last decision; what it said stays in the journal.

        Args:
            annotator: Whose.
            number: Of the decision, as :meth:`last` names it; of one that is taken back already,
                nothing is done.

        Raises:
            Overtaken: It is not the last one any more.
        """
        annotator = annotator_of(annotator)

        def choose(entries: list[Entry]) -> list[Decision]:
            own = [e.decision for e in entries if e.decision.annotator == annotator]
            done = next((d for d in own if d.undoes == number), None)
            taken_back = done or undo(entries, annotator, now())
            if taken_back is None or taken_back.undoes != number:
                raise Overtaken(f"decision {number} is not the last one of {annotator}")
            return [taken_back]

        [entry] = self.project.journal.decide(choose)
        return entry


def last(entries: list[Entry], annotator: str) -> int | None:
    """Return the number of the decision that an undo would take back; ``None``: there is none."""
    taken_back = undo(entries, annotator, now())
    return None if taken_back is None else taken_back.undoes


def _settled(state: Standing, row: str) -> bool:
    return any(entry.decision.final for entry in state.rows[row].values())


def _same(old: Decision, new: Decision) -> bool:
    """Whether two decisions of an annotator differ in nothing but when and how long."""
    return replace(old, time=new.time, seconds=new.seconds, undoes=new.undoes) == new


def _words(decision: Decision) -> str:
    return decision.outcome if decision.answer is None else f"{decision.answer!r:.60}"

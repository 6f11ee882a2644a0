from __future__ import annotations

from dataclasses import replace

from star.annotation.journal import Entry
from star.annotation.records import Decision
from star.annotation.state import history, standing, undo


def entries(*decisions: Decision) -> list[Entry]:
    return [Entry(number, decision) for number, decision in enumerate(decisions)]


def time(second: int) -> str:
    return f"2026-11-27T00:00:{second:02d}Z"


def said(row: str, who: str, answer: str, second: int = 0, *, final: bool = False) -> Decision:
    return Decision(row, "answer", who, time(second), answer, final=final)


def other(row: str, who: str, outcome: str, second: int = 0) -> Decision:
    return Decision(row, outcome, who, time(second))


def test_corrections_replace_and_nothing_is_lost() -> None:
    all_of_it = entries(
        said("1", "anna", "joy"), said("2", "anna", "joy"), said("1", "anna", "fear")
    )
    state = standing(all_of_it)
    assert state.labels() == {"1": "fear", "2": "joy"}
    assert [entry.decision.answer for entry in history(all_of_it, "1")] == ["joy", "fear"]


def test_a_retraction_leaves_no_decision() -> None:
    state = standing(entries(said("1", "anna", "joy"), other("1", "anna", "retracted")))
    assert state.labels() == {} and state.rows == {}
    assert standing(entries(other("1", "anna", "retracted"))).rows == {}


def test_annotators_who_differ_are_in_conflict_until_it_is_settled() -> None:
    told = [said("1", "anna", "joy"), said("1", "ben", "fear"), said("2", "anna", "joy")]
    state = standing(entries(*told))
    assert state.labels() == {"2": "joy"}
    assert state.conflicts() == {"1": {"anna": "joy", "ben": "fear"}}
    told += [said("1", "carl", "anger", final=True), said("1", "ben", "sadness")]
    state = standing(entries(*told))
    assert state.labels() == {"1": "anger", "2": "joy"} and state.conflicts() == {}
    told += [said("1", "anna", "joy", 5, final=True)]  # the latest settles
    assert standing(entries(*told)).label("1") == "joy"
    told += [other("1", "anna", "retracted", 6), other("1", "carl", "retracted", 6)]
    assert standing(entries(*told)).label("1") == "sadness"  # ben is left alone


def test_a_conflict_is_settled_by_saying_that_there_is_no_label() -> None:
    told = [said("1", "anna", "joy"), other("1", "ben", "no such label")]
    final = replace(other("1", "carl", "no such label"), final=True)
    state = standing(entries(*told, final))
    assert state.conflicts() == {} and state.labels() == {} and state.label("1") is None
    doubt = replace(other("1", "carl", "unsure"), final=True)  # settles nothing
    assert "1" in standing(entries(*told, doubt)).conflicts()


def test_no_such_label_stands_against_an_answer_and_doubt_does_not() -> None:
    state = standing(entries(said("1", "anna", "joy"), other("1", "ben", "no such label")))
    assert state.conflicts() == {"1": {"anna": "joy", "ben": "no such label"}}
    state = standing(
        entries(said("1", "anna", "joy"), other("1", "ben", "unsure"), other("1", "carl", "skip"))
    )
    assert state.labels() == {"1": "joy"} and state.conflicts() == {}


def test_rows_without_a_label_are_listed_by_what_was_said() -> None:
    state = standing(
        entries(
            other("1", "anna", "skip"),
            other("2", "anna", "unsure"),
            other("2", "ben", "skip"),
            other("3", "anna", "no such label"),
            other("4", "ben", "skip"),
            said("4", "anna", "joy"),
        )
    )
    assert state.without_label("skip") == ["1"]
    assert state.without_label("unsure") == ["2"]
    assert state.without_label("no such label") == ["3"]
    assert set(state.by("ben")) == {"2", "4"}
    assert len(state.decisions()) == 6


def test_answers_are_compared_by_their_reading() -> None:
    both = entries(said("1", "anna", "It is 4"), said("1", "ben", "4"))
    assert standing(both).conflicts()
    read = standing(both, reading=lambda text: text.split()[-1])
    assert read.label("1") == "It is 4" and not read.conflicts()
    assert read.answers() == {"1": {"anna": "4", "ben": "4"}}


def test_undo_goes_back_step_by_step() -> None:
    told = [
        said("1", "anna", "joy", 1),
        said("2", "anna", "fear", 2),
        said("1", "ben", "anger", 3),
        said("1", "anna", "anger", 4),
    ]
    seen = []
    while (back := undo(entries(*told), "anna", time(10 + len(told)))) is not None:
        told.append(back)
        mine = standing(entries(*told)).by("anna")
        seen.append({row: decision.answer for row, decision in mine.items()})
    assert seen == [{"1": "joy", "2": "fear"}, {"1": "joy"}, {}]
    assert standing(entries(*told)).labels() == {"1": "anger"}  # ben's is untouched
    told.append(said("2", "anna", "joy", 40))  # and on from there
    back = undo(entries(*told), "anna", time(41))
    assert back is not None and (back.id, back.outcome) == ("2", "retracted")
    assert undo([], "anna", time(0)) is None

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from star.annotation.records import Decision, Item, Suggestion, as_id, as_utc, now
from star.errors import InputError

TIME = "2026-11-27T00:20:00Z"


def test_a_decision_survives_json() -> None:
    decision = Decision(
        "7", "answer", "Zoë", TIME, "joy", "half\nsure", ((0, 4), (9, 12)), 3.25, True, 12
    )
    assert Decision.from_row(json.loads(json.dumps(decision.to_row()))) == decision
    short = Decision("7", "skip", "anna", now())
    assert list(short.to_row()) == ["id", "outcome", "annotator", "time"]
    assert Decision.from_row(short.to_row()) == short


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"id": 7}, "id must be text, got 7"),
        ({"id": ""}, "id is empty"),
        ({"id": "\ud800"}, "half of a character"),
        ({"outcome": "skipp"}, "did you mean 'skip'"),
        ({"outcome": "skip"}, "'skip' takes no label, got 'joy'"),
        ({"answer": None}, "answer must be text, got None"),
        ({"answer": ""}, "answer is empty"),
        ({"annotator": "a\nb"}, "annotator must be a name on one line"),
        ({"time": "yesterday"}, "time must be UTC"),
        ({"time": "2026-11-27T00:20:00"}, "time must be UTC"),
        ({"time": "2026-11-27T00:20:00+01:00"}, "time must be UTC"),
        ({"time": 12}, "time must be UTC"),
        ({"comment": None}, "comment must be text"),
        ({"highlights": [[3, 3]]}, "0 <= start < end"),
        ({"highlights": [[0, True]]}, "0 <= start < end"),
        ({"highlights": [[0, 1, 2]]}, "0 <= start < end"),
        ({"highlights": "0-4"}, "highlights must be a list"),
        ({"seconds": -1}, "seconds must be a number from 0"),
        ({"seconds": float("nan")}, "seconds must be a number from 0"),
        ({"seconds": True}, "seconds must be a number from 0"),
        ({"final": 1}, "final must be true or false"),
        ({"undoes": True}, "undoes must be an entry's number"),
        ({"labell": "joy"}, "a decision has no 'labell'"),
    ],
)
def test_what_is_no_decision_is_refused_in_one_line(changed: dict, message: str) -> None:
    row = {"id": "7", "outcome": "answer", "annotator": "anna", "time": TIME, "answer": "joy"}
    Decision.from_row(row)
    with pytest.raises(InputError) as error:
        Decision.from_row({**row, **changed})
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InputError, match="time is missing"):
        Decision.from_row({"id": "7", "outcome": "skip", "annotator": "anna"})
    with pytest.raises(InputError, match="must be an object"):
        Decision.from_row(["7"])


@pytest.mark.parametrize("value, text", [(7, "7"), ("007", "007"), (" a", " a"), (-1, "-1")])
def test_ids_are_kept_letter_for_letter(value: object, text: str) -> None:
    assert as_id(value) == text


@pytest.mark.parametrize("value", [7.0, True, None, "", ["7"]])
def test_no_id_is_guessed(value: object) -> None:
    with pytest.raises(InputError):
        as_id(value)


def test_items_are_checked() -> None:
    Item("1", "", ("a", "b"), {"entropy": 0.5}, Suggestion("a", 1))
    with pytest.raises(InputError, match="stands twice"):
        Item("1", "x", ("a", "a"))
    with pytest.raises(InputError, match="finite number"):
        Item("1", "x", (), {"entropy": float("inf")})
    with pytest.raises(InputError, match="from 0 to 1"):
        Suggestion("a", 1.5)
    with pytest.raises(InputError, match="must be text"):
        Item("1", None)  # type: ignore[arg-type]


def test_times_are_utc() -> None:
    noon = datetime(2026, 11, 27, 12, tzinfo=timezone(timedelta(hours=2)))
    assert as_utc(noon) == "2026-11-27T10:00:00Z"
    Decision("1", "skip", "anna", as_utc(noon))

"""Prompt templates."""

from __future__ import annotations

from typing import Any

import pytest

from star.data.prompts import Template
from star.errors import InputError


def test_a_template_moves_its_trailing_white_space_to_the_continuation() -> None:
    assert Template.parse("{a}\n\n").separator == "\n\n"
    assert Template.parse("{a}:").separator == " "
    assert Template.parse("{a}{{x}} \n").fill({"a": " é "}) == "é{x}"
    assert Template.parse("{a b} {c.d}").fill({"a b": 1, "c.d": True}) == "1 true"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{a", "literal braces"),
        ("a}", "literal braces"),
        ("{}", r"\{column\} alone"),
        ("{a!r}", r"\{column\} alone"),
        ("{a:>5}", r"\{column\} alone"),
        ("plain", "names no"),
        ("{gold}", "would show the answer"),
    ],
)
def test_a_bad_template_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Template.parse(text, hidden=("gold",))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"questoin": "x"}, "no column 'question'; the row has: questoin; did you mean"),
        ({"question": " "}, "empty question"),
        ({"question": None}, "empty question"),
        ({"question": ["x"]}, "'question' must be text or a finite number, got a list"),
        ({"question": float("nan")}, "finite number, got nan"),
    ],
)
def test_a_row_that_does_not_fill_the_template_is_refused(
    row: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Template.parse("{question}").fill(row)

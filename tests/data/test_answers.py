"""Final numbers and labels out of generated text."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star.data.answers import FINAL_ANSWER, canonical_number, final_number, first_label, sole_number


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        ("16-3=13\nThe final answer is 18", "18", "18"),
        ("The final answer is 18.", "18", "18"),
        ("The final answer is 1,234,567 dollars", "1234567", "1234567"),
        ("The final answer is $1,234.50", "1234.5", "1234.5"),
        ("The final answer is -5", "-5", "-5"),
        ("The final answer is -$5", "-5", "-5"),
        ("The final answer is $-5", "-5", "-5"),
        ("The final answer is \u22125", "-5", "-5"),
        ("The final answer is .5", "0.5", "0.5"),
        ("The final answer is -0", "0", "0"),
        ("The final answer is 18.0", "18", "18"),
        ("The final answer is 50%", "50", "50"),
        ("The final answer is: 7", "7", "7"),
        ("The final answer is 3\nThe final answer is 9", "3", "3"),
        ("The final answer is unknown. The final answer is 4", "4", "4"),
        ("The final answer is that she has 12 eggs, of 20", None, "12"),
        ("THE FINAL ANSWER IS **12**", None, "12"),
        ("The final answer is\n2 + 3 = 5", None, "5"),
        ("the final answer is 15 * 8.\nThe final answer is 120", "120", "120"),
        ("He has 3.\n#### 1,000\nNext question: 7", None, "1000"),
        ("so 10-5", None, "5"),
        ("so 10 - 5", None, "5"),
        ("(a)-5", None, "5"),
        ("it is -5", None, "-5"),
        ("numbers 1,2,3", None, "3"),
        ("12,34 or 1,2345", None, "2345"),
        ("It costs $ 7 (of $80,000).", None, "80000"),
        ("version 1.2.3", None, "3"),
        ("2.5e3", None, "2500"),
        ("1e999999999", None, "999999999"),
        ("A: 18", None, "18"),
        ("\u0661\u0662", None, None),
        ("no number at all.", None, None),
        ("", None, None),
    ],
)
def test_final_number(text: str, strict: str | None, flexible: str | None) -> None:
    assert final_number(text, strict=True) == strict
    assert final_number(text, strict=False) == flexible


@given(st.integers(), st.sampled_from(["", "$", "€ "]), st.sampled_from(["", ".", " apples.", "%"]))
def test_any_integer_is_read_exactly(number: int, currency: str, unit: str) -> None:
    for digits in (f"{number:,}", str(number), f"{number}.00"):
        text = f"2 + 2 = 4\nThe final answer is {currency}{digits}{unit}\nThe final answer is 7"
        assert final_number(text, strict=True) == str(number)
        assert final_number(text, strict=False) == str(number)
        assert final_number(f"In the end it is {currency}{digits}{unit}", strict=False) == str(
            number
        )


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3))
def test_canonical_numbers_keep_their_value(number: Decimal) -> None:
    canonical = canonical_number(f"{number:,f}")
    assert canonical is not None
    assert Decimal(canonical) == number
    assert canonical_number(canonical) == canonical
    assert canonical != "-0"


@given(st.text(), st.booleans())
def test_any_text_is_read_without_error(text: str, strict: bool) -> None:
    found = final_number(text, strict=strict)
    assert found is None or canonical_number(found) == found
    label = first_label(text, ["A", "B"], strict=strict)
    assert label is None or label in text


def test_a_canonical_number_is_nothing_but_a_number() -> None:
    assert canonical_number(" $1,234.50 ") == "1234.5"
    assert canonical_number("007") == "7"
    assert (
        canonical_number("123456789012345678901234567890.1") == "123456789012345678901234567890.1"
    )
    assert canonical_number("18 dollars") is None
    assert canonical_number("1/2") is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (" 18\n", "18"),
        ("1,234,567.", "1234567"),
        ("-5.0 degrees", "-5"),
        ("$-5", "-5"),
        ("$1,234.50", "1234.5"),
        ("50 %", "50"),
        ("12 dollars/hour", "12"),
        ("7/3", None),
        ("2 1/2", None),
        ("7:45", None),
        ("12 000", None),
        ("12\u202f000", None),
        ("1.234.567", None),
        ("1,5", None),
        ("12,34,567", None),
        ("10^5", None),
        ("3\u00bd", None),
        ("5\u00b2", None),
        ("1e500", None),
        ("3 hours 20 minutes", None),
        ("+5", None),
        ("- 5", None),
        ("x = 5", None),
        ("", None),
    ],
)
def test_sole_number(text: str, number: str | None) -> None:
    assert sole_number(text) == number


pieces = st.sampled_from([*"0123456789", *".,:/-+ $%\u2212", "e", "dollars", "\n"])


@given(st.lists(pieces, max_size=8).map("".join))
def test_a_sole_number_is_what_its_target_is_read_as(text: str) -> None:
    number = sole_number(text)
    if number is None:
        return
    for strict in (True, False):
        assert final_number(f"{FINAL_ANSWER} {text.strip()}", strict=strict) == number


@pytest.mark.parametrize(
    ("text", "labels", "strict", "flexible"),
    [
        (" B", "ABCD", "B", "B"),
        (" B.", "ABCD", "B", "B"),
        ("B\nThe sun is", "ABCD", "B", "B"),
        ("B: a tundra", "ABCD", None, "B"),
        ("a dog, so D", "ABCD", None, "D"),
        ("A or B? The answer is C, not D", "ABCD", None, "C"),
        ("Answer: D. Answer: A", "ABCD", None, "D"),
        ("The answer is simple. B", "ABCD", None, "B"),
        ("B. What is the answer: ?", "ABCD", None, "B"),
        ("CAB", "ABCD", None, None),
        ("", "ABCD", None, None),
        (" true", ("true", "false"), "true", "true"),
        ("True, because", ("true", "false"), None, "true"),
        ("untrue; FALSE", ("true", "false"), None, "false"),
        ("very good", ("good", "very good"), "very good", "very good"),
        ("It is c++!", ("c", "c++"), None, "c++"),
        ("no Yes", ("yes", "Yes"), None, "Yes"),
    ],
)
def test_first_label(
    text: str, labels: Sequence[str], strict: str | None, flexible: str | None
) -> None:
    assert first_label(text, list(labels), strict=True) == strict
    assert first_label(text, list(labels), strict=False) == flexible

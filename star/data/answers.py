"""Reading the final answer out of a generated text.

Two readings of every text. *Strict* accepts only the form the training targets are written in;
*flexible* takes the most plausible answer. Where a text has several candidates behind a marker, the
first one counts: a model that does not stop goes on to invent further questions, and their answers
are not this question's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

FINAL_ANSWER = "The final answer is"
"""What the last line of a worked solution begins with."""
MARKER = "####"
"""What GSM8K's stored solutions write in its place."""

# A comma groups thousands only in front of exactly three digits; a minus is a sign only where it
# cannot be a subtraction (`16-3` ends in 3); `.5` may not be the end of a word or of a version.
# The exponent is at most two digits, so that no text can ask for a number of a billion digits.
_DIGITS = (
    r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|(?<![\w.])\.[0-9]+)"
    r"(?:[eE][+-]?[0-9]{1,2}(?!\w))?"
)
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)\]])[-\u2212])?(?:[$€£]\s?(?P<inner>[-\u2212])?)?(?P<digits>" + _DIGITS + ")"
)
_WHOLE_NUMBER = re.compile(rf"\s*{_NUMBER.pattern}\s*%?\s*")
_STRICT = re.compile(rf"{FINAL_ANSWER}:?[ \t]*{_NUMBER.pattern}")
_MARKERS = (re.compile("final answer is", re.IGNORECASE), re.compile("####"))
_ANSWER_IS = re.compile(r"\banswer\s*(?:\bis\b|:)", re.IGNORECASE)


def final_number(text: str, *, strict: bool) -> str | None:
    """Return the final number of a text in canonical form, or ``None`` if there is none.

    Strict: the number right behind the first ``The final answer is`` that a number follows (a
    currency sign may stand between them, a unit behind). Flexible: the strict reading if there is
    one, else the first number in the rest of a line behind ``final answer is`` in any case, else
    behind ``####``, else the text's last one.
    """
    # Strict first also in the flexible reading: solutions of GSM8K's own say in mid-text that
    # "the final answer is 15 gallons * 8 pints".
    found = _STRICT.search(text)
    if found or strict:
        return _canonical(found) if found else None
    for marker in _MARKERS:
        for start in marker.finditer(text):
            found = _NUMBER.search(text[start.end() :].partition("\n")[0])
            if found:
                return _canonical(found)
    numbers = list(_NUMBER.finditer(text))
    return _canonical(numbers[-1]) if numbers else None


def released_number(text: str) -> str:
    """Return the number the released code reads in a text, as a float's digits, or ``"none"``.

    The first number behind the first ``The final answer is `` if one is there, else the text's last
    one. A text without a digit is ``"none"``, and so is every gold answer in words: ``"none"``
    equals ``"none"``, which makes all answers of BoolQ and OpenBookQA right (fault 11).
    """
    numbers = re.findall(r"-?\d+\.?\d*", text.replace(",", ""))
    if not numbers:
        return "none"
    behind = text.replace(",", "").split(f"{FINAL_ANSWER} ")[1:2]
    first = re.findall(r"-?\d+\.?\d*", behind[0])[:1] if behind else []
    return str(float(first[0] if first else numbers[-1]))


def canonical_number(text: str) -> str | None:
    """Return a text that is one number, and nothing else, in canonical form; else ``None``.

    Canonical: no thousands separators, currency or percent sign, no leading or trailing zeros, no
    ``+``, ``-0`` or exponent; exact for any number of digits.
    """
    found = _WHOLE_NUMBER.fullmatch(text)
    return _canonical(found) if found else None


def sole_number(text: str) -> str | None:
    """Return the number a text consists of, canonical; ``None`` if it is more or less than one.

    A unit or a full stop may stand behind it. So a text that is read here is read alike behind
    ``The final answer is``: fractions, times, mixed numbers, and groups of thousands by anything
    but commas are no single number.
    """
    text = text.strip()
    found = _NUMBER.match(text)
    if found is None or any(sign.isnumeric() for sign in text[found.end() :]):
        return None
    return _canonical(found)


def _canonical(found: re.Match[str]) -> str:
    # Decimal and format "f" are exact; normalize() would round to 28 digits.
    text = format(Decimal(found["digits"].replace(",", "")), "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    negative = (found["sign"] or found["inner"]) and text != "0"
    return f"-{text}" if negative else text


def first_label(text: str, labels: Sequence[str], *, strict: bool) -> str | None:
    """Return the label a generated text answers with, or ``None`` if there is none.

    Strict: the first line is the label, a full stop behind it allowed. Flexible: the first label,
    as a word of its own, behind the first ``answer is`` or ``answer:``; else the first in the text.
    Where one label begins another the longer one counts. Capitals matter to the flexible reading
    only if a label is a single letter (``A`` is an option, ``a`` a word) or labels differ in
    nothing else.
    """
    if strict:
        line = text.strip().partition("\n")[0].strip()
        for candidate in (line, line.removesuffix(".")):
            if candidate in labels:
                return candidate
        return None
    exact = any(len(label) == 1 for label in labels)
    exact = exact or len({label.casefold() for label in labels}) < len(labels)
    ordered = sorted(labels, key=len, reverse=True)
    words = "|".join(f"({re.escape(label)})" for label in ordered)
    pattern = re.compile(rf"(?<!\w)(?:{words})(?!\w)", 0 if exact else re.IGNORECASE)
    marker = _ANSWER_IS.search(text)
    found = pattern.search(text, marker.end()) if marker else None
    found = found or pattern.search(text)
    return ordered[found.lastindex - 1] if found and found.lastindex else None

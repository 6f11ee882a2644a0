"""Sensitive text, masked before it leaves: typed placeholders, and how many of each kind.

Patterns find what has a form or a check digit; what only has a meaning, such as a name, is for a
function of the user's own (``module:function``), Presidio for one. The time is linear in the
text's length whatever it says, and masking what is masked changes nothing more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from star.acquisition.user_function import resolve
from star.annotation.patterns import FINDERS, PLACEHOLDER, Finder
from star.errors import InputError, one_line

OwnFunction = Callable[[str], str | Sequence[tuple[int, int, str]]]
"""From a text to the masked text, or to spans (start, end, kind) that do not overlap."""

KEY = "masking"
OWN = "OWN"  # what a user's function masked without a placeholder of the usual form


@dataclass(frozen=True)
class Masked:
    """A masked text.

    Attributes:
        text: With ``<EMAIL>`` and the like in the place of what was masked.
        counts: Kind → how often it was masked; kinds that were not there are left out.
    """

    text: str
    counts: Mapping[str, int]


def mask(text: str, own: OwnFunction | None = None) -> Masked:
    """Return a text without what the patterns, and a function of the user's own, find.

    The user's function sees the text as it is; the patterns what it leaves. They are applied until
    nothing changes, since what is masked can have hidden the begin of what stands behind it.

    Raises:
        InputError: The user's function failed, or returned something else.
    """
    counts: Counter[str] = Counter()
    if own is not None:
        text, counts = _own(text, own)
    before = None
    while before != text:
        before = text
        for kind, find in FINDERS.items():
            text, number = _replaced(text, kind, find)
            counts[kind] += number
    return Masked(text, {kind: number for kind, number in counts.items() if number})


def masker(name: str | None = None) -> Callable[[str], Masked]:
    """Return ``mask`` with a function of the user's own.

    Args:
        name: ``module:function``, looked for in the working folder too; ``None``: patterns alone.

    Raises:
        InputError: No such function.
    """
    return mask if name is None else partial(mask, own=resolve(name, KEY))


def _replaced(text: str, kind: str, find: Finder) -> tuple[str, int]:
    """Return the text with a placeholder for each span, and their number."""
    parts, at, number = [], 0, 0
    for start, end in find(text):
        if start < at:
            continue
        parts += [text[at:start], f"<{kind}>"]
        at, number = end, number + 1
    return ("".join([*parts, text[at:]]), number) if number else (text, 0)


def _own(text: str, function: OwnFunction) -> tuple[str, Counter[str]]:
    try:
        result: Any = function(text)
    except (Exception, SystemExit) as error:  # somebody else's function: whatever it raises
        told = f"{type(error).__name__}: {one_line(error)}"
        raise InputError(f"{KEY}: the function of your own failed: {told}") from error
    if isinstance(result, str):
        new = Counter(PLACEHOLDER.findall(result))
        new.subtract(PLACEHOLDER.findall(text))
        counts = Counter({kind: number for kind, number in new.items() if number > 0})
        return result, counts if counts or result == text else Counter({OWN: 1})
    spans = _checked(result, len(text))
    ends = {start: (end, kind) for start, end, kind in spans}
    parts, at = [], 0
    for start in sorted(ends):
        end, kind = ends[start]
        parts += [text[at:start], f"<{kind}>"]
        at = end
    return "".join([*parts, text[at:]]), Counter(kind for _, _, kind in spans)


def _checked(result: Any, length: int) -> list[tuple[int, int, str]]:
    """Return the spans of a user's function, in order.

    Raises:
        InputError: They are none, are outside of the text, or overlap.
    """
    shape = "a text, or spans (start, end, 'KIND') in capitals"
    if not isinstance(result, list | tuple):
        raise InputError(f"{KEY}: the function must return {shape}, got {result!r:.60}")
    spans: list[tuple[int, int, str]] = []
    for span in result:
        whole = isinstance(span, list | tuple) and len(span) == 3
        if not whole or type(span[0]) is not int or type(span[1]) is not int:
            raise InputError(f"{KEY}: the function must return {shape}, got {span!r:.60}")
        if not isinstance(span[2], str) or not PLACEHOLDER.fullmatch(f"<{span[2]}>"):
            raise InputError(f"{KEY}: a kind must be in capitals, as in NAME, got {span[2]!r:.60}")
        if not 0 <= span[0] < span[1] <= length:
            raise InputError(
                f"{KEY}: the span {span!r:.60} is not in a text of {length} characters"
            )
        spans.append((span[0], span[1], span[2]))
    spans.sort()
    for first, second in pairwise(spans):
        if second[0] < first[1]:
            raise InputError(f"{KEY}: the spans {first} and {second} overlap; join or drop one")
    return spans

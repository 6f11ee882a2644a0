"""Errors that the user can mend. The command line prints them as one line and exits with 2."""

from __future__ import annotations

import contextlib
import difflib
import unicodedata
from collections.abc import Iterable, Iterator


class InputError(ValueError):
    """Bad input: the message says what, what was got, and what is allowed or how to mend it."""


class ProcessLost(RuntimeError):
    """Another process of the job has stopped, and so must this one; the message says which."""


@contextlib.contextmanager
def placed(place: str) -> Iterator[None]:
    """Put a row's place in front of what is wrong with it."""
    try:
        yield
    except InputError as error:
        told = one_line(error)
        raise InputError(told if told.startswith(place) else f"{place}: {told}") from None


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known word closest to ``word``, or ``""``.

    A word that looks the same (white space, Unicode forms, characters without a width) comes with
    both spellings, code point by code point.
    """
    names = [str(name) for name in known]
    for name in names:
        if name != word and folded(name) == folded(word):
            same = name.casefold() == word.casefold()
            how = "" if same else f" it is spelled {name!a}, not {word!a}"
            return f"; did you mean {spelled(name) if how else repr(name)}?{how}"
    match = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if not match:
        return ""
    shown = spelled(match[0])
    return f"; did you mean {shown if shown != match[0] else repr(shown)}?"


def folded(text: str) -> str:
    """Return what spellings have in common that look the same, but for their capitals."""
    return visible(text).casefold()


def visible(text: str) -> str:
    """Return what spellings have in common that look the same."""
    return unified("".join(c for c in text if unicodedata.category(c) != "Cf"))  # have no width


def unified(text: str) -> str:
    """Return a text in one Unicode form (NFC) and with single blanks for its white space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def spelled(name: str) -> str:
    """Return a name as it is, or with escapes in quotes where reading it would mislead."""
    plain = name.isprintable() and name == unified(name) != ""
    return name if plain else ascii(name)


def listed(names: Iterable[str]) -> str:
    """Return names in one line, ``none`` if there are none; see :func:`spelled`."""
    return ", ".join(spelled(str(name)) for name in names) or "none"


def one_line(error: BaseException) -> str:
    """Return an error's whole message on one line; its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__

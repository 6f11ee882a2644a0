"""Secrets taken out of what is said and written down: tokens, passwords, keys.

A secret is known by its place (the value of ``HF_TOKEN``, what stands between ``://`` and ``@``,
the word behind ``--token``) or by its form (``hf_…``).
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from functools import cache
from urllib.parse import unquote

HIDDEN = "***"
SHORTEST = 8  # characters of a secret that is looked for anywhere: shorter ones are words, too

_NAMES = {
    *("token", "secret", "password", "passwd", "passphrase", "pwd", "key", "apikey", "credential"),
    *("credentials", "pat", "auth", "authorization"),
}
_NOT_NAMES = {"PWD", "OLDPWD"}  # of folders
_USERINFO = re.compile(r"(?<=://)[^/?#@\s'\"]+@")
_PASSWORD = re.compile(r"://[^/?#@\s:'\"]*:([^/?#@\s'\"]+)@")
_QUERY = re.compile(
    r"(?<=[?&])((?:[\w-]*[_-])?(?:token|password|passwd|secret|signature|api_?key|key)=)[^&#\s'\"]+",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(?i)\b(bearer|basic) [\w.~+/=-]{8,}")
_FORMS = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[\w-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|"
    r"glpat-[\w-]{16,}|xox[abpr]-[\w-]{10,}|AKIA[A-Z0-9]{16})"
)


def redacted(text: str) -> str:
    """Return a text with every secret in it replaced by ``***``."""
    for value in _values():
        text = text.replace(value, HIDDEN)
    text = _QUERY.sub(rf"\1{HIDDEN}", _USERINFO.sub(f"{HIDDEN}@", text))
    return _FORMS.sub(HIDDEN, _BEARER.sub(rf"\1 {HIDDEN}", text))


def redacted_words(words: Sequence[str]) -> list[str]:
    """Return the words of a command line without secrets, those behind ``--token`` among them."""
    told: list[str] = []
    hide = False
    for word in words:
        name, equals, value = word.partition("=")
        secret = _is_name(name.lstrip("-"))
        if hide and not word.startswith("-"):
            told.append(HIDDEN)
        else:
            told.append(f"{name}={HIDDEN}" if secret and equals and value else redacted(word))
        hide = secret and not equals and word.startswith("-")
    return told


def secret_in(text: str) -> str | None:
    """Return in words which secret a text holds; ``None``: none that can be told."""
    if _PASSWORD.search(text):
        return "a URL with a password"
    if _FORMS.search(text):
        return "a token"
    for name, value in os.environ.items():
        if any(secret in text for secret in _of(name, value)):
            return f"the secret of {name}"
    return None


def _values() -> list[str]:
    """Return the secrets of the environment, the longest first: one may begin another."""
    found = {secret for name, value in os.environ.items() for secret in _of(name, value)}
    return sorted(found, key=lambda value: (-len(value), value))


def _of(name: str, value: str) -> Iterator[str]:
    """Yield the secrets of a variable: its value, or the password in a URL."""
    for password in _PASSWORD.findall(value) if "://" in value else ():
        yield from (word for word in {password, unquote(password)} if len(word) >= SHORTEST)
    plain = value.isalpha() and value.islower()  # a word, which stands for itself elsewhere
    if name in _NOT_NAMES or not _is_name(name) or plain or len(value) < SHORTEST:
        return
    if not value.startswith("/"):  # the place of a file of credentials
        yield value


@cache
def _is_name(name: str) -> bool:
    """Whether what is called so is a secret: ``HF_TOKEN``, ``--api-key``; not ``max_tokens``."""
    return re.split(r"[^A-Za-z]+", name.rstrip("_0123456789"))[-1].lower() in _NAMES


class Formatter(logging.Formatter):
    """Log lines, tracebacks included, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return redacted(super().format(record))

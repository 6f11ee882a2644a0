"""What a request to the service may be: its size, its texts, and who may send it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from star.errors import InputError
from star.listening import LOOPBACK

TOKEN = re.compile(r"[!-~]{16,}")  # what a header can hold, and nobody guesses


@dataclass(frozen=True)
class Limits:
    """The most that a request may ask for.

    Attributes:
        bytes: Of its body.
        texts: How many.
        characters: Of a text, or of all columns of a row together.

    Raises:
        InputError: One of them is below 1.
    """

    bytes: int = 1_048_576
    texts: int = 256
    characters: int = 20_000

    def __post_init__(self) -> None:
        for name in ("bytes", "texts", "characters"):
            if getattr(self, name) < 1:
                raise InputError(f"--max-{name} must be 1 or more, got {getattr(self, name)}")


def check_token(host: str, token: str | None) -> None:
    """Refuse to open a service to others without a token, or with one that can be guessed.

    Raises:
        InputError: Either.
    """
    if token is None and host not in LOOPBACK:
        raise InputError(f"--host {host} opens the model to others, which needs a token")
    if token is not None and not TOKEN.fullmatch(token):
        raise InputError(
            "the token must be 16 or more printable ASCII characters without spaces, got "
            f"{len(token)} characters"
        )

"""A key of the schema: its default, its line of help, its bounds."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def key(default: Any, text: str, *, added: bool = False, **bounds: float) -> Any:
    """Return a dataclass field with a line of help and the bounds ``ge, gt, le, lt``.

    ``added``: the key is younger than committed results. At its default it means what was done
    before there was a choice, so ``config_hash`` leaves it out there and old runs keep theirs.
    """
    metadata = {"help": text, "added": added, **bounds}
    if isinstance(default, (list, tuple)):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)

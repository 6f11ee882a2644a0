"""Names that become part of a path: they stay where they are put, on every system."""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath

# Devices, whatever folder they are named in and whatever ending they have.
_DEVICE = re.compile(r"(?:con|prn|aux|nul|(?:com|lpt)[0-9¹²³])(?:[. ].*)?", re.IGNORECASE)


def inside(name: str) -> bool:
    """Return whether a relative path leads below where it begins, and nowhere else."""
    kinds = (PurePosixPath(name), PureWindowsPath(name))
    return not any(path.anchor or ".." in path.parts for path in kinds)


def device(name: str) -> str | None:
    """Return the part of a path that is a device on Windows, ``None`` if there is none."""
    return next((part for part in re.split(r"[/\\]", name) if _DEVICE.fullmatch(part)), None)


def plain(name: str) -> bool:
    """Return whether a name is that of one file or folder: no path, and none above."""
    return inside(name) and not re.search(r"[/\\]", name) and name not in ("", ".")

"""The lines of an exported model's card."""

from __future__ import annotations

import re
from pathlib import Path

CODE = re.compile(r"```python\n(.*)\nprint\(answer.*?```", re.DOTALL)


def code(folder: Path) -> str:
    """Return the lines that make ``answer(row)``, for a folder."""
    found = CODE.search((folder / "README.md").read_text(encoding="utf-8"))
    assert found and "import star" not in found[1]
    return found[1].replace('folder = "."', f"folder = {str(folder)!r}")

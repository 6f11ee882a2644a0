"""READMEs: what they point to is there, and the first one can be read in one sitting."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from readmes import READMES, ROOT

CODE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"`((?:star|configs|scripts|tests)/[\w./-]*)(?::(\w+))?`")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(text: str) -> set[str]:
    """Return the headings of a document as links name them."""
    headings = HEADING.findall(CODE.sub("", text))
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in headings}


def dead(text: str, folder: Path) -> list[str]:
    """Return what a document in this folder links to or names by its path, and is not there."""
    prose = CODE.sub("", text)
    found = []
    for name, function in PATH.findall(prose):
        path = ROOT / name
        if not path.exists():
            found.append(name)
        elif function and f"def {function}(" not in path.read_text(encoding="utf-8"):
            found.append(f"{name}:{function}")
    for link in LINK.findall(prose):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        path = folder / name if name else None
        if path is not None and not path.exists():
            found.append(link)
        elif anchor:
            there = text if path is None else path.read_text(encoding="utf-8")
            found += [] if anchor in anchors(there) else [link]
    return found


@pytest.mark.parametrize("path", READMES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_link_and_path_is_there(path: Path) -> None:
    assert dead(path.read_text(encoding="utf-8"), path.parent) == []


def test_what_is_not_there_is_told() -> None:
    text = (
        "# A head\n[one](tests/none.md) [two](#a-head) [three](#none) [four](README.md#none)\n"
        "`star/none.py` `star/errors.py:nearest` `star/errors.py:none`\n"
        "[five](https://example.org/none) [six](tests)\n"
        "```bash\n# none\n[x](none)\n```\n"
    )
    assert dead(text, ROOT) == [
        "star/none.py",
        "star/errors.py:none",
        "tests/none.md",
        "#none",
        "README.md#none",
    ]


def test_the_main_readme_is_one_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert "| verb |" in text and "```bibtex" in text


def test_every_readme_is_reached_from_the_main_one() -> None:
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        path = todo.pop()
        seen.add(path)
        for link in LINK.findall(path.read_text(encoding="utf-8")):
            place = path.parent / link.partition("#")[0]
            page = (place / "README.md" if place.is_dir() else place).resolve()
            if page.name == "README.md" and page.is_file() and page not in seen:
                todo.append(page)
    assert set(READMES) <= seen

"""The READMEs of the repository, the main one first."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
READMES = [ROOT / "README.md"]
for folder in ("configs", "scripts", "star", "tests"):
    READMES += sorted((ROOT / folder).rglob("README.md"))

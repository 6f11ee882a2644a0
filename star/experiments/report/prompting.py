"""What the models of a table were asked: the prompt template of each run, gathered by column.

Wording alone moves a model's accuracy by more than most strategies do, so a table says it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from star.active_learning.run_reader import RunReader
from star.experiments.report.record import Column


def task_of(run: Path) -> tuple[str | None, str | None]:
    """Return a run folder's prompt template and ``task.draw``; ``None`` where it does not say.

    Of the configuration, in the words of this version: runs before the prompt stood in
    ``environment.json`` have nothing else.
    """
    try:
        text = RunReader(run).config.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None, None
    section = re.search(r"^task:\n(?:[ -].*\n?)+", text, re.MULTILINE)
    return (None, None) if section is None else _read(section[0])


@lru_cache  # a table's runs have few, and reading YAML takes a while
def _read(section: str) -> tuple[str | None, str | None]:
    import yaml

    from star.config import TaskConfig
    from star.data.loading import TASKS  # late: it loads torch
    from star.errors import InputError

    try:
        told = yaml.safe_load(section)["task"]
        known = {key: told[key] for key in ("name", "prompt", "columns", "choices") if key in told}
        task = TASKS[known["name"]](TaskConfig(**known))
    except (KeyError, TypeError, AttributeError, yaml.YAMLError, InputError):
        return None, None  # of a version that named things otherwise
    return task.prompt.text, told.get("draw")


def prompts_of(cells: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[str]]]:
    """Take ``prompt`` off the cells; return column to template to the rows that were asked so."""
    found: dict[str, dict[str, list[str]]] = {}
    for cell in cells:
        prompt = cell.pop("prompt", None)
        if prompt is not None:
            rows = found.setdefault(cell["column"], {}).setdefault(prompt, [])
            if cell["row"] not in rows:
                rows.append(cell["row"])
    return found


def prompts_in_words(column: Column) -> list[str]:
    """Return what the model was asked, in sentences."""
    shown = {json.dumps(text, ensure_ascii=False): rows for text, rows in column.prompts.items()}
    if len(shown) == 1:
        return [f"Prompt: {next(iter(shown))}."]
    return [f"Prompt of {', '.join(rows)}: {text}." for text, rows in shown.items()]

"""What a configuration must keep to where people answer, or its test rows are drawn."""

from __future__ import annotations

import re

from star.config.derived import label_free
from star.config.schema import Config
from star.errors import InputError

PEOPLE = "task.oracle=people"


def check_people(config: Config) -> None:
    """Refuse what needs answers that stand in the rows, or rows that come and go.

    Raises:
        InputError: Naming what to set instead.
    """
    masking = config.annotation.masking
    if masking not in (None, "patterns") and not re.fullmatch(r"\w+(\.\w+)*:\w+", masking):
        raise InputError(
            f"annotation.masking must be patterns, module:function or null, got '{masking}'"
        )
    task = config.task
    if None not in (task.test_size, task.test_limit):
        raise InputError(
            f"task.test_size={task.test_size} draws test rows from the pool, task.test_limit="
            f"{task.test_limit} is of a test split; remove one of them"
        )
    if task.oracle == "data":
        return
    if task.name not in ("jsonl", "classification"):
        raise InputError(f"{PEOPLE} belongs to task.name=jsonl or classification, got {task.name}")
    if task.name == "classification" and task.choices is None:
        raise InputError(f"{PEOPLE} needs the classes; set task.choices=[a, b, ...]")
    if task.data_dir is None:
        raise InputError(f"{PEOPLE} needs rows with ids in task.data_dir; see star init")
    if task.overlong == "drop":
        raise InputError(
            f"{PEOPLE} keeps every row that somebody may have labelled; set task.overlong=truncate "
            "or error, got drop"
        )
    if not label_free(config):
        raise InputError(
            f"{PEOPLE} has no answers in advance, which acquisition.continuation=gold and "
            "acquisition.select=lookahead read; set others"
        )
    if config.tracking.first_rounds is not None:
        raise InputError(
            "tracking.first_rounds shares a round among runs with the same labels; "
            f"{PEOPLE} has its own, so leave it out"
        )

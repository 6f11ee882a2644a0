"""What people are asked now, by the loop's own steps and without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from star.active_learning.people import People
from star.active_learning.run_reader import RunReader
from star.config import Config, is_unordered, starts_cold
from star.data.loading import TaskData
from star.data.pool import LabelsMissing, Pool, first_labels, in_random_order
from star.data.task import Answer
from star.errors import InputError
from star.run_files import INITIAL


@dataclass(frozen=True)
class Query:
    """What people are asked now.

    Attributes:
        indices: Pool indices, those that are decided too: as the strategy has ordered them, or at
            random, but for the test and validation rows, all of which are needed.
        missing: Those of them that are not decided.
        short: How many of these are needed before the next training; 0: it can begin.
        purpose: What they are for, in words.
    """

    indices: list[int]
    missing: list[int]
    short: int
    purpose: str


def open_query(config: Config, folder: RunReader, data: TaskData, oracle: People) -> Query:
    """Return what people are asked, by the loop's own steps, without a model.

    Where a model chooses the first examples (``acquisition.initial``) and has not yet, nothing is
    asked once the test rows are decided.

    What a run has in the order of its file, its first examples and what ``select=random`` draws,
    is asked in a random order, which stays the same: people answer the beginning, and may train on
    that, so that every beginning has to be a sample of the whole, and no end of a sorted file.

    Args:
        config: Of the run.
        folder: Its.
        data: Its rows.
        oracle: What is decided; it has sold nothing yet.
    """
    complete = folder.complete_rounds()
    tested = [] if data.test.answers else [e.index for e in data.test.examples]
    asked = list(tested)
    try:
        if tested:
            oracle.test(data.test.examples)
        initial = _initial(config, folder, data)
        if initial is None:
            return Query([], [], 0, "the first examples")
        held_out, first = initial
        asked = held_out
        oracle.label(held_out)
        for t in range(-1, complete):
            asked = first if t < 0 else _chosen(config, folder, t)
            oracle.label(asked)
    except LabelsMissing as error:
        if not complete:  # all that the first round needs, in one file
            held_out, first = _initial(config, folder, data) or ([], [])
            everything = [*tested, *held_out, *first]
            known = oracle.decided.answers
            missing = [i for i in everything if i not in known]
            if not missing:
                return _others(config, data, known, error.purpose)
            return Query(everything, missing, _short(config, missing, error), "round 0")
        if not error.indices:
            return _others(config, data, oracle.decided.answers, error.purpose)
        return Query(asked, error.indices, error.short, error.purpose)
    known = oracle.decided.answers
    return Query(asked, [i for i in asked if i not in known], 0, f"round {complete}")


def _chosen(config: Config, folder: RunReader, t: int) -> list[int]:
    """Return what round ``t`` has chosen, the most wanted first where one is; else at random."""
    if not folder.selected_file(t).exists():
        return []
    chosen = folder.selected(t)
    if not is_unordered(config.acquisition):
        return chosen
    return in_random_order(chosen, config.seed, "asked", t)


def _others(
    config: Config, data: TaskData, known: Mapping[int, Answer | None], purpose: str
) -> Query:
    """Return other rows, since those that were asked for have given no label.

    They come in one random order of the whole pool, whatever is decided by now.

    Raises:
        InputError: There are none.
    """
    order = in_random_order(data.pool.indices, config.seed, "instead")
    left = [i for i in order if i not in known]
    if not left:
        raise InputError("no row has a label: all were skipped, or none of the labels fits")
    first = purpose == "round 0"
    drawn = left[: config.pool.initial_size if first else config.pool.query_size]
    return Query(drawn, drawn, 1, purpose)


def _short(config: Config, missing: Sequence[int], error: LabelsMissing) -> int:
    """Return how many of the cold start's rows are needed."""
    if error.purpose == "round 0":
        return error.short
    least = config.annotation.min_new_labels
    first = config.pool.initial_size
    return len(missing) if least is None or least >= first else len(missing) - first + least


def _initial(
    config: Config, folder: RunReader, data: TaskData
) -> tuple[list[int], list[int]] | None:
    """Return the validation rows and the first examples; ``None``: a model has to choose them."""
    if (folder.path / INITIAL).exists():
        stored = folder.stored_initial()
        held_out = stored.get("validation", [])
        first = [i for i in stored["indices"] if i not in set(held_out)]
    elif starts_cold(config.acquisition):
        return None
    else:
        pool: Pool[Answer] = Pool([example.index for example in data.pool.examples])
        sizes = {"held_out": config.task.validation_size, "initial": config.pool.initial_size}
        held_out, first = first_labels(pool, **sizes, seed=config.seed)
    return held_out, in_random_order(first, config.seed, "asked", -1)

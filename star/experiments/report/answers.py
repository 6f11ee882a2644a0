"""What a run's answers to its test rows say from round to round: what stopping rules look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from star.active_learning.run_reader import RunReader
from star.data.readers import read_lines
from star.errors import InputError
from star.evaluation.stopping import consecutive_kappa


def answers_of(
    run: RunReader, points: Sequence[Mapping[str, Any]]
) -> list[dict[str, float | None] | None]:
    """Return ``Point.answers`` of each round; ``None`` where there are none to compare.

    Args:
        run: A finished run.
        points: The rounds of its ``result.json``.

    Raises:
        InputError: Rounds that were tested on unlike rows, or a damaged file.
    """
    files = [run.predictions(point["round"]) for point in points]
    if not all(file.is_file() for file in files):
        return [None] * len(points)
    rows = [[row for _, row in read_lines(file)] for file in files]
    for file, part in zip(files, rows, strict=True):
        if [row["index"] for row in part] != [row["index"] for row in rows[0]]:
            if run.labels(0) is not None:  # a test row's label was taken back meanwhile
                return [None] * len(points)
            raise InputError(f"{file} is of other rows than {files[0]}")
    kappas = consecutive_kappa([[row["prediction"] for row in part] for part in rows])
    found: list[dict[str, float | None] | None] = []
    for part, kappa in zip(rows, [None, *kappas], strict=True):
        right = [row["correct"] for row in part]
        halves = {"even": right[::2], "odd": right[1::2]}
        found.append(
            {name: sum(half) / len(half) if half else None for name, half in halves.items()}
            | {"kappa": kappa}
        )
    return found

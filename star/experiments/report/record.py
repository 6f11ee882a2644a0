"""A record of results: what tables and figures are made from, as its file holds it.

Every cell that was asked for is in it, finished or not. Floats have six significant digits, rounded
where they are gathered and nowhere else: whoever reads the committed record computes what the run
folders would give. Accuracies and areas keep all digits, since equal ones must tie.

To read is to check: JSON becomes dataclasses whose types say what may stand where, and readers
trust them from there on. Equal records are written as equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Annotated, Any

from star.errors import InputError
from star.experiments.report.typed_json import Share, Tagged, Whole, plain, read
from star.files import atomic_write, read_json

Numbers = dict[str, float | None]  # by name
VIEWS = ("base", "full", "mc")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table: a method, in words and settings ``key=value``.

    Attributes:
        naive: Rows that lack what the method adds; a name alone stood there before a column could
            have a counterpart of its own.
        curve: Whether it has a learning curve.
    """

    name: str
    about: str
    preset: str | None
    settings: tuple[str, ...]
    naive: str | tuple[str, ...] | None
    curve: bool


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table: a task and a model; ``prompts``: template to rows that were asked so."""

    name: str
    about: str
    settings: tuple[str, ...] = ()
    prompts: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What runs were made in, as ``environment.json`` has it."""

    star: dict[str, str | bool | None] | None = None
    hardware: dict[str, str | float | tuple[str, ...] | None] | None = None
    packages: dict[str, str | None] | None = None


@dataclass(frozen=True, kw_only=True)
class Point:
    """A round of a run, as ``result.json`` has it.

    Where answers are generated the ``ece`` of one without ``overconfidence`` is that of the token
    mean: an older version wrote it.

    Attributes:
        labeled: Labels that it trained on.
        accuracy: Fraction of the test questions; ``accuracy_strict`` of generated answers alone.
        seconds: Of each part; ``tokens`` likewise.
        class_entropy: Of the classes of its labels, see ``classification.balance``; ``least_class``
            likewise.
        gap: The two views' mean scores, ``base`` and ``full``, and their ``rank_correlation``.
        selected: Pool indices that were queried after it.
        answers: To the test rows: ``even`` and ``odd``, accuracy on every second one of them from
            the first and from the second, as ``predictions.jsonl`` has them; ``kappa`` of the
            answers with those of the round before, ``None`` where it is undefined.
    """

    labeled: Whole
    accuracy: Share
    accuracy_strict: float | None = None
    accuracy_sum: float | None = None
    accuracy_mean: float | None = None
    accuracy_stderr: float | None = None
    ece: Share
    overconfidence: float | None = None
    ece_token_mean: float | None = None
    overconfidence_token_mean: float | None = None
    nll: float | None = None
    brier: float | None = None
    class_entropy: float | None = None
    least_class: float | None = None
    seconds: dict[str, float] | None = None
    tokens: Numbers | None = None
    gap: Numbers | None = None
    selected: tuple[Whole, ...] | None = None
    answers: Numbers | None = None


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """A finished run in its place.

    Attributes:
        environment: Its place among the record's; ``resumed``: others that it went on in.
        started: Day.
        content: What these names stood for: hashes of ``data``, ``model`` and ``strategy``, of
            ``settings`` where they are not the table file's; ``draw``: ``seeded`` where each seed
            has rows of its own; ``processes`` and the ``rows_per_update`` of all of them where it
            was not one; ``words``: ``key=value`` of settings that are not the table file's, or of
            single runs those that tell rows apart and their names do not.
        auc: Area under its curve, a fraction.
        rounds: Their label counts rise; ``left_out``: the numbers of those that are not among them,
            since a later one has no more labels.
        reliability: View to confidence, accuracy and count of each bin after the last round.
        base: The base model's ``ece``, ``overconfidence`` and so on.
    """

    column: str
    row: str
    seed: Whole
    status: str
    environment: Whole | None
    started: str | None
    content: dict[str, str | None] | None = None
    resumed: tuple[Whole, ...] | None = None
    task: str
    strategy: str
    label_free: bool
    config_hash: str
    auc: Share
    rounds: tuple[Point, ...]
    reliability: dict[str, tuple[tuple[float, float, float], ...]] | None = None
    base: Numbers | None = None
    left_out: tuple[Whole, ...] | None = None

    def __post_init__(self) -> None:
        if not self.rounds or list(self.labels) != sorted(set(self.labels)):
            raise ValueError(f"{_where(vars(self))}its label counts do not rise: {self.labels}")
        # The last round is on the curve, whatever its count.
        if len(self.numbers) != len(self.rounds) or max(self.left_out or (0,)) > self.numbers[-1]:
            raise ValueError(f"{_where(vars(self))}no run leaves out rounds {self.left_out}")

    @property
    def labels(self) -> tuple[int, ...]:
        """The label counts of its rounds."""
        return tuple(point.labeled for point in self.rounds)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of its rounds, from 0; those left out have one too."""
        out = self.left_out or ()
        every = range(len(self.rounds) + len(out))
        return tuple(number for number in every if number not in out)

    @property
    def places(self) -> set[int]:
        """The places of its environments among the record's."""
        return {*([] if self.environment is None else [self.environment]), *(self.resumed or ())}


@dataclass(frozen=True, kw_only=True)
class NoResult:
    """A cell whose run has failed, with the error, or has not finished."""

    column: str
    row: str
    seed: Whole
    status: str
    error: str | None = None

    def __post_init__(self) -> None:
        if self.status == "failed" and self.error is None:
            raise ValueError(f"{_where(vars(self))}error is missing")


def _where(cell: Mapping[str, Any]) -> str:
    return "cell {}/{}/seed{}: ".format(*(cell.get(key) for key in ("column", "row", "seed")))


KINDS = {"done": CellResult, "failed": NoResult, "missing": NoResult}
Cell = Annotated[CellResult | NoResult, Tagged("status", KINDS, _where)]


@dataclass(frozen=True, kw_only=True)
class Record:
    """The results of a table.

    Attributes:
        table: Its name.
        since: Sentences by hand, in a committed record that is not made again when the program
            changes: how it was made, and what has changed since. The next gathering drops them.
        baseline: The row that the others are compared with.
        gains: Target accuracies of the section on what labels gain, where the table has it.
        settings: Of every row.
        environments: What the runs were made in, each once.
        cells: Those that were asked for, finished or not.
    """

    table: str
    title: str
    since: tuple[str, ...] | None = None
    baseline: str
    gains: tuple[Share, ...] | None = None
    settings: tuple[str, ...] = ()
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    seeds: tuple[Whole, ...]
    environments: tuple[Environment, ...]
    cells: tuple[Cell, ...]

    def __post_init__(self) -> None:
        names = {"rows": [r.name for r in self.rows], "columns": [c.name for c in self.columns]}
        for key, parts in names.items():
            if len(set(parts)) < len(parts):
                raise ValueError(f"a name stands twice in {key}")
        seen = set()
        for cell in self.cells:
            place = (cell.column, cell.row, cell.seed)
            known = cell.column in names["columns"] and cell.row in names["rows"]
            if not known or place in seen:
                raise ValueError(f"the cell {place} is unknown or stands twice")
            seen.add(place)
        for cell in self.results():
            for place in cell.places - {*range(len(self.environments))}:
                raise ValueError(f"{_where(vars(cell))}there is no environment {place}")

    def results(self, column: str | None = None) -> list[CellResult]:
        """Return the finished cells, of a column or of all."""
        done = [cell for cell in self.cells if isinstance(cell, CellResult)]
        return [cell for cell in done if column is None or cell.column == column]


def write_record(path: str | Path, record: Record) -> None:
    """Write a record as JSON, one row, column, environment or cell a line; make its folder."""
    parts = []
    for key, value in plain(record).items():
        text = _json(value)
        if value and is_dataclass(value[0]):
            text = "[\n" + ",\n".join(f"    {_json(item)}" for item in value) + "\n  ]"
        parts.append(f"  {_json(key)}: {text}")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(("{\n" + ",\n".join(parts) + "\n}\n").encode())


def _json(value: object) -> str:
    return json.dumps(value, default=plain, ensure_ascii=False, allow_nan=False)


def read_record(path: str | Path) -> Record:
    """Return what :func:`write_record` wrote.

    Raises:
        InputError: The file cannot be read, is not JSON, or is no record.
    """
    return parse(read_json(path), path)


def parse(content: object, source: object) -> Record:
    """Return a record from JSON content.

    Args:
        content: See :class:`Record`.
        source: What it was read from, for the message.

    Raises:
        InputError: A key is missing or unknown, or what stands there cannot be.
    """
    try:
        return read(Record, content)
    except (TypeError, ValueError) as error:
        raise InputError(f"{source} is not a record of results: {error}") from None

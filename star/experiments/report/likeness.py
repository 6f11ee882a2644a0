"""Which runs of two rows may be compared: those of the same data and the same model.

Rows of a table differ in what their settings say. Where their runs differ in more, as after an edit
of the rows' file between two sweeps, a difference between them is not the method's. Where one has
settings that the table file no longer gives it, or trained by updates of more rows than they say,
the difference is shown, and nothing is claimed of it: no test, no arrow, no bold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from star.config import PRESETS, preset_path
from star.experiments.report.made_by import numbers
from star.experiments.report.record import CellResult, Record, Row
from star.experiments.report.settings import flat
from star.experiments.table import word

PARTS = {"data": "task", "model": "model"}  # of a run's content; the section that asks for it
UNTESTED = {  # in what runs may differ and still be laid side by side; why they are not tested
    "settings": "not both have the settings that the table file has now",
    "update size": "they trained on different numbers of processes",
}
CUT = re.compile(r"…| and \d+ more$")  # words that do not say all, see ``settings.words``
STALE = "other settings than the table file has now"
Unlike = dict[tuple[str, ...], list[int]]  # parts in which two rows' runs differ, to the seeds


class Likeness:
    """What the runs of a record may be compared with."""

    def __init__(self, record: Record) -> None:
        self._rows = {row.name: row for row in record.rows}

    def unlike(self, run: CellResult, other: CellResult) -> tuple[str, ...]:
        """Return which of ``PARTS`` differ between two runs, though their rows ask for the same.

        Not where the rows' own settings differ in that section: then the table compares two test
        splits or two models, which is its question. What a run does not say differs from nothing.
        """
        contents = run.content or {}, other.content or {}
        rows = self._rows[run.row], self._rows[other.row]
        unlike = []
        for part, section in PARTS.items():
            hashes = {content.get(part) for content in contents} - {None}
            own = [_own(row, section) for row in rows]
            if len(hashes) > 1 and own[0] == own[1]:
                unlike.append(part)
        return tuple(unlike)

    def sorted_out(
        self, runs: Mapping[int, CellResult], others: Mapping[int, CellResult]
    ) -> tuple[list[int], Unlike]:
        """Return of the seeds that two rows share those that are alike, and in what others are not.

        Args:
            runs: Of a row, by seed.
            others: Of another row, likewise.
        """
        alike: list[int] = []
        unlike: Unlike = {}
        for seed in runs:
            if seed in others:
                parts = self.unlike(runs[seed], others[seed])
                (unlike.setdefault(parts, []) if parts else alike).append(seed)
        return alike, unlike

    def apart(
        self, runs: Mapping[int, CellResult], others: Mapping[int, CellResult]
    ) -> tuple[str, ...]:
        """Return in what any runs of two rows differ on the same seed, each once."""
        alike, unlike = self.sorted_out(runs, others)
        found = [*unlike, *(untested(runs[seed], others[seed]) for seed in alike)]
        return tuple(dict.fromkeys(part for parts in found for part in parts))


def untested(run: CellResult, other: CellResult) -> tuple[str, ...]:
    """Return which of ``UNTESTED`` differ between two runs, beyond what their rows ask for."""
    apart = [_off_settings(run) != _off_settings(other)]
    # Two that are off alike may be off in more than is said.
    apart[0] |= stale(run) and CUT.search(_off_settings(run) or "") is not None
    apart.append(processes(run) != processes(other))
    return tuple(part for part, unlike in zip(UNTESTED, apart, strict=True) if unlike)


def stale(run: CellResult) -> bool:
    """Return whether a run has not the settings that the table file gives its row."""
    return (run.content or {}).get("settings") is not None


def processes(run: CellResult) -> str:
    """Return on how many processes a run trained, each with the rows that its settings say."""
    return (run.content or {}).get("processes") or "1"


def _off_settings(run: CellResult) -> str | None:
    """Return in which settings a run is not as the table file has its row; ``None``: in none."""
    content = run.content or {}
    if not stale(run):
        return None
    return "…" if content["settings"] == "unknown" else content.get("words") or ""


def unlike_in_words(other: str, unlike: Unlike) -> list[str]:
    """Return which seeds of a row cannot be compared with another's, and why."""
    return [
        f"not comparable with {other}, whose runs are of different {' and '.join(parts)}: "
        f"seed {numbers(seeds)}"
        for parts, seeds in unlike.items()
    ]


def settings_in_words(runs: Mapping[int, CellResult]) -> list[str]:
    """Return what a reader must know of the settings of a row's runs, by seed."""
    groups: dict[tuple[bool, str | None], list[int]] = {}
    for seed, run in runs.items():
        groups.setdefault((stale(run), (run.content or {}).get("words")), []).append(seed)
    said = []
    for (other, words), seeds in groups.items():
        if other:
            which = f" ({words})" if words else ""
            said.append(f"run with {STALE}: seed {numbers(seeds)}{which}")
        elif words:
            said.append(f"run with {words}")
    return said


def updates_in_words(runs: Mapping[int, CellResult]) -> list[str]:
    """Return which of a row's runs trained by updates of more rows than its settings say."""
    groups: dict[tuple[str, str], list[int]] = {}
    for seed, run in runs.items():
        if processes(run) != "1":
            rows = (run.content or {}).get("rows_per_update") or "an unknown number of"
            groups.setdefault((processes(run), rows), []).append(seed)
    return [
        f"trained by updates of {rows} rows, on {count} processes: seed {numbers(seeds)}"
        for (count, rows), seeds in groups.items()
    ]


def off_in_words(record: Record) -> list[str]:
    """Return which runs of a record are not as the table file has their rows, row by row."""
    rows: dict[tuple[str, str], dict[int, CellResult]] = {}
    for run in record.results():
        if stale(run) or processes(run) != "1":
            rows.setdefault((run.column, run.row), {})[run.seed] = run
    return [
        f"{column}, {row}: {said}."
        for (column, row), runs in rows.items()
        for said in settings_in_words(runs) + updates_in_words(runs)
    ]


def untested_in_words(other: str, pairs: Sequence[tuple[CellResult, CellResult]]) -> list[str]:
    """Return on which seeds a row's runs are not like another's, so that no test is made."""
    unlike: dict[tuple[str, ...], list[int]] = {}
    for run, theirs in pairs:
        parts = untested(run, theirs)
        if parts:
            unlike.setdefault(parts, []).append(run.seed)
    return [
        f"compared with {other} without a test, since "
        f"{' and '.join(UNTESTED[part] for part in parts)}: seed {numbers(seeds)}"
        for parts, seeds in unlike.items()
    ]


def _own(row: Row, section: str) -> dict[str, str]:
    """Return what a row itself sets in a section, over what its column has."""
    own = {} if row.preset is None else dict(_preset(row.preset))
    own |= dict(said.partition("=")[::2] for said in row.settings)
    return {key: value for key, value in own.items() if key.partition(".")[0] == section}


@cache
def _preset(name: str) -> dict[str, str]:
    import yaml

    if name not in PRESETS:  # of another version, which may have set anything
        return dict.fromkeys(PARTS.values(), name)
    tree: dict[str, Any] = yaml.safe_load(preset_path(name).read_text(encoding="utf-8")) or {}
    return {key: word(value) for key, value in flat(tree).items()}

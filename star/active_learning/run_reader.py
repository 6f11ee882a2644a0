"""What is read of a run folder, by whoever reads one. No torch: reports start fast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star.active_learning.run_checks import check_run, complete_rounds
from star.checksums import check_config, damaged, is_round
from star.errors import InputError
from star.files import kind_of, read_json
from star.run_files import (
    ADAPTER,
    CONFIG,
    ENVIRONMENT,
    FAILURE,
    INITIAL,
    LABELS,
    METRICS,
    PREDICTIONS,
    RESULT,
    ROUNDS,
    SCORES,
    SELECTED,
    TRAINING,
)


@dataclass
class RunReader:
    """A run's folder, to read. Whether its files are what the run wrote, ``run_checks`` says.

    Where a method returns content it raises ``InputError`` for a file that is missing or damaged.
    """

    path: Path

    @classmethod
    def checked(cls, path: str | Path) -> RunReader:
        """Return the reader of a run folder whose files are what a run wrote, adapters aside.

        Raises:
            InputError: There is none, it is no run's, or a file of it is damaged.
        """
        folder = cls(Path(path))
        if not folder.path.is_dir():
            kind = kind_of(folder.path)
            what = "not found" if kind is None else f"is {kind}; name the folder of a run"
            raise InputError(f"run folder {folder.path} {what}")
        if not folder.config.is_file():
            round_ = folder.path.resolve()
            if is_round(round_):
                raise InputError(
                    f"{folder.path} is the folder of a round; name that of its run, "
                    f"{round_.parents[1]}"
                )
            check_config(folder.path)
            raise InputError(f"{folder.path} is not a run folder: it has no {CONFIG}")
        check_run(folder.path)
        return folder

    @property
    def config(self) -> Path:
        """The resolved configuration's file."""
        return self.path / CONFIG

    @property
    def finished(self) -> bool:
        """Whether the run's result, written last, is there."""
        return (self.path / RESULT).exists()

    @property
    def failure(self) -> str | None:
        """In one line why the run of a sweep failed; ``None``: it did not, or was none's."""
        try:
            lines = self.failure_file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return None
        return lines[0] if lines else "failed"

    @property
    def failure_file(self) -> Path:
        """Where a failure is told until the run is started again: beside the folder."""
        return self.path.with_name(f"{self.path.name}{FAILURE}")

    def environment(self) -> Any:
        """Return what the run ran on, and the content of what it names."""
        return read_json(self.path / ENVIRONMENT)

    def has_environment(self) -> bool:
        """Whether the run has told what it runs on."""
        return (self.path / ENVIRONMENT).is_file()

    def stored_initial(self) -> Any:
        """Return ``indices``, the pool indices labelled before round 0, and ``validation``."""
        return read_json(self.path / INITIAL)

    def result(self) -> Any:
        """Return the finished run's result."""
        return read_json(self.path / RESULT)

    def round_folder(self, t: int) -> Path:
        """Return the folder of round ``t``, whether or not it is there."""
        return self.path / ROUNDS / f"{t:02d}"

    def complete_rounds(self) -> int:
        """Return how many rounds are complete.

        Raises:
            InputError: There is a gap between them.
        """
        return len(complete_rounds(self.path))

    def scored_rounds(self) -> list[int]:
        """Return the complete rounds that keep scores."""
        return [t for t in range(self.complete_rounds()) if self.scores(t).is_file()]

    def metrics(self, t: int) -> Any:
        """Return what round ``t`` measured."""
        return read_json(self.round_folder(t) / METRICS)

    def selected(self, t: int) -> list[int]:
        """Return the pool indices queried after round ``t``, best first."""
        indices: list[int] = read_json(self.selected_file(t))["indices"]
        return indices

    def drawn(self, t: int) -> dict[int, str | None]:
        """Return what the query after round ``t`` drew at random: index to the model's answer.

        Raises:
            InputError: The record names others than were queried, or not an answer an example.
        """
        path = self.selected_file(t)
        told = read_json(path).get("drawn") if path.exists() else None
        if told is None:
            return {}
        try:
            pairs = dict(zip(told["indices"], told["answers"], strict=True))
        except (KeyError, TypeError, ValueError):
            raise damaged(path, "must hold an answer of each index that was drawn") from None
        if not pairs.keys() <= set(self.selected(t)):
            raise damaged(path, "has drawn what was not queried")
        return pairs

    def selected_file(self, t: int) -> Path:
        """Return the file of the query after round ``t``; none after the last."""
        return self.round_folder(t) / SELECTED

    def labels(self, t: int) -> Any:
        """Return what people's labels round ``t`` was trained on; ``None``: those of the data."""
        path = self.round_folder(t) / LABELS
        return read_json(path) if path.exists() else None

    def scores(self, t: int) -> Path:
        """Return the file of the arrays that the query after round ``t`` was decided by."""
        return self.round_folder(t) / SCORES

    def predictions(self, t: int) -> Path:
        """Return the file of round ``t``'s test rows."""
        return self.round_folder(t) / PREDICTIONS

    def training(self, t: int) -> Path:
        """Return the file of round ``t``'s updates."""
        return self.round_folder(t) / TRAINING

    def adapter(self, t: int) -> Path:
        """Return the folder of round ``t``'s adapter, if it was kept."""
        return self.round_folder(t) / ADAPTER

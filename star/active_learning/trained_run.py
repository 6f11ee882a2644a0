"""A run's model as its folder tells of it: which round's, what it is asked, how sure it may be.

Nothing here loads a model; see ``predictor`` for one that answers.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from star.active_learning import contents
from star.active_learning.run_reader import RunReader
from star.checksums import damaged
from star.config import Config, load
from star.data import loading as tasks
from star.data.task import Task
from star.errors import InputError
from star.evaluation.temperature import LIMITS, Temperatures
from star.models import sources
from star.run_files import METRICS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedRun:
    """A run with an adapter that was kept.

    Attributes:
        folder: Of the run, finished or not.
        config: Of the run.
        round_: Whose adapter it is.
        task: With its labels read.
        temperatures: As the round fitted them on the rows that ``task.validation_size`` held out;
            ``None``: there were none.
    """

    folder: RunReader
    config: Config
    round_: int
    task: Task
    temperatures: Temperatures | None

    @classmethod
    def of(cls, run: str | Path, round_: int | None = None) -> TrainedRun:
        """Return a run's model as it was after a round.

        Args:
            run: A run folder.
            round_: Of a complete round; ``None``: the last one that has kept its adapter.

        Raises:
            InputError: No run folder, a damaged one, no adapter; or the run's model is another now.
        """
        folder = RunReader.checked(run)
        config = load(folder.config)
        chosen = _round(folder, config, round_)
        scaled = folder.metrics(chosen).get("calibration", {}).get("full_scaled")
        task = tasks.TASKS[config.task.name](config.task)
        if task.is_choice and task.labels is None:  # read from rows that may be gone
            _recall(task, folder, chosen)
        _refuse_other(folder, dict.fromkeys(contents.KEYS) | {"model": _revision(folder, config)})
        temperatures = None if scaled is None else Temperatures.of(scaled)
        return cls(folder, config, chosen, task, temperatures)

    @property
    def by_likelihood(self) -> bool:
        """Whether its answers are choices that were compared; else they are generated."""
        return self.task.labels is not None and self.config.evaluation.choice_by == "likelihood"

    @property
    def adapter(self) -> Path:
        """The folder of the adapter."""
        return self.folder.adapter(self.round_)

    def summary(self) -> str:
        """Return in a line whose answers they are, and whether confidences are calibrated."""
        labels = self.folder.metrics(self.round_)["labeled"]
        head = f"{self.folder.path}, round {self.round_}, {labels} labels"
        if self.temperatures is None:
            return f"{head}; not calibrated: no rows were held out (task.validation_size=0)"
        held, t = self.config.task.validation_size, self.temperatures
        both = "" if t.token_mean is None else f", token mean {t.token_mean:.3g}"
        end = "; the end of its range, so hold out more rows" if t.whole in LIMITS else ""
        return f"{head}; calibrated on {held} held-out rows: temperature {t.whole:.3g}{both}{end}"


def _recall(task: Task, folder: RunReader, t: int) -> None:
    """Give a task the labels that a round was trained with, in the order of its log-probabilities.

    Raises:
        InputError: The round does not tell them.
    """
    path = folder.round_folder(t) / METRICS
    told = folder.metrics(t).get("per_class")
    if not isinstance(told, dict):
        raise damaged(path, "must tell the classes under 'per_class'")
    task.name_labels(told, str(path))


def _round(folder: RunReader, config: Config, asked: int | None) -> int:
    complete = folder.complete_rounds()
    kept = [t for t in range(complete) if folder.adapter(t).is_dir()]
    if not kept:
        why = (
            "no round is complete"
            if not complete
            else f"tracking.save_adapters={config.tracking.save_adapters}"
            if config.tracking.save_adapters == "none"
            else "they were removed"
            if folder.finished or config.tracking.save_adapters == "all"
            else "tracking.save_adapters=last keeps the last round's alone"
        )
        raise InputError(
            f"{folder.path} has kept no adapter: {why}; a run with tracking.save_adapters=last or "
            "all keeps what can be asked afterwards"
        )
    if asked is not None and asked not in kept:
        raise InputError(
            f"{folder.path} has no adapter of round {asked}; it has kept that of "
            f"{', '.join(map(str, kept))}"
        )
    return kept[-1] if asked is None else asked


def _revision(folder: RunReader, config: Config) -> str:
    """Return the hash or commit of the model that the run names, as it is now."""
    cache = sources.cache_root(config.tracking.cache_dir)
    try:
        return str(sources.resolve(config.model, cache)[1]["revision"])
    except InputError:
        told, name = folder.environment().get("model") or {}, config.model.name_or_path
        if told.get("source") != "folder" or Path(name).is_dir():
            raise
        raise InputError(
            f"{folder.path} was made with the model in the folder {name}, which is not there (seen "
            f"from {Path.cwd()}); restore it, or go where the run was started"
        ) from None


def _refuse_other(folder: RunReader, now: contents.Content) -> None:
    others = contents.changes(folder.path, now)
    if others:
        raise InputError(
            f"{folder.path} was made with another content of {' and '.join(others.values())}; its "
            f"adapter answers for none but that: restore {' and '.join(f'the {o}' for o in others)}"
        )
    if contents.recorded(folder.path)["model"] is None:
        logger.warning(
            "%s does not tell which model it was made with; it may be another than now", folder.path
        )

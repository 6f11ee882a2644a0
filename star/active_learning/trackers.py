"""Experiment trackers beside a run, through Accelerate's: ``tracking.log_with``.

They are told what the run's folder holds once a round is written: the settings, each round's
metrics at the number of labels, each update's loss at its number, the learning curve as a picture
at the end. No text, no answer and nothing of the environment is among it. A tracker that fails is
left out with one line of warning; nothing that it does can reach the run's numbers.

Each run of a tracker gets each round once. Where a tracker can go on with its own run, one that
was interrupted goes on there, after the rounds that it has: its number and these are kept in the
run's folder. Other trackers begin a new run, and get all complete rounds again.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from star.active_learning.round_metrics import curve, rounds_values, settings, updates_values
from star.active_learning.run_folder import RunFolder
from star.config import Config
from star.errors import one_line
from star.files import read_json, write_json
from star.redaction import redacted
from star.run_files import TRACKERS

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

logger = logging.getLogger(__name__)


@dataclass
class Tracked:
    """A tracker that is open.

    Attributes:
        name: As ``tracking.log_with`` has it.
        tracker: Accelerate's, or the user's.
        run: What it calls its run, where it can go on with it; ``None``: it begins anew.
        rounds: How many its run has.
    """

    name: str
    tracker: GeneralTracker
    run: str | None
    rounds: int

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log values at a step; W&B takes no step before the last one, so it counts by itself."""
        self.tracker.log(dict(values), step=None if self.name == "wandb" else step)

    def finish(self) -> None:
        """Close the tracker's run."""
        if self.name == "trackio":  # its run's own finish is called, and prints, at exit again
            importlib.import_module("trackio").finish()
        else:
            self.tracker.finish()


class Trackers:
    """The trackers of a run: a context that closes them. Only the main process has any."""

    def __init__(self, config: Config, folder: RunFolder) -> None:
        self._folder, self._root = folder, Path(config.output_dir)
        self._names = list(dict.fromkeys(config.tracking.log_with or ())) if folder.write else []
        self._open: list[Tracked] | None = None  # not before there is something to say

    def __enter__(self) -> Trackers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._open is None:
            return
        self.update()  # of a run that waits for people's labels, the round before them
        if error is None:
            self._each("draw the curve", self._draw)
        self._each("end", Tracked.finish)
        self._open = None

    def update(self) -> None:
        """Log what is complete and was not logged yet."""
        if not self._names:
            return
        if self._open is None:
            self._open = []
            for name in self._names:
                with self._surviving(name, "start"):
                    self._open.append(self._start(name))
        self._each("log", self._log)

    def _each(self, verb: str, work: Callable[[Tracked], None]) -> None:
        for tracked in list(self._open or ()):
            with self._surviving(tracked.name, verb):
                work(tracked)

    @contextlib.contextmanager
    def _surviving(self, name: str, verb: str) -> Iterator[None]:
        """Leave out a tracker that fails in here; what it prints is not this program's output."""
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        except (Exception, SystemExit) as error:  # somebody else's program: whatever it raises
            self._leave_out(name, verb)
            missing = isinstance(error, ModuleNotFoundError) and ":" not in name
            why = f"{type(error).__name__}: {redacted(one_line(error))}"
            why = f"pip install {name}" if missing else why
            logger.warning(
                "tracking.log_with: %s failed to %s (%s); the run goes on without it",
                *(name, verb, why),
            )

    def _leave_out(self, name: str, verb: str) -> None:
        every = self._open or []
        self._open = [tracked for tracked in every if tracked.name != name]
        for tracked in every:
            if tracked.name == name and verb != "end":
                # So that it gets away what it has; that it fails is known.
                with contextlib.suppress(Exception, SystemExit):
                    tracked.finish()

    def _start(self, name: str) -> Tracked:
        """Return a tracker that was started and knows the settings.

        Raises:
            Exception: Whatever its library raises.
        """
        place, run, rounds = self._place(name), None, 0
        if name in NAMED and place.is_file():
            stored = read_json(place)
            run, rounds = stored["run"], stored["rounds"]
        project, title = self._titles()
        if name in NAMED:
            tracker = NAMED[name](project, title, run, self._folder.path / TRACKERS)
        else:
            tracker = _own(name, title, self._folder.path / TRACKERS)
        tracker.start()
        if run is None or name == "trackio":  # it forgets them when its run goes on
            tracker.store_init_configuration(settings(self._folder))
        tracked = Tracked(name, tracker, RUN_OF[name](tracker) if name in NAMED else None, rounds)
        self._keep(tracked)
        return tracked

    def _titles(self) -> tuple[str, str]:
        """Return project and title: the folder of all runs, and the run's below it."""
        path, root = self._folder.path.resolve(), self._root.resolve()
        below = path.relative_to(root).parts if path.is_relative_to(root) else path.parts[-1:]
        return root.name or "star", "-".join(below) or path.name

    def _place(self, name: str) -> Path:
        return self._folder.path / TRACKERS / f"{name}.json"

    def _keep(self, tracked: Tracked) -> None:
        if tracked.run is not None:
            place = self._place(tracked.name)
            place.parent.mkdir(exist_ok=True)
            write_json(place, {"run": tracked.run, "rounds": tracked.rounds})

    def _log(self, tracked: Tracked) -> None:
        for t in range(tracked.rounds, self._folder.complete_rounds()):
            for step, values in updates_values(self._folder, t):
                tracked.log(values, step)
            step, values = rounds_values(self._folder, t)
            tracked.log(values, step)
            tracked.rounds = t + 1
            self._keep(tracked)

    def _draw(self, tracked: Tracked) -> None:
        tracker: Any = tracked.tracker
        if tracked.name == "mlflow":
            tracker.log_figure(curve(self._folder), "learning_curve.png")
        elif hasattr(tracker, "log_images"):
            canvas = curve(self._folder).canvas
            canvas.draw()
            more = {"dataformats": "NHWC"} if tracked.name == "tensorboard" else {}
            pixels = np.asarray(canvas.buffer_rgba())[None, ..., :3]
            tracker.log_images({"learning_curve": pixels}, **more)


def _tensorboard(project: str, title: str, run: str | None, folder: Path) -> GeneralTracker:
    from accelerate.tracking import TensorBoardTracker

    return TensorBoardTracker("tensorboard", folder)  # a file more in the same folder


def _trackio(project: str, title: str, run: str | None, folder: Path) -> GeneralTracker:
    from accelerate.tracking import TrackioTracker

    on = "never" if run is None else "allow"
    alone: dict[str, Any] = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
    return TrackioTracker(project, name=run or title, resume=on, **alone)


def _wandb(project: str, title: str, run: str | None, folder: Path) -> GeneralTracker:
    from accelerate.tracking import WandBTracker

    # Of itself it sends what is printed, the command line, the code, the machine, its packages.
    quiet = {"console": "off", "disable_code": True, "disable_git": True, "x_disable_meta": True}
    quiet |= {"x_save_requirements": False}
    on: dict[str, Any] = {} if run is None else {"id": run, "resume": "allow"}
    return WandBTracker(project, name=title, settings=quiet, **on)


def _mlflow(project: str, title: str, run: str | None, folder: Path) -> GeneralTracker:
    from accelerate.tracking import MLflowTracker

    return MLflowTracker(project, run_name=title, run_id=run)


def _own(name: str, title: str, folder: Path) -> GeneralTracker:
    """Return a tracker of the user's, made as Accelerate's documentation makes one."""
    from accelerate.tracking import GeneralTracker

    module, _, attribute = name.partition(":")
    if (here := os.getcwd()) not in sys.path:  # the folder that the command is given in
        sys.path.insert(0, here)
    kind = getattr(importlib.import_module(module), attribute)
    if not (isinstance(kind, type) and issubclass(kind, GeneralTracker)):
        raise TypeError(f"{name} is no subclass of accelerate.tracking.GeneralTracker")
    place = {"logging_dir": folder} if getattr(kind, "requires_logging_directory", False) else {}
    return kind(title, **place)


# The names of `tracking.log_with`, as `star.config.checks` has them: how each is made, from
# project, title, the run to go on with and a folder; and what its run is called.
NAMED: dict[str, Callable[[str, str, str | None, Path], GeneralTracker]] = {
    "tensorboard": _tensorboard,
    "trackio": _trackio,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
RUN_OF: dict[str, Callable[[Any], str]] = {
    "tensorboard": lambda tracker: str(tracker.run_name),
    "trackio": lambda tracker: str(tracker.tracker.name),
    "wandb": lambda tracker: str(tracker.tracker.id),
    "mlflow": lambda tracker: str(tracker.tracker.info.run_id),
}

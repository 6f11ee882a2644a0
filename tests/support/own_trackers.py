"""Trackers of a user's own: one that notes what it is told, and those that fail in each place."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

from accelerate.tracking import GeneralTracker


class Noting(GeneralTracker):
    """Notes everything in ``told``, as (verb, values, step)."""

    name, requires_logging_directory = "noting", True
    made: ClassVar[list[Noting]] = []

    def __init__(self, run_name: str, logging_dir: Any = None, run: str | None = None) -> None:
        self.run_name, self.run = run_name, run
        self.told: list[tuple[str, Any, Any]] = []
        Noting.made.append(self)

    @property
    def tracker(self) -> Noting:
        return self

    def start(self) -> None:
        sys.stdout.write("a line that is not star's\n")
        self.told.append(("start", self.run_name, None))

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.told.append(("settings", values, None))

    def log(self, values: dict[str, Any], step: int | None = None, **more: Any) -> None:
        self.told.append(("log", values, step))

    def log_images(self, values: dict[str, Any], step: int | None = None, **more: Any) -> None:
        self.told.append(("images", values, step))

    def finish(self) -> None:
        self.told.append(("finish", None, None))

    def rounds(self) -> list[tuple[int, int]]:
        """Return (round, step) of each round that was logged."""
        return [(v["round"], step) for verb, v, step in self.told if verb == "log" and "round" in v]

    def updates(self) -> list[int]:
        """Return the step of each update that was logged."""
        return [step for verb, v, step in self.told if verb == "log" and "update/loss" in v]


def _fail(*_: Any, **__: Any) -> None:
    raise ConnectionError("no\nnetwork")


def _leave(*_: Any, **__: Any) -> None:
    raise SystemExit(3)


class AtInit(Noting):
    __init__ = _fail


class AtStart(Noting):
    start = _leave


class AtSettings(Noting):
    store_init_configuration = _fail


class AtLog(Noting):
    log = _leave


class AtImages(Noting):
    log_images = _fail


class AtFinish(Noting):
    finish = _fail


class NoTracker:
    pass

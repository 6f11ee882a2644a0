"""The processes that share a run, as far as its folder must know them; torch is not needed here."""

from __future__ import annotations

from typing import Protocol


class Processes(Protocol):
    """The processes of a job, as ``accelerate.PartialState`` has them."""

    @property
    def is_main_process(self) -> bool: ...

    def wait_for_everyone(self) -> None: ...


class Alone:
    """A job of one process, for which nobody has to load torch."""

    is_main_process = True

    def wait_for_everyone(self) -> None:
        pass

"""``star`` whose process of one rank stops in the middle of a phase.

``dying_worker.py RANK WAY PHASE star's words``. WAY: ``kill``, ``input`` (an ``InputError``),
``fault`` (an error of ours), ``term`` (SIGTERM) or ``freeze`` (SIGSTOP: alive, connected, deaf).
PHASE: ``start``, ``training``, ``scoring`` or ``generation``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from torch.optim import AdamW

from star.__main__ import main
from star.active_learning.learner import Learner
from star.active_learning.run_folder import RunFolder
from star.errors import InputError
from star.models.language_model import LanguageModel


def stop(way: str) -> None:
    if way == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif way == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif way == "term":
        os.kill(os.getpid(), signal.SIGTERM)
        return
    elif way == "input":
        raise InputError("this disk is full; make room")
    raise AssertionError("this cannot be")


def at_call(count: int, owner: Any, name: str, act: Callable[[], None]) -> None:
    """Do something before the ``count``-th call of a function."""
    whole, calls = getattr(owner, name), []

    def called(*words: Any, **options: Any) -> Any:
        calls.append(name)
        if len(calls) == count:
            act()
        return whole(*words, **options)

    setattr(owner, name, called)


def prepare(way: str, phase: str) -> None:
    if phase == "start":
        at_call(1, RunFolder, "open", lambda: stop(way))
    elif phase == "training":
        at_call(3, AdamW, "step", lambda: stop(way))
    elif phase == "generation":
        at_call(2, LanguageModel, "step", lambda: stop(way))
    elif phase == "scoring":
        at_call(
            1, Learner, "query", lambda: at_call(1, LanguageModel, "predict", partial(stop, way))
        )


if __name__ == "__main__":
    rank, way, phase, *words = sys.argv[1:]
    if os.environ["RANK"] == rank:
        prepare(way, phase)
    sys.argv = ["star", *words]
    sys.exit(main())

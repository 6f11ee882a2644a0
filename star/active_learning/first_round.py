"""The first round of runs that begin alike, made once: ``tracking.first_rounds``.

All strategies of a seed start from the same random labels, and the fine-tuning, the evaluation and
the scores of round 0 are the same for all that differ in what they do with the scores. With a
folder to share, the first run leaves them there and the others read them. A round is found by the
hash of all that decides it, this package's own source included, so that nothing stale is read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from safetensors.torch import load_file, save

from star.acquisition.view import View
from star.active_learning.round_0 import key_of_round_0
from star.cache import cached, key, read_sealed, write_sealed
from star.config import Config, scored_continuation
from star.data import loading as tasks
from star.evaluation.evaluate import Evaluation
from star.files import atomic_write, read_npz, write_npz
from star.models import adapter, distributed
from star.models.checkpoint import TrainingResult
from star.models.identity import hash_file

VERSION = 3  # of the scores' meaning beside what decides the round

ADAPTER = "adapter.safetensors"

T = TypeVar("T")


class FirstRound:
    """Round 0 of a run, read from a folder where another run has left it.

    Its verbs return what the round's own return, and the seconds that this took, here or the run
    that left it; ``None``: nothing is shared.

    Args:
        config: The run's; what ``tracking.first_rounds`` names is the folder.
        content: What the names in ``config`` stand for: fingerprints of model and data.
    """

    def __init__(self, config: Config, content: Mapping[str, str]) -> None:
        folder, self._config = config.tracking.first_rounds, config
        # Processes that divide the work would have to agree on what is there.
        shares = folder is not None and distributed.state().num_processes == 1
        self._folder = Path(str(folder)).expanduser() if shares else None
        self._key = key_of_round_0(config, content)

    def train(
        self, adapted: PeftModel, work: Callable[[], TrainingResult]
    ) -> tuple[TrainingResult, float | None]:
        """Return what training gave, ``adapted`` trained.

        Args:
            adapted: The round's fresh adapter.
            work: Trains it.
        """
        return self._shared(
            Path("trained", self._key),
            work,
            read=lambda place: _read_training(place, adapted),
            write=lambda place, made: _write_training(place, adapted, *made),
        )

    def evaluate(self, work: Callable[[], Evaluation]) -> tuple[Evaluation, float | None]:
        """Return the test results; ``work`` evaluates."""

        def read(path: Path) -> tuple[Evaluation, float]:
            stored = read_sealed(path)
            return Evaluation(**stored["tested"]), float(stored["seconds"])

        def write(path: Path, made: tuple[Evaluation, float]) -> None:
            kept = {k: getattr(made[0], k) for k in ("metrics", "predictions", "tokens")}
            write_sealed(path, {"tested": kept, "seconds": made[1]})

        return self._shared(Path("tested", f"{self._key}.json"), work, read, write)

    def full(self, index: NDArray[np.int64], work: Callable[[], View]) -> tuple[View, float | None]:
        """Return the full view of the examples with these (N,) pool indices; ``work`` scores it."""

        def read(path: Path) -> tuple[View, float]:
            arrays = read_npz(path)
            return View.of(arrays, len(index)), float(arrays["seconds"])

        def write(path: Path, made: tuple[View, float]) -> None:
            write_npz(path, **made[0].arrays(), seconds=made[1])

        a = self._config.acquisition
        # Of the measures only BALD is scored when it is asked for; the clipping, and what is scored
        # where that is `auto`, are also by combination.
        name = key(
            VERSION,
            round_0=self._key,
            mc_dropout=a.mc_dropout,
            passes=(a.passes, a.tfb_tolerance),
            scored=scored_continuation(a, tasks.is_choice(self._config.task)),
            clipped=a.entropy_floor and a.combine,
            bald=a.measure == "bald",
            index=hashlib.sha256(index.astype("<i8").tobytes()).hexdigest(),
        )
        return self._shared(Path("scored", f"{name}.npz"), work, read, write)

    def _shared(
        self,
        name: Path,
        work: Callable[[], T],
        read: Callable[[Path], tuple[T, float]],
        write: Callable[[Path, tuple[T, float]], None],
    ) -> tuple[T, float | None]:
        """Return what ``work`` gives, made or read, and its seconds."""
        if self._folder is None:
            return work(), None

        def make() -> tuple[T, float]:
            start = time.perf_counter()
            made = work()
            return made, time.perf_counter() - start

        place = self._folder / name
        return cached(place.parent, place.name, make=make, read=read, write=write)


def _read_training(place: Path, adapted: PeftModel) -> tuple[TrainingResult, float]:
    round_ = read_sealed(place / "round.json")
    if hash_file(place / ADAPTER) != round_["adapter"]:
        raise ValueError("its adapter is not what was written")
    weights, own = load_file(place / ADAPTER), adapter.weights(adapted)
    if {n: w.shape for n, w in weights.items()} != {n: w.shape for n, w in own.items()}:
        raise ValueError("another adapter")
    stored = TrainingResult(**round_["fit"]), float(round_["seconds"])
    with torch.no_grad():
        for name, weight in weights.items():
            own[name].copy_(weight)
    return stored


def _write_training(
    place: Path, adapted: PeftModel, result: TrainingResult, seconds: float
) -> None:
    place.mkdir()
    state = {name: weight.contiguous() for name, weight in adapter.weights(adapted).items()}
    with atomic_write(place / ADAPTER) as file:
        file.write(save(state))
    fit, sha256 = dataclasses.asdict(result), hash_file(place / ADAPTER)
    write_sealed(place / "round.json", {"fit": fit, "seconds": seconds, "adapter": sha256})

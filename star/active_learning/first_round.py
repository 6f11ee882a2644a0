"""The first round of runs that begin alike, made once: ``tracking.first_rounds``.

All strategies of a seed start from the same random labels, and the fine-tuning, the evaluation and
the scores of round 0 are the same for all that differ in what they do with the scores. With a
folder to share, the first run leaves them there and the others read them. A round is found by the
hash of all that decides it, this package's own source included, so that nothing stale is read.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file, save

from star.acquisition.view import View
from star.active_learning.round_0 import key_of_round_0
from star.cache import cached, key
from star.config import Config, scored_continuation
from star.data import loading as tasks
from star.evaluation.evaluate import Evaluation
from star.files import atomic_write, read_json, read_npz, write_json, write_npz
from star.models import distributed
from star.models.training import TrainingResult

Trained = tuple[TrainingResult, Evaluation, dict[str, float]]
VERSION = 1  # of the scores' meaning beside what decides the round


class FirstRound:
    """Round 0 of a run, read from a folder where another run has left it.

    Args:
        config: The run's; what ``tracking.first_rounds`` names is the folder.
        content: What the names in ``config`` stand for: fingerprints of model and data.
    """

    def __init__(self, config: Config, content: Mapping[str, str]) -> None:
        folder, self._config = config.tracking.first_rounds, config
        self.saved = 0.0  # seconds that reading the scores has saved
        # Processes that divide the work would have to agree on what is there.
        shares = folder is not None and distributed.state().num_processes == 1
        self._folder = Path(str(folder)).expanduser() if shares else None
        self._key = key_of_round_0(config, content)

    def train(self, adapted: PeftModel, work: Callable[[], Trained]) -> Trained:
        """Return what training and evaluation gave and the seconds they took, ``adapted`` trained.

        Args:
            adapted: The round's fresh adapter.
            work: Trains it and evaluates.
        """
        return cached(
            None if self._folder is None else self._folder / "trained",
            self._key,
            make=work,
            read=lambda place: _read(place, adapted),
            write=lambda place, made: _write(place, adapted, *made),
        )

    def full(self, count: int, work: Callable[[], View]) -> View:
        """Return the full view of the pool's ``count`` unlabelled examples; ``work`` scores it."""
        start, a = time.perf_counter(), self._config.acquisition

        def read(path: Path) -> View:
            arrays = read_npz(path)
            view, self.saved = View.of(arrays, count), float(arrays["seconds"])
            return view

        def write(path: Path, view: View) -> None:
            write_npz(path, **view.arrays(), seconds=time.perf_counter() - start)

        # Of the measures only BALD is scored when it is asked for; the clipping, and what is scored
        # where that is `auto`, are also by combination.
        name = key(
            VERSION,
            round_0=self._key,
            mc_dropout=a.mc_dropout,
            scored=scored_continuation(a, tasks.is_choice(self._config.task)),
            clipped=a.entropy_floor and a.combine,
            bald=a.measure == "bald",
        )
        folder = None if self._folder is None else self._folder / "scored"
        return cached(folder, f"{name}.npz", make=work, read=read, write=write)


def _read(place: Path, adapted: PeftModel) -> Trained:
    told = read_json(place / "round.json")
    weights, own = load_file(place / "adapter.safetensors"), _weights(adapted)
    if {n: w.shape for n, w in weights.items()} != {n: w.shape for n, w in own.items()}:
        raise ValueError("another adapter")
    found = TrainingResult(**told["fit"]), Evaluation(**told["tested"]), dict(told["seconds"])
    with torch.no_grad():
        for name, weight in weights.items():
            own[name].copy_(weight)
    return found


def _write(
    place: Path,
    adapted: PeftModel,
    fitted: TrainingResult,
    tested: Evaluation,
    seconds: dict[str, float],
) -> None:
    place.mkdir()
    kept = {k: getattr(tested, k) for k in ("metrics", "predictions", "tokens")}
    told = {"fit": dataclasses.asdict(fitted), "tested": kept, "seconds": seconds}
    write_json(place / "round.json", told)
    state = {name: weight.contiguous() for name, weight in _weights(adapted).items()}
    with atomic_write(place / "adapter.safetensors") as file:
        file.write(save(state))


def _weights(adapted: PeftModel) -> dict[str, torch.Tensor]:
    return {n: p.detach() for n, p in adapted.named_parameters() if ".lora_" in n}

"""The first round of runs that begin alike, made once: ``tracking.first_rounds``.

All strategies of a seed start from the same random labels, and the fine-tuning, the evaluation and
the scores of round 0 are the same for all that differ in what they do with the scores. With a
folder to share, the first run leaves them there and the others read them. A round is found by the
hash of all that decides it, this package's own source included, so that nothing stale is read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from star.acquisition.pool_scorer import View, read_view, write_view
from star.config import Config, scored_continuation
from star.data import loading as tasks
from star.errors import InputError
from star.evaluation.evaluate import Evaluation
from star.files import read_json, write_json
from star.models import distributed, identity
from star.models.training import TrainingResult
from star.provenance import installed

logger = logging.getLogger(__name__)

Trained = tuple[TrainingResult, Evaluation, dict[str, float]]  # the last: seconds of both
Work = Callable[[], Trained]


class FirstRound:
    """Round 0 of a run, read from a folder where another run has left it.

    Args:
        config: The run's; what ``tracking.first_rounds`` names is the folder.
        content: What the names in ``config`` stand for: fingerprints of model and data.
    """

    def __init__(self, config: Config, content: Mapping[str, str]) -> None:
        folder, self._config = config.tracking.first_rounds, config
        # Processes that divide the work would have to agree on what is there.
        self.saved = 0.0  # seconds that reading the scores has saved
        shares = folder is not None and distributed.state().num_processes == 1
        self._place = Path(str(folder)).expanduser() / _key(config, content) if shares else None

    def train(self, adapted: PeftModel, work: Work) -> Trained:
        """Return what training and evaluation gave and the seconds they took, ``adapted`` trained.

        Args:
            adapted: The round's fresh adapter.
            work: Trains it and evaluates.
        """
        if self._place is None:
            return work()
        found = self._read(adapted)
        if found is None:
            found = work()
            self._write(adapted, *found)
        return found

    def full(self, count: int, work: Callable[[], View]) -> View:
        """Return the full view of the pool's ``count`` unlabelled examples; ``work`` scores it."""
        if self._place is None:
            return work()
        a = self._config.acquisition
        # Of the measures only BALD is scored when it is asked for; the clipping, and what is scored
        # where that is `auto`, are also by combination.
        scored = scored_continuation(a, tasks.is_choice(self._config.task))
        decides = [dataclasses.asdict(a.mc_dropout), scored]
        decides += [a.entropy_floor and a.combine, a.measure == "bald"]
        name = identity.digest(decides)[:16]
        path = self._place / f"full-{name}.npz"
        view, told = read_view(path, count), path.with_suffix(".json")
        if view is not None:
            with contextlib.suppress(InputError, KeyError):  # another process is removing it
                self.saved = float(read_json(told)["seconds"])
                return view
        start = time.perf_counter()
        view = work()
        write_view(path, view)
        with contextlib.suppress(OSError):  # write_view has said it
            write_json(told, {"seconds": time.perf_counter() - start})
        return view

    def _read(self, adapted: PeftModel) -> Trained | None:
        assert self._place is not None
        if not self._place.is_dir():
            return None
        try:
            told = read_json(self._place / "round.json")
            weights = load_file(self._place / "adapter.safetensors")
            own = _weights(adapted)
            if weights.keys() != own.keys():
                raise ValueError("another adapter")
            fitted = TrainingResult(**told["fit"])
            found = fitted, Evaluation(**told["tested"]), dict(told["seconds"])
        except (InputError, OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            logger.warning("%s cannot be read (%s); training again", self._place, error)
            return None
        with torch.no_grad():
            for name, weight in weights.items():
                own[name].copy_(weight)
        return found

    def _write(
        self,
        adapted: PeftModel,
        fitted: TrainingResult,
        tested: Evaluation,
        seconds: dict[str, float],
    ) -> None:
        assert self._place is not None
        kept = {k: getattr(tested, k) for k in ("metrics", "predictions", "tokens")}
        told = {"fit": dataclasses.asdict(fitted), "tested": kept, "seconds": seconds}
        try:
            self._place.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._place.parent, prefix=".writing-") as scratch:
                made = Path(scratch) / "round"
                made.mkdir()
                write_json(made / "round.json", told)
                state = {name: weight.contiguous() for name, weight in _weights(adapted).items()}
                save_file(state, made / "adapter.safetensors")
                if self._place.exists():  # it could not be read
                    shutil.rmtree(self._place)
                made.rename(self._place)
        except (OSError, SafetensorError) as error:
            # Another run was faster, or the disk is full: sharing saves time and nothing else.
            logger.warning("the first round is not shared: %s", error)


def _weights(adapted: PeftModel) -> dict[str, torch.Tensor]:
    return {n: p.detach() for n, p in adapted.named_parameters() if ".lora_" in n}


def _key(config: Config, content: Mapping[str, str]) -> str:
    """Return the hash of all that decides training, evaluation and scores of round 0."""
    libraries = {name: installed(name) for name in ("peft", "accelerate", "numpy")}
    parts = [identity.beginning(config), content, libraries, _source()]
    return identity.digest(parts)[:32]


def _source() -> str:
    """Return the hash of this package's modules."""
    package, total = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        total.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes())
    return total.hexdigest()

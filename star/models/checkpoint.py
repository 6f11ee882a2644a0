"""A training under way, kept between two updates: all that the next update depends on."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from star import signals
from star.models import adapter, distributed
from star.models.encoding import TokenRow
from star.models.unfinished import Phase
from star.models.update_log import UpdateLog, Values


@dataclass
class TrainingResult:
    """What a training did.

    Attributes:
        log: One entry an update: ``step, epoch, loss`` (nats a token), ``learning_rate, grad_norm,
            norm_A, norm_B`` (Frobenius), ``constraint`` (β/2·Σ‖B‖² where it is part of the loss,
            else 0), ``constraint_share`` (of loss and constraint together), ``decay`` (fraction by
            which decoupled decay shrinks B in this update).
        tokens: Prompt and answer tokens seen, padding not counted.
        validation: Mean validation loss in nats a token after each epoch; empty without one.
        kept_epoch: The epoch whose adapter was kept, counted from 0.
    """

    log: list[dict[str, float]] = field(default_factory=list)
    tokens: int = 0
    validation: list[float] = field(default_factory=list)
    kept_epoch: int = -1


@dataclass
class Training:
    """An adapter, what moves it, and how far it is.

    The order of the rows is drawn anew for each epoch, so that the number of updates says where in
    it the training is; LoRA dropout draws from torch's stream, whose state is kept.

    Attributes:
        adapted, optimizer, scheduler: What is trained, and by what.
        result: So far.
        log: Of its updates; what is still on the device is read before it is kept.
        rows: In a forward pass; fewer than were asked for where memory was short.
        best: The weights of the best epoch, where these are asked for and there is one.
    """

    adapted: PeftModel
    optimizer: Optimizer
    scheduler: LRScheduler
    result: TrainingResult
    log: UpdateLog
    rows: int
    best: dict[str, Tensor] | None = None

    def add(self, epoch: int, values: Values, rows: Sequence[TokenRow]) -> None:
        """Note an update over these rows, and let the schedule go on.

        Raises:
            InputError: A number of an update is NaN or infinite.
        """
        self.log.add(epoch, values, rows)
        self.scheduler.step()
        self.result.tokens += sum(len(row) for row in rows)

    def keep_if_due(self, phase: Phase) -> None:
        """Keep all of it when it is time to; every process must call this after each update.

        Raises:
            Stopped: That was asked for, and all is kept.
        """
        if distributed.anyone(phase.due()):
            self.keep(phase)
            if distributed.anyone(signals.requested()):
                signals.leave()
                raise signals.Stopped(signal.SIGTERM)  # another process was asked

    def close(self, phase: Phase) -> None:
        """Keep the end of a training that was long enough to be kept before it."""
        if distributed.anyone(phase.kept or signals.requested()):
            self.keep(phase)

    def keep(self, phase: Phase) -> None:
        """Keep all of it in the place of what was kept before; the main process writes.

        Raises:
            InputError: A number of an update is NaN or infinite; what was kept before stays.
        """
        self.log.read()
        streams = {distributed.state().process_index: self.streams()}
        every = distributed.collect(streams, distributed.state().num_processes)
        if not distributed.is_main():
            phase.kept = True
            return
        state = self.optimizer.state_dict()
        tensors = {f"adapter.{n}": w for n, w in adapter.weights(self.adapted).items()}
        tensors |= {f"best.{n}": w for n, w in (self.best or {}).items()}
        numbers: dict[str, Any] = {}
        for i, values in state["state"].items():
            for name, value in values.items():
                (tensors if isinstance(value, Tensor) else numbers)[f"optimizer.{i}.{name}"] = value
        for i, streams_of in enumerate(every):
            tensors |= {f"stream.{i}.{name}": value for name, value in streams_of.items()}
        rates = [group["lr"] for group in state["param_groups"]]
        notes = {"result": asdict(self.result), "numbers": numbers, "rates": rates}
        notes["rows"] = self.rows
        notes["scheduler"] = self.scheduler.state_dict()
        phase.keep(tensors, notes, instead=True)

    def restore(self, phase: Phase) -> None:
        """Put back what was kept last, if anything was."""
        parts = list(phase.parts())
        steps = len(parts[-1].notes["result"]["log"]) if parts else 0
        if not steps or not distributed.equal(steps):
            return
        tensors, notes = parts[-1].tensors, parts[-1].notes
        with torch.no_grad():
            for name, weight in adapter.weights(self.adapted).items():
                weight.copy_(tensors[f"adapter.{name}"])
        best = _below("best.", tensors)
        self.best = {n: w.to(self._device) for n, w in best.items()} or None
        state = self.optimizer.state_dict()
        state["state"] = {}
        for name, value in {**_below("optimizer.", tensors), **notes["numbers"]}.items():
            i, _, part = name.removeprefix("optimizer.").partition(".")
            state["state"].setdefault(int(i), {})[part] = value
        for group, rate in zip(state["param_groups"], notes["rates"], strict=True):
            group["lr"] = rate
        self.optimizer.load_state_dict(state)
        self.scheduler.load_state_dict(notes["scheduler"])
        self.result.log[:] = notes["result"].pop("log")  # the list that `log` adds to
        for name, value in notes["result"].items():
            setattr(self.result, name, value)
        self.rows = notes["rows"]
        self.set_streams(_below(f"stream.{distributed.state().process_index}.", tensors))

    @property
    def _device(self) -> torch.device:
        return next(iter(adapter.weights(self.adapted).values())).device

    def streams(self) -> dict[str, Tensor]:
        """Return the state of torch's streams, from which LoRA dropout draws, by device."""
        streams = {"cpu": torch.get_rng_state()}
        if self._device.type == "cuda":
            streams["cuda"] = torch.cuda.get_rng_state(self._device)
        return streams

    def set_streams(self, streams: Mapping[str, Tensor]) -> None:
        """Put that state back."""
        torch.set_rng_state(streams["cpu"])
        if "cuda" in streams:
            torch.cuda.set_rng_state(streams["cuda"], self._device)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

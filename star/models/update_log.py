"""What updates came to, left on the device until some of them are read at once.

A number that the host wants makes it wait until the GPU has done all that was asked of it, and the
GPU then waits for the host. So loss and norms of an update stay tensors, and come over together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from star.errors import InputError
from star.models.encoding import TokenRow

UNREAD = 16  # updates on a GPU between two looks


@dataclass(frozen=True)
class Values:
    """Numbers of one update, not looked at yet.

    Attributes:
        measured: ``loss, grad_norm, norm_A, norm_B``; scalars on the device.
        constraint: β/2·Σ‖B‖² where it is part of the loss.
        learning_rate: γ.
        decay: γ·β.
    """

    measured: Mapping[str, Tensor]
    constraint: Tensor | None
    learning_rate: float
    decay: float


class UpdateLog:
    """Adds an entry an update to a log, read from the device every few updates.

    Args:
        entries: Get an entry an update, in their order.
        round_: For messages.
        every: Updates that are read at once.
    """

    def __init__(self, entries: list[dict[str, float]], round_: int, *, every: int) -> None:
        self._entries, self._round, self._every = entries, round_, every
        self._unread: list[tuple[int, Values, Sequence[TokenRow]]] = []

    @property
    def count(self) -> int:
        """Updates so far, those that are not read included."""
        return len(self._entries) + len(self._unread)

    def add(self, epoch: int, values: Values, rows: Sequence[TokenRow]) -> None:
        """Add an update over these rows; read what there is when it is enough.

        Raises:
            InputError: As for :meth:`read`.
        """
        self._unread.append((epoch, values, rows))
        if len(self._unread) >= self._every:
            self.read()

    def read(self) -> None:
        """Read what is on the device.

        Raises:
            InputError: A number is NaN or infinite; names the first such update and its rows.
        """
        if not self._unread:
            return
        zero = torch.zeros_like(self._unread[0][1].measured["loss"])  # no constraint in the loss
        table = [
            torch.stack([x.double() for x in (*values.measured.values(), term)])
            for _, values, _ in self._unread
            for term in (zero if values.constraint is None else values.constraint,)
        ]
        for (epoch, values, rows), numbers in zip(
            self._unread, torch.stack(table).tolist(), strict=True
        ):
            entry = self._entry(epoch, values, numbers)
            self._refuse_infinite(entry, rows)
            self._entries.append(entry)
        self._unread = []

    def _entry(self, epoch: int, values: Values, numbers: Sequence[float]) -> dict[str, float]:
        measured = dict(zip(values.measured, numbers, strict=False))
        loss, added = measured.pop("loss"), numbers[-1]
        return {
            "step": len(self._entries),
            "epoch": epoch,
            "loss": loss,
            "learning_rate": values.learning_rate,
            **measured,
            "constraint": added,
            "constraint_share": added / (loss + added or 1.0),
            "decay": values.decay,
        }

    def _refuse_infinite(self, entry: Mapping[str, float], rows: Sequence[TokenRow]) -> None:
        """Raise ``InputError`` if an update's log, which is written, holds what is no number."""
        for name, value in entry.items():
            if not math.isfinite(value):
                what = "the loss" if name == "loss" else name
                constraint = entry["constraint"] and name != "loss"
                key = "regularizer.beta" if constraint else "train.learning_rate"
                raise InputError(
                    f"round {self._round}, update {entry['step']}: {what} is {value} on rows "
                    f"{[r.index for r in rows]}; lower {key}"
                )

"""Seconds: of a call, of sides that take turns, and of the work a machine does fastest."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

Work = Callable[[Any, Sequence[Any]], Any]
"""``work(adapted, items)``: one repeat of a side, on all items or on a few."""


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians, with the least and the largest ratio of one repeat."""

    median: float
    low: float
    high: float


def ratio(ours: Sequence[float], other: Sequence[float], scale: float = 1.0) -> Ratio:
    """Return how many times as fast ours is, from the seconds of each repeat.

    Args:
        ours: (R,) seconds.
        other: (R,) seconds, taken in turn with ours.
        scale: Work of one repeat of ours over that of the other; 1 where both do the same.
    """
    pairs = [scale * theirs / mine for mine, theirs in zip(ours, other, strict=True)]
    return Ratio(scale * median(other) / median(ours), min(pairs), max(pairs))


def seconds_of(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Return the seconds a call takes, the device's work included, and its result."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    result = work()
    wait()
    return time.perf_counter() - start, result


def in_turn(
    sides: Mapping[str, Work],
    setup: Callable[[str], AbstractContextManager[Any]],
    items: Sequence[Any],
    *,
    repeats: int,
    device: torch.device,
) -> dict[str, tuple[list[float], Any]]:
    """Return the (R,) seconds of each side and its last result; the sides take turns.

    Args:
        sides: Name to work.
        setup: Makes, untimed, what a side works in, and yields the work's first argument.
        items: The work's second argument. The untimed round before is on all of them on a GPU,
            whose first call with a shape is slow, and on two on a CPU.
        repeats: R.
        device: Whose work is waited for.
    """
    found: dict[str, tuple[list[float], Any]] = {name: ([], None) for name in sides}
    for repeat in range(-1, repeats):
        part = items if repeat >= 0 or device.type == "cuda" else items[:2]
        for name, work in sides.items():
            with setup(name) as adapted:
                seconds, result = seconds_of(partial(work, adapted, part), device)
            if repeat >= 0:
                found[name] = ([*found[name][0], seconds], result)
    return found


class Products:
    """Products of square matrices, the work that a machine does at its highest rate; a side.

    Attributes:
        size: Of the matrices, the one of a few sizes with the highest rate.
        flops: Of one call.
        rate: FLOP/s of the fastest call that was timed.
    """

    def __init__(
        self,
        device: torch.device,
        dtype: torch.dtype,
        sizes: Sequence[int] = (),
        least: float | None = None,
    ) -> None:
        """Find the fastest size.

        Args:
            device: Where.
            dtype: Of the matrices.
            sizes: Tried; none: by the kind of device.
            least: FLOPs of a call, long enough to time; ``None``: by the kind of device.
        """
        gpu = device.type == "cuda"
        least = least or (2e14 if gpu else 1e11)
        self.size, self.flops, self.rate, self._device = 0, 0.0, 0.0, device
        for size in sizes or ((4096, 8192, 16384) if gpu else (1024, 2048, 4096)):
            one, two = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
            times = max(1, round(least / (2 * size**3)))
            work, flops = partial(_multiply, one, two, times), 2.0 * size**3 * times
            work()
            rate = flops / min(seconds_of(work, device)[0] for _ in range(3))
            if rate > self.rate:
                self.size, self.flops, self.rate, self._work = size, flops, rate, work

    def __call__(self, adapted: Any = None, items: Sequence[Any] = ()) -> None:
        seconds, _ = seconds_of(self._work, self._device)
        self.rate = max(self.rate, self.flops / seconds)


@torch.inference_mode()
def _multiply(one: Tensor, two: Tensor, times: int) -> None:
    out = torch.empty_like(one)
    for _ in range(times):
        torch.mm(one, two, out=out)

"""What the benchmark tells: the lines of its table, and what is going on meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.timing import Ratio


@dataclass(frozen=True)
class Side:
    """One side of a comparison: (R,) seconds; tokens and FLOPs of one repeat, 0 if not counted."""

    seconds: Sequence[float]
    tokens: int = 0
    flops: float = 0.0


@dataclass(frozen=True)
class Line:
    """A line of the table; ``void``: the two sides did not do the same work."""

    name: str
    data: str
    ratio: Ratio
    ours: Side
    other: Side
    note: str = ""
    void: bool = False


def say(text: str) -> None:
    """Tell on stderr what is going on; stdout has the table alone."""
    print(text, file=sys.stderr, flush=True)

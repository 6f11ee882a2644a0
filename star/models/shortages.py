"""Work that does not fit in memory: done in smaller batches, said, and noted for the record."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from accelerate.utils.memory import should_reduce_batch_size
from numpy.typing import NDArray

from star.errors import InputError
from star.models import distributed

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

LESS = "model.dtype=bfloat16 and model.quantization=nf4 need less memory"


def out_of_memory(error: Exception) -> bool:
    """Whether a smaller batch could help, on whatever device.

    Not with a model in shares: the other processes wait amid the same pass.
    """
    if distributed.Others.help is not None:
        return False
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or should_reduce_batch_size(
        error
    )


def free() -> None:
    """Give a GPU's memory back; where the exception is gone, and with it what its frames held."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class Shortages:
    """What was done in smaller batches than the configuration asks for, since it was last taken."""

    def __init__(self) -> None:
        self._noted: dict[str, dict[str, int]] = {}

    def note(self, kind: str, **size: int) -> None:
        """Note the largest batch of a kind of work from here on, with its unit: ``tokens=512``."""
        _least(self._noted, kind, size)

    def take(self) -> dict[str, dict[str, int]]:
        """Return it by kind of work, the least of all processes, and begin anew; all must call."""
        here, count = distributed.state().process_index, distributed.state().num_processes
        least: dict[str, dict[str, int]] = {}
        for noted in distributed.collect({here: self._noted}, count):
            for kind, size in noted.items():
                _least(least, kind, size)
        self._noted = {}
        return least

    def halving(
        self,
        batches: Iterable[list[int]],
        work: Callable[[list[int]], Result],
        lengths: Sequence[int] | NDArray[np.int64],
        *,
        kind: str,
    ) -> Iterator[Result]:
        """Yield the result of ``work`` on each batch; one that does not fit in memory is halved.

        No later batch has more tokens than the halves, padding counted, but for a single row's. A
        warning says so.

        Args:
            batches: Of places, the longest row of each first.
            work: On a batch.
            lengths: Tokens of the row at each place.
            kind: Of work, for the record.

        Raises:
            InputError: A single row does not fit.
            Exception: What else ``work`` raises.
        """
        most: int | None = None
        for whole in batches:
            todo = [whole]
            while todo:
                batch = todo.pop()
                longest = max(1, int(lengths[batch[0]]))
                if most is not None and len(batch) > 1 and len(batch) * longest > most:
                    size = max(1, most // longest)
                    todo += [batch[size:], batch[:size]]
                    continue
                try:
                    result = work(batch)
                except Exception as error:
                    if not out_of_memory(error):
                        raise
                    if len(batch) == 1:
                        raise InputError(
                            f"out of memory with a single row of {longest} tokens ({kind}); {LESS}"
                        ) from error
                    most = len(batch) * longest // 2
                    logger.warning(
                        "out of memory with %d rows of %d tokens (%s); going on with at most %d "
                        "tokens in a batch", len(batch), longest, kind, most,
                    )  # fmt: skip
                    self.note(kind, tokens=most)
                    todo.append(batch)
                else:
                    yield result
                    continue
                free()


def _least(noted: dict[str, dict[str, int]], kind: str, size: Mapping[str, int]) -> None:
    units = noted.setdefault(kind, {})
    units.update({unit: min(number, units.get(unit, number)) for unit, number in size.items()})

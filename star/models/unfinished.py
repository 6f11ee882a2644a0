"""What a phase under way has done so far, kept so that a kill costs minutes and no number.

A *phase* is a training, or rows going through the model: scores, answers, embeddings. It is kept in
parts, one file each, in a folder that goes when the round is complete::

    rounds/.unfinished/<kind>-<key>-<number>-<sha256>.safetensors

The key (:func:`star.cache.key`) is of all that decides the phase's result, so no part is ever taken
for another phase's; the sum in its name is that of its bytes, so a part that was cut or changed is
named and computed again. What is read back is what was computed, in the batches it was computed in:
a run that goes on ends in the same bits as one that nothing disturbed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor

from star import signals
from star.cache import key
from star.files import atomic_write

logger = logging.getLogger(__name__)

VERSION = 1  # of the parts' meaning; part of the key
NOTES = "notes"  # the name of the tensor that is JSON

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Part:
    """Some of a phase's work: tensors by name, and JSON."""

    tensors: dict[str, Tensor]
    notes: Any


class Unfinished:
    """Where the phases of a run are kept, and how often.

    Args:
        folder: Made when there is something to keep; ``None`` keeps nothing.
        seconds: Between two parts.
        content: What decides all phases alike: settings, code, model. JSON.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        seconds: float = math.inf,
        content: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder, self.seconds, self._content = folder, seconds, dict(content or {})
        self.last = time.monotonic()  # when something was kept, at first when this was made

    @contextlib.contextmanager
    def phase(self, kind: str, content: Callable[[], Mapping[str, Any]]) -> Iterator[Phase]:
        """Yield a phase; a signal waits until it is kept (:func:`star.signals.held`).

        Args:
            kind: What files are called.
            content: Gives all else that decides its result, as JSON; not asked where nothing is
                kept.
        """
        name = ""
        if self.folder is not None:
            name = f"{kind}-{key(VERSION, kind=kind, run=self._content, phase=content())}"
        with signals.held():
            yield Phase(self, name)

    @contextlib.contextmanager
    def rows(
        self,
        kind: str,
        content: Callable[[], Mapping[str, Any]],
        *,
        shape: tuple[int, int],
        take: Callable[[list[int], int], Arrays],
        put: Callable[[list[int], int, Arrays], None],
    ) -> Iterator[RowsDone]:
        """Yield what is done of a phase that goes over rows, what was kept of it put in place.

        Args:
            kind: As for :meth:`phase`.
            content: As for :meth:`phase`.
            shape: How often it goes over the rows, and how many these are.
            take: Returns the results of some rows of one time over, one entry a row.
            put: Takes them back.
        """
        with self.phase(kind, content) as phase:
            done = RowsDone(phase, shape, take, put)
            yield done
            done.close()


class Phase:
    """A phase of some name; by :meth:`Unfinished.phase`.

    Attributes:
        kept: Whether parts of it are there.
    """

    def __init__(self, owner: Unfinished, name: str) -> None:
        self._owner, self._name = owner, name
        self.kept, self._number = False, 0

    def due(self) -> bool:
        """Whether it is time to keep something."""
        late = time.monotonic() - self._owner.last >= self._owner.seconds
        return signals.requested() or (late and self._owner.folder is not None)

    def parts(self) -> Iterator[Part]:
        """Yield what was kept, oldest first; what was cut or changed is removed, and said."""
        folder = self._owner.folder
        if folder is None or not folder.is_dir():
            return
        for path in sorted(folder.glob(f"{self._name}-*.safetensors")):
            *_, number, noted = path.stem.split("-")
            self._number = max(self._number, int(number) + 1)
            try:
                content = path.read_bytes()
            except OSError as error:
                logger.warning("%s is computed again: %s", path, error.strerror)
                continue
            if hashlib.sha256(content).hexdigest() != noted:
                logger.warning("%s was cut or changed; what it held is computed again", path)
                path.unlink(missing_ok=True)
                continue
            self.kept = True
            tensors = load(content)
            yield Part(tensors, json.loads(tensors.pop(NOTES).numpy().tobytes()))

    def keep(self, tensors: Mapping[str, Tensor], notes: Any, *, instead: bool = False) -> None:
        """Keep a part; a disk that takes none costs a warning, and time if there is a kill.

        Args:
            tensors: Of any device.
            notes: JSON.
            instead: Of all earlier ones, which go once it is there.
        """
        owner = self._owner
        if owner.folder is None:
            return
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        text = json.dumps(notes, allow_nan=False).encode()
        content = save(plain | {NOTES: torch.frombuffer(bytearray(text), dtype=torch.uint8)})
        digest = hashlib.sha256(content).hexdigest()
        path = owner.folder / f"{self._name}-{self._number:06d}-{digest}.safetensors"
        try:
            owner.folder.mkdir(parents=True, exist_ok=True)
            earlier = set(owner.folder.glob(f"{self._name}-*.safetensors")) if instead else set()
            with atomic_write(path) as file:
                file.write(content)
            for other in earlier - {path}:
                other.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("what is under way is not kept: %s: %s", path, error.strerror or error)
        self.kept, self._number, owner.last = True, self._number + 1, time.monotonic()


class RowsDone:
    """Which rows a phase has done, and what they gave; by :meth:`Unfinished.rows`.

    A batch goes whole into one part, so that what is left is made of the batches it would have been
    made of anyway.
    """

    def __init__(
        self,
        phase: Phase,
        shape: tuple[int, int],
        take: Callable[[list[int], int], Arrays],
        put: Callable[[list[int], int, Arrays], None],
    ) -> None:
        self._phase, self._take = phase, take
        self._done = np.zeros(shape, dtype=bool)
        self._new: list[tuple[int, list[int]]] = []
        for part in phase.parts():
            for i, (time_over, names) in enumerate(part.notes):
                # In the order they had: files of tensors have one of their own.
                arrays = {name: part.tensors[f"{i}.{name}"].numpy() for name in names}
                places = part.tensors[f"{i}."].tolist()
                put(places, time_over, arrays)
                self._done[time_over, places] = True

    def left(self, batches: Iterable[list[int]], time_over: int = 0) -> Iterator[list[int]]:
        """Yield the batches without the rows that are done."""
        for batch in batches:
            todo = [place for place in batch if not self._done[time_over, place]]
            if todo:
                yield todo

    def add(self, places: Sequence[int], time_over: int = 0) -> None:
        """Note rows whose results can be taken, and keep what is new when it is time to.

        Raises:
            Stopped: That was asked for, and all is kept.
        """
        self._done[time_over, places] = True
        if not self._new or self._new[-1][0] != time_over:
            self._new.append((time_over, []))
        self._new[-1][1].extend(places)
        if self._phase.due():
            self._keep()
            signals.leave()

    def close(self) -> None:
        """Keep the rest of a phase that was long enough to be kept before its end."""
        if self._new and (self._phase.kept or signals.requested()):
            self._keep()

    def _keep(self) -> None:
        tensors, notes = {}, []
        for i, (time_over, places) in enumerate(self._new):
            arrays = self._take(places, time_over)
            notes.append([time_over, list(arrays)])
            for name, values in {"": np.array(places), **arrays}.items():
                tensors[f"{i}.{name}"] = torch.from_numpy(np.ascontiguousarray(values))
        self._phase.keep(tensors, notes)
        self._new = []

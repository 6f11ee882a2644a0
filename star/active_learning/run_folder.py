"""The run folder: what is written where, atomically, so that a killed run can go on.

::

    <output_dir>/<task>/<strategy>/seed<k>-<hash8>/      (or <output_dir>/<run_name>/)
      config.yaml  environment.json  initial.json  checksums.json
      rounds/00/  rounds/01/  ...      one folder a complete round, with its own checksums.json
      rounds/.unfinished/              parts of a round under way, see ``star.models.unfinished``
      result.json                      written last: its presence means done

A file or a round folder that exists is complete: both are written under another name, flushed to
the disk and renamed. What a kill leaves behind has a name nobody reads. What is damaged later does
not fit its checksum: whoever reads a run folder asks ``run_checks`` first.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from star import checksums
from star.active_learning import locking, new_folder
from star.active_learning.processes import Alone, Processes
from star.active_learning.run_checks import check_run
from star.active_learning.run_names import folder_of, refuse_foreign
from star.active_learning.run_reader import RunReader
from star.config import Config, config_hash, starts_cold, to_yaml
from star.data.pool import Pool, first_labels
from star.errors import InputError
from star.files import as_json, atomic_write, sync, writing
from star.provenance import environment
from star.run_files import CONFIG, ENVIRONMENT, INITIAL, RESULT, ROUNDS, UNFINISHED

log = logging.getLogger(__name__)

ROOM = (
    "make room, or let it be written, and start the same command again: complete rounds stay, and "
    "it goes on after the last one"
)
LOCK = "make room, let it be written, or set output_dir: no run goes without its lock"


@dataclass
class RunFolder(RunReader):
    """One run's folder, to read; from :meth:`open`, to write: a context manager with a lock.

    Of several processes the main one writes, and they wait for each other where one reads what
    another has written: at the end of ``open``, of every ``new_round`` and of ``write_result``.
    """

    write: bool = False
    processes: Processes = field(default_factory=Alone, repr=False, compare=False)
    _lock: IO[bytes] | None = field(default=None, repr=False, compare=False)
    _made: list[Path] = field(default_factory=list, repr=False, compare=False)
    _wrote: set[str] = field(default_factory=set, repr=False, compare=False)

    @classmethod
    def open(cls, config: Config, processes: Processes | None = None) -> RunFolder:
        """Return the run's folder; in the main process made if new, locked, and written.

        One that has finished is looked at alone.

        Args:
            config: Of the run.
            processes: That share it; ``None``: this one alone.

        Raises:
            InputError: The folder holds another configuration's run or something else, another live
                process is writing it, or it cannot be made. Nothing in it is changed then.
        """
        path, processes = folder_of(config), processes or Alone()
        if not processes.is_main_process:
            processes.wait_for_everyone()
            return cls(path, processes=processes)
        if cls(path).finished:  # nothing is written any more: no lock, and a disk to read is enough
            refuse_foreign(path, config)
            check_run(path, adapters=True)
            processes.wait_for_everyone()
            return cls(path, True, processes)
        made: list[Path] = []
        try:
            with writing(path, "set output_dir"):
                refuse_foreign(path, config)
                new_folder.make(path, made)
            with writing(path / locking.NAME, LOCK):
                lock = locking.lock(path)
        except InputError:
            new_folder.remove(path, made, ())
            raise
        run = cls(path, True, processes, _lock=lock, _made=made)
        try:
            # Again, now that nobody else can have written it in between.
            refuse_foreign(path, config)
            check_run(path, adapters=True)
            run._begin(config)
            processes.wait_for_everyone()
        except BaseException as error:
            run.__exit__(type(error), error, error.__traceback__)
            raise
        return run

    def _begin(self, config: Config) -> None:
        """Write what a new folder begins with; what is there stays as it is."""
        begun = self.complete_rounds()
        if self.config.exists():
            if checksums.read_run(self.path) is None and not self.finished:
                with writing(self.path, ROOM):
                    checksums.adopt(self.path, begun)
        else:
            self.put(CONFIG, to_yaml(config).encode())
        if not begun and not self.has_environment():
            self._write_environment(config_hash(config), {}, {})

    def put(self, name: str, content: bytes) -> None:
        """Write a file beside the rounds, its checksum first."""
        with writing(self.path, ROOM):
            self._wrote |= {name, checksums.NAME}
            checksums.announce(self.path, name, content)
            with atomic_write(self.path / name) as file:
                file.write(content)
            checksums.settle(self.path, name)

    @property
    def unfinished(self) -> Path:
        """Where what a round has done so far is kept until the round is complete."""
        return self.path / ROUNDS / UNFINISHED

    def close(self) -> None:
        """Give the lock back; the operating system does the same when the process dies."""
        if self._lock is not None:
            locking.unlock(self._lock)
            self._lock = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # A run that was refused before its first round leaves nothing behind.
        refused = isinstance(error, (InputError, MemoryError))
        if refused:
            new_folder.remove(self.path, self._made, (*self._wrote, locking.NAME))
        self.close()

    def describe(
        self, model_info: Mapping[str, Any], data_info: Mapping[str, Any], **more: Any
    ) -> None:
        """Complete ``environment.json`` once model and data are loaded; ``more``: further keys.

        A run that is continued keeps the first start's record; each later one is appended under
        ``resumed``.
        """
        if not self.write:
            return
        stored = self.environment()
        if not stored.get("model"):
            self._write_environment(stored["config_hash"], model_info, data_info, **more)
            return
        stored.setdefault("resumed", []).append({**environment(model_info, data_info), **more})
        self.put(ENVIRONMENT, as_json(stored))

    def _write_environment(
        self,
        digest: str,
        model_info: Mapping[str, Any],
        data_info: Mapping[str, Any],
        **more: Any,
    ) -> None:
        content = {"config_hash": digest, **environment(model_info, data_info), **more}
        self.put(ENVIRONMENT, as_json(content))

    def write_initial(self, indices: Sequence[int], *, validation: Sequence[int] = ()) -> None:
        """Write the pool indices labelled before round 0, and which of them are held out.

        Args:
            indices: All of them, the validation rows included.
            validation: Those held out from training.

        Raises:
            ValueError: A validation row that is not among ``indices``, or an index twice.
            InputError: Others are written down already.
        """
        everything = [int(i) for i in indices]
        held_out = [int(i) for i in validation]
        if len(set(everything)) < len(everything) or not set(held_out) <= set(everything):
            raise ValueError("initial indices must be unique and contain the validation rows")
        if self.write:
            content = as_json({"indices": everything, "validation": held_out})
            path = self.path / INITIAL
            if not path.exists():
                self.put(path.name, content)
            elif path.read_bytes() != content:
                raise checksums.damaged(path, "holds other rows than this seed draws")

    def initial(
        self, pool: Pool[Any], config: Config, cold_start: Callable[[Pool[Any]], list[int]]
    ) -> tuple[list[int], list[int]]:
        """Return the pool indices of the validation rows and of the first labels, written down.

        Args:
            pool: With nothing labelled.
            config: Of the run.
            cold_start: Chooses the first labels where ``acquisition.initial`` does not draw them.
                What it has chosen once is read, and held against the pool: embeddings on another
                machine differ by rounding.

        Raises:
            InputError: The pool is too small, or others are written down already.
        """
        choose = None
        if starts_cold(config.acquisition):
            written = (self.path / INITIAL).exists()
            choose = partial(self._stored_initial, config) if written else cold_start
        held_out, first = first_labels(
            pool,
            held_out=config.task.validation_size,
            initial=config.pool.initial_size,
            seed=config.seed,
            choose=choose,
        )
        self.write_initial(sorted(held_out + first), validation=held_out)
        return held_out, first

    def _stored_initial(self, config: Config, pool: Pool[Any]) -> list[int]:
        stored = self.stored_initial()
        first = sorted(set(stored["indices"]) - set(stored.get("validation", ())))
        if len(first) != config.pool.initial_size or not set(first) <= set(pool.unlabelled):
            raise checksums.damaged(self.path / INITIAL, "holds other rows than this pool has")
        return first

    @contextlib.contextmanager
    def new_round(self, t: int) -> Iterator[Path]:
        """Yield an empty folder that becomes round ``t``'s at a clean exit.

        All processes leave it together. After an exception or a kill it stays under its temporary
        name, for a look at it; the next attempt empties it.

        Raises:
            FileExistsError: Round ``t`` is complete already.
        """
        final = self.round_folder(t)
        partial = final.with_name(f".{final.name}.partial")
        if not self.write:
            yield partial
            self.processes.wait_for_everyone()
            return
        if final.exists():
            raise FileExistsError(f"round {t} is complete already: {final}")
        with writing(partial, ROOM):
            if partial.exists():
                log.info("starting round %d again, it was interrupted", t)
                shutil.rmtree(partial)
            partial.mkdir(parents=True)
        yield partial
        with writing(partial, ROOM):
            checksums.seal(partial)
            for path in sorted(partial.rglob("*")):
                sync(path)
            sync(partial)
            os.rename(partial, final)
            sync(final.parent)
        shutil.rmtree(self.unfinished, ignore_errors=True)
        self.processes.wait_for_everyone()

    def stored_query(self, t: int, pool: Pool[Any]) -> list[int]:
        """Return the pool indices that the complete round ``t`` chose; ``pool``: as it was then.

        Raises:
            InputError: The record is lost, or names other than distinct unlabelled examples.
        """
        path = self.selected_file(t)
        if not path.is_file():
            raise checksums.damaged(path, "is missing")
        indices = self.selected(t)
        unknown = sorted(set(indices) - set(pool.unlabelled))
        if unknown:
            raise checksums.damaged(
                path, f"asks for {unknown[:5]}, no unlabelled examples of the pool"
            )
        if len(set(indices)) < len(indices):
            raise checksums.damaged(path, "asks for an example twice")
        return indices

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write ``result.json``, which declares the run finished."""
        if self.write:
            # A kill may have come between the last round and this.
            shutil.rmtree(self.unfinished, ignore_errors=True)
            self.put(RESULT, as_json(dict(result)))
            sync(self.path)
        self.processes.wait_for_everyone()

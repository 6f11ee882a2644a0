"""The run folder: what is written where, atomically, so that a killed run can go on.

::

    <output_dir>/<task>/<strategy>/seed<k>-<hash8>/      (or <output_dir>/<run_name>/)
      config.yaml  environment.json  initial.json
      rounds/00/  rounds/01/  ...      one folder a complete round
      result.json                      written last: its presence means done

A file or a round folder that exists is complete: both are written under another name, flushed to
the disk and renamed. What a kill leaves behind has a name nobody reads.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from star.config import (
    NOT_IN_HASH,
    Config,
    as_said,
    config_hash,
    fields_of,
    get,
    load,
    strategy_name,
    to_yaml,
)
from star.errors import InputError
from star.files import atomic_write, read_json, sync, write_json
from star.provenance import environment

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)


@dataclass
class RunFolder:
    """One run's folder, from :meth:`open`; a context manager that gives the lock back.

    Under several processes the main one opens it to write, the others with ``write=False``: their
    ``write_*`` do nothing, and ``new_round`` gives them the path without touching the disk. Whoever
    reads what another process wrote must wait for it first (``accelerator.wait_for_everyone``).
    """

    path: Path
    write: bool = True
    _lock: IO[bytes] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def open(cls, config: Config, *, write: bool = True) -> RunFolder:
        """Return the run's folder, made if new, and locked where ``write``.

        Raises:
            InputError: The folder holds another configuration's run or something else, another live
                process is writing it, or it cannot be made. Nothing in it is changed then.
        """
        path = folder_of(config)
        if not write:
            return cls(path, write=False)
        _refuse_foreign(path, config)
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = _lock_folder(path)
        except OSError as error:
            raise InputError(
                f"cannot write to the run folder {path}: {error.strerror}; set output_dir"
            ) from None
        run = cls(path, _lock=lock)
        try:
            # Again, now that nobody else can have written it in between.
            _refuse_foreign(path, config)
            if not (path / "config.yaml").exists():
                with atomic_write(path / "config.yaml") as file:
                    file.write(to_yaml(config).encode())
            if not (path / "environment.json").exists():
                run._write_environment(config_hash(config), {}, {})
        except BaseException:
            run.close()
            raise
        return run

    def close(self) -> None:
        """Give the lock back; the operating system does the same when the process dies."""
        if self._lock is not None:
            if fcntl is not None:
                # By name: a forked worker (data loading) may still hold a copy of the handle.
                with contextlib.suppress(OSError):
                    fcntl.flock(self._lock, fcntl.LOCK_UN)
            self._lock.close()
            self._lock = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def finished(self) -> bool:
        """Whether ``result.json``, written last, is there."""
        return (self.path / "result.json").is_file()

    def describe(
        self, model_info: Mapping[str, Any], data_info: Mapping[str, Any], **more: Any
    ) -> None:
        """Complete ``environment.json`` once model and data are loaded; ``more``: further keys.

        A run that is continued keeps the first process's record; each later one is appended under
        ``resumed``.
        """
        if not self.write:
            return
        stored = read_json(self.path / "environment.json")
        if not stored.get("model"):
            self._write_environment(stored["config_hash"], model_info, data_info, **more)
            return
        stored.setdefault("resumed", []).append(environment(model_info, data_info))
        write_json(self.path / "environment.json", stored)

    def _write_environment(
        self,
        digest: str,
        model_info: Mapping[str, Any],
        data_info: Mapping[str, Any],
        **more: Any,
    ) -> None:
        content = {"config_hash": digest, **environment(model_info, data_info), **more}
        write_json(self.path / "environment.json", content)

    def write_initial(self, indices: Sequence[int], *, validation: Sequence[int] = ()) -> None:
        """Write the pool indices labelled before round 0, and which of them are held out.

        Args:
            indices: All of them, the validation rows included.
            validation: Those held out from training.

        Raises:
            ValueError: A validation row that is not among ``indices``, or an index twice.
        """
        everything = [int(i) for i in indices]
        held_out = [int(i) for i in validation]
        if len(set(everything)) < len(everything) or not set(held_out) <= set(everything):
            raise ValueError("initial indices must be unique and contain the validation rows")
        if self.write:
            content = {"indices": everything, "validation": held_out}
            write_json(self.path / "initial.json", content)

    def read_initial(self) -> dict[str, list[int]] | None:
        """Return ``{"indices": [...], "validation": [...]}``, or None before it is written."""
        path = self.path / "initial.json"
        return read_json(path) if path.is_file() else None

    def round_folder(self, t: int) -> Path:
        """Return the folder of round ``t``, whether or not it is there."""
        return self.path / "rounds" / f"{t:02d}"

    @contextlib.contextmanager
    def new_round(self, t: int) -> Iterator[Path]:
        """Yield an empty folder that becomes round ``t``'s at a clean exit.

        After an exception or a kill it stays under its temporary name, for a look at it; the next
        attempt empties it.

        Raises:
            FileExistsError: Round ``t`` is complete already.
        """
        final = self.round_folder(t)
        partial = final.with_name(f".{final.name}.partial")
        if not self.write:
            yield partial
            return
        if final.exists():
            raise FileExistsError(f"round {t} is complete already: {final}")
        if partial.exists():
            log.info("starting round %d again, it was interrupted", t)
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        yield partial
        for path in sorted(partial.rglob("*")):
            sync(path)
        sync(partial)
        os.rename(partial, final)
        sync(final.parent)

    def complete_rounds(self) -> int:
        """Return how many rounds, counted from 0 without a gap, are complete."""
        t = 0
        while self.round_folder(t).is_dir():
            t += 1
        return t

    def read_round(self, t: int, name: str) -> Any:
        """Return the content of a JSON file (``metrics.json``, ...) of round ``t``."""
        return read_json(self.round_folder(t) / name)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write ``result.json``, which declares the run finished."""
        if self.write:
            write_json(self.path / "result.json", dict(result))
            sync(self.path)


def folder_of(config: Config) -> Path:
    """Return where a run's folder is, or would be.

    ``<output_dir>/<run_name>/`` if it has a name, else
    ``<output_dir>/<task>/<strategy>/seed<k>-<first 8 digits of the configuration's hash>/``. A
    strategy may be called ``module:function``; what is no plain file name becomes ``-``.

    Raises:
        InputError: A ``run_name`` that leads out of ``output_dir``.
    """
    root = Path(config.output_dir).expanduser()
    if config.run_name is not None:
        name = Path(config.run_name)
        if name.is_absolute() or ".." in name.parts or not name.parts:
            raise InputError(
                f"run_name must be a folder name inside output_dir, got '{config.run_name}'"
            )
        return root / name
    # Two names that become equal here still differ in the hash behind the seed.
    strategy = re.sub(r"[^\w.+-]+", "-", strategy_name(config)).lstrip(".") or "unnamed"
    return root / config.task.name / strategy / f"seed{config.seed}-{config_hash(config)[:8]}"


def _refuse_foreign(path: Path, config: Config) -> None:
    """Raise ``InputError`` if the folder belongs to something other than this configuration."""
    if not path.exists():
        return
    if not path.is_dir():
        raise InputError(f"{path} is a file; the run folder must be a folder or new")
    mend = "set another output_dir or run_name, or remove the folder"
    stored = path / "config.yaml"
    if not stored.is_file():
        # A kill can come before config.yaml is there; hidden names are ours (lock, temporaries).
        visible = sorted(item.name for item in path.iterdir() if not item.name.startswith("."))
        if visible:
            raise InputError(f"{path} is not a run folder, it holds {visible[0]}; {mend}")
        return
    try:
        there = load(stored)
    except InputError as error:
        raise InputError(
            f"{path} holds a run of a configuration this version cannot read ({error}); {mend}"
        ) from None
    if config_hash(there) == config_hash(config):
        return
    there, config = as_said(there), as_said(config)
    differing = [
        f"{key} is {get(there, key)!r} there, {get(config, key)!r} here"
        for key, _ in fields_of(Config)
        if get(there, key) != get(config, key) and key.partition(".")[0] not in NOT_IN_HASH
    ]
    shown = "; ".join(differing[:3]) + ("; ..." if len(differing) > 3 else "")
    raise InputError(f"{path} holds a run of another configuration ({shown}); {mend}")


def _lock_folder(path: Path) -> IO[bytes] | None:
    """Return an open file that holds the folder's lock while it is open."""
    if fcntl is None:
        log.warning("no file locks on this system: do not start the same run twice at once")
        return None
    # Append mode, so that a process that is refused doesn't wipe the owner's number.
    file = (path / ".lock").open("ab+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().decode(errors="replace").strip() or "unknown"
        file.close()
        raise InputError(
            f"another process (pid {owner}) is writing {path}; wait for it, or set another "
            "output_dir or run_name"
        ) from None
    except OSError as error:  # a network file system without locks
        log.warning("%s cannot be locked (%s): do not start the same run twice", path, error)
        return file
    file.truncate(0)
    file.write(f"{os.getpid()}\n".encode())
    file.flush()
    return file

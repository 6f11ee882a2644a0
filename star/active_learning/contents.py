"""What a run's names stand for: now, and in the record of a run that was made with them.

A configuration names its data, its model and perhaps a strategy of the user's own or a sentence
encoder. Numbers made
with one content never go on, or answer, for another of the same name.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from star.cache import digest
from star.config import Config, encoder_of, own_strategy
from star.errors import InputError
from star.files import read_json
from star.run_files import ENVIRONMENT, ROUNDS

logger = logging.getLogger(__name__)

Content = Mapping[str, str | None]
"""Part to the hash of what it is; ``None``: there is no such part."""

KEYS = {
    "data": "fingerprint",
    "model": "revision",
    "strategy": "sha256",
    "encoder": "revision",
}
"""Part to its key in ``environment.json``."""


class Contents:
    """What configurations name, as it is now; each thing is looked at once.

    Data are loaded, files hashed, the Hub is asked for a commit; no model is loaded.
    """

    def __init__(self) -> None:
        self._known: dict[str, str | InputError | None] = {}

    def of(self, config: Config) -> Content:
        """Return the content of each part.

        Raises:
            InputError: Something that is named is not there, or cannot be read.
        """
        named: dict[str, Any] = {
            "strategy": config.acquisition.strategy,
            "data": [asdict(config.task), _draws(config) and config.seed],
            "model": [
                config.model.name_or_path,
                config.model.revision,
                config.tracking.cache_dir,
            ],
            "encoder": [config.acquisition.embeddings, config.tracking.cache_dir],
        }
        return {part: self._look(part, name, config) for part, name in named.items()}

    def _look(self, part: str, name: Any, config: Config) -> str | None:
        key = digest([part, name])
        if key not in self._known:
            try:
                self._known[key] = LOOK[part](config)
            except InputError as error:  # what cannot be had is not looked for again
                self._known[key] = error
        known = self._known[key]
        if isinstance(known, InputError):
            raise known
        return known


def _draws(config: Config) -> bool:
    """Whether the seed says which rows there are."""
    return config.task.draw == "seeded" or config.task.test_size is not None


def _data(config: Config) -> str | None:
    from star.data import loading as tasks  # late, as below: only what is looked at is needed

    return tasks.load(config.task, seed=config.seed).fingerprint


def _model(config: Config) -> str | None:
    from star.models.sources import cache_root, resolve

    return str(resolve(config.model, cache_root(config.tracking.cache_dir))[1]["revision"])


def _strategy(config: Config) -> str | None:
    from star.acquisition.user_function import fingerprint

    return fingerprint(own_strategy(config.acquisition))


def _encoder(config: Config) -> str | None:
    name = encoder_of(config.acquisition)
    if name is None:
        return None
    from star.models.sentence_encoder import SentenceEncoder

    return str(SentenceEncoder(name, config).info["revision"])


LOOK = {"data": _data, "model": _model, "strategy": _strategy, "encoder": _encoder}


def recorded(run: Path) -> dict[str, str | None]:
    """Return the content that a run folder's ``environment.json`` tells; ``None`` where it is mute.

    Raises:
        InputError: The file is missing or damaged.
    """
    stored = read_json(run / ENVIRONMENT)
    if not isinstance(stored, dict):
        raise InputError(f"{run / ENVIRONMENT} must be an object, got {stored!r:.40}")
    parts = {part: stored.get(part) or {} for part in KEYS}
    return {part: parts[part].get(key) for part, key in KEYS.items()}


def changes(run: Path, now: Content) -> dict[str, str]:
    """Return each part of which a run's record tells another content, and both in words.

    Raises:
        InputError: See :func:`recorded`.
    """
    stored = recorded(run)
    return {
        part: f"the {part} ({key} {str(stored[part])[:8]}, now {str(now[part])[:8]})"
        for part, key in KEYS.items()
        if stored[part] != now[part] and None not in (stored[part], now[part])
    }


def refuse_other(run: Path, now: Content) -> None:
    """Refuse to go on with, or to answer for, what has the same name but another content.

    Args:
        run: A run folder.
        now: Of its configuration.

    Raises:
        InputError: It names all that has changed. Nothing is written.
    """
    others = changes(run, now)
    if others:
        raise InputError(
            f"{run} was started on another content of {' and '.join(others.values())}; restore "
            f"{' and '.join(f'the {part}' for part in others)}, or set another output_dir"
        )
    stored = recorded(run)
    unknown = [part for part in ("data", "model") if stored[part] is None]
    # Before the first round is begun, the record tells of neither.
    if unknown and (run / ROUNDS).is_dir():
        logger.warning(
            "%s does not tell on which content of the %s it was made; it may be another than now",
            run,
            " and the ".join(unknown),
        )


def last_start(run: Path) -> Mapping[str, Any]:
    """Return what a run folder's record tells of the last start: the first, or one that went on.

    Raises:
        InputError: The file is missing or damaged.
    """
    stored = read_json(run / ENVIRONMENT)
    start: Mapping[str, Any] = [stored, *stored.get("resumed", [])][-1]
    return start


def refuse_other_updates(run: Path, processes: int, rows: int) -> None:
    """Refuse to train further rounds by updates of another number of rows than those before.

    The configuration is the same, so it is another number of processes. A record of an earlier
    version tells neither, and anything goes.

    Args:
        run: A run folder with a complete round.
        processes: Of this start.
        rows: Of an update, on all of them together.

    Raises:
        InputError: Nothing is written.
    """
    told = last_start(run)
    before, of_before = told.get("rows_per_update"), told.get("processes")
    if before not in (None, rows):
        raise InputError(
            f"{run} was trained with {before} rows in an update, got {rows} "
            f"({_processes(processes)} instead of {of_before}); start it with "
            f"{_processes(of_before)}, or set another output_dir, in which another "
            f"train.gradient_accumulation_steps may have {before} rows too"
        )


def _processes(count: Any) -> str:
    return f"{count} process" if count == 1 else f"{count} processes"


def say_other_computation(run: Path, now: Mapping[str, Any]) -> None:
    """Say what computes otherwise than when the run was started, or was last gone on with.

    Said and not refused: the numbers differ by rounding, the record of each start tells its own,
    and a run of weeks must outlive an update of the machine. Caches do not mix the two.

    Args:
        run: A run folder.
        now: ``computation`` of the model as it was loaded.
    """
    told = last_start(run).get("model") or {}
    before, after = _flat(told.get("computation") or {}), _flat(now)
    changed = [key for key in after if key in before and before[key] != after[key]]
    if changed:
        logger.warning(
            "%s goes on with other software or hardware, so that rounding differs: %s",
            run,
            ", ".join(f"{key} {before[key]}, now {after[key]}" for key in changed),
        )


def _flat(computation: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in computation.items() if key != "libraries"}
    return plain | dict(computation.get("libraries") or {})

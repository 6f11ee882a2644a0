"""Where a run folder is, from names that the user gave, and whether what is there is the run's."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

from star import checksums
from star.config import (
    NOT_IN_HASH,
    Config,
    as_said,
    config_hash,
    fields_of,
    get,
    load,
    strategy_name,
)
from star.errors import InputError
from star.names import inside
from star.outputs import LONGEST, refuse_inside_run
from star.run_files import CONFIG

LONGEST_PATH = 4000  # bytes; Linux takes 4095, and the files inside need some


def folder_of(config: Config) -> Path:
    """Return where a run's folder is, or would be.

    ``<output_dir>/<run_name>/`` if it has a name, else
    ``<output_dir>/<task>/<strategy>/seed<k>-<first 8 digits of the configuration's hash>/``. A
    strategy may be called ``module:function``; what is no plain file name becomes ``-``.

    Raises:
        InputError: A ``run_name`` that leads out of ``output_dir``, or a name that no folder can
            have: too long, or with control characters or bytes that are not UTF-8 in it.
    """
    check_path("output_dir", config.output_dir)
    try:
        root = Path(config.output_dir).expanduser()
    except RuntimeError as error:  # ~somebody
        raise InputError(f"output_dir: {error}, got '{config.output_dir}'") from None
    if config.run_name is not None:
        check_path("run_name", config.run_name)
        name = Path(config.run_name)
        if not inside(config.run_name) or not name.parts:
            raise InputError(
                f"run_name must be a folder name inside output_dir, got '{config.run_name}'"
            )
        return _short(root / name)
    called = strategy_name(config)
    # Two names that become equal here still differ in the hash behind the seed.
    strategy = re.sub(r"[^\w.+-]+", "-", called).lstrip(".") or "unnamed"
    for name in (called, strategy):
        check_path("acquisition.name" if config.acquisition.name else "acquisition.strategy", name)
    own = f"seed{config.seed}-{config_hash(config)[:8]}"
    return _short(root / config.task.name / strategy / own)


def _short(path: Path) -> Path:
    size = len(os.fsencode(path.absolute()))
    if size > LONGEST_PATH:
        raise InputError(
            f"output_dir and run_name lead to a path of at most {LONGEST_PATH} bytes, got {size}"
        )
    return path


def check_path(key: str, value: str) -> None:
    """Refuse a name or path that no file system takes, or no shell and log shows as it is.

    Raises:
        InputError: Naming ``key`` and what is wrong with the value.
    """
    for character in value:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
            what = "bytes that are not UTF-8" if "\ud800" <= character <= "\udfff" else "characters"
            shown = value if len(value) <= 80 else f"{value[:80]}…"
            raise InputError(
                f"{key} must be a plain name, got {shown!a}: it holds {what} that cannot "
                f"stand in it ({character!a})"
            )
    for part in value.split("/"):
        size = len(part.encode())
        if size > LONGEST:
            raise InputError(
                f"{key} must have names of at most {LONGEST} bytes, got one of {size}, "
                f"'{part[:40]}…'"
            )


def refuse_foreign(path: Path, config: Config) -> None:
    """Raise ``InputError`` if the folder belongs to something other than this configuration.

    Nothing is written.
    """
    refuse_inside_run(path.parent)
    if not path.exists():
        return
    if not path.is_dir():
        raise InputError(f"{path} is a file; the run folder must be a folder or new")
    mend = "set another output_dir or run_name, or remove the folder"
    stored = path / CONFIG
    if not stored.is_file():
        # A kill can come before config.yaml is there; hidden names are ours (lock, temporaries).
        ours = (".", checksums.NAME)
        visible = sorted(item.name for item in path.iterdir() if not item.name.startswith(ours))
        if visible:
            checksums.check_config(path)
            raise InputError(f"{path} is not a run folder, it holds {visible[0]}; {mend}")
        return
    checksums.check_config(path)
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

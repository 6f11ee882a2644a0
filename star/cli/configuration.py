"""The words CONFIG, key=value and --preset, of the verbs that take a configuration."""

from __future__ import annotations

import argparse
import os
import select
import stat
import sys
from typing import TextIO

from star.config import Config, load


def add(verb: argparse.ArgumentParser) -> None:
    """Let a verb take a configuration, for :func:`read`."""
    verb.add_argument("config", metavar="CONFIG", help="YAML file; '-': stdin, or the defaults")
    verb.add_argument("overrides", metavar="key=value", nargs="*", help="override a key")
    verb.add_argument(
        "--preset",
        metavar="NAME",
        help="paper (the text's reading), released (the authors' code with its faults) or star "
        "(ours): a delta between CONFIG and key=value, see star/config/presets",
    )


def read(options: argparse.Namespace) -> Config:
    """Return the configuration that the words ask for, checked."""
    source = _stdin() if options.config == "-" else options.config
    return load(source, options.overrides, preset=options.preset)


def _stdin() -> TextIO | None:
    """Return stdin where somebody sends a configuration: a file or a pipe, not a terminal.

    Several processes would each get a part of it, or nothing.
    """
    try:
        kind = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, ValueError, OSError):  # closed, or none
        return None
    if not alone() or not (stat.S_ISREG(kind) or stat.S_ISFIFO(kind)):
        return None
    if not select.select([sys.stdin], [], [], 2)[0]:  # a pipe that somebody left open, perhaps
        print("waiting for a configuration on stdin; </dev/null where none comes", file=sys.stderr)
    return sys.stdin


def alone() -> bool:
    """Whether this is the only process of its job, as torchrun's environment tells."""
    return int(os.environ.get("WORLD_SIZE") or 1) == 1

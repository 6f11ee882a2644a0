"""The verbs on one run: ``star run``, ``score``, ``estimate`` and ``replay``.

What needs torch is imported where it is used, behind everything that can be said without it.
"""

from __future__ import annotations

import argparse
import os
import select
import stat
import sys
from pathlib import Path
from typing import TextIO

from star import config as configuration


def _config(options: argparse.Namespace) -> configuration.Config:
    source = _stdin() if options.config == "-" else options.config
    return configuration.load(source, options.overrides, preset=options.preset)


def _stdin() -> TextIO | None:
    """Return stdin where somebody sends a configuration: a file or a pipe, not a terminal.

    Several processes would each get a part of it, or nothing.
    """
    try:
        kind = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, ValueError, OSError):  # closed, or none
        return None
    if not _alone() or not (stat.S_ISREG(kind) or stat.S_ISFIFO(kind)):
        return None
    if not select.select([sys.stdin], [], [], 2)[0]:  # a pipe that somebody left open, perhaps
        print("waiting for a configuration on stdin; </dev/null where none comes", file=sys.stderr)
    return sys.stdin


def run(options: argparse.Namespace) -> int:
    config = _config(options)
    if options.print_config:
        print(configuration.to_yaml(config), end="")
        return 0
    from star.active_learning import closing, starting

    folder, rows = None, None
    if _alone():  # several processes must agree on what they see
        folder = starting.finished(config)
        rows = None if folder else starting.rows(config)
    if folder is not None:
        closing.say(folder)
        print(folder)
        return 0
    from star.active_learning.loop import run as active_learning  # late: all above needs no torch
    from star.models.distributed import is_main, leave

    try:
        folder = active_learning(config, rows=rows)
        if is_main():
            closing.say(folder)
            print(folder)
    finally:
        leave()
    return 0


def _alone() -> bool:
    """Whether this is the only process of its job, as torchrun's environment tells."""
    return int(os.environ.get("WORLD_SIZE") or 1) == 1


def score(options: argparse.Namespace) -> int:
    from star.models.text_rows import read_rows

    read_rows(Path(options.input))  # what is wrong with them is said before torch is loaded
    from star.models.score_texts import score_file

    score_file(
        options.model,
        options.input,
        output=options.output,
        force=options.force,
        adapter=options.adapter,
        mc_passes=options.mc_passes,
        masks=options.masks,
        seed=options.seed,
        batch_size=options.batch_size,
        max_new_tokens=options.max_new_tokens,
        dtype=options.dtype,
        device=options.device,
        revision=options.revision,
        quantization=options.quantization,
        attn=options.attn,
        progress=sys.stderr.isatty(),
    )
    return 0


def estimate(options: argparse.Namespace) -> int:
    config = _config(options)
    from star.active_learning import starting

    starting.rows(config)  # what is wrong with them is said at once
    from star.experiments.estimate import estimate as estimating  # late, as for run

    found = estimating.estimate(
        config,
        flops_per_second=options.flops_per_second,
        bytes_per_second=options.bytes_per_second,
    )
    if options.json is not None:
        estimating.write(options.json, found)
    print(estimating.table(found))
    return 0


def replay(options: argparse.Namespace) -> int:
    from star.experiments import replay as replaying

    rows = replaying.replay(options.run, options.overrides)
    if options.json is not None:
        replaying.write_rows(options.json, rows)
    print(replaying.table(rows))
    return 0

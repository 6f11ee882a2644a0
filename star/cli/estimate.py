"""``star estimate``: what a run will cost."""

from __future__ import annotations

import argparse
from typing import Any

from star.cli import configuration

DESCRIPTION = """\
Say what a run will cost before it is started: tokens, FLOPs, hours and peak memory of training,
evaluating and scoring. Tokens are counted on the task's own rows; the speed is measured here,
within a minute or so, on the configured model and device. Nothing is written to the run folder.
"""

NOTES = """\
examples:
  star estimate configs/quickstart.yaml
  star estimate configs/smollm2/boolq.yaml task.data_dir=path/to/boolq pool.rounds=3
  star estimate configs/paper/gsm8k.yaml --preset paper --flops-per-second 1e14 \\
      --bytes-per-second 2e12

With --flops-per-second only the model's configuration and tokenizer are read, so that you can ask
about a model that this machine cannot hold. Give what the device achieves in such work, not what
its maker promises. The estimate is for one process that starts afresh; loading is not counted.

columns:
  tokens  through the model, as result.json counts them; padding is not counted
  FLOP    additions and multiplications
  base    evaluation and scoring by the base model, once before the rounds (result.json has the
          tokens in round 0). Its scores are cached: over the same pool another seed or strategy
          finds them there
"""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser(
        "estimate",
        help="say what a run will cost before it is started",
        description=DESCRIPTION,
        epilog=NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    configuration.add(verb)
    verb.add_argument(
        "--flops-per-second",
        type=float,
        metavar="F",
        help="what another device achieves, 1e14 say: measure nothing, load no weights",
    )
    verb.add_argument(
        "--bytes-per-second",
        type=float,
        metavar="B",
        help="with it: how fast that device reads the weights, once a generated token of a batch",
    )
    verb.add_argument("--json", metavar="FILE", help="also write the figures, round by round")
    verb.add_argument("--force", action="store_true", help="replace FILE if it is there")
    verb.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Print a table of what a run will cost."""
    if options.json is not None:  # before the work for it
        from star.outputs import refuse_output  # late: numpy

        refuse_output(options.json, force=options.force, sources=[options.config])
    config = configuration.read(options)
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

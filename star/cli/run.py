"""``star run``: run the algorithm from a configuration."""

from __future__ import annotations

import argparse
from typing import Any

from star import signals
from star.cli import configuration
from star.config import Config, describe, to_yaml

NOTES = """\
examples:
  star run configs/quickstart.yaml
  star run configs/quickstart.yaml acquisition.select=random seed=3
  star run configs/smollm2/boolq.yaml task.data_dir=path/to/boolq pool.rounds=3
  star run configs/quickstart.yaml --preset released
  star run configs/quickstart.yaml --print-config
  star run configs/quickstart.yaml acquisition.strategy=my_module:my_function --dry-run
  accelerate launch -m star run configs/quickstart.yaml

A run that was interrupted goes on when it is started again, with what its round has kept
(tracking.checkpoint_minutes). SIGTERM and SIGUSR1 let it keep all that is done and end with exit
status 75, by which a job queues itself again before its time limit:
  #SBATCH --requeue --signal=USR1@120
  srun star run CONFIG; [ $? -ne 75 ] || scontrol requeue $SLURM_JOB_ID

keys, their defaults and meaning:
"""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser(
        "run",
        help="run active learning from a configuration file",
        description="Run active learning: label, fine-tune, evaluate, score, query, repeat. "
        "The last line on stdout is the run folder.",
        epilog=NOTES + describe(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    configuration.add(verb)
    verb.add_argument(
        "--print-config", action="store_true", help="show the resolved YAML and do nothing else"
    )
    verb.add_argument(
        "--dry-run",
        action="store_true",
        help="call the strategy on made-up components, say what it returned, and do nothing else",
    )
    verb.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Run, or go on with a run, and print its folder."""
    config = configuration.read(options)
    if options.print_config:
        print(to_yaml(config), end="")
        return 0
    if options.dry_run:
        from star.active_learning.starting import dry_run

        print(dry_run(config))
        return 0
    with signals.heeded():
        _run(config)
    return 0


def _run(config: Config) -> None:
    """Run, or go on, and print the folder in the main process."""
    from star.active_learning import closing, starting

    folder, rows = None, None
    if configuration.alone():  # several processes must agree on what they see
        folder = starting.finished(config)
        rows = None if folder else starting.rows(config)
    if folder is not None:
        closing.say(folder)
        print(folder)
        return
    from star.active_learning.loop import run as active_learning  # late: all above needs no torch
    from star.models.distributed import is_main, leave

    try:
        folder = active_learning(config, rows=rows)
        if is_main():
            closing.say(folder)
            print(folder)
    finally:
        leave()

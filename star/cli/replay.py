"""``star replay``: what another strategy would have picked from a run's scores."""

from __future__ import annotations

import argparse
from typing import Any

DESCRIPTION = """\
Recompute each round's query from the score components a run has stored, under other settings and
without a model, and compare it with what was picked. Each round is asked on the run's own
unlabelled pool: the counterfactual does not go on to the next round. Without key=value the run's
own selection comes back. Nothing in RUN is changed.
"""

NOTES = """\
examples:
  star replay runs/boolq/star-max_entropy/seed0-1a2b3c4d
  star replay RUN acquisition.combine=none acquisition.measure=margin
  star replay RUN acquisition.base_weight.schedule=constant acquisition.base_weight.value=0.2
  star replay RUN acquisition.select=random --json rows.json

keys that can be asked for:
  acquisition.strategy, .select, .coldness, .preselect, .random_share, .measure, .reduction,
  .combine, .normalization
  acquisition.candidates, .candidates_by: what of the run's K so many candidates have among them
  acquisition.base_weight.schedule, .value, .rounds, .decay
  acquisition.mc_dropout.passes: fewer than the run's; the first so many are used
  pool.query_size
What needs a model again cannot: continuation, embeddings, entropy_floor, passes of another kind,
more of them, mc_dropout.masks; bald where a run has not stored it.

columns:
  N, K        unlabelled examples, and how many of them are picked
  overlap     share of the K that the run picked too
  chance      the overlap expected of K drawn at random
  Jaccard     picked by both / picked by either
  rank corr.  Spearman's rank correlation of the blended scores with the run's
  lambda      nominal weight of the base view (combine=dynamic)
  eff.        rank correlation of the blend with the base view, and with the full view
  near ties   scores so close to the K-th that rounding could swap them
"""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser(
        "replay",
        help="ask a run's stored scores what another strategy would have picked",
        description=DESCRIPTION,
        epilog=NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("run", metavar="RUN", help="a run folder")
    verb.add_argument("overrides", metavar="key=value", nargs="*", help="ask for another value")
    verb.add_argument("--json", metavar="FILE", help="also write the rows, with the indices")
    verb.add_argument("--force", action="store_true", help="replace FILE if it is there")
    verb.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Print a table of what would have been picked."""
    if options.json is not None:  # before the work for it
        from star.outputs import refuse_output  # late: numpy

        refuse_output(options.json, force=options.force)
    from star.experiments import replay as replaying

    rows = replaying.replay(options.run, options.overrides)
    if options.json is not None:
        replaying.write_rows(options.json, rows)
    print(replaying.table(rows))
    return 0

"""What ``star VERB --help`` says beyond the options."""

from __future__ import annotations

RUN_EXAMPLES = """\
examples:
  star run configs/quickstart.yaml
  star run configs/quickstart.yaml acquisition.select=random seed=3
  star run configs/smollm2/boolq.yaml task.data_dir=path/to/boolq pool.rounds=3
  star run configs/quickstart.yaml --preset released
  star run configs/quickstart.yaml --print-config
  accelerate launch -m star run configs/quickstart.yaml

A run that was interrupted goes on after its last complete round when it is started again.

keys, their defaults and meaning:
"""

ESTIMATE_DESCRIPTION = """\
Say what a run will cost before it is started: tokens, FLOPs, hours and peak memory of training,
evaluating and scoring. Tokens are counted on the task's own rows; the speed is measured here,
within a minute or so, on the configured model and device. Nothing is written to the run folder.
"""

ESTIMATE_NOTES = """\
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

REPLAY_DESCRIPTION = """\
Recompute each round's query from the score components a run has stored, under other settings and
without a model, and compare it with what was picked. Each round is asked on the run's own
unlabelled pool: the counterfactual does not go on to the next round. Without key=value the run's
own selection comes back. Nothing in RUN is changed.
"""

REPLAY_NOTES = """\
examples:
  star replay runs/boolq/star-max_entropy/seed0-1a2b3c4d
  star replay RUN acquisition.combine=none acquisition.measure=margin
  star replay RUN acquisition.base_weight.schedule=constant acquisition.base_weight.value=0.2
  star replay RUN acquisition.select=random --json rows.json

keys that can be asked for:
  acquisition.strategy, .select (top_k, random), .measure, .reduction, .combine, .normalization
  acquisition.base_weight.schedule, .value, .rounds, .decay
  acquisition.mc_dropout.passes: fewer than the run's; the first so many are used
  pool.query_size
What needs a model again cannot: continuation, entropy_floor, mc_dropout.masks, more passes; bald
where a run has not stored it.

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

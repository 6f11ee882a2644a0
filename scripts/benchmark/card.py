"""python scripts/benchmark --gpu: what a GPU gives, without downloads, planned for eight minutes.

Llama-2-7B's shape with random weights, made on the device; part by part: (i) the card's own peaks,
(ii) scoring, (vi) generation, (iii) MC passes, (iv) training, (vii) invariance, (viii) what ``star
estimate`` expects beside what was measured, (vi-t) generation by transformers, (v) four bits. Each
part is alone: one that fails is reported with its error, and is stopped at 1.5 times its seconds.
--smoke runs all of it with a tiny shape, on any machine. Prints one Markdown table; --json FILE is
written after each part.

It needs torch, transformers, peft and accelerate; bitsandbytes for (v).
"""

from __future__ import annotations

import argparse
import gc
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmark.card_bench import Card, Figure
from benchmark.card_limits import generation, of_transformers, peaks, scoring
from benchmark.card_parts import expected, four_bits, invariance, passes, training
from star.errors import InputError, one_line
from star.files import write_json
from star.models import varlen

# Name to what measures it, the seconds it may take, and what it is; in the order of their weight.
PARTS: dict[str, tuple[Callable[[Card], Iterator[Figure]], float, str]] = {
    "i": (peaks, 30, "the card's own peaks"),
    "ii": (scoring, 120, "scoring rows of GSM8K's lengths"),
    "vi": (generation, 70, "generating 256 tokens"),
    "iii": (passes, 50, "S = 3 MC passes"),
    "iv": (training, 60, "LoRA training, r 64"),
    "vii": (invariance, 30, "invariance"),
    "viii": (expected, 10, "star estimate, before and after"),
    "vi-t": (of_transformers, 50, "generation by transformers"),
    "v": (four_bits, 50, "four bits"),  # last: its model has other weights then
}
GRACE = 1.5  # a part that takes so many times its seconds is ended


@dataclass
class Report:
    """What a part came to: its figures, seconds, peak memory in bytes, and why it ended early."""

    name: str
    what: str
    figures: list[Figure] = field(default_factory=list)
    seconds: float = 0.0
    peak_bytes: int = 0
    error: str | None = None


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise ``TimeoutError`` in the main thread after so many seconds."""

    def end(*_: object) -> None:
        raise TimeoutError(f"ended after {seconds:.0f} s")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def measured(card: Card, name: str) -> Report:
    """Return a part's report; an error is in it, not raised."""
    work, budget, what = PARTS[name]
    report, start = Report(name, what), time.perf_counter()
    card.begin(budget)
    try:
        with at_most(GRACE * budget):
            for figure in work(card):
                report.figures.append(figure)
                say(f"({name}) {figure}")
    except Exception as error:
        report.error = f"{type(error).__name__}: {one_line(error)}"[:300]
        say(f"({name}) {report.error}")
    report.seconds, report.peak_bytes = time.perf_counter() - start, card.peak_bytes()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return report


def where(card: Card) -> dict[str, Any]:
    """Return what was measured on, and with what."""
    gpu = card.device.type == "cuda"
    name = torch.cuda.get_device_name(card.device) if gpu else f"cpu {platform.machine()}"
    kernel = varlen.serves(card.device, card.dtype)
    return {
        "device": name,
        "memory_bytes": torch.cuda.get_device_properties(card.device).total_memory if gpu else 0,
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
        "attention": "varlen_attn" if kernel else "a call of SDPA for each run of rows",
        "shape": card.size.name,
        "parameters": card.shape.parameters,
        "dtype": str(card.dtype).removeprefix("torch."),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def table(made: dict[str, Any], reports: Sequence[Report]) -> str:
    """Return Markdown: a row a figure, its aim beside it; a part's errors among them."""
    lines = [
        f"{made['device']}, torch {made['torch']}, transformers {made['transformers']}; "
        f"{made['shape']}, {made['parameters'] / 1e9:.3g} G parameters, {made['dtype']}; "
        f"attention: {made['attention']}; {made['date']}.",
        "",
        "| part | what | value | aim | note |",
        "|---|---|---|---|---|",
    ]
    for report in reports:
        for figure in report.figures:
            cells = (report.name, figure.what, figure.shown(), figure.aim, figure.note)
            lines.append(f"| {' | '.join(cells)} |")
        end = f"{report.seconds:.1f} s"
        if report.peak_bytes:
            end += f", peak {report.peak_bytes / 2**30:.1f} GiB"
        said = "" if report.error is None else report.error.replace("|", "/")
        lines.append(f"| {report.name} | {report.what}: whole part | {end} | | {said} |")
    return "\n".join(lines)


def say(text: str) -> None:
    """Tell on stderr what is going on."""
    print(text, file=sys.stderr, flush=True)


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        prog="python scripts/benchmark --gpu",
        description=(__doc__ or "").partition("\n\n")[0],
        epilog="; ".join(f"{name}: {what}" for name, (_, _, what) in PARTS.items()),
    )
    parser.add_argument("--smoke", action="store_true", help="a tiny shape, on a CPU")
    parser.add_argument("--parts", metavar="NAMES", help="these alone, with commas between")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    return parser.parse_args(words)


def main(words: Sequence[str]) -> int:
    """Return the exit status: 0, 1 if a part failed, 2 for what the user can mend."""
    options = parsed(words)
    try:
        names = list(PARTS)
        if options.parts is not None:
            names = [name.strip() for name in options.parts.split(",")]
            for name in names:
                if name not in PARTS:
                    raise InputError(f"--parts: no '{name}'; there are {', '.join(PARTS)}")
        if options.json is not None and not options.json.parent.is_dir():
            raise InputError(f"--json: there is no folder {options.json.parent}")
        card = Card.made(smoke=options.smoke)
    except InputError as error:
        say(f"error: {one_line(error)}")
        return 2
    reports, made = [], where(card)
    for name in names:
        reports.append(measured(card, name))
        if options.json is not None:  # so far: the machine may be taken back
            write_json(options.json, {**made, "parts": [asdict(one) for one in reports]})
    print(table(made, reports))
    return int(any(report.error for report in reports))

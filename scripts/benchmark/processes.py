"""One process and several, the model on each or its layers in shares: do they choose alike?

python scripts/benchmark/processes.py CONFIG --output DIR [--processes 1,2,3] [key=value ...]

Runs CONFIG by ``star run``, alone and under ``torchrun`` with so many CPU processes, as DDP and as
FSDP2, with as many examples in an update: ``train.per_device_train_batch_size`` is of all processes
together here. Masks of dropout are each process's own, so dropout and passes are off. Compares what
was chosen and the loss of every update; writes ``processes.json`` and ``table.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from star.config import load
from star.errors import InputError
from star.files import read_json, write_json
from star.provenance import environment
from star.run_files import SELECTED, TRAINING

OFF = ("adapter.lora_dropout=0", "acquisition.mc_dropout.passes=0", "tracking.progress=false")
KINDS = {"DDP": {}, "FSDP2": {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}}
COLUMNS = ("processes", "", "same choices", "largest difference of a loss", "seconds")


def ran(words: Sequence[str], count: int, kind: str) -> dict[str, Any]:
    """Return what a run of so many processes chose, its losses in nats a token, and its seconds."""
    size = load(words[0], words[1:]).train.per_device_train_batch_size
    if size % count:
        raise InputError(
            f"train.per_device_train_batch_size={size} cannot be divided among {count} processes"
        )
    launch = ["torch.distributed.run", "--standalone", f"--nproc_per_node={count}", "-m", "star"]
    start = [sys.executable, "-m", *(["star"] if count == 1 else launch), "run"]
    with tempfile.TemporaryDirectory() as place:
        own = [f"train.per_device_train_batch_size={size // count}", f"output_dir={place}"]
        begun = time.monotonic()
        subprocess.run(
            [*start, *words, *OFF, *own, "run_name=run"],
            env=os.environ | {"CUDA_VISIBLE_DEVICES": ""} | KINDS[kind], check=True,
        )  # fmt: skip
        seconds = round(time.monotonic() - begun, 1)
        rounds = sorted(Path(place, "run", "rounds").iterdir())
        lines = [line for t in rounds for line in (t / TRAINING).read_text().splitlines()]
        return {
            "processes": count,
            "kind": kind if count > 1 else "",
            "chosen": [read_json(t / SELECTED)["indices"] for t in rounds[:-1]],
            "losses": [json.loads(line)["loss"] for line in lines],
            "seconds": seconds,
        }


def compared(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each run's difference to the first."""
    one = runs[0]
    rows = []
    for run in runs:
        pairs = zip(run["losses"], one["losses"], strict=True)
        rows.append(
            {
                "processes": run["processes"],
                "kind": run["kind"],
                "same": run["chosen"] == one["chosen"],
                "difference": max(abs(a - b) for a, b in pairs),
                "seconds": run["seconds"],
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the comparison as Markdown."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    for row in rows:
        shown = ("yes" if row["same"] else "no", f"{row['difference']:.1e}", f"{row['seconds']:g}")
        lines.append(f"| {row['processes']} | {row['kind']} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and compare; write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("settings", nargs="*", metavar="key=value")
    parser.add_argument("--processes", default="1,2,3")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_intermixed_args(arguments)
    words = [options.config, *options.settings]
    counts = [int(count) for count in options.processes.split(",")]
    runs = [
        ran(words, count, kind)
        for count in [1, *(count for count in counts if count > 1)]
        for kind in (KINDS if count > 1 else ["DDP"])
    ]
    rows = compared(runs)
    made = environment({}, {})
    command = " ".join(["python scripts/benchmark/processes.py", *sys.argv[1:]])
    content = {"command": command, "rows": rows, "runs": runs}
    content |= {name: made[name] for name in ("packages", "hardware")}
    options.output.mkdir(parents=True, exist_ok=True)
    write_json(options.output / "processes.json", content)
    text = f"`{command}`\n\n{table(rows)}"
    (options.output / "table.md").write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()

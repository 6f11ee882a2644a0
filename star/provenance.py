"""What a run ran on: code, versions, machine; the content of ``environment.json``."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from star.redaction import redacted_words

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "datasets",
    "tokenizers",
    "safetensors",
    "gguf",
    "numpy",
    "omegaconf",
)


def environment(model_info: Mapping[str, Any], data_info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run ran on: time, code, versions, model, data, machine.

    Args:
        model_info: Name and revision or content hash of the base model, as it was loaded.
        data_info: The same of the data.
    """
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": redacted_words(sys.argv),
        "star": code(),
        "python": platform.python_version(),
        "packages": {name: installed(name) for name in PACKAGES},
        "platform": platform.platform(),
        "hardware": _hardware(),
        "model": dict(model_info),
        "data": dict(data_info),
    }


def code() -> dict[str, Any]:
    """Return version, commit and dirty flag of the code that is running."""
    return {"version": installed("star-al"), **_checkout()}


def installed(distribution: str) -> str | None:
    """Return a library's version; ``None`` if it is not there."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _checkout() -> dict[str, Any]:
    """Return commit and dirty flag of the checkout that star was imported from, or two nulls."""
    here = Path(__file__).resolve()

    # Inside a git hook these name another repository than the one star is in.
    outside = {k: v for k, v in os.environ.items() if k not in ("GIT_DIR", "GIT_WORK_TREE")}

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "--no-optional-locks", "-C", str(here.parent), *words],
                capture_output=True,
                text=True,
                timeout=20,
                env=outside,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # An installed copy can lie inside somebody else's checkout (a .venv); that commit says nothing.
    if git("ls-files", "--error-unmatch", here.name) is None:
        return {"commit": None, "dirty": None}
    changes = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else changes != ""}


def _hardware() -> dict[str, Any]:
    import torch  # late: reading a run folder needs no torch

    gpus = []
    if torch.cuda.is_available():
        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "ram_gib": _ram_gib(),
        "gpus": gpus,
    }


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _ram_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None

"""How processes at once divide a machine's cores and GPUs among them."""

from __future__ import annotations

import os
import re
import subprocess

from star.errors import InputError


def environments(jobs: int | None, cells: int | None = None) -> list[dict[str, str]]:
    """Return the variables of each of ``jobs`` processes, to be set before they start.

    Each gets an equal share of the cores this process may use, or what ``OMP_NUM_THREADS`` says
    already, and one GPU in turn.

    Args:
        jobs: How many; ``None``: one a GPU, without GPUs one a core. (A model that is small enough
            for several at once gains little from a second thread.)
        cells: How many there are to run: no more processes than that, so that each has more cores.

    Raises:
        InputError: ``jobs`` below one.
    """
    devices, cores = gpus(), available_cores()
    if jobs is None:
        jobs = len(devices) or cores
    if jobs < 1:
        raise InputError(f"--jobs must be at least 1, got {jobs}")
    if cells:
        jobs = min(jobs, cells)
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cores // jobs))
    divided: list[dict[str, str]] = [{"OMP_NUM_THREADS": threads} for _ in range(jobs)]
    if devices:
        for place, environment in enumerate(divided):
            environment["CUDA_VISIBLE_DEVICES"] = devices[place % len(devices)]
    return divided


def available_cores() -> int:
    """Return the number of cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


def gpus() -> list[str]:
    """Return the CUDA devices this process may use, as ``CUDA_VISIBLE_DEVICES`` names them.

    Those of that variable if it is set, else all that ``nvidia-smi`` lists: torch, which would
    know, takes seconds to load and would claim memory on a device.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        names = [name.strip() for name in chosen.split(",")]
        return [name for name in names if name and not name.startswith("-")]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return re.findall(r"^GPU (\d+):", listed.stdout, re.MULTILINE)

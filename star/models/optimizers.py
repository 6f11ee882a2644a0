"""What moves the adapter, and how long: AdamW, on a GPU also with pages; the rate's schedule."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer
from transformers import get_scheduler

from star.config import TrainConfig, rows_per_update
from star.errors import InputError
from star.models import distributed


def refuse_elsewhere(config: TrainConfig, device: torch.device) -> None:
    """Refuse ``train.optimizer`` where it cannot be had.

    Raises:
        InputError: Pages are asked for without a GPU, or without bitsandbytes.
    """
    if config.optimizer == "adamw":
        return
    if device.type != "cuda":
        raise InputError(
            f"train.optimizer={config.optimizer} needs a GPU, got device {device.type}; set "
            "train.optimizer=adamw"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(
            f"train.optimizer={config.optimizer} needs bitsandbytes; pip install bitsandbytes"
        )


def adamw(groups: list[dict[str, Any]], config: TrainConfig, device: torch.device) -> Optimizer:
    """Return AdamW over parameter groups; its averages are float32 in both kinds.

    Args:
        groups: Each with ``params`` and ``weight_decay``.
        config: ``train``.
        device: Where the parameters are.

    Raises:
        InputError: It cannot be had there.
    """
    refuse_elsewhere(config, device)
    if config.optimizer == "paged_adamw":
        from bitsandbytes.optim import PagedAdamW32bit

        paged: Optimizer = PagedAdamW32bit(groups, lr=config.learning_rate)
        return paged
    # One kernel an update instead of a dozen for each of hundreds of small matrices.
    fused = device.type in ("cpu", "cuda", "mps")
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=fused)


@dataclass(frozen=True)
class Plan:
    """How long a training is.

    Attributes:
        processes: That share an update.
        batch_size: Rows of an update, on all of them together.
        epochs: Begun.
        updates: In all.
        schedule: Updates until the rate's schedule is at its end.
    """

    processes: int
    batch_size: int
    epochs: int
    updates: int
    schedule: int


def plan(rows: int, config: TrainConfig, schedule_rows: int | None) -> Plan:
    """Return the length of a training: ``max_steps`` counts before ``num_train_epochs``.

    Args:
        rows: It is on.
        config: ``train``.
        schedule_rows: What the released code counts its schedule on, the test set (fault 6).
    """
    processes = distributed.state().num_processes
    batch_size = rows_per_update(config, processes)
    per_epoch = math.ceil(rows / batch_size)
    epochs, updates = config.num_train_epochs, config.num_train_epochs * per_epoch
    if config.max_steps is not None:
        epochs, updates = math.ceil(config.max_steps / per_epoch), config.max_steps
    schedule = updates
    if schedule_rows is not None:
        schedule = config.num_train_epochs * (schedule_rows // batch_size + 1)
    return Plan(processes, batch_size, epochs, updates, schedule)


def schedule(
    optimizer: Optimizer, config: TrainConfig, plan: Plan
) -> torch.optim.lr_scheduler.LRScheduler:
    """Return the rate's schedule; its warm-up is a share of the updates, whatever its length."""
    # transformers' plain "constant" ignores the warm-up.
    names = {"constant": "constant_with_warmup"}
    name = names.get(config.lr_scheduler_type, config.lr_scheduler_type)
    warmup = round(config.warmup_ratio * plan.updates)
    return get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=plan.schedule)

"""What moves the adapter: AdamW, on a GPU also with pages, and the learning rate's schedule."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch.optim import Optimizer
from transformers import get_scheduler

from star.config import TrainConfig
from star.errors import InputError


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


def schedule(
    optimizer: Optimizer, config: TrainConfig, length: int, *, updates: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Return the rate's schedule over ``length`` updates; warm-up is a share of ``updates``."""
    # transformers' plain "constant" ignores the warm-up.
    names = {"constant": "constant_with_warmup"}
    name = names.get(config.lr_scheduler_type, config.lr_scheduler_type)
    warmup = round(config.warmup_ratio * updates)
    return get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=length)


def released_length(rows: int, batch_size: int, config: TrainConfig) -> int:
    """Return the updates of the released code's schedule, counted on the test set (fault 6)."""
    return config.num_train_epochs * (rows // batch_size + 1)

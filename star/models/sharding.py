"""A base model in shares: FSDP2, for one that is larger than a GPU's memory.

Each process keeps its share of every layer of the frozen body. A layer is whole while it computes,
gathered from all processes before and given back behind; embeddings, last norm and head are whole
on each. So are the adapter, its gradients and what its optimiser keeps, which are a hundredth of
the model: they are trained and saved as they are without shares. The branch stays beside weights
that are not there to be merged with; all else is computed alike.

A launcher asks for it by the variables that ``accelerate launch`` sets for ``fsdp_version: 2``.
Accelerate's own ``prepare`` would put the adapter in shares too, and wants it anew each round.

To gather a layer all processes must take part, so all go through the model equally often. In
training they know how often that is (:func:`dealt`). Elsewhere nobody knows what the others have
left; before each pass they ask, and whoever has nothing left to do gathers along (:class:`Step`).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import all_reduce
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from transformers.modeling_layers import GradientCheckpointingLayer

from star.config import ModelConfig
from star.errors import InputError
from star.models import distributed
from star.models.batching import length_batches
from star.models.encoding import TokenRow

FSDP = "ACCELERATE_USE_FSDP"
REFUSED = {  # what Accelerate's configuration can ask for, and nothing here does
    "FSDP_OFFLOAD_PARAMS": "fsdp_offload_params",
    "FSDP_ACTIVATION_CHECKPOINTING": "fsdp_activation_checkpointing",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "fsdp_cpu_ram_efficient_loading",
}


def wanted(config: ModelConfig) -> bool:
    """Whether the launcher asks for a model in shares, and there are processes to share it.

    Raises:
        InputError: It asks for more, or ``model`` for what cannot be had in shares.
    """
    if not _is_set(FSDP) or distributed.state().num_processes == 1:
        return False
    version = os.environ.get("FSDP_VERSION", "1")
    if version != "2":
        raise InputError(f"FSDP is used in its version 2, got {version}; set fsdp_version: 2")
    for name, key in REFUSED.items():
        if _is_set(name):
            instead = "; train.gradient_checkpointing=true does that here" * ("ACTIV" in name)
            raise InputError(f"{key}: true is not to be had here; set it to false{instead}")
    for key, value, allowed in (
        ("quantization", config.quantization, ("none",)),
        ("torch_compile", str(config.torch_compile).lower(), ("false",)),
        ("device", config.device, ("auto", distributed.state().device.type)),
    ):
        if value not in allowed:
            raise InputError(
                f"model.{key}={value} cannot be had under FSDP; set model.{key}={allowed[0]}, or "
                "launch without FSDP"
            )
    return True


def _is_set(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("1", "true", "yes")


def is_shared(weight: Tensor) -> bool:
    """Whether a process has its share of a weight alone."""
    return isinstance(weight, DTensor)


def shard(causal: nn.Module, device: torch.device) -> None:
    """Leave this process its share of each layer, on its device; the model is frozen.

    Every process must call this, and afterwards go through the model as this module says.

    Raises:
        InputError: The architecture has no layers that can be told.
    """
    names = (str(causal.base_model_prefix), "model")  # as LanguageModel finds it
    body: nn.Module = next(getattr(causal, name) for name in names if hasattr(causal, name))
    layers = list(_layers(body))
    if not layers:
        raise InputError(
            f"{type(causal).__name__} has no layers that FSDP could share; launch without FSDP"
        )
    mesh = init_device_mesh(device.type, (distributed.state().num_processes,))
    shared = {id(tensor) for layer in layers for tensor in _tensors(layer)}
    for layer in layers:  # one after the other: a model need not fit the device as a whole
        fully_shard(layer, mesh=mesh)
    whole = [tensor for tensor in _tensors(causal) if id(tensor) not in shared]
    for tensor in whole:
        tensor.data = tensor.data.to(device)
    left = {p for p in body.parameters() if not is_shared(p)}
    fully_shard(body, mesh=mesh, ignored_params=left)  # the root, by which layers know the next
    distributed.Others.help = Step(body, [*_layers(body)], device).finish


def _layers(module: nn.Module) -> Iterator[Any]:
    """Yield the outermost layers, in transformers' word."""
    for child in module.children():
        if isinstance(child, GradientCheckpointingLayer):
            yield child
        else:
            yield from _layers(child)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


class Step:
    """All processes' passes through a model outside of training, one at a time.

    Args:
        body: The root; its passes are counted from here on.
        layers: Of it, in shares, in their order.
        device: Of the process group.
    """

    def __init__(self, body: nn.Module, layers: Sequence[FSDPModule], device: torch.device) -> None:
        self._layers, self._device = layers, device
        forward = body.forward

        @functools.wraps(forward)
        def counted(*words: Any, **options: Any) -> Any:
            if torch.is_grad_enabled():
                return forward(*words, **options)
            self._working(1)
            # A weight that was gathered in inference mode could not be trained with later.
            with torch.inference_mode(False), torch.no_grad():
                return forward(*words, **options)

        body.forward = counted  # type: ignore[method-assign]

    def finish(self) -> None:
        """Gather along until no process has a pass left; all must call this behind their last."""
        while self._working(0):
            with torch.inference_mode(False), torch.no_grad():
                for layer in self._layers:
                    layer.unshard()
                    layer.reshard()

    def _working(self, here: int) -> int:
        count = torch.tensor(here, device=self._device)
        all_reduce(count)
        return int(count)


def dealt(
    update: Sequence[TokenRow], size: int, cuts: Sequence[int]
) -> list[tuple[list[TokenRow], float]]:
    """Return this process's batches of an update, and what each counts: 1, or 0.

    Like lengths together, dealt out in turn: little padding, and an even share for each process. A
    model in shares is gone through equally often by all, at last with a row that counts nothing.
    """
    state = distributed.state()
    rows = sorted(update, key=len, reverse=True)
    every = []
    for rank in range(state.num_processes):
        part = rows[rank :: state.num_processes]
        places = length_batches([len(row) for row in part], size, cuts=cuts)
        every.append([([part[i] for i in batch], 1.0) for batch in places])
    mine = every[state.process_index]
    if distributed.Others.help is not None:
        mine += [([rows[-1]], 0.0)] * (max(map(len, every)) - len(mine))
    return mine

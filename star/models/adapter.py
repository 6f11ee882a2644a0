"""Constraint LoRA: a fresh adapter each round, the base view of the same model, the regulariser.

| here | paper (arXiv 2403.01165) |
|---|---|
| ``regularizer.beta`` | β in ``B_t = B_{t−1} − γ (g_{t−1} + β B_{t−1})``, a pull of B towards 0 |
| kind ``decoupled`` | that update to the letter: AdamW's weight decay β on B alone, γ its rate |
| kind ``loss`` | its loss form, β/2 · Σ_modules ‖B‖²; Adam rescales its gradient |
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from safetensors import SafetensorError
from torch import Tensor, nn

from star import seeding
from star.config import AdapterConfig, RegularizerConfig
from star.errors import InputError, one_line
from star.files import read_json, write_json
from star.models import targets
from star.models.language_model import LanguageModel

NAME = "default"  # PEFT's name of a model's first adapter
# What PEFT raises for an adapter that it cannot put into a model.
REFUSALS = (ValueError, RuntimeError, KeyError, TypeError, AttributeError, OSError, MemoryError)

# One value does not mean the same in both kinds: decoupled decay is multiplied by the learning
# rate alone, while Adam divides the loss term's gradient by the gradient's own size.
DEFAULT_BETA = {"none": 0.0, "decoupled": 0.5, "loss": 1e-3}


def beta_of(config: RegularizerConfig) -> float:
    """Return ``regularizer.beta``, or the default of the kind."""
    return DEFAULT_BETA[config.kind] if config.beta is None else config.beta


@contextmanager
def fresh(
    model: LanguageModel, config: AdapterConfig, *, seed: int, round_: int
) -> Iterator[PeftModel]:
    """Yield the model with a new LoRA adapter; on exit the base model is as it was before.

    The adapter's random start (A: Kaiming uniform, B: zero) depends on seed and round alone, and
    so does that of a classification head, which is trained whole.

    Raises:
        InputError: ``adapter.target_modules`` does not fit the model (see ``targets.resolve``).
    """
    names = targets.resolve(model.causal, config)
    beside = targets.beside(model.causal, names)
    beside += targets.inside(model.causal, model.heads, names)
    settings = LoraConfig(
        r=config.r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        use_rslora=config.use_rslora,
        target_modules=names,
        exclude_modules=beside or None,
        modules_to_save=list(model.heads) or None,
        task_type=model.task_type,
    )
    try:
        with seeding.forked(seed, "adapter", round_), quietly():
            model.renew()
            adapted = get_peft_model(model.causal, settings)
    except REFUSALS as error:
        remove(model)
        raise InputError(f"no adapter for this model: {one_line(error)}") from error
    try:
        yield adapted.eval()
    finally:
        remove(model)


@contextmanager
def quietly() -> Iterator[None]:
    """Leave out PEFT's warnings of what is meant so."""
    with warnings.catch_warnings():
        for message in (
            # A name of transformers' that it has given up.
            ".*is_gradient_checkpointing.*",
            # It finds out by itself which module is a Conv1D.
            ".*fan_in_fan_out.*",
            # A tied head stays the base model's where the embeddings alone are adapted, and the
            # other way round; merging copies the weight.
            ".*tie_word_embeddings.*",
            # An error here.
            "Found missing adapter keys.*",
        ):
            warnings.filterwarnings("ignore", message=message)
        yield


def save(adapted: PeftModel, folder: str | Path) -> None:
    """Write the adapter as a PEFT folder with safetensors weights, without any of the base's."""
    try:
        adapted.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    except SafetensorError as error:  # a full disk, in safetensors' own words
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
    # PEFT keeps the names of modules in a set, whose order differs from process to process.
    path = Path(folder) / "adapter_config.json"
    settings = read_json(path)
    for name in ("target_modules", "exclude_modules"):
        if isinstance(settings.get(name), list):
            settings[name].sort()
    write_json(path, settings)


@contextmanager
def base_model(adapted: PeftModel) -> Iterator[None]:
    """Show the base model while the context lasts: adapter off, same weights in memory."""
    with adapted.disable_adapter():
        yield


def layers(adapted: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield (name, PEFT LoRA layer) of every adapted module, in the model's order."""
    for name, module in adapted.named_modules():
        if hasattr(module, "lora_A") and NAME in module.lora_A:
            yield name, module


def weights(adapted: nn.Module) -> dict[str, Tensor]:
    """Return what is trained: every A and B, and a classification head's; by parameter's name."""
    return {n: p.detach() for n, p in adapted.named_parameters() if p.requires_grad}


def digest(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 (hex) of weights with their names."""
    total = hashlib.sha256()
    for name, weight in weights.items():
        total.update(f"{name}:{weight.dtype}:{list(weight.shape)}\0".encode())
        total.update(weight.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()


def in_view(causal: nn.Module) -> str:
    """Return what tells the view that is on from all others of a base model, in words or digits."""
    if any(layer.disable_adapters for _, layer in layers(causal)):
        return "base"
    return digest({n: p for n, p in causal.named_parameters() if f".{NAME}." in n})


def is_variant(layer: Any) -> bool:
    """Whether an adapted module computes something else than W·x + s·B·A·x, DoRA for one."""
    return NAME in layer.lora_variant


def parameter_groups(adapted: nn.Module, config: RegularizerConfig) -> list[dict[str, Any]]:
    """Return AdamW's parameter groups: every B decayed by β if ``decoupled``, all else never."""
    decay = beta_of(config) if config.kind == "decoupled" else 0.0
    constrained, free = [], []
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            (constrained if ".lora_B." in name else free).append(parameter)
    return [
        {"params": constrained, "weight_decay": decay},
        {"params": free, "weight_decay": 0.0},
    ]


def constraint(adapted: nn.Module, config: RegularizerConfig) -> Tensor | None:
    """Return the term β/2 · Σ_modules ‖B‖²_F of the LoRA loss; ``None`` unless kind is ``loss``."""
    if config.kind != "loss":
        return None
    terms = [layer.lora_B[NAME].weight.float().square().sum() for _, layer in layers(adapted)]
    return 0.5 * beta_of(config) * torch.stack(terms).sum()


def norms(adapted: nn.Module) -> dict[str, Tensor]:
    """Return ‖A‖ and ‖B‖: Frobenius norms over all adapted modules together, on their device."""
    found = [layer for _, layer in layers(adapted)]
    weights = {
        part: [getattr(layer, part)[NAME].weight.detach() for layer in found]
        for part in ("lora_A", "lora_B")
    }
    return {
        f"norm_{part[-1]}": torch.nn.utils.get_total_norm(parts) for part, parts in weights.items()
    }


@contextmanager
def aside(model: LanguageModel) -> Iterator[None]:
    """Take the adapter off for as long as the context lasts, so that another can be put on."""
    parts, settings = _parts(model), model.causal.peft_config
    remove(model)
    try:
        yield
    finally:
        for name, module in parts:
            model.causal.set_submodule(name, module)
        model.causal.peft_config = settings


def remove(model: LanguageModel) -> None:
    """Take every adapter out, also one that failed half way in; the base is then as it was.

    PEFT's own ``unload`` leaves whole modules that an adapter brought (``modules_to_save``).
    """
    for name, module in _parts(model):
        whole = isinstance(module, AuxiliaryTrainingWrapper)
        base = module.original_module if whole else module.get_base_layer()
        model.causal.set_submodule(name, base)
    # PEFT leaves its configuration on the module; the next adapter would be taken for a second one.
    if hasattr(model.causal, "peft_config"):
        del model.causal.peft_config
    model.causal.eval().requires_grad_(False)


def _parts(model: LanguageModel) -> list[tuple[str, Any]]:
    """Return (name, module) of all that an adapter put in the place of the base model's modules."""
    parts: list[tuple[str, Any]] = []
    for name, module in model.causal.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer, _ in parts)
        if not inside and isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper)):
            parts.append((name, module))
    return parts

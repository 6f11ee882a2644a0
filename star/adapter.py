"""Constraint LoRA: a fresh adapter each round, the base view of the same model, the regulariser.

| here | paper (arXiv 2403.01165) |
|---|---|
| ``regularizer.beta`` | β in ``B_t = B_{t−1} − γ (g_{t−1} + β B_{t−1})``, a pull of B towards 0 |
| kind ``decoupled`` | that update to the letter: AdamW's weight decay β on B alone, γ its rate |
| kind ``loss`` | its loss form, β/2 · Σ_modules ‖B‖²; Adam rescales its gradient |
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from star import seeding
from star.config import LLAMA_PROJECTIONS, AdapterConfig, RegularizerConfig
from star.errors import InputError, nearest
from star.models import LanguageModel

NAME = "default"  # PEFT's name of a model's first adapter

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

    The adapter's random start (A: Kaiming uniform, B: zero) depends on seed and round alone.

    Raises:
        InputError: ``adapter.target_modules`` names no module of this model.
    """
    settings = LoraConfig(
        r=config.r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        use_rslora=config.use_rslora,
        target_modules=targets(config),
        task_type="CAUSAL_LM",
    )
    _check_targets(model.causal, config)
    with seeding.forked(seed, "adapter", round_), warnings.catch_warnings():
        # peft asks transformers by a name it has given up; nothing of ours, or the user's, to mend.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        adapted = get_peft_model(model.causal, settings)
    try:
        yield adapted.eval()
    finally:
        _remove(adapted, model)


@contextmanager
def load(model: LanguageModel, folder: str | Path) -> Iterator[PeftModel]:
    """Yield the model with a saved adapter (safetensors); on exit the base is as it was before."""
    folder = Path(folder)
    if not (folder / "adapter_model.safetensors").is_file():
        raise InputError(
            f"no adapter_model.safetensors in {folder}; expected a PEFT adapter folder"
        )
    try:
        adapted = PeftModel.from_pretrained(model.causal, folder, use_safetensors=True)
    except (ValueError, RuntimeError, KeyError) as error:
        what = str(error).strip().splitlines()[0]
        raise InputError(f"adapter {folder} does not fit the model: {what}") from error
    try:
        yield adapted.eval()
    finally:
        _remove(adapted, model)


def save(adapted: PeftModel, folder: str | Path) -> None:
    """Write the adapter as a PEFT folder with safetensors weights."""
    adapted.save_pretrained(str(folder), safe_serialization=True)


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


class Folded:
    """Scoring with W + (alpha/r)·B·A in the place of W and its LoRA branch: one product, not three.

    A context. The base weights themselves come back at its end, bit for bit: taking the branch off
    again by subtraction would leave an error of rounding behind, more with every round.
    """

    def __init__(self, causal: nn.Module) -> None:
        self._layers = dict(layers(causal))

    @property
    def possible(self) -> bool:
        """Whether the branch is on and can be folded without changing the ranking.

        In 16 bits the sum would lose most of a branch that is small beside W; quantised weights
        cannot be added to.
        """
        return bool(self._layers) and all(
            type(layer.base_layer) is nn.Linear
            and layer.base_layer.weight.dtype in (torch.float32, torch.float64)
            and layer.active_adapters == [NAME]
            and not (layer.disable_adapters or layer.merged)
            and not (layer.use_dora[NAME] or layer.lora_bias[NAME])
            for layer in self._layers.values()
        )

    def __enter__(self) -> Folded:
        self._base = {name: layer.base_layer.weight for name, layer in self._layers.items()}
        # New parameters: the old ones may be tied to other modules'. And ordinary ones:
        # torch.compile would take a tensor of the inference mode for another kind of weight. All of
        # them before any is in place: memory may not be enough.
        with torch.inference_mode(False):
            copies = [nn.Parameter(torch.empty_like(w), False) for w in self._base.values()]
        for layer, weight in zip(self._layers.values(), copies, strict=True):
            layer.base_layer.weight = weight
            layer.merged_adapters.append(NAME)  # so that PEFT leaves the branch out
        return self

    @torch.no_grad()
    def show(self, a: Mapping[str, Tensor] | None = None) -> None:
        """Fold the branches in, with other matrices in the place of A where they are given.

        Args:
            a: Name of every adapted module to its (r, in) matrix; ``None`` = the adapter's own.
        """
        for name, layer in self._layers.items():
            lora_a = layer.lora_A[NAME].weight if a is None else a[name]
            torch.addmm(
                self._base[name],
                layer.lora_B[NAME].weight.to(lora_a.dtype),
                lora_a,
                alpha=layer.scaling[NAME],
                out=layer.base_layer.weight.data,
            )

    def __exit__(self, *_: object) -> None:
        for name, layer in self._layers.items():
            layer.base_layer.weight = self._base[name]
            layer.merged_adapters.remove(NAME)


@contextmanager
def folded(causal: nn.Module) -> Iterator[None]:
    """Fold the adapter in view, if there is one that can be; else change nothing."""
    fold = Folded(causal)
    if not fold.possible:
        yield
        return
    with fold:
        fold.show()
        yield


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


def norms(adapted: nn.Module) -> dict[str, float]:
    """Return ‖A‖ and ‖B‖: Frobenius norms over all adapted modules together."""
    found = [layer for _, layer in layers(adapted)]
    weights = {
        part: [getattr(layer, part)[NAME].weight.detach() for layer in found]
        for part in ("lora_A", "lora_B")
    }
    return {
        f"norm_{part[-1]}": float(torch.nn.utils.get_total_norm(parts))
        for part, parts in weights.items()
    }


def targets(config: AdapterConfig) -> list[str]:
    """Return the names of the modules that get an adapter."""
    named = config.target_modules
    return list(LLAMA_PROJECTIONS if named == "auto" else named)


def _check_targets(causal: nn.Module, config: AdapterConfig) -> None:
    # Known by their last name, as PEFT matches them; a full path is PEFT's business.
    known = {
        name.rpartition(".")[2] for name, m in causal.named_modules() if isinstance(m, nn.Linear)
    }
    for target in targets(config):
        if "." not in target and target not in known:
            raise InputError(
                f"adapter.target_modules: '{target}' is no linear module of this model"
                f"{nearest(target, known)} (it has {', '.join(sorted(known))})"
            )


def _remove(adapted: PeftModel, model: LanguageModel) -> None:
    adapted.unload()
    # PEFT leaves its configuration on the module; the next adapter would be taken for a second one.
    if hasattr(model.causal, "peft_config"):
        del model.causal.peft_config
    model.causal.eval().requires_grad_(False)

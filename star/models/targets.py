"""Which modules of a model get an adapter: ``adapter.target_modules`` for the model at hand.

* ``auto``: the paper's seven projections where the model has them all (LLaMA and its like), else
  PEFT's own list for the architecture, else as ``all-linear``.
* ``all-linear``: every linear module (GPT-2's Conv1D too) but the output head, as PEFT means it.
* Names: the modules called so, or with a path that ends so.

Some modules cannot be adapted: what PEFT refuses (``out_proj`` of Mamba), weights that the model
reads past the module (its ``dt_proj``), and experts kept as parameters of one block. The two words
leave them out, a name for them is refused. What sees pictures is left alone: rows are text.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterable
from typing import cast

import torch
from peft import LoraConfig, LoraModel
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import nn
from transformers.pytorch_utils import Conv1D

from star.config import AdapterConfig
from star.config.words import MODULE_WORDS
from star.config.words import MODULES as KEY
from star.errors import InputError, nearest

LLAMA_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "gate_proj")


def resolve(causal: nn.Module, config: AdapterConfig) -> list[str]:
    """Return the names of the modules that get an adapter, as PEFT takes them.

    Raises:
        InputError: A name that is no linear module of this model, or one that PEFT does not adapt;
            no module at all; a rank that no module can have; a recorded list (of a run's
            ``config.yaml``) that is not what its word means for this model.
    """
    linear = linear_modules(causal)
    said = config.target_modules
    word = next(iter(said)) if isinstance(said, dict) else said
    if isinstance(word, str):
        names = _auto(causal, linear) if word == "auto" else _all_linear(causal, linear)
        if isinstance(said, dict) and said[word] != names:
            raise InputError(
                f"{KEY}: {word} means [{', '.join(names)}] for this model and this version of "
                f"PEFT, the configuration has recorded [{', '.join(said[word])}]; set the list you "
                "want"
            )
    else:
        names = list(word)
        _check(causal, linear, names)
    if not names:
        raise InputError(
            f"{KEY}={word}: {type(causal).__name__} has no linear module that PEFT adapts"
        )
    head = causal.get_output_embeddings()  # type: ignore[operator]
    own = [m for n, m in linear.items() if m is not head or matching([n], names)]
    longest = max(side for module in own for side in features(module))
    if config.r > longest:  # more than any matrix can use, and before memory is asked for
        raise InputError(
            f"adapter.r must be at most {longest}, the longest side of this model's matrices, got "
            f"{config.r}"
        )
    return names


def summary(causal: nn.Module, names: list[str], rank: int) -> str:
    """Return a line that says what gets an adapter, and which of the body's matrices do not."""
    head, adapted = causal.get_output_embeddings(), matching(linear_modules(causal), names)  # type: ignore[operator]
    others = {
        full.rpartition(".")[2]
        for full, module in _text(causal).items()
        if any(p.dim() > 1 for p in module.parameters(recurse=False))
        and not (full in adapted or module is head or isinstance(module, nn.Embedding))
    }
    left = f"; none on {', '.join(sorted(others))}" if others else ""
    return f"adapters of rank {rank} on {len(adapted)} modules ({', '.join(names)}){left}"


def linear_modules(causal: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that can get an adapter by their full names, in the model's order."""
    return {name: module for name, module in _text(causal).items() if _is_linear(module)}


def beside(causal: nn.Module, names: list[str]) -> list[str]:
    """Return the modules that are called by ``names`` too, but read no text."""
    text = _text(causal)
    return matching([name for name, _ in causal.named_modules() if name not in text], names)


def inside(causal: nn.Module, heads: Iterable[str], names: list[str]) -> list[str]:
    """Return the modules of these heads, which are trained whole, that ``names`` stand for too."""
    starts = tuple(f"{head}." for head in heads)
    full = [name for name, _ in causal.named_modules() if f"{name}.".startswith(starts)]
    return matching(full, names) if starts else []


def _text(causal: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that text goes through, and the head, by their full names."""
    modules, decoder = dict(causal.named_modules()), causal.get_decoder()  # type: ignore[operator]
    path = next((name for name, module in modules.items() if module is decoder), "")
    head = causal.get_output_embeddings()  # type: ignore[operator]
    return {
        n: m for n, m in modules.items() if m is head or f"{n}.".startswith(f"{path}.") or not path
    }


@torch.no_grad()
def _is_linear(module: nn.Module) -> bool:
    if not isinstance(module, nn.Linear):
        return isinstance(module, Conv1D)
    kind = type(module)
    if kind.forward is nn.Linear.forward or not kind.__module__.startswith("transformers."):
        return True  # four bits too
    try:  # an architecture's own: some routers are no product, and give more than one tensor
        given = module(module.weight.new_zeros(1, module.in_features))
    except (RuntimeError, TypeError, ValueError, IndexError):
        return False
    return isinstance(given, torch.Tensor) and given.shape == (1, module.out_features)


def matching(known: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return those of the full names that one of ``names`` stands for, by PEFT's rule."""
    return [full for full in known if any(f".{full}".endswith(f".{name}") for name in names)]


def features(module: nn.Module) -> tuple[int, int]:
    """Return how many features a linear module takes and gives."""
    if isinstance(module, Conv1D):
        return module.nx, module.nf
    linear = cast(nn.Linear, module)
    return linear.in_features, linear.out_features


def _auto(causal: nn.Module, linear: dict[str, nn.Module]) -> list[str]:
    if _has_all(causal, linear, LLAMA_PROJECTIONS):
        return list(LLAMA_PROJECTIONS)
    kind = getattr(getattr(causal, "config", None), "model_type", None)
    known = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(kind)
    # A pattern instead of names is for models with more than text.
    if isinstance(known, list) and _has_all(causal, linear, known):
        return list(known)
    return _all_linear(causal, linear)


def _has_all(causal: nn.Module, linear: dict[str, nn.Module], names: Iterable[str]) -> bool:
    others = _text(causal).keys() - linear.keys()
    return all(
        matching(linear, [name]) and not matching(others, [name]) and not _refusal(causal, name)
        for name in names
    )


def _all_linear(causal: nn.Module, linear: dict[str, nn.Module]) -> list[str]:
    head, text = causal.get_output_embeddings(), _text(causal)  # type: ignore[operator]
    kinds: dict[tuple[type[nn.Module], str], list[str]] = {}  # layers are alike
    for full, module in linear.items():
        outer, _, last = full.rpartition(".")
        if module is not head:
            kinds.setdefault((type(causal.get_submodule(outer)), last), []).append(full)
    wanted = {full for alike in kinds.values() if not _refusal(causal, alike[0]) for full in alike}
    others = text.keys() - wanted
    taken = {full.rpartition(".")[2] for full in others}
    names = {}
    for full in (name for name in linear if name in wanted):
        last = full.rpartition(".")[2]
        names[_shortest(full, others) if last in taken else last] = True
    return list(names)


def _shortest(name: str, others: Iterable[str]) -> str:
    """Return the shortest end of a path that stands for none of the other modules."""
    parts = name.split(".")
    ends = (".".join(parts[-length:]) for length in range(1, len(parts) + 1))
    return next(end for end in ends if not matching(others, [end]))


def _refusal(causal: nn.Module, name: str) -> str:
    """Return why PEFT does not adapt the modules of this name; ``""`` if it does."""
    trial = LoraConfig(target_modules=[name])
    try:
        # No instance is needed, and to make one is to change the model.
        LoraModel._check_target_module_compatiblity(
            cast(LoraModel, LoraModel), trial, causal, name.rpartition(".")[2]
        )
        _convert(trial, causal)
    except ValueError as error:
        return " ".join(str(error).split())
    if name not in (trial.target_modules or ()):
        return "PEFT takes the name for the experts, which are parameters of one block"
    for full in matching(_text(causal), [name]):
        outer, _, last = full.rpartition(".")
        if last in _read_past(type(causal.get_submodule(outer))):
            return "the model reads its weight past the module, and the adapter with it"
    return ""


@functools.cache
def _read_past(kind: type[nn.Module]) -> frozenset[str]:
    """Return the modules of which a class takes the weight, and which it never calls."""
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        return frozenset()
    called = set(re.findall(r"self\.(\w+)\(", source))
    return frozenset(re.findall(r"self\.(\w+)\.weight\b", source)) - called


def _convert(settings: LoraConfig, causal: nn.Module) -> None:
    """Let PEFT put experts' parameters in the place of names that older versions had for them."""
    try:
        from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
    except ImportError:  # PEFT before 0.19
        return
    convert_peft_config_for_transformers(settings, causal, None)


def _check(causal: nn.Module, linear: dict[str, nn.Module], names: list[str]) -> None:
    """Raise ``InputError`` for a name that is no linear module of the model, or not that alone."""
    head = causal.get_output_embeddings()  # type: ignore[operator]
    known = [name for name, module in linear.items() if module is not head]
    modules = _text(causal)
    for name in names:
        depth = name.count(".") + 1
        ends = {".".join(full.split(".")[-depth:]) for full in known}
        other = matching(modules.keys() - linear.keys(), [name])
        if not matching(linear, [name]) or other:
            kind = f", but {type(modules[other[0]]).__name__}" if other else ""
            short = sorted({full.rpartition(".")[2] for full in known})
            raise InputError(
                f"{KEY}: '{name}' is no linear module of this model{kind}"
                f"{nearest(name, {*ends, *MODULE_WORDS})} (it has {', '.join(short)}; "
                "auto and all-linear choose from them)"
            )
        if refusal := _refusal(causal, name):
            raise InputError(f"{KEY}: '{name}' cannot get an adapter: {refusal}")

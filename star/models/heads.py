"""The parts of a classification head: what is trained whole, and what is drawn anew each round."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def parts(module: nn.Module, absent: frozenset[str]) -> set[str]:
    """Return the modules that are trained whole: those beside the body, and what is absent."""
    body = str(module.base_model_prefix)
    children = dict(module.named_children())
    beside = {name for name, child in children.items() if name != body and [*child.parameters()]}
    return beside | {key.rpartition(".")[0] for key in absent if key.startswith(f"{body}.")}


def linear_layers(module: nn.Module, heads: Sequence[str]) -> list[str]:
    """Return the names of the linear layers of the head, part by part, as they were made."""
    return [
        name
        for head in heads
        for name, layer in module.get_submodule(head).named_modules(prefix=head)
        if isinstance(layer, nn.Linear)
    ]


def last(module: nn.Module, layers: Sequence[str], classes: int) -> str:
    """Return the name of the last layer, which is made last; "": none gives so many numbers."""
    made = (name for name, _ in module.named_modules() if name in layers)
    fitting = [name for name in made if module.get_submodule(name).out_features == classes]
    return fitting[-1] if fitting else ""

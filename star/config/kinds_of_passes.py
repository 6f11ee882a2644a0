"""What the passes of a kind are called, and what a kind of passes contradicts."""

from __future__ import annotations

from star.config.acquisition import AcquisitionConfig
from star.errors import InputError

PASSES = {"dropout": "MC-dropout passes", "tfb": "TFB passes", "ensemble": "members"}


def check_passes(a: AcquisitionConfig) -> None:
    """Refuse what contradicts the kind of passes."""
    if a.passes == "dropout":
        return
    least = 2 if a.passes == "ensemble" else 1  # its first member is the round's own adapter
    if a.mc_dropout.passes < least:
        raise InputError(
            f"acquisition.passes={a.passes} needs acquisition.mc_dropout.passes >= {least}, which "
            f"says how many {PASSES[a.passes]}; got {a.mc_dropout.passes}"
        )
    if a.mc_dropout.masks != "consistent":
        raise InputError(
            f"acquisition.mc_dropout.masks={a.mc_dropout.masks} belongs to "
            f"acquisition.passes=dropout; set masks=consistent, got passes={a.passes}"
        )

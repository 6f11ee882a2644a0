"""Checks of what strategies take for embeddings: ``acquisition.embeddings``, ``.pooling``."""

from __future__ import annotations

from star.config.acquisition import AcquisitionConfig
from star.config.derived import encoder_of, starts_cold
from star.errors import InputError, nearest


def check_embeddings(a: AcquisitionConfig) -> None:
    """Raise ``InputError`` where embeddings cannot be had, or are not what a strategy needs."""
    named = a.embeddings
    hint = nearest(named, ("auto", "base", "full"))
    if hint and encoder_of(a) is not None and named.isalpha():
        raise InputError(
            f"acquisition.embeddings must be auto, base, full, or a sentence encoder (folder, Hub "
            f"id, package://...), got {named!r}{hint}"
        )
    if a.pooling != "mean" and encoder_of(a) is not None:
        raise InputError(
            "acquisition.pooling is of the model's own states, and a sentence encoder pools as it "
            f"was trained to; set acquisition.pooling=mean or acquisition.embeddings=base, got "
            f"{a.pooling} with {named}"
        )
    badge = _badge(a)
    if badge and named not in ("auto", "full"):
        raise InputError(
            f"{badge} takes gradients in the last layer, whose input is the full model's; set "
            f"acquisition.embeddings=auto or full, got {named}"
        )
    if badge and a.pooling not in ("mean", "last"):
        raise InputError(
            f"{badge} takes gradients in the last layer, whose input no pooling makes; leave "
            f"acquisition.pooling out, or set last, got {a.pooling}"
        )
    if starts_cold(a) and named == "full":
        raise InputError(
            f"acquisition.initial={a.initial} chooses before anything is trained; set "
            "acquisition.embeddings to auto, base or a sentence encoder, got full"
        )


def _badge(a: AcquisitionConfig) -> str | None:
    """Return the setting that asks for BADGE, this package's or another's, if one does."""
    settings = {"select": (a.select, "badge"), "strategy": (a.strategy, "skactiveml:Badge")}
    named = (f"acquisition.{key}={got}" for key, (got, wanted) in settings.items() if got == wanted)
    return next(named, None)

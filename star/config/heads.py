"""What a configuration must keep to where a classification head answers."""

from __future__ import annotations

from star.config.derived import needs_scores
from star.config.schema import Config
from star.errors import InputError


def check_head(config: Config) -> None:
    """Refuse what has no meaning for a classification head that starts afresh in each round.

    The base model has no such head, so it has no opinion: neither a view of its own to blend with,
    nor a calibration, nor a text to continue.
    """
    a, e, t = config.acquisition, config.evaluation, config.task
    head = "task.classify_by=head"
    fresh = "the head is fresh in each round, so the base model has no opinion"
    if t.verbalizer is not None:
        raise InputError(f"{head} has no words for its classes; remove task.verbalizer")
    if needs_scores(a) and a.combine != "none":
        raise InputError(f"{head}: {fresh}; set acquisition.combine=none, got {a.combine}")
    if needs_scores(a) and a.continuation not in ("auto", "choices"):
        raise InputError(
            f"{head} scores classes; set acquisition.continuation=choices, got {a.continuation}"
        )
    if a.select == "trust":
        raise InputError(f"{head}: {fresh}; acquisition.select=trust weighs two views")
    if "base" in e.views:
        raise InputError(f"{head}: {fresh}; set evaluation.views=full,mc or full")
    if e.choice_by != "likelihood":
        raise InputError(f"{head} writes no text; set evaluation.choice_by=likelihood")
    if config.train.max_steps == 0:
        raise InputError(
            f"{head}: a fresh head that is not trained answers at random; set train.max_steps "
            "above 0 or null, or for a zero-shot row task.classify_by=words and a causal LM"
        )
    if config.train.loss_mask != "answer":
        raise InputError(f"{head} has one loss a row; set train.loss_mask=answer")
    if config.model.quantization != "none":
        raise InputError(f"{head} needs model.quantization=none, got {config.model.quantization}")
    if config.model.torch_compile:
        raise InputError(f"{head} needs model.torch_compile=false, got true")

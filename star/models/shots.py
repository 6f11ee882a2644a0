"""Prompts with their shots, as many of them as fit: a shot is shown whole or not at all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from star.config import Config
from star.data import fewshot
from star.data.task import Answer, Example, Shot
from star.errors import InputError
from star.models.language_model import LanguageModel
from star.models.truncation import Limits, encoded, reserve_of

logger = logging.getLogger(__name__)

AT_ONCE = 10_000  # examples that are token rows at a time


def shown(
    config: Config,
    model: LanguageModel,
    labelled: Mapping[int, Answer],
    pool: Mapping[int, Example],
    test: Sequence[Example],
    named: Callable[[int], str] = "row {}".format,
) -> tuple[list[Shot], list[Example], list[Example]]:
    """Return the shots, and the questions of pool and test with shots before them; say what is cut.

    Where prompt, shots and answer do not fit the model (or test prompts ``max_prompt_length``), the
    first shots are left out until they do: the question and the other shots stay whole.

    Args:
        config: Of the run.
        model: Whose tokenizer and positions count.
        labelled: The first labels, by pool index: of these the shots are drawn.
        pool: By pool index.
        test: Questions of the test split.
        named: What a message calls a question, by its index.

    Raises:
        InputError: ``task.overlong=error``, and not all shots fit.
    """
    count, limits = config.task.num_fewshot, Limits.of(config.evaluation)
    shots = fewshot.draw(pool, labelled, count=count, seed=config.seed)
    logger.info("shown before each prompt: rows %s", ", ".join(str(s.index) for s in shots[:count]))
    questions = []
    for where, asked, most in (
        ("pool", [*pool.values()], None),
        ("test", test, limits.max_prompt_length),
    ):
        allowed = model.max_length - reserve_of(model, asked, limits)
        allowed = allowed if most is None else min(allowed, most)
        whole = fewshot.show(asked, shots, count)
        fitting = []
        for start in range(0, len(whole), AT_ONCE):
            fitting += _fitting(model, whole[start : start + AT_ONCE], allowed)
        cut = [one for one, other in zip(whole, fitting, strict=True) if one != other]
        if cut and config.task.overlong == "error":
            raise InputError(
                f"{where}: {named(cut[0].index)} and {len(cut[0].shots)} examples before it need "
                f"more than {allowed} tokens; lower task.num_fewshot, or set task.overlong=truncate"
            )
        if cut:
            logger.warning(
                "%s: %d of %d questions are shown fewer examples than task.num_fewshot=%d: %d "
                "tokens hold no more",
                *(where, len(cut), len(whole), count, allowed),
            )
        questions.append(fitting)
    return shots, *questions


def _fitting(model: LanguageModel, examples: Sequence[Example], allowed: int) -> list[Example]:
    """Return the examples with their last shots, as many as ``allowed`` tokens hold."""
    fitting, places = list(examples), list(range(len(examples)))
    while places:
        rows = encoded(model, [fitting[i] for i in places], [""] * len(places), eos=False)
        places = [
            i
            for i, row in zip(places, rows, strict=True)
            if len(row.prompt) > allowed and fitting[i].shots
        ]
        for i in places:
            fitting[i] = replace(fitting[i], shots=fitting[i].shots[1:])
    return fitting

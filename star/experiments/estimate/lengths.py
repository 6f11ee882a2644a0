"""Examples as numbers of tokens. No answer of the pool is read.

Generated answers, and the targets of the pool, are guessed to be as long as the test split's
targets, which an evaluation knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from star.config import Config
from star.data.task import Answer, Example
from star.experiments.estimate.costs import Counts
from star.models.language_model import LanguageModel
from star.models.shots import shown
from star.models.truncation import Limits, encode_choices, encode_rows


@dataclass(frozen=True)
class Questions:
    """Examples as numbers of tokens.

    Attributes:
        prompts: (N,) of prompts in front of a generated answer.
        whole: (N,) of prompts in front of a target, which may leave them more room.
        answers: (N,) of generated answers, their end included: a guess.
        targets: (N,) of gold targets; of the pool a guess.
        choices: (N, C) of prompt and choice; empty where there are none.
        tails: (N, C) of the choices alone.
        shared: Whether all choices differ in their last token alone.
    """

    prompts: Counts
    whole: Counts
    answers: Counts
    targets: Counts
    choices: Counts
    tails: Counts
    shared: bool

    def at(self, places: Counts) -> Questions:
        """Return the questions at these places."""
        cut: dict[str, Any] = {
            name: value[places]
            for name, value in vars(self).items()
            if isinstance(value, np.ndarray) and value.size
        }
        return replace(self, **cut)

    def filled(self, count: int) -> Questions:
        """Return the same questions with generated answers of ``count`` tokens."""
        return replace(self, answers=np.full_like(self.answers, count))


def with_shots(
    config: Config,
    model: LanguageModel,
    answers: Mapping[int, Answer],
    pool: Sequence[Example],
    test: Sequence[Example],
) -> tuple[list[Example], list[Example]]:
    """Return the questions of pool and test with shots before them (``task.num_fewshot``).

    Args:
        config: Of the run.
        model: Whose tokenizer and positions count.
        answers: Pool index of the first labels to an answer, a guess.
        pool: Questions.
        test: Questions.
    """
    asked = {example.index: example for example in pool}
    _, pooled, tested = shown(config, model, answers, asked, test)
    return pooled, tested


def questions(
    model: LanguageModel, examples: Sequence[Example], targets: Sequence[int], limits: Limits
) -> Questions:
    """Return examples as numbers of tokens.

    Args:
        model: Whose tokenizer and positions count.
        examples: N examples.
        targets: Tokens of targets: theirs, or others', which are repeated as need be.
        limits: Of prompts and generated answers.
    """
    longest = limits.max_prompt_length
    room = limits.max_new_tokens
    asked = encode_rows(model, examples, None, reserve=room, max_prompt_length=longest).rows
    whole = encode_rows(model, examples, None, max_prompt_length=longest).rows
    offered = len(examples) > 0 and all(example.choices is not None for example in examples)
    groups = encode_choices(model, examples, max_prompt_length=longest) if offered else []
    gold = np.resize(np.asarray(targets, dtype=np.int64), len(examples))
    prompts = np.array([len(row.prompt) for row in whole], dtype=np.int64)
    return Questions(
        prompts=np.array([len(row.prompt) for row in asked], dtype=np.int64),
        whole=np.minimum(prompts, np.maximum(1, model.max_length - gold)),
        answers=np.minimum(gold + 1, room),  # and the end
        targets=gold,
        choices=np.array([[len(row) for row in group] for group in groups], dtype=np.int64),
        tails=np.array([[len(r.continuation) for r in g] for g in groups], dtype=np.int64),
        shared=all(len({row.continuation[:-1] for row in group}) == 1 for group in groups),
    )


def training_rows(
    config: Config, model: LanguageModel, examples: Sequence[Example], targets: Sequence[int]
) -> Counts:
    """Return (2, N) tokens of pool examples in training: all of them, and the answer's.

    The answer of a choice task is one of the choices: their mean, exact where all are equally long.
    """
    asked = questions(model, examples, targets, Limits(max_new_tokens=1))
    answers, prompts = asked.targets, asked.whole
    if asked.choices.size:
        answers = asked.tails.mean(axis=1).round().astype(np.int64)
        prompts = asked.choices[:, 0] - asked.tails[:, 0]
    answers = answers + config.train.append_eos
    allowed = min(model.max_length, config.train.max_length or model.max_length)
    return np.stack([np.minimum(prompts + answers, allowed), np.minimum(answers, allowed)])

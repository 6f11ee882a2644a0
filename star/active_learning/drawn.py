"""The share of a query that was drawn at random, and what it says of the round's model.

Strategies pick what the model finds hard, so that the share of it that is answered right says
nothing of the rest. What ``acquisition.random_share`` draws is a uniform sample of the unlabelled
rows. The round's model answers it before anybody has labelled it; ``selected.json`` keeps that::

    {"indices": […], "drawn": {"indices": […], "answers": […]}}

The next round, which has the labels, writes the interval into its ``metrics.json``
(``random_share``); where people label, ``star status`` has it as their answers come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from star.active_learning.run_reader import RunReader
from star.config import EvaluationConfig
from star.data.task import Answer, Example, Task, is_right
from star.evaluation.random_share import estimate

if TYPE_CHECKING:
    from star.models.language_model import LanguageModel  # late: torch


@dataclass(frozen=True)
class Drawn:
    """What was drawn, and how the round's model answers it.

    Attributes:
        indices: (d,) pool indices, in the order in which they are asked.
        answers: (d,) the model's answers, as they are compared; ``None``: its text has none.
        tokens: Through the model.
    """

    indices: list[int]
    answers: list[str | None]
    tokens: int = 0


NOTHING_DRAWN = Drawn([], [])


def answered(
    model: LanguageModel, task: Task, examples: Sequence[Example], config: EvaluationConfig
) -> Drawn:
    """Return how the model that is on answers what was drawn: as the test's rows, without labels.

    Args:
        model: Of the round, without dropout.
        task: What reads an answer out of a text.
        examples: d questions.
        config: How the test's rows are answered.
    """
    if not examples:
        return NOTHING_DRAWN
    from star.evaluation import predict  # late: torch, which a status needs nothing of
    from star.models.truncation import Limits

    answers, tokens = predict.answers(
        model,
        task,
        examples,
        limits=Limits.of(config),
        by_likelihood=config.choice_by == "likelihood",
        choice_score=config.choice_score,
        digits=config.extraction == "digits",
    )
    return Drawn([example.index for example in examples], answers, tokens)


def estimated(
    folder: RunReader,
    task: Task,
    config: EvaluationConfig,
    known: Mapping[int, Answer | None],
    t: int,
) -> dict[str, Any] | None:
    """Return round ``t``'s accuracy on the rows that were unlabelled then, with its interval.

    Args:
        folder: The run's.
        task: Its.
        config: How its answers are judged.
        known: Answers by pool index; ``None``: nobody could label it, which leaves it out.
        t: A complete round.

    Returns:
        ``round``, and the fields of :class:`star.evaluation.random_share.Estimate`; ``None``:
        nothing was drawn, or none of it has a label.
    """
    drawn = folder.drawn(t)
    digits = config.extraction == "digits"
    labelled = [(said, answer) for i, said in drawn.items() if (answer := known.get(i)) is not None]
    correct = [is_right(task, said, answer, digits=digits) for said, answer in labelled]
    found = estimate(correct)
    return None if found is None else {"round": t, **vars(found)}

"""Labels to look at again: those that annotators or cross-fitted models do not agree with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from star.active_learning.people import offered
from star.annotation.records import Item, Suggestion
from star.annotation.state import Standing, standing
from star.annotation.suspects import ranked_suspects
from star.errors import InputError
from star.project.project import Project


def suspects(project: Project, *, folds: int = 5, k: int | None = None) -> list[dict[str, Any]]:
    """Return a project's labels, the likeliest mistakes first; nothing is written.

    Those about which annotators disagree come first, though one of them settled it; then by how
    unlikely a label is to a model that was trained on the labels of the other folds
    (:func:`star.active_learning.cross_fitting.cross_fitted`). Test rows are among them: a wrong
    label there misleads the curve.

    Args:
        project: Whose.
        folds: Models that are trained.
        k: So many at most; ``None`` = all labels.

    Returns:
        A row a label: ``id``; ``text`` as people see it; ``label``; ``prediction``, a model's
        (``None``: no answer); ``loss``, −log p of the label in nats; ``probability``, p;
        ``disagreement``, the share of its answers that differ from it; ``answers``, annotator to
        answer. Free answers are masked as texts are.

    Raises:
        InputError: Fewer labels than folds, or what training raises.
    """
    if k is not None and k < 1:
        raise InputError(f"-k must be at least 1, got {k}")
    from star.active_learning.cross_fitting import cross_fitted  # late: torch

    found = project.decided()
    answers = {i: answer for i, answer in found.answers.items() if answer is not None}
    examples = {example.index: example for example in offered(project.data)}
    data = project.data
    judged = cross_fitted(
        project.config, data.task, examples, answers, test=len(data.test), folds=folds
    )
    state = standing(project.entries(), project.data.task.reading)
    labels = {i: project.data.task.reading(answer.gold) for i, answer in answers.items()}
    shares = [_share(state, project.ids[j.index], labels[j.index]) for j in judged]
    given, shown = state.answers(), str if project.data.task.labels else project.masked
    rows = []
    for n in ranked_suspects([j.loss for j in judged], shares, k):
        said, loss, name = judged[n].prediction, judged[n].loss, project.ids[judged[n].index]
        rows.append(
            {
                "id": name,
                "text": project.items[name].text,
                "label": shown(answers[judged[n].index].gold),
                "prediction": None if said is None else shown(said),
                "loss": loss,
                "probability": math.exp(-loss),
                "disagreement": shares[n],
                "answers": {who: shown(answer) for who, answer in given[name].items()},
            }
        )
    return rows


def again(project: Project, rows: Sequence[Mapping[str, Any]]) -> list[Item]:
    """Return suspects as rows to be decided on, with what the models answer as suggestions."""
    return [
        replace(
            project.items[row["id"]],
            suggestion=Suggestion(row["prediction"]) if row["prediction"] else None,
        )
        for row in rows
    ]


def _share(state: Standing, row: str, label: str) -> float:
    """Return the share of a row's answers that differ from its label."""
    given = [*state.answers()[row].values()]
    return sum(answer != label for answer in given) / len(given)

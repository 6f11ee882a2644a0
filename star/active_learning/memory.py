"""What earlier rounds have left for strategies that need it: a history, and embeddings.

::

    rounds/NN/bought.json      {"index": […], "correct": […], "confidence": […]}: what the query has
                               bought, answered by the model of the round before it was trained on
    rounds/NN/embeddings.npz   index (E,), and (E, H) float32 a view; those that stay the same, of
                               base model or encoder, in the first round that has asked for them

A run reads them as a replay does: after an interruption a strategy is told the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star.acquisition.components import Context, History, Purchase
from star.acquisition.embeddings import Embeddings
from star.acquisition.scores import Scores
from star.active_learning import contents
from star.active_learning.run_reader import RunReader
from star.config import Config
from star.data import loading as tasks
from star.data.task import Answer, Example
from star.errors import InputError
from star.files import read_json, read_npz, write_json, write_npz
from star.run_files import BOUGHT, EMBEDDINGS, SCORES

KEPT = ("index", "correct", "confidence")
OF_A_ROUND = ("full", "head")  # views of what it has trained


@dataclass(frozen=True)
class Bought:
    """How the model of a round, without dropout, answered the K that its query bought.

    Attributes:
        index: Their pool indices, best first.
        correct: Whether each answer is right.
        confidence: The model's probability of its answer.
        tokens: Through the model.
    """

    index: list[int]
    correct: list[bool]
    confidence: list[float]
    tokens: int

    @classmethod
    def of(cls, predictions: Sequence[Mapping[str, Any]], tokens: int) -> Bought:
        """Return it from an evaluation's rows and tokens."""
        return cls(*([row[key] for row in predictions] for key in KEPT), tokens)


def write(place: Path, bought: Bought | None, embeddings: Embeddings | None) -> None:
    """Write what a round leaves into its folder; ``None``, or nothing made: no file."""
    if bought is not None:
        write_json(place / BOUGHT, {key: getattr(bought, key) for key in KEPT})
    if embeddings is not None and embeddings.made:
        write_npz(place / EMBEDDINGS, index=embeddings.index, **embeddings.made)


def history(folder: RunReader, t: int, passes: int | None = None) -> History:
    """Return what the queries before round ``t`` have bought.

    Args:
        folder: The run's.
        t: The round.
        passes: How many passes of the stored scores count; ``None`` = all.

    Raises:
        InputError: A round has kept nothing of it.
    """
    return History(tuple(_purchase(folder.round_folder(s), s, passes) for s in range(t)))


def _purchase(place: Path, t: int, passes: int | None) -> Purchase:
    if not (place / BOUGHT).is_file():
        raise InputError(
            f"{place} has no {BOUGHT}: a run keeps its history where its own strategy needs it"
        )
    stored, scores = read_json(place / BOUGHT), Scores.load(place / SCORES, passes=passes)
    index, correct = np.array(stored["index"]), np.array(stored["correct"], dtype=bool)
    return Purchase(t, scores.read_only(), index, correct)


def known_embeddings(
    folder: RunReader, t: int, index: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Return which examples have embeddings, (E,) indices, and view to (E, H) of round ``t``.

    Those that stay the same, base model's or encoder's, are of an earlier round where it made them.

    Args:
        folder: The run's.
        t: The round.
        index: (E,) the examples, ascending; a view that lacks one is left out. A pool whose rows
            people set aside, or take up again, is not always the same. ``None`` = those of the
            newest round that has made some.
    """
    views: dict[str, Any] = {}
    for s in range(t, -1, -1):
        path = folder.round_folder(s) / EMBEDDINGS
        if path.is_file():
            arrays = read_npz(path)
            own = arrays.pop("index")
            index = own if index is None else index
            if np.isin(index, own).all():
                places = np.searchsorted(own, index)
                kept = {v for v in arrays if v not in views and (s == t or v not in OF_A_ROUND)}
                views |= {view: arrays[view][places] for view in kept}
    return np.empty(0, dtype=np.int64) if index is None else index, views


def unlabelled(folder: RunReader, t: int) -> NDArray[np.int64]:
    """Return the pool indices among which round ``t`` has chosen; none where it kept them nowhere.

    Of a strategy that looks at no scores these are the ones with embeddings that are not labelled,
    nor set aside by people.
    """
    if folder.scores(t).is_file():
        return Scores.load(folder.scores(t)).index
    aside = (folder.labels(t) or {}).get("aside", [])
    return np.setdiff1d(known_embeddings(folder, t)[0], [*_labelled(folder, t), *aside])


def stored_context(folder: RunReader, config: Config, t: int, passes: int | None) -> Context:
    """Return what a strategy is told after round ``t`` beside the scores, from the run's files.

    Args:
        folder: The run's.
        config: The run's.
        t: A complete round.
        passes: As for :func:`history`.
    """
    index, views = known_embeddings(folder, t)

    def absent(view: str, _: Any) -> Any:
        raise InputError(
            f"{folder.path} has no {EMBEDDINGS} of the view {view} for round {t}: a run keeps what "
            "its own strategy asks for"
        )

    return Context(
        prompts=partial(_prompts, folder.path, config),
        answers=partial(_answers, folder, config, t),
        history=partial(history, folder, t, passes),
        embed=Embeddings(index, absent, views).of,
    )


def _data(run: Path, config: Config) -> tasks.TaskData:
    """Return the run's rows.

    Raises:
        InputError: They are others now.
    """
    data = tasks.load(config.task, seed=config.seed)
    stored = contents.recorded(run)["data"]
    if stored not in (None, data.fingerprint):
        raise InputError(
            f"{run} was made on another content of the data (fingerprint {stored[:8]}, now "
            f"{data.fingerprint[:8]}); restore the data"
        )
    return data


def first_labels(
    folder: RunReader, config: Config, t: int
) -> tuple[dict[int, Example], dict[int, Answer]]:
    """Return questions and answers of the first labels a run bought, by pool index.

    Where people answer they are as of round ``t``: without those set aside by then.

    Raises:
        InputError: The run's rows are others now.
    """
    data, first, told = _data(folder.path, config), _labelled(folder, 0), folder.labels(t)
    if told is None:
        sold = zip(data.pool.examples, data.pool.answers, strict=True)
        answers = {example.index: answer for example, answer in sold}
    else:
        given = zip(told["index"], told["label"], strict=True)
        answers = {i: data.task.labelled(label) for i, label in given}
    known = {i for i in first if i in answers}
    questions = {e.index: e for e in data.pool.examples if e.index in known}
    return questions, {i: answers[i] for i in questions}


def _prompts(run: Path, config: Config) -> dict[int, str]:
    return {example.index: example.prompt for example in _data(run, config).pool.examples}


def _answers(folder: RunReader, config: Config, t: int) -> dict[int, str]:
    """Return pool index → answer of what round ``t`` was trained on, in the order it was bought."""
    told = folder.labels(t)
    if told is not None:
        trained = _labelled(folder, t)
        label_of = dict(zip(told["index"], told["label"], strict=True))
        return {i: label_of[i] for i in trained}
    pool = _data(folder.path, config).pool
    golds = {e.index: a.gold for e, a in zip(pool.examples, pool.answers, strict=True)}
    return {i: golds[i] for i in _labelled(folder, t)}


def _labelled(folder: RunReader, t: int) -> list[int]:
    """Return the pool indices that round ``t`` was trained on, in the order they were bought."""
    initial, told = folder.stored_initial(), folder.labels(t)
    if told is not None:
        return [i for i in told["index"] if i not in set(initial.get("validation", ()))]
    bought = [i for i in initial["indices"] if i not in set(initial.get("validation", ()))]
    for s in range(t):
        bought += folder.selected(s)
    return bought

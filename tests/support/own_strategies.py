"""Strategies of a user's own, for ``test_strategies``."""

from __future__ import annotations

import numpy as np

seen = []


def largest_index(pool):
    seen.append(pool)
    return pool.index


def star_again(pool):
    return pool.blended


def by_hand(pool):
    """What ``combine=none, measure=margin, reduction=sum`` does."""
    return pool.score("full", "margin", "sum")


def drawn(pool):
    return pool.random.random(len(pool.index))


def two_columns(pool):
    return np.zeros((len(pool.index), 2))


def words(pool):
    return np.array(["a"] * len(pool.index))


def not_a_number(pool):
    return np.full(len(pool.index), np.nan)


def batch(pool):
    """Pick the first examples, the last of them first."""
    return pool.index[: pool.query_size][::-1]


def everything(pool):
    """Look at all there is: prefer what is least like what is labelled."""
    seen.append(pool)
    vectors = pool.embeddings("full")
    known = pool.embeddings("full", labelled=True)
    assert len(pool.labelled.index) == len(pool.labelled.answers) == len(known)
    history = pool.history
    right = history.correct.mean() if len(history.index) else 0.0
    assert len(history.score("full", "margin")) == len(history.index) == len(history.round)
    distance = np.linalg.norm(vectors[:, None] - known[None], axis=-1).min(axis=1)
    return distance + right * pool.score("base", "margin") * len(pool.texts)


everything.needs = ("scores", "history", "embeddings")


def farthest(pool):
    """Look at no scores."""
    seen.append(pool)
    own, known = (pool.embeddings("full", labelled=labelled) for labelled in (False, True))
    centre = pool.embeddings().mean(axis=0)
    return np.linalg.norm(own - known.mean(axis=0) - centre, axis=1)


farthest.needs = ("embeddings",)


def remembers(pool):
    return pool.blended + pool.history.correct.sum()


remembers.needs = ("history",)
walked = []


def walker(pool):
    walked.append(pool)
    return everything(pool)


walker.needs = everything.needs


def undeclared(pool):
    return pool.history.index


def misspelt(pool):
    return pool.blended


misspelt.needs = ("histry",)

nothing = None


def in_place(pool):
    scores = pool.full["margin"]
    scores /= scores.max()
    return scores.mean(axis=1)

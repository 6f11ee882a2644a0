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


nothing = None


def in_place(pool):
    scores = pool.full["margin"]
    scores /= scores.max()
    return scores.mean(axis=1)

"""A run before it is started: how many labels each round has, how many it may choose from."""

from __future__ import annotations

from dataclasses import dataclass

from star.config import Config


@dataclass(frozen=True)
class PlannedRound:
    """A round in numbers of examples.

    Attributes:
        trained: Labels it is trained on; validation rows are not among them.
        unlabelled: What is left to choose from.
        query: K, how many are chosen after it; 0 after the last round.
    """

    trained: int
    unlabelled: int
    query: int


@dataclass(frozen=True)
class Plan:
    """A run in rounds.

    Attributes:
        rounds: R of them, the trainings; λ(t) runs over them.
        note: That they are fewer than asked for, if so.
    """

    rounds: tuple[PlannedRound, ...]
    note: str | None


def plan(config: Config, size: int) -> Plan:
    """Return the rounds that a pool allows: fewer than asked for where it ends before.

    Args:
        config: Of the run.
        size: Number of examples in the pool, labelled ones and validation rows too.
    """
    asked, trained, rounds = config.pool.rounds, config.pool.initial_size, []
    left = size - config.task.validation_size - trained
    while not rounds or rounds[-1].query:
        last = len(rounds) == asked - 1
        query = 0 if last else min(config.pool.query_size, left)  # the last one takes the rest
        rounds.append(PlannedRound(trained, left, query))
        trained, left = trained + query, left - query
    note = None
    if len(rounds) < asked:
        note = (
            f"{len(rounds)} of the rounds of pool.rounds={asked} can happen: the pool of {size} "
            f"examples is labelled whole before round {len(rounds) - 1}; lambda(t) runs over "
            f"{len(rounds)} rounds unless acquisition.base_weight.rounds says otherwise"
        )
    return Plan(tuple(rounds), note)

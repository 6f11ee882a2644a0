"""A strategy tried on made-up components before hours of work: whether it can use and return them.

Of the shapes that the configuration asks for: as many passes, choices and measures, fewer examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star import seeding
from star.acquisition.components import Context, History, Purchase
from star.acquisition.decision import decide
from star.acquisition.scores import LOG_PROBS, Scores
from star.acquisition.strategies import strategy_of
from star.acquisition.uncertainty import MEASURES
from star.config import Config, scored_continuation

MOST = 16  # examples that are bought at most: what is slow for a pool is quick here
ENOUGH = 5 * MOST  # prompts that are looked at
WIDTH = 8  # of a made-up embedding


def trial(config: Config, prompts: Mapping[int, str] | None = None, *, labels: int = 0) -> str:
    """Call the strategy with K of more, K of K, and one of one, and say in a line what it gave.

    Args:
        config: Of the run.
        prompts: Pool index → prompt of the pool, for a function that looks something up by them;
            ``None``, or too few: made up, and the indices count from 0.
        labels: C of the task; 0: its answers are free.

    Raises:
        InputError: It cannot be had, failed, or returned neither scores nor a batch.
    """
    a, size = config.acquisition, min(config.pool.query_size, MOST)
    rounds = max(2, config.pool.rounds)
    choices = labels if scored_continuation(a, labels > 0) == "choices" else 0
    given = dict(list((prompts or {}).items())[: 5 * size])
    if len(given) < 5 * size:
        given = {i: f"made-up question {i} ?" for i in range(5 * size)}
    labelled, bought, *_ = (list(given)[i : i + size] for i in range(0, 5 * size, size))
    made = []
    for t, count in ((0, 2 * size + 1), (min(1, rounds - 2), size), (0, 1)):
        rest = sorted(list(given)[2 * size :][:count])
        after = [*labelled, *bought] if t else labelled
        decision = decide(
            _scores(config, rest, t, choices),
            a,
            t=t,
            rounds=rounds,
            count=size,
            seed=config.seed,
            context=Context(
                prompts=lambda: given,
                answers=lambda after=after: {i: f"answer {i % 3}" for i in after},
                history=lambda t=t, rest=rest: _history(config, t, bought, rest, choices),
                embed=_embedding,
                outcomes=lambda batches: len(batches) - 1,
            ),
            made_up=True,
        )
        made.append(decision)
    setting = f"select={a.select}" if a.strategy is None else f"strategy={a.strategy}"
    kind = "a batch of pool indices" if made[0].batch else "scores"
    needs = ", ".join(sorted(strategy_of(a).needs)) or "nothing"
    return (
        f"acquisition.{setting} returned {kind}, for {size} of {2 * size + 1}, {size} of {size} "
        f"and 1 of 1 made-up examples; it needs {needs}"
    )


def _scores(config: Config, index: list[int], t: int, choices: int) -> Scores:
    """Return made-up scores of both views, each from a stream of its own."""
    a, size = config.acquisition, len(index)
    random = np.random.default_rng(seeding.derive(config.seed, "trial", t, size))
    arrays: dict[str, Any] = {"index": np.array(index, dtype=np.int64)}
    if "scores" not in strategy_of(a).needs:
        return Scores(arrays)
    arrays["prompt_tokens"] = random.integers(5, 50, size)
    views = {"base": 1, "full": max(1, a.mc_dropout.passes)}
    if config.task.classify_by == "head":  # which the base model does not have
        del views["base"]
    for view, passes in views.items():
        arrays[f"{view}_num_tokens"] = random.integers(1, 1 if choices else 9, size, endpoint=True)
        arrays |= {f"{view}_{measure}": random.random((size, passes)) for measure in MEASURES}
        if choices:
            p = random.dirichlet(np.ones(choices), (size, passes))
            arrays[f"{view}_{LOG_PROBS}"] = np.log(p)
    if a.measure == "bald":
        arrays["full_bald"] = random.random((size, 1))
    if "base" in views:
        arrays |= {f"base_range_{m}": np.array([[0.0, 1.0]] * 2) for m in MEASURES}
    return Scores(arrays)


def _history(config: Config, t: int, bought: list[int], rest: list[int], choices: int) -> History:
    if t == 0:
        return History()
    scores = _scores(config, sorted([*bought, *rest]), 0, choices)
    right = np.arange(len(bought)) % 2 == 0
    return History((Purchase(0, scores.read_only(), np.array(bought), right),))


def _embedding(view: str, index: NDArray[np.int64]) -> NDArray[np.float32]:
    words = [np.random.default_rng(seeding.derive(0, view, i)) for i in index.tolist()]
    return np.array([word.random(WIDTH) for word in words], dtype=np.float32).reshape(-1, WIDTH)

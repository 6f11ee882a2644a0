"""Which view's uncertainty tells the model's errors, measured on what is acquired with.

The uncertainty gap of the paper (arXiv 2403.01165) is one between u_base and u_full as they enter
the blend: the configuration's measure, reduction and continuation, the full view under its
MC-dropout passes. A finished run has these scores of the unlabelled pool; what it hasn't, scores of
the test rows and answers to the unlabelled ones, is made here from the adapters it has kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star.acquisition.pool_scorer import PoolScorer
from star.active_learning.cold_start import cold_start
from star.active_learning.learner import Learner
from star.active_learning.run_folder import RunFolder
from star.active_learning.setup import prepare, start
from star.config import Config, load, passes_that_differ
from star.data.pool import Oracle
from star.errors import InputError
from star.evaluation import ranking
from star.files import read_npz
from star.models import mc_dropout, saved_adapter, sources

Array = NDArray[np.float64]


def error_ranking(run: str | Path) -> list[dict[str, Any]]:
    """Return one row a round with a query: the AUROC of each view's score for the model's errors.

    An error is a wrong answer of the round's full model. Keys: ``round, labeled``;
    ``acquired_test_base, acquired_test_full``, of the test rows, and ``test_errors``, their share
    of errors; ``acquired_pool_base, acquired_pool_full, pool_errors`` likewise of the rows that
    were unlabelled then, ``pool_size`` in number. These three **use labels that nobody has
    bought**: they describe a simulation and can decide nothing in a run. ``None`` for a view that
    the measure has not, or if all answers are right or all wrong.

    Args:
        run: Folder of a run that has scored its pool and kept all adapters.

    Raises:
        InputError: Not such a run, or data or model are no longer those that it saw.
    """
    folder = RunFolder(Path(run))  # not to be written
    config = load(folder.config)
    if config.acquisition.passes != "dropout":  # the others read labels, or train
        raise InputError(
            f"{folder.path} has acquisition.passes={config.acquisition.passes}; the passes of "
            "dropout alone can be drawn again"
        )
    rounds = _rounds(folder)
    pool, oracle, learner = prepare(config, folder)
    pool.add(oracle.label(folder.initial(pool, config, partial(cold_start, learner))[1]))
    start(learner, pool, oracle)
    assert learner.scorer is not None  # it has scores
    a = config.acquisition
    test = _test_scorer(learner, config)
    places = [example.index for example in learner.test.examples]
    base = np.full(len(places), np.nan)
    if a.measure != "bald":  # which has no base view
        base = test.base().score(a.measure, a.reduction)
    rows = []
    for t in rounds:
        place = folder.round_folder(t)
        scores, wrong = read_npz(folder.scores(t)), _errors(folder.predictions(t), places)
        _check_base(learner.scorer, scores, place, config)
        unlabelled = scores["index"].tolist()
        with saved_adapter.load(learner.model, folder.adapter(t)) as adapted:
            passes = None
            if passes_that_differ(config):
                passes = mc_dropout.passes(adapted, a.mc_dropout, seed=config.seed, round_=t)
            full = test.full(places, passes).score(a.measure, a.reduction)
            examples = [learner.examples[i] for i in unlabelled]
            # All of them, as a simulation can; nothing of it is written into the run.
            answers = list(oracle.label(unlabelled).values())
            told = learner.results(examples, answers).predictions
        rows.append(
            {"round": t, "labeled": folder.metrics(t)["labeled"]}
            | _part("test", base, full, wrong)
            | _part("pool", scores["base"], scores["full"], [not one["correct"] for one in told])
            | {"pool_size": len(unlabelled)}
        )
    return rows


def _test_scorer(learner: Learner, config: Config) -> PoolScorer:
    """Return what scores the test rows as the pool's are scored."""
    test = learner.test
    places = [example.index for example in test.examples]
    return PoolScorer(
        learner.model,
        test.examples,
        config=config.acquisition,
        limits=learner.limits,
        oracle=Oracle(dict(zip(places, test.answers, strict=True))),
        cache=sources.cache_root(config.tracking.cache_dir),
    )


def _part(name: str, base: Array, full: Array, wrong: list[bool]) -> dict[str, Any]:
    known = bool(np.isfinite(base).all())
    return {
        f"acquired_{name}_base": ranking.auroc(base, wrong) if known else None,
        f"acquired_{name}_full": ranking.auroc(full, wrong),
        f"{name}_errors": float(np.mean(wrong)),
    }


def _rounds(folder: RunFolder) -> list[int]:
    """Return the rounds that have scores; refuse a run without, or without their adapters."""
    rounds = folder.scored_rounds()
    if not rounds:
        raise InputError(f"{folder.path} has no scores: a run of random choice scores nothing")
    for t in rounds:
        if not folder.adapter(t).is_dir():
            raise InputError(
                f"{folder.path} has no adapter of round {t}; run it anew in another folder with "
                "tracking.save_adapters=all"
            )
    return rounds


def _errors(path: Path, indices: list[int]) -> list[bool]:
    """Return which test answers of a round were wrong."""
    lines = path.read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    if [row["index"] for row in rows] != indices:
        raise InputError(f"{path.parent} was tested on other rows than the task has now")
    return [not row["correct"] for row in rows]


def _check_base(scorer: PoolScorer, scores: Mapping[str, Any], place: Path, config: Config) -> None:
    """Refuse a run whose base scores, made now, would be others."""
    a = config.acquisition
    if a.measure == "bald":
        return
    try:
        now = scorer.base_at(scores["index"].tolist()).score(a.measure, a.reduction)
        same = np.allclose(now, scores["base"], rtol=1e-2, atol=1e-2)
    except (IndexError, ValueError):
        same = False
    if not same:
        raise InputError(f"{place} was scored with another model or other data than there are now")

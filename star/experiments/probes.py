"""The paper's arguments as probes: questions to finished runs, answered from their files alone.

(a) :func:`gap` how base and full uncertainty of the same pool differ (which of them tells the
model's errors takes more than files: :mod:`star.experiments.error_ranking`); (c) :func:`weights`
what λ(t) weighs in effect; (d) :func:`dropout` what MC dropout adds, and how many passes a ranking
needs; (e) :func:`picks` what a strategy asks to be labelled. Probe (b) compares the
:func:`calibration` of runs that differ in β.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star.acquisition import blending
from star.acquisition.decision import decide
from star.acquisition.scores import Scores
from star.active_learning.run_checks import check_run
from star.active_learning.run_reader import RunReader
from star.config import Config, load, scored_continuation
from star.data import loading as tasks
from star.errors import InputError
from star.files import read_npz

Array = NDArray[np.float64]


def _scored(run: Path) -> tuple[Config, list[tuple[int, Path, dict[str, Any]]]]:
    """Return the configuration, and (round, file of scores, metrics) of each with a query."""
    check_run(run)
    folder = RunReader(run)
    config = load(folder.config)
    rounds = [(t, folder.scores(t), folder.metrics(t)) for t in folder.scored_rounds()]
    if not rounds:
        raise InputError(f"{run} has no scores: a run of random choice scores nothing")
    return config, rounds


def _overlap(first: Array, second: Array, index: NDArray[np.int64], count: int) -> float:
    """Return the share of the ``count`` largest that two scores (N,) have in common."""
    one, two = (set(blending.top_k(s, index, count)) for s in (first, second))
    return len(one & two) / min(count, len(index))


def gap(run: str | Path) -> list[dict[str, Any]]:
    """Return one row a round: how base and full uncertainty of the same pool differ.

    Keys: ``round, labeled, size`` (N), ``mean_difference`` (full − base, both on [0, 1] over the
    unlabelled pool), ``spearman``, ``top_k_overlap`` of the two queries of K and its ``chance``
    K/N; ``full_answer_auroc_base, …_full, …_mc``: how well each view's probability of the full
    model's test answer tells that it is wrong (0.5: not at all; ``None`` where it was not asked or
    all are right). That is the base's opinion of another's answer, which is low wherever the
    adapter has changed an answer, for the better too; what is acquired with is in
    :mod:`star.experiments.error_ranking`. ``shared`` says whether both views scored the same
    continuation; where not, pool scores differ in what was scored too.
    """
    config, rounds = _scored(Path(run))
    a = config.acquisition
    own = scored_continuation(a, tasks.is_choice(config.task)) == "model"
    rows = []
    for t, place, metrics in rounds:
        scores = read_npz(place)
        base, full, index = scores["base"], scores["full"], scores["index"]
        scaled = [blending.common_scale(view, "minmax") for view in (base, full)]
        count = min(config.pool.query_size, len(index))
        asked = metrics["calibration"]["shared"]
        rows.append(
            {
                "round": t,
                "labeled": metrics["labeled"],
                "size": len(index),
                "shared": not own,
                "mean_difference": float(np.mean(scaled[1] - scaled[0])),
                "spearman": blending.spearman(base, full),
                "top_k_overlap": _overlap(base, full, index, count),
                "chance": count / len(index),
                **{
                    f"full_answer_auroc_{v}": asked.get(f"auroc_{v}")
                    for v in ("base", "full", "mc")
                },
            }
        )
    return rows


def calibration(run: str | Path) -> dict[str, Any]:
    """Return the calibration of a run's first round, and what its constraint left of A and B.

    Keys: ``accuracy, ece, overconfidence, nll, brier, auroc, aurc`` of the full view, with
    ``_token_mean`` behind the two that differ where answers are generated; the same of the base
    model with ``base_`` before them; ``norm_A, norm_B``; ``reliability``, [count, confidence,
    accuracy] of each bin.
    """
    check_run(Path(run))
    metrics = RunReader(Path(run)).metrics(0)
    full, base = (metrics["calibration"][view] for view in ("full", "base"))
    keys = ("accuracy", "ece", "overconfidence", "nll", "brier", "auroc", "aurc")
    row = {k: full[k] for k in keys} | {f"base_{k}": base[k] for k in keys}
    for name, view in (("", full), ("base_", base)):
        for key in ("ece", "overconfidence"):  # of choices, which have one confidence, the same
            row[f"{name}{key}_token_mean"] = view.get("token_mean", view)[key]
    bins = [[b["count"], b["confidence"], b["accuracy"]] for b in full["reliability"]]
    norms = {k: metrics["training"]["last"][k] for k in ("norm_A", "norm_B")}
    return row | norms | {"reliability": bins}


def weights(run: str | Path) -> list[dict[str, Any]]:
    """Return one row a round and normalisation: the nominal λ(t) and what it weighs in effect.

    The effective weight of a view is the rank correlation of the blend with it; where the scales
    differ, λ and the two come apart. Keys: ``round, normalization, base_weight, base, full``.
    """
    config, rounds = _scored(Path(run))
    own, rows = replace(config.acquisition, strategy=None, select="top_k", combine="dynamic"), []
    for t, place, metrics in rounds:
        scores = Scores.load(place)
        for name in blending.NORMALIZATIONS:
            made = decide(
                scores,
                replace(own, normalization=name),
                t=t,
                rounds=metrics.get("rounds", config.pool.rounds),
                count=config.pool.query_size,
                seed=config.seed,
            )
            row = {"round": t, "normalization": name, "base_weight": made.base_weight}
            rows.append(row | made.effective_weight)
    return rows


def dropout(
    run: str | Path, *, without: str | Path | None = None, passes: Sequence[int] = (1, 2, 4, 8)
) -> dict[str, Any]:
    """Return what the stochastic passes of a run's first query add, and how steady they are.

    Args:
        run: Scored with at least 2·max(passes) passes for all of ``stability``.
        without: The same run scored without dropout, for ``spearman_without`` and
            ``overlap_without``.
        passes: Numbers S to ask for.

    Returns:
        ``spread``: the mean over examples of the deviation between passes, over the deviation
        between examples of the mean score (0: the passes agree; ``None``: one pass, or all
        scores alike); ``stability``: S to the mean rank
        correlation between means over S passes and over S others; ``top_k_stability``: S to their
        share of the K in common.
    """
    config, rounds = _scored(Path(run))
    scores = read_npz(rounds[0][1])
    a = config.acquisition
    each = scores[f"full_{a.measure}"]  # (N, S)
    if a.reduction == "mean":
        each = each / scores["full_num_tokens"][:, None]
    index, count = scores["index"], min(config.pool.query_size, len(scores["index"]))
    between = each.mean(axis=1).std()
    found: dict[str, Any] = {
        "passes": each.shape[1],
        "masks": a.mc_dropout.masks,
        "spread": float(each.std(axis=1, ddof=1).mean() / between)
        if each.shape[1] > 1 and between > 0
        else None,
        "stability": {},
        "top_k_stability": {},
    }
    for s in passes:
        pairs = [
            (each[:, i : i + s].mean(axis=1), each[:, i + s : i + 2 * s].mean(axis=1))
            for i in range(0, each.shape[1] - 2 * s + 1, 2 * s)
        ]
        if pairs:
            ranked = [blending.spearman(one, two) or 0.0 for one, two in pairs]
            shared = [_overlap(one, two, index, count) for one, two in pairs]
            found["stability"][str(s)] = float(np.mean(ranked))
            found["top_k_stability"][str(s)] = float(np.mean(shared))
    if without is not None:
        _, others = _scored(Path(without))
        plain = read_npz(others[0][1])
        if plain["index"].tolist() != index.tolist():
            raise InputError(f"{without} scored another pool than {run}")
        found["spearman_without"] = blending.spearman(each.mean(axis=1), plain["full"])
        found["overlap_without"] = _overlap(each.mean(axis=1), plain["full"], index, count)
    return found


def picks(run: str | Path) -> dict[str, Any]:
    """Return what a run asked to be labelled, against its pool.

    Returns:
        ``queried`` (pool indices in the order they were asked for), ``prompt_words`` and
        ``pool_prompt_words`` (mean length), ``repeats`` and ``pool_repeats`` (share of questions
        that differ from an earlier one in numbers alone; earlier: labelled before, or of a smaller
        pool index), ``kinds`` and ``pool_kinds`` (share of each planted kind; empty where there are
        none).
    """
    run = Path(run)
    check_run(run)
    folder = RunReader(run)
    config = load(folder.config)
    pool = {
        example.index: example
        for example in tasks.load(config.task, seed=config.seed).pool.examples
    }
    initial = folder.stored_initial()["indices"]
    queried: list[int] = []
    for t in range(folder.complete_rounds()):
        if folder.selected_file(t).is_file():
            queried += folder.selected(t)
    rest = [index for index in pool if index not in set(initial)]

    def words(indices: Sequence[int]) -> float:
        return float(np.mean([len(pool[i].prompt.split()) for i in indices]))

    def kinds(indices: Sequence[int]) -> dict[str, float]:
        counted = Counter(pool[i].kind for i in indices if pool[i].kind is not None)
        return {str(k): n / len(indices) for k, n in sorted(counted.items(), key=str)}

    def repeats(indices: Sequence[int]) -> float:
        seen = {_without_numbers(pool[i].prompt) for i in initial}
        again = 0
        for i in indices:
            text = _without_numbers(pool[i].prompt)
            again += text in seen
            seen.add(text)
        return again / len(indices)

    return {
        "queried": queried,
        "prompt_words": words(queried),
        "pool_prompt_words": words(rest),
        "repeats": repeats(queried),
        "pool_repeats": repeats(rest),
        "kinds": kinds(queried),
        "pool_kinds": kinds(rest),
    }


def _without_numbers(text: str) -> str:
    return re.sub(r"\d+", "#", text)

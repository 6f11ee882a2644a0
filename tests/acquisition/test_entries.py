"""What the entries of the dictionary of strategies hand to the functions they stand for."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from test_decision import ask, context, scores

from star import seeding
from star.acquisition import batches, diversity, gradients, information, representative, trust
from star.config import AcquisitionConfig, config_hash, load
from star.errors import InputError

POOL = scores(30, seed=3)
TOLD = context(POOL)
LABELLED = np.fromiter(TOLD.answers(), dtype=np.int64)


def generator() -> np.random.Generator:
    return np.random.default_rng(seeding.derive(0, "strategy", 1))


def embeddings(view: str = "base") -> tuple[np.ndarray, np.ndarray]:
    assert TOLD.embed is not None
    return TOLD.embed(view, POOL.index), TOLD.embed(view, LABELLED)


def picks(select: str, **settings: Any) -> list[int]:
    """Return where in the pool the seven stand that an entry picks."""
    a = AcquisitionConfig(select=select, **settings)  # type: ignore[arg-type]
    return np.searchsorted(POOL.index, ask(POOL, a, 7).indices).tolist()


def blended() -> np.ndarray:
    found = ask(POOL, AcquisitionConfig(), 7).blended
    assert found is not None
    return found


def test_batches_are_of_the_base_model_s_embeddings_and_the_run_s_score() -> None:
    rows, labelled = embeddings()
    unsure = blended()
    assert picks("k_center") == diversity.k_center(rows, labelled, 7)
    assert picks("weighted_k_center") == diversity.weighted_k_center(rows, labelled, unsure, 7)
    expected = diversity.uncertain_then_k_center(rows, labelled, unsure, 7)
    assert picks("uncertain_k_center") == expected
    assert picks("cluster") == diversity.cluster_then_uncertain(rows, unsure, 7, generator())
    assert picks("typiclust") == representative.typiclust(rows, labelled, 7, generator())
    assert picks("maxherding") == representative.herding(rows, labelled, 7)
    expected = representative.herding(
        rows,
        labelled,
        7,
        uncertainty=diversity.normalised(unsure),
        width=representative.kernel_width(labelled),
    )
    assert picks("uherding") == expected


def test_calibrated_uherding_is_of_the_margin_at_the_fitted_temperature() -> None:
    rows, labelled = embeddings()
    chances = np.exp(POOL.arrays["full_log_probs"]).mean(axis=1)
    # Two were bought, both at 0.25 of four choices, one of them answered right: no T mends that.
    assert representative.fitted_temperature(np.full((2, 4), 0.25), [True, False]) == 1
    expected = representative.herding(
        rows,
        labelled,
        7,
        uncertainty=representative.margin_uncertainty(chances),
        width=representative.kernel_width(labelled),
    )
    assert picks("uherding_calibrated") == expected


def test_badge_and_epig_are_of_the_full_model_s_choices() -> None:
    log_probs = POOL.arrays["full_log_probs"]
    probabilities = np.exp(log_probs).mean(axis=1)
    assert picks("badge") == gradients.badge(probabilities, embeddings("head")[0], 7, generator())
    gain = information.epig(log_probs, log_probs)
    assert picks("epig") == np.argsort(-gain, kind="stable")[:7].tolist()


def test_trust_is_of_both_views_and_the_history() -> None:
    history, weight = TOLD.history(), 1 - 2 / 4  # after round 1 of 4
    prior = {"base": weight, "full": 1 - weight}
    weights = trust.evidence_weights(
        {view: history.score(view, "margin", "sum") for view in prior},
        np.array([False, True]),
        np.zeros(2),
        prior,
    )
    views = {view: POOL.score(view, "margin", "sum") for view in prior}
    expected = trust.trusted(views, weights, 7, generator())
    assert picks("trust", measure="margin") == expected


@pytest.mark.parametrize("name", ["softmax", "power", "softrank"])
def test_a_cold_draw_is_top_k(name: str) -> None:
    assert picks(name, coldness=1e6) == picks("top_k") != picks(name)


def test_a_sample_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sample = representative.sample
    monkeypatch.setattr(batches.representative, "sample", lambda *given: sample(*given, limit=20))
    with caplog.at_level(logging.INFO, logger="star"):
        chosen = picks("maxherding")
    assert "acquisition.select=maxherding: among 20 of 30 examples, drawn" in caplog.text
    rows, labelled = embeddings()
    among = sample(30, 7, generator(), limit=20)
    assert chosen == among[representative.herding(rows[among], labelled, 7)].tolist()


@pytest.mark.parametrize(
    "words, said",
    [
        (["epig", "mc_dropout.passes=1"], "needs at least two sub-networks"),
        (["epig", "mc_dropout.masks=token"], "got 3 and token"),
        (["trust", "measure=bald", "combine=none"], "has no base view"),
        (["power", "coldness=0"], "coldness"),
    ],
)
def test_what_cannot_be_is_refused_at_once(words: list[str], said: str) -> None:
    select, *rest = words
    with pytest.raises(InputError, match=said):
        load(None, [f"acquisition.select={select}", *(f"acquisition.{word}" for word in rest)])


@pytest.mark.parametrize("word", ["choice_by=generation", "choice_score=mean"])
def test_a_temperature_is_fitted_to_what_the_probabilities_say(word: str) -> None:
    with pytest.raises(InputError, match=r"goes by whether the likeliest .* got .*(gen|mean)"):
        load(None, ["acquisition.select=uherding_calibrated", f"evaluation.{word}"])
    load(None, ["acquisition.select=uherding", f"evaluation.{word}"])


def test_a_key_at_its_default_is_no_other_run() -> None:
    assert config_hash(load(None, ["acquisition.coldness=1"])) == config_hash(load())
    assert config_hash(load(None, ["acquisition.coldness=2"])) != config_hash(load())

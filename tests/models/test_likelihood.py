"""Scores against a loop over single examples and tokens in float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from scipy import stats

from star.acquisition import uncertainty
from star.config import AdapterConfig, McDropoutConfig, ModelConfig, TaskConfig
from star.data import loading as tasks
from star.errors import InputError
from star.models import likelihood, mc_dropout, merging
from star.models import loading as models
from star.models.batching import Batching
from star.models.encoding import TokenRow
from star.models.language_model import LanguageModel
from star.models.passes import Passes
from star.models.truncation import encode_rows

ROWS = tiny.random_rows(9, seed=2)
MEASURES = ("predictive_entropy", "max_entropy", "margin", "least_confidence")


def three(adapted: Any) -> Passes:
    return mc_dropout.passes(adapted, McDropoutConfig(passes=3), seed=0, round_=0)


@pytest.fixture
def passes(model: LanguageModel) -> Iterator[Passes]:
    with (
        tiny.learned(model) as adapted,
        three(adapted).installed() as passes,
    ):
        yield passes


def over_passes(log_probs: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"bald": uncertainty.bald(log_probs)}


def naive(model: LanguageModel, row: TokenRow) -> dict[str, float]:
    """Return every measure of one row, summed over its tokens by a loop."""
    sums = dict.fromkeys(MEASURES, 0.0)
    for logs, token in zip(tiny.naive_log_probs(model, row), row.continuation, strict=True):
        ranked = logs.exp().sort(descending=True).values
        sums["predictive_entropy"] -= float(logs[token])
        sums["max_entropy"] -= float((logs.exp() * logs).sum())
        sums["margin"] -= float(ranked[0] - ranked[1])
        sums["least_confidence"] += 1 - float(ranked[0])
    return sums


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4, 9])
def test_equals_a_naive_loop_in_row_order(
    model: LanguageModel, batch_size: int, full: bool
) -> None:
    model = replace(model, batching=Batching(batch_size))
    with tiny.learned(model) if full else nullcontext():
        found = likelihood.token_scores(model, ROWS, uncertainty.from_logits)
        expected = [naive(model, row) for row in ROWS]
    assert set(found) == set(MEASURES)
    for name in MEASURES:
        assert found[name].shape == (9, 1) and found[name].dtype == np.float64
        close(found[name][:, 0], [one[name] for one in expected])


def test_the_likelihood_alone_is_to_the_bit_that_beside_the_measures(model: LanguageModel) -> None:
    measures = likelihood.token_scores(model, ROWS, uncertainty.from_logits)
    found = likelihood.nll(model, ROWS)
    np.testing.assert_array_equal(found, measures["predictive_entropy"])


def test_chunks_change_nothing(
    model: LanguageModel, passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = likelihood.token_scores(
        model, ROWS, uncertainty.from_logits, passes=passes, over_passes=over_passes
    )
    groups = choices_of("last")
    chosen = likelihood.choice_log_probs(model, groups, passes=passes)
    seen = []

    def watched(log_probs: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.append(log_probs.shape[1])
        return over_passes(log_probs)

    monkeypatch.setattr(likelihood, "CHUNK_ELEMENTS", 58 * 3 * 2)  # two positions, three passes
    parts = likelihood.token_scores(
        model, ROWS, uncertainty.from_logits, passes=passes, over_passes=watched
    )
    assert max(seen) == 2
    for name in whole:
        close(parts[name], whole[name])
    close(likelihood.choice_log_probs(model, groups, passes=passes), chosen)


def test_bald_over_the_passes(model: LanguageModel, passes: Passes) -> None:
    found = likelihood.token_scores(
        model, ROWS, uncertainty.from_logits, passes=passes, over_passes=over_passes
    )
    assert found["bald"].shape == (9, 1) and found["max_entropy"].shape == (9, 3)
    for i, row in enumerate(ROWS):
        views = []
        for s in range(3):
            passes.select_pass(s)
            views.append(tiny.naive_log_probs(model, row).exp())
        p = torch.stack(views)  # (S, tokens, V)
        entropy = -(p * p.log()).sum(-1)
        mean = p.mean(0)
        expected = (-(mean * mean.log()).sum(-1) - entropy.mean(0)).sum()
        close(found["bald"][i, 0], float(expected))
        close(found["max_entropy"][i], entropy.sum(1).numpy())
    assert found["bald"].min() > 1e-3


def test_bald_needs_passes_that_differ(model: LanguageModel) -> None:
    found = likelihood.token_scores(model, ROWS, uncertainty.from_logits, over_passes=over_passes)
    assert np.abs(found["bald"]).max() < 1e-5


# --- choices -----------------------------------------------------------------------------------


def choices_of(kind: str) -> list[list[TokenRow]]:
    """Return five examples of three choices: one token, the last of two differs, or lengths do."""
    tails = {
        "one": [(20,), (31,), (42,)],
        "last": [(9, 20), (9, 31), (9, 42)],
        "apart": [(20,), (31, 9), (31, 42, 11)],
    }[kind]
    return [[TokenRow(r.index, r.prompt, tail) for tail in tails] for r in ROWS[:5]]


def naive_choices(model: LanguageModel, group: list[TokenRow]) -> np.ndarray:
    total = np.array([-naive(model, row)["predictive_entropy"] for row in group])
    return total - np.log(np.exp(total).sum())


@pytest.mark.parametrize("kind", ["one", "last", "apart"])
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_choices_equal_a_naive_loop(
    model: LanguageModel, kind: str, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups, model = choices_of(kind), replace(model, batching=Batching(batch_size))
    found = likelihood.choice_log_probs(model, groups)
    assert found.shape == (5, 1, 3)
    close(found[:, 0], [naive_choices(model, group) for group in groups])
    monkeypatch.setattr(likelihood, "differ_in_last_token", lambda group: False)
    close(likelihood.choice_log_probs(model, groups), found)


@pytest.mark.parametrize("masks", ["consistent", "token"])
def test_one_pass_for_all_choices_has_the_same_masks(
    model: LanguageModel, masks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = McDropoutConfig(passes=2, masks=masks)  # type: ignore[arg-type]
    with (
        tiny.learned(model) as adapted,
        mc_dropout.passes(adapted, config, seed=0, round_=0).installed() as passes,
    ):
        groups = choices_of("last")
        once = likelihood.choice_log_probs(model, groups, passes=passes)
        monkeypatch.setattr(likelihood, "differ_in_last_token", lambda group: False)
        close(likelihood.choice_log_probs(model, groups, passes=passes), once)
    assert once.shape == (5, 2, 3) and not np.allclose(once[:, 0], once[:, 1], atol=1e-3)


def test_measures_of_choices() -> None:
    p = np.array([[[0.2, 0.7, 0.1], [0.6, 0.3, 0.1]]])  # one example, two passes
    found = uncertainty.choice_measures(np.log(p))
    close(found["predictive_entropy"], [[-np.log(0.7), -np.log(0.6)]])
    close(found["max_entropy"], -(p * np.log(p)).sum(-1))
    close(found["margin"], [[-0.5, -0.3]])
    close(found["least_confidence"], [[0.3, 0.4]])
    mean = p.mean(1)
    bald = -(mean * np.log(mean)).sum(-1) + (p * np.log(p)).sum(-1).mean(1)
    close(found["bald"], bald[:, None])
    assert "bald" not in uncertainty.choice_measures(np.log(p[:, :1]))


# --- edges -------------------------------------------------------------------------------------


def test_a_score_that_is_not_finite_names_its_row(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = ROWS[4]
    start, plain = (bad.prompt + bad.continuation)[:-1], model.hidden

    def broken(ids: torch.Tensor, **more: Any) -> torch.Tensor:
        hidden = plain(ids, **more).clone()
        for row, values in zip(ids.tolist(), hidden, strict=True):
            for place in range(len(row)):
                if tuple(row[place : place + len(start)]) == start:
                    values[place : place + len(start)].fill_(float("nan"))
        return hidden

    monkeypatch.setattr(model, "hidden", broken)
    with pytest.raises(InputError, match=rf"of row {bad.index} is nan"):
        likelihood.token_scores(model, ROWS, uncertainty.from_logits)


def test_nothing_to_score(model: LanguageModel) -> None:
    assert likelihood.token_scores(model, [], uncertainty.from_logits) == {}
    assert likelihood.choice_log_probs(model, []).shape == (0, 1, 0)


def test_no_gradient_and_no_random_numbers(model: LanguageModel) -> None:
    before = torch.get_rng_state()
    with tiny.learned(model) as adapted:
        likelihood.token_scores(model, ROWS, uncertainty.from_logits)
        assert all(p.grad is None for p in adapted.parameters())
    assert torch.equal(torch.get_rng_state(), before)


# --- the fast path against the plain one -------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_shortcut_keeps_the_scores(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed, merged and fused, against one padded row at a time through the LoRA branch."""
    data = tasks.load(TaskConfig(name="arithmetic", pool_limit=80, test_limit=1)).pool
    fast = models.load(ModelConfig(dtype=dtype, device="cpu"))
    rows = encode_rows(fast, data.examples, [a.target for a in data.answers]).rows
    assert fast.packable

    def scored(batch_size: int, reduction: likelihood.Reduction) -> dict[str, Any]:
        fast.batching = Batching(batch_size)
        with (
            tiny.learned(fast, AdapterConfig(r=8, lora_alpha=8), scale=0.05) as adapted,
            three(adapted).installed() as passes,
        ):
            return likelihood.token_scores(fast, rows, reduction, passes=passes)

    found = scored(64, uncertainty.from_logits)
    fast.packable = False
    monkeypatch.setattr(merging.Merged, "possible", False)

    def slowly(logits: torch.Tensor, chosen: torch.Tensor) -> dict[str, torch.Tensor]:
        return uncertainty.all_measures(logits.log_softmax(-1), chosen, 0.0)

    plain = scored(1, slowly)
    for name in MEASURES:
        if dtype == "float32":
            np.testing.assert_allclose(found[name], plain[name], rtol=1e-4, atol=1e-4)
        means = [values[name].mean(axis=1) for values in (found, plain)]
        assert stats.kendalltau(*means).statistic >= 0.99

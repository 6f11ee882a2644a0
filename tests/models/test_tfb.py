"""TFB: noise of the covariance it promises, and a σ that is the largest the training rows allow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor

from star.config import AdapterConfig, ModelConfig, RegularizerConfig, TrainConfig
from star.errors import InputError
from star.models import adapter, likelihood, tfb, training
from star.models import loading as models
from star.models.batching import Batching
from star.models.encoding import TokenRow
from star.models.language_model import LanguageModel

ROWS = tiny.random_rows(5, seed=1)


def one(adapted: Any) -> tuple[str, Any]:
    return next(iter(adapter.layers(adapted)))


def added(adapted: Any, passes: Any, pass_: int) -> dict[str, Tensor]:
    """Return what a pass adds to the base weights of each module, less what the adapter does."""
    layers = dict(adapter.layers(adapted))
    before = {n: layer.base_layer.weight.detach().double() for n, layer in layers.items()}
    plain = {
        n: layer.get_delta_weight(adapter.NAME).detach().double() for n, layer in layers.items()
    }
    with passes.installed():
        passes.select_pass(pass_)
        after = {n: layer.base_layer.weight.detach().double() for n, layer in layers.items()}
    return {name: after[name] - before[name] - plain[name] for name in layers}


@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_the_noise_is_isotropic_in_what_b_reaches(
    model: LanguageModel, rank_stabilised: bool
) -> None:
    sigma, draws = 0.05, 100
    config = replace(tiny.ADAPTER, lora_dropout=0.0, use_rslora=rank_stabilised)
    scale = 8 / 2 if rank_stabilised else 8 / 4  # lora_alpha over the root of r, or over r
    with tiny.learned(model, config) as adapted:
        name, layer = one(adapted)
        posterior = tfb.Posterior(adapted, seed=0, round_=0)
        passes = posterior.passes(sigma, draws)
        noise = torch.stack([added(adapted, passes, s)[name] for s in range(draws)])
        b = layer.lora_B[adapter.NAME].weight.detach().double()
    columns = noise.transpose(1, 2).reshape(-1, b.shape[0])  # draws · in, out
    reach = b @ torch.linalg.pinv(b)  # U Uᵀ
    expected = (scale * sigma) ** 2 * reach
    covariance = columns.T @ columns / len(columns)
    error = 4 * (scale * sigma) ** 2 / len(columns) ** 0.5
    assert (covariance - expected).abs().max() < error
    assert columns.mean(0).abs().max() < 4 * scale * sigma / len(columns) ** 0.5
    # All of it lies in B's columns, and inputs are independent.
    assert (columns - columns @ reach).abs().max() < 1e-5
    across = (noise[:, :, 0] * noise[:, :, 1]).mean()
    assert abs(float(across)) < 5 * (scale * sigma) ** 2 / (draws * 4) ** 0.5


def test_a_pass_is_noise_on_the_factors_of_the_papers_form(adapted: Any) -> None:
    sigma, (name, layer) = 0.1, one(adapted)
    b = layer.lora_B[adapter.NAME].weight.detach().double()
    u, d, rows = torch.linalg.svd(b, full_matrices=False)
    # The adapter in its new form adds what it added.
    a = layer.lora_A[adapter.NAME].weight.detach().double()
    assert (u @ torch.diag(d) @ (rows @ a) - b @ a).abs().max() < 1e-6
    noise = added(adapted, tfb.Posterior(adapted, seed=0, round_=0).passes(sigma, 1), 0)[name]
    on_a = torch.diag(1 / d) @ u.T @ noise / (layer.scaling[adapter.NAME] * sigma)
    whole = (u @ torch.diag(d) @ (rows @ a + sigma * on_a) - b @ a) * layer.scaling[adapter.NAME]
    assert (whole - noise).abs().max() < 1e-5
    # Row i of it has a deviation of 1 / dᵢ.
    assert ((on_a * d[:, None]).square().mean(1).sqrt() - 1).abs().max() < 0.5


def test_no_noise_where_b_does_not_reach(adapted: Any) -> None:
    layers = dict(adapter.layers(adapted))
    whole, half, nothing = list(layers)[:3]
    with torch.no_grad():
        b = layers[half].lora_B[adapter.NAME].weight
        b[:, 1] = 2 * b[:, 0]  # rank 3 of 4
        layers[nothing].lora_B[adapter.NAME].weight.zero_()
    noise = added(adapted, tfb.Posterior(adapted, seed=0, round_=0).passes(0.1, 1), 0)
    ranks = [int(torch.linalg.matrix_rank(noise[n], tol=1e-4)) for n in (whole, half, nothing)]
    assert ranks == [4, 3, 0]
    assert not noise[nothing].any()
    assert all(value.abs().max() < 1 for value in noise.values())  # and nothing was divided by 0


def test_an_untrained_adapter_is_refused(model: LanguageModel) -> None:
    with (
        adapter.fresh(model, tiny.ADAPTER, seed=0, round_=0) as adapted,
        pytest.raises(InputError, match="needs a trained adapter, but B is 0"),
    ):
        tfb.Posterior(adapted, seed=0, round_=0)


def test_dora_is_refused(model: LanguageModel) -> None:
    from peft import LoraConfig, get_peft_model

    try:
        adapted = get_peft_model(
            model.causal, LoraConfig(r=2, target_modules=["q_proj"], use_dora=True)
        )
        with pytest.raises(InputError, match=r"plain LoRA, but .*q_proj"):
            tfb.Posterior(adapted, seed=0, round_=0)
    finally:
        adapter.remove(model)


def test_a_draw_depends_on_its_key_alone(model: LanguageModel, adapted: Any) -> None:
    def score(seed: int = 0, round_: int = 0, count: int = 3, size: int = 3, back: int = 1) -> Any:
        passes = tfb.Posterior(adapted, seed=seed, round_=round_).passes(0.1, count)
        small = replace(model, batching=Batching(size))
        with passes.installed():
            return likelihood.nll(small, ROWS[::back], passes=passes)[::back]

    first = score()
    assert (np.abs(np.diff(first, axis=1)) > 1e-3).all()
    assert np.array_equal(score(count=2), first[:, :2])  # S changes no pass
    for other in (score(size=1), score(size=5), score(back=-1)):
        np.testing.assert_allclose(other, first, rtol=1e-5)
    for other in (score(seed=1), score(round_=1)):
        assert (np.abs(other - first) > 1e-3).any(axis=0).all()


def test_everything_is_put_back(model: LanguageModel, adapted: Any) -> None:
    before = {n: (p.data_ptr(), p.detach().clone()) for n, p in adapted.named_parameters()}
    scores = likelihood.nll(model, ROWS)
    state = torch.get_rng_state()
    tfb.search(model, tfb.Posterior(adapted, seed=0, round_=0), ROWS, 0.01)
    after = dict(adapted.named_parameters())
    assert all(after[n].data_ptr() == at and after[n].equal(v) for n, (at, v) in before.items())
    assert np.array_equal(likelihood.nll(model, ROWS), scores)
    assert torch.equal(torch.get_rng_state(), state)


def mean_nll(
    model: LanguageModel, adapted: Any, sigma: float, rows: list[TokenRow] = ROWS
) -> float:
    """Return nats a token of ten draws, row by row through the whole model."""
    passes = tfb.Posterior(adapted, seed=0, round_=0).passes(sigma, 10)
    total, size = 0.0, sum(len(row.continuation) for row in rows)
    with passes.installed():
        for s in range(10):
            passes.select_pass(s)
            for row in rows:
                logs = tiny.naive_log_probs(model, row)
                total -= sum(float(logs[i, t]) for i, t in enumerate(row.continuation))
    return total / (10 * size)


@pytest.mark.parametrize("tolerance", [0.003, 0.01])
def test_sigma_is_the_largest_within_the_tolerance(
    model: LanguageModel, adapted: Any, tolerance: float
) -> None:
    found = tfb.search(model, tfb.Posterior(adapted, seed=0, round_=0), ROWS, tolerance)
    plain = float(likelihood.nll(model, ROWS).sum()) / sum(len(r.continuation) for r in ROWS)
    assert found.nll == pytest.approx(plain)
    assert found.noisy == pytest.approx(mean_nll(model, adapted, found.sigma), rel=1e-5)
    assert abs(found.noisy - plain) <= tolerance * plain
    assert abs(mean_nll(model, adapted, 1.1 * found.sigma) - plain) > tolerance * plain
    assert found.tokens % sum(len(row) for row in ROWS) == 0
    assert found.tokens <= (1 + 10 * tfb.SEARCHES) * sum(len(row) for row in ROWS)


@pytest.mark.slow
def test_after_a_real_training_passes_differ_and_leave_the_training_nll(tmp_path: Path) -> None:
    model = models.load(
        ModelConfig(name_or_path="embedded://tiny", device="cpu"), cache_dir=str(tmp_path)
    )
    sums = [(a, b) for a in range(2, 8) for b in (3, 6)]
    texts = [f"Question: Ann has {a} pens and buys {b} more. How many pens?" for a, b in sums]
    rows = model.encode([f"{t} Answer:" for t in texts], [f" {a + b}" for a, b in sums], eos=True)
    train = TrainConfig(learning_rate=3e-3, num_train_epochs=4, per_device_train_batch_size=4)
    regularizer = RegularizerConfig(kind="decoupled")
    with adapter.fresh(model, AdapterConfig(r=8, lora_alpha=16), seed=0, round_=0) as adapted:
        before = float(likelihood.nll(model, rows).sum())
        training.fit(model, adapted, rows, config=train, regularizer=regularizer, seed=0, round_=0)
        assert float(likelihood.nll(model, rows).sum()) < before / 2
        found = tfb.search(model, tfb.Posterior(adapted, seed=0, round_=0), rows, 0.003)
        size = sum(len(row.continuation) for row in rows)
        plain = float(likelihood.nll(model, rows).sum()) / size
        assert abs(mean_nll(model, adapted, found.sigma, rows) - plain) <= 0.003 * plain * 1.01
        assert abs(mean_nll(model, adapted, 1.1 * found.sigma, rows) - plain) > 0.003 * plain
        passes = tfb.Posterior(adapted, seed=0, round_=0).passes(found.sigma, 3)
        with passes.installed():
            each = likelihood.nll(model, rows, passes=passes)
        assert (np.diff(each, axis=1) != 0).any(axis=0).all()


def test_sigma_ends_at_the_bound(model: LanguageModel, adapted: Any) -> None:
    found = tfb.search(model, tfb.Posterior(adapted, seed=0, round_=0), ROWS, 1e6)
    assert found.sigma == 1.0


def test_where_no_noise_is_little_enough(model: LanguageModel, adapted: Any) -> None:
    with pytest.raises(InputError, match=r"no noise leaves .*tfb_tolerance=1e-12 of itself"):
        tfb.search(model, tfb.Posterior(adapted, seed=0, round_=0), ROWS, 1e-12)


def test_batches_do_not_change_sigma(model: LanguageModel, adapted: Any) -> None:
    posterior = tfb.Posterior(adapted, seed=0, round_=0)
    sigmas = {
        tfb.search(replace(model, batching=Batching(size)), posterior, rows, 0.01).sigma
        for size, rows in ((1, ROWS), (5, ROWS), (2, ROWS[::-1]))
    }
    assert len(sigmas) == 1


@pytest.mark.parametrize("last", [-1, 0, 4, 9])
def test_bisection(last: int) -> None:
    asked: list[int] = []

    def holds(k: int) -> bool:
        asked.append(k)
        return k <= last

    found = tfb.largest(holds, range(10))
    assert found == (None if last < 0 else last)
    assert len(asked) <= 4 and len(set(asked)) == len(asked)


def test_adapters_that_cannot_be_merged_get_the_same_noise(
    model: LanguageModel, adapted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score() -> Any:
        passes = tfb.Posterior(adapted, seed=0, round_=0).passes(0.1, 2)
        with passes.installed():
            return likelihood.nll(model, ROWS, passes=passes)

    merged = score()
    monkeypatch.setattr("star.models.merging.Merged.possible", False)
    np.testing.assert_allclose(score(), merged, rtol=1e-4)

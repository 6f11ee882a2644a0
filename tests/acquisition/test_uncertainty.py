"""Measures against closed forms and a float64 loop."""

from __future__ import annotations

import math
from typing import get_type_hints

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from star.acquisition import uncertainty
from star.acquisition.uncertainty import (
    MEASURES,
    bald,
    least_confidence,
    margin,
    max_entropy,
    predictive_entropy,
)
from star.config import AcquisitionConfig

ONE_HOT = torch.tensor([0.0, -math.inf, -math.inf, -math.inf], dtype=torch.float64)


def test_uniform() -> None:
    flat = torch.full((4,), -math.log(4), dtype=torch.float64)
    assert predictive_entropy(flat, torch.tensor(2)).item() == pytest.approx(math.log(4))
    assert max_entropy(flat).item() == pytest.approx(math.log(4))
    assert margin(flat).item() == pytest.approx(0.0)
    assert least_confidence(flat).item() == pytest.approx(0.75)


def test_certainty_is_no_nan() -> None:
    assert predictive_entropy(ONE_HOT, torch.tensor(0)).item() == 0
    assert max_entropy(ONE_HOT).item() == 0
    assert margin(ONE_HOT).item() == -1
    assert least_confidence(ONE_HOT).item() == 0
    assert bald(torch.stack([ONE_HOT, ONE_HOT])).item() == 0


def test_two_values() -> None:
    logs = torch.tensor([0.2, 0.7, 0.1], dtype=torch.float64).log()
    assert predictive_entropy(logs, torch.tensor(2)).item() == pytest.approx(-math.log(0.1))
    assert margin(logs).item() == pytest.approx(-0.5)
    assert least_confidence(logs).item() == pytest.approx(0.3)


def test_against_a_loop() -> None:
    stream = torch.Generator().manual_seed(0)
    logs = torch.randn(3, 5, 7, generator=stream, dtype=torch.float64).log_softmax(-1)
    chosen = torch.randint(7, (3, 5), generator=stream)
    found = {name: measure(logs, chosen) for name, measure in MEASURES.items()}
    assert all(value.shape == (3, 5) for value in found.values())
    for i in range(3):
        for j in range(5):
            p = [math.exp(value) for value in logs[i, j].tolist()]
            ranked = sorted(p, reverse=True)
            expected = {
                "predictive_entropy": -math.log(p[chosen[i, j]]),
                "max_entropy": -sum(q * math.log(q) for q in p),
                "margin": ranked[1] - ranked[0],
                "least_confidence": 1 - ranked[0],
            }
            for name, value in expected.items():
                assert found[name][i, j].item() == pytest.approx(value, abs=1e-12), name
    mutual = bald(logs)
    assert mutual.shape == (5,)
    for j in range(5):
        passes = [[math.exp(value) for value in logs[s, j].tolist()] for s in range(3)]
        mean = [sum(column) / 3 for column in zip(*passes, strict=True)]
        inner = sum(-sum(q * math.log(q) for q in p) for p in passes) / 3
        expected_bald = -sum(q * math.log(q) for q in mean) - inner
        assert mutual[j].item() == pytest.approx(expected_bald, abs=1e-12)


def test_bald_of_equal_passes_is_nothing_and_of_opposite_ones_log_2() -> None:
    stream = torch.Generator().manual_seed(0)
    logs = torch.randn(6, 9, generator=stream, dtype=torch.float64).log_softmax(-1)
    assert bald(logs.expand(3, 6, 9)).abs().max() < 1e-12
    assert bald(torch.stack([ONE_HOT, ONE_HOT.flip(0)])).item() == pytest.approx(math.log(2))


def test_names_are_those_of_the_configuration() -> None:
    hint = get_type_hints(AcquisitionConfig)["measure"]
    assert {*MEASURES, "bald"} == set(hint.__args__)


def distributions(passes: int) -> st.SearchStrategy[Tensor]:
    # Up to ±200: some probabilities underflow to exactly 0.
    row = st.lists(st.floats(-200, 200), min_size=5, max_size=5)
    table = st.lists(row, min_size=passes, max_size=passes)
    return table.map(lambda values: torch.tensor(values, dtype=torch.float32).log_softmax(-1))


@given(distributions(1))
def test_bounds(logs: Tensor) -> None:
    assert 0 <= max_entropy(logs).item() <= math.log(5) + 1e-6
    assert -1 - 1e-6 <= margin(logs).item() <= 0
    assert -1e-6 <= least_confidence(logs).item() <= 0.8 + 1e-6
    assert predictive_entropy(logs, torch.tensor([3])).item() >= 0


@given(distributions(3))
def test_bald_is_not_negative_and_at_most_log_passes(logs: Tensor) -> None:
    assert -1e-5 <= bald(logs).item() <= math.log(3) + 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_from_logits_is_every_measure_of_their_softmax(dtype: torch.dtype) -> None:
    stream = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 500, generator=stream, dtype=dtype) * torch.tensor(
        [[0.1], [1], [5], [50], [1], [1]], dtype=dtype
    )
    logits[4, 7] = -math.inf  # a word that is ruled out
    logits[5, :] = 3.0  # all alike
    chosen = torch.tensor([0, 1, 2, 3, 4, 5])
    expected = uncertainty.all_measures(logits.double().log_softmax(-1), chosen, 0.0)
    found = uncertainty.from_logits(logits.clone(), chosen)
    assert found.keys() == uncertainty.MEASURES.keys()
    for name, value in found.items():
        tolerance = 1e-5 if dtype == torch.float32 else 1e-12
        torch.testing.assert_close(value.double(), expected[name], rtol=tolerance, atol=tolerance)
    assert uncertainty.from_logits(logits * math.nan, chosen)["max_entropy"].isnan().all()

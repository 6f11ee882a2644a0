"""`evaluation.max_batch_tokens=auto`: by a GPU's free memory, and as ever on a CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import runs
import torch

from star.config import ModelConfig, config_hash, load
from star.errors import InputError
from star.experiments.estimate.costs import scoring_bytes
from star.experiments.estimate.shapes import shape_of
from star.files import read_npz
from star.models import free_memory
from star.models import loading as models
from star.models.batching import Batching
from star.models.free_memory import LEAST, MOST, fitted, tokens_that_fit

GIB = 2.0**30


@pytest.fixture
def causal(tiny_llama: Path) -> torch.nn.Module:
    return models.load(ModelConfig(name_or_path=str(tiny_llama))).causal


def test_what_fits_takes_a_quarter_of_the_free_memory(causal: torch.nn.Module) -> None:
    shape = shape_of(causal, load(None).adapter)
    one, other = (
        scoring_bytes(shape, tokens=n, logits=0, size=4.0, merged=False) for n in (1, 10_001)
    )
    each = (other - one) / 10_000  # bytes a token, as an estimate of a run has them
    for tokens in (LEAST, 20_000, MOST):
        free = 4 * each * (tokens + 0.5)
        assert tokens_that_fit(causal, free) == tokens
    assert tokens_that_fit(causal, 0) == LEAST and tokens_that_fit(causal, 1e15) == MOST
    assert tokens_that_fit(causal.bfloat16(), 4 * each / 2 * 20_000.5) == 20_000


def test_a_gpu_s_free_memory_is_asked(
    causal: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(3 * GIB), int(80 * GIB)))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: int(2 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: int(1 * GIB))
    gpu, auto = torch.device("cuda", 0), Batching(auto=True)
    assert fitted(auto, causal, gpu) == replace(auto, tokens=tokens_that_fit(causal, 4 * GIB))
    assert fitted(Batching(), causal, gpu) == Batching()
    assert fitted(auto, causal, torch.device("cpu")) == auto


def test_a_run_is_the_same(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = runs.write_data(tmp_path / "data")
    words = ("evaluation.max_batch_tokens=auto", "pool.rounds=2")
    plain = runs.go(tiny_llama, data, tmp_path / "a", "pool.rounds=2")
    auto = runs.go(tiny_llama, data, tmp_path / "b", *words)
    one, other = (read_npz(run / "rounds/00/scores.npz") for run in (plain, auto))
    assert all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("value", ["automatic", "4.5", "true", "null", "[1]", "0", "-3"])
def test_other_values_are_refused(value: str) -> None:
    with pytest.raises(InputError, match=r"evaluation\.max_batch_tokens must be"):
        load(None, [f"evaluation.max_batch_tokens={value}"])


def test_the_default_is_what_it_was() -> None:
    assert load(None).evaluation.max_batch_tokens == free_memory.LEAST == 4096
    assert config_hash(load(None, ["evaluation.max_batch_tokens=4096"])) == config_hash(load(None))

"""Random streams: stable, independent, and without a trace in the global state."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from star.seeding import derive, forked, generator

KEYS = st.lists(st.one_of(st.integers(-(2**70), 2**70), st.text(max_size=8)), max_size=4)

# Made outside star, once, and written down: a change of these numbers changes every run's draws.
#   int(hashlib.sha256(json.dumps([0, "adapter", 3]).encode()).hexdigest()[:16], 16) // 2
GOLDEN = {
    (0, "initial"): 1410932737418102733,
    (0, "adapter", 3): 3304218833305457537,
    (7, "mc_dropout", 1, "layers.0.q_proj"): 1343424268346575198,
}


def test_golden_values() -> None:
    assert {name: derive(*name) for name in GOLDEN} == GOLDEN


def test_golden_draws() -> None:
    drawn = torch.randint(0, 1000, (6,), generator=generator(0, "initial"))
    assert drawn.tolist() == [707, 89, 539, 757, 190, 814]


@given(st.integers(0, 2**40), st.text(max_size=8), KEYS)
def test_seeds_fit_63_bits(seed: int, purpose: str, keys: list[int | str]) -> None:
    assert 0 <= derive(seed, purpose, *keys) < 2**63


@given(KEYS, KEYS)
def test_different_names_give_different_seeds(a: list[int | str], b: list[int | str]) -> None:
    assert (derive(0, "p", *a) == derive(0, "p", *b)) == (a == b)


def test_names_that_look_alike_are_kept_apart() -> None:
    seeds = [
        derive(1, "a", 1),
        derive(1, "a", "1"),
        derive(1, "a1"),
        derive(1, "a", 1, 1),
        derive(1, "a", 11),
        derive(11, "a"),
        derive(1, "a, 1"),
    ]
    assert len(set(seeds)) == len(seeds)


def test_numpy_integers_are_integers() -> None:
    assert derive(np.int64(0), "adapter", np.int32(3)) == GOLDEN[(0, "adapter", 3)]


@pytest.mark.parametrize("key", [1.0, None, (1,)])
def test_other_keys_are_refused(key: object) -> None:
    with pytest.raises(TypeError):
        derive(0, "adapter", key)  # type: ignore[arg-type]


def test_streams_are_independent() -> None:
    # Correlation of 10,000 normal draws of neighbouring names: within four standard errors of 0.
    streams = [torch.randn(10_000, generator=generator(0, "scoring", t)) for t in range(4)]
    correlation = torch.corrcoef(torch.stack(streams)) - torch.eye(4)
    assert correlation.abs().max() < 0.04
    # Drawing from one moves no other, and the same name starts at the same place.
    again = generator(0, "scoring", 1)
    torch.randn(5, generator=generator(0, "scoring", 0))
    assert torch.equal(torch.randn(10_000, generator=again), streams[1])


def test_generator_leaves_the_global_stream_alone() -> None:
    before = torch.get_rng_state()
    torch.randn(3, generator=generator(0, "initial"))
    assert torch.equal(torch.get_rng_state(), before)


def test_forked_draws_the_named_stream_and_restores() -> None:
    before = torch.get_rng_state()
    with forked(0, "adapter", 3):
        first = torch.randn(5)
    torch.randn(7)
    torch.set_rng_state(before)
    with forked(0, "adapter", 3):
        second = torch.randn(5)
    assert torch.equal(first, second)
    assert torch.equal(first, torch.randn(5, generator=generator(0, "adapter", 3)))
    assert torch.equal(torch.get_rng_state(), before)


def test_forked_restores_after_an_exception() -> None:
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="stop"), forked(0, "adapter"):
        torch.randn(5)
        raise RuntimeError("stop")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_forked_restores_cuda() -> None:
    before = torch.cuda.get_rng_state_all()
    with forked(0, "adapter"):
        torch.randn(5, device="cuda")
    assert all(
        torch.equal(a, b) for a, b in zip(before, torch.cuda.get_rng_state_all(), strict=True)
    )

"""One kernel over packed rows against the loop of SDPA calls, and steps that nobody watches.

On a CPU the kernel is stood in for by its definition, row by row; torch's own is tested on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import architectures
import numpy as np
import pytest
import tiny
import torch
from torch import Tensor

from star.config import ModelConfig
from star.models import likelihood, packing, steps, varlen
from star.models import loading as models
from star.models.batching import Batching
from star.models.encoding import TokenRow
from star.models.generation import generate, generate_scored
from star.models.language_model import LanguageModel
from star.models.training import answer_nll

ROWS = sorted(tiny.random_rows(7, seed=5), key=len, reverse=True)
LONG = sorted(tiny.random_rows(7, seed=6, longest=20), key=len, reverse=True)


def by_rows(
    query: Tensor, key: Tensor, value: Tensor, cu_seq_q: Tensor, cu_seq_k: Tensor, max_q: int,
    max_k: int, *, return_aux: Any = None, scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1), enable_gqa: bool = False,
    seqused_k: Tensor | None = None, block_table: Tensor | None = None,
    num_splits: int | None = None,
) -> Tensor:  # fmt: skip
    """Do what ``varlen_attn`` of torch 2.12 is documented to do: softmax(s·Q·Kᵀ)·V, row by row.

    Queries and keys of a row end together: the last query looks at the last key.
    """
    assert query.dim() == key.dim() == value.dim() == 3 and return_aux is block_table is None
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    if not enable_gqa:
        assert query.shape[1] == key.shape[1]
    groups = query.shape[1] // key.shape[1]
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    left, right = (math.inf if side < 0 else side for side in window_size)
    out = torch.empty_like(query)
    for b in range(len(cu_seq_q) - 1):
        begin, end = cu_seq_q[b : b + 2].tolist()
        first, last = cu_seq_k[b : b + 2].tolist()
        assert end - begin <= max_q and last - first <= max_k
        if seqused_k is not None:
            assert seqused_k.dtype == torch.int32
            last = first + int(seqused_k[b])
        k, v = (x[first:last].repeat_interleave(groups, dim=1) for x in (key, value))
        places = torch.arange(end - begin)[:, None] + (last - first) - (end - begin)
        apart = places - torch.arange(last - first)
        seen = (apart <= left) & (-apart <= right)
        products = scale * torch.einsum("qhd,khd->hqk", query[begin:end], k)
        weights = products.masked_fill(~seen, -math.inf).softmax(-1)
        out[begin:end] = torch.einsum("hqk,khd->qhd", weights, v)
    return out


def stand_in(*without: str) -> varlen.Kernel:
    """Return the kernel for a CPU in float32, of a torch that lacks some keywords."""
    whole = varlen.Kernel.of(by_rows)
    assert whole is not None
    options = whole.options - set(without)
    return replace(whole, options=options, device="cpu", dtypes=(torch.float32,))


@pytest.fixture
def kernel() -> Iterator[varlen.Kernel]:
    with varlen.using(stand_in()) as used:
        yield used


def packed(model: LanguageModel, rows: list[TokenRow]) -> Tensor:
    batch = model.lay_out(rows)
    assert batch.runs
    return model.predict(batch)


@torch.inference_mode()
@pytest.mark.parametrize("without", [(), ("enable_gqa",)], ids=["whole", "no groups"])
def test_the_kernel_gives_what_the_loop_of_calls_gives(
    without: tuple[str, ...], tiny_llama: Path
) -> None:
    model = tiny.load(tiny_llama)
    assert not model.info["computation"]["rows"].endswith("varlen_attn")
    calls = packed(model, ROWS)
    with varlen.using(stand_in(*without)):
        torch.testing.assert_close(packed(model, ROWS), calls, rtol=1e-5, atol=1e-5)
        assert tiny.load(tiny_llama).info["computation"]["rows"] == "packed, varlen_attn"


def test_gradients_go_through_the_kernel(tiny_llama: Path) -> None:
    model = tiny.load(tiny_llama)

    def gradients() -> list[Tensor]:
        with tiny.learned(model) as adapted:
            batch = model.lay_out(ROWS)
            with model.packing(batch):
                answer_nll(model, batch).backward()
            return [p.grad.clone() for p in adapted.parameters() if p.grad is not None]

    calls = gradients()
    with varlen.using(stand_in()):
        for one, other in zip(gradients(), calls, strict=True):  # how a CPU rounds is its own
            assert (one - other).norm() <= 1e-4 * other.norm()


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral", "cohere2", "gemma3", "granite"])
def test_rows_that_a_window_cuts_are_packed_where_the_kernel_knows_it(
    name: str, tmp_path: Path
) -> None:
    folder = architectures.make(name, tmp_path / name)
    model = tiny.load(folder)
    most = model.causal.get_input_embeddings().weight.shape[0]
    rows = [
        TokenRow(i, *(tuple(t % most for t in part) for part in (r.prompt, r.continuation)))
        for i, r in enumerate(LONG)
    ]
    prompts = [row.prompt for row in rows]
    window = model.traits.window
    padded = likelihood.nll(model, rows)[:, 0]
    answers = generate(model, prompts, max_new_tokens=8)
    with varlen.using(stand_in()):
        model = tiny.load(folder)
        assert model.windows is (window is not None) and model.packs(max(map(len, rows)))
        np.testing.assert_allclose(likelihood.nll(model, rows)[:, 0], padded, rtol=1e-4)
        assert generate(model, prompts, max_new_tokens=8) == answers


def test_a_window_that_a_layer_does_not_tell_is_not_packed(
    tmp_path: Path, kernel: varlen.Kernel
) -> None:
    model = tiny.load(architectures.make("llama4", tmp_path / "llama4"))  # chunks, by a mask
    assert model.packable and not model.windows


def test_a_kernel_that_fails_is_given_up(tiny_llama: Path, caplog: Any) -> None:
    def broken(*_: Any, scale: float, window_size: tuple[int, int]) -> Tensor:
        raise RuntimeError("no kernel image is available")

    whole = varlen.Kernel.of(broken)
    assert whole is not None
    with varlen.using(replace(whole, device="cpu", dtypes=(torch.float32,))):
        model = tiny.load(tiny_llama)
        assert model.packable and varlen.kernel() is None
        assert "one kernel fails here" in caplog.text
        assert np.isfinite(likelihood.nll(model, ROWS)).all()


def test_a_torch_without_windows_has_no_kernel() -> None:
    def of_torch_2_10(query: Tensor, is_causal: bool = False) -> Tensor:
        return query

    assert varlen.Kernel.of(of_torch_2_10) is None


def test_float32_and_a_cpu_take_the_loop() -> None:
    q, half = torch.zeros(1, 2, 3, 8), torch.zeros(1, 2, 3, 8, dtype=torch.bfloat16)
    real = varlen.Kernel.of(by_rows)
    assert real is not None and not real.takes(q, q) and not real.takes(half, half)
    other = stand_in()
    assert other.takes(q, q, cached=True) and not other.takes(half, half)
    assert not other.takes(q[..., :6], q[..., :6])  # heads are in eights
    assert not stand_in("seqused_k").takes(q, q, cached=True)


# ---- steps --------------------------------------------------------------------------------------


@pytest.mark.parametrize("without", [(), ("seqused_k",)], ids=["stored", "no cached step"])
@pytest.mark.parametrize("new", [1, 2, 17, 40])
def test_unwatched_steps_give_the_same_answers(
    without: tuple[str, ...], new: int, tiny_llama: Path
) -> None:
    model = tiny.load(tiny_llama)
    prompts = [row.prompt for row in ROWS]
    words = {t for one in generate(model, prompts, max_new_tokens=6) for t in one[2:5]}
    model.stop_ids = frozenset(sorted(words)[:2])  # some stop soon, some late or never
    wanted, likely = generate_scored(model, prompts, max_new_tokens=new)
    assert new == 1 or len({len(one) for one in wanted}) > 1
    with varlen.using(stand_in(*without)):
        tokens, log_probs = generate_scored(model, prompts, max_new_tokens=new)
    assert tokens == wanted
    np.testing.assert_allclose(log_probs, likely, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_the_shapes_of_a_step_stay(tiny_llama: Path, kernel: varlen.Kernel) -> None:
    model = tiny.load(tiny_llama)
    rows = [TokenRow(i, row.prompt, (0,)) for i, row in enumerate(ROWS)]
    batch = model.lay_out(rows)
    cache = packing.Cache(batch, 40)
    model.predict(batch, cache)
    cache.advance()
    assert cache.static
    where = cache.lengths.data_ptr()
    for _ in range(3):
        model.step(torch.full((len(rows),), 5), cache)
        cache.advance()
    # What a graph of the step would read again is where it was.
    assert cache.lengths.data_ptr() == where


@torch.inference_mode()
def test_a_step_that_fails_while_it_is_captured_changes_no_answer(
    tiny_llama: Path, kernel: varlen.Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.load(tiny_llama)
    rows = [TokenRow(i, row.prompt, (0,)) for i, row in enumerate(ROWS)]
    batch = model.lay_out(rows)

    def made() -> list[list[int]]:
        cache = packing.Cache(batch, 40)
        model.predict(batch, cache)
        cache.advance()

        def failing(step: Callable[[], None], _: torch.device) -> None:
            def fail(*_: Any) -> None:
                raise RuntimeError("operation not permitted when stream is capturing")

            # A capture computes nothing: what it leaves is whatever memory held.
            right = cache.lengths.clone()
            cache.lengths.fill_(39)
            last = list(model.causal.model.layers)[-1]
            hook = last.mlp.register_forward_pre_hook(fail)
            with pytest.raises(RuntimeError, match="capturing"):
                step()
            hook.remove()
            cache.lengths.copy_(right)

        if broken:
            monkeypatch.setattr(steps, "graph_of", failing)
        unwatched = steps.Steps(model, cache, torch.full((len(rows),), 5))
        return [a + b for a, b in zip(unwatched.run(2)[0], unwatched.run(6)[0], strict=True)]

    broken = False
    wanted = made()
    broken = True
    assert made() == wanted


# ---- on a GPU -----------------------------------------------------------------------------------


@pytest.mark.skipif(varlen.of_torch() is None, reason="no GPU with torch's varlen_attn")
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("cached", [False, True])
def test_torch_s_kernel_does_what_it_says(window: int | None, cached: bool) -> None:
    kernel = varlen.of_torch()
    assert kernel is not None
    stream = torch.Generator("cuda").manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=stream, device="cuda", dtype=torch.bfloat16)

    lengths = torch.tensor([7, 1, 30, 12])
    ends = torch.tensor([0, *lengths.cumsum(0)], dtype=torch.int32, device="cuda")
    q, k, v = random(50, 4, 64), random(50, 2, 64), random(50, 2, 64)
    longest, stored = (30, 30), None
    if cached:
        q = random(4, 4, 64)
        stored = torch.tensor([3, 1, 20, 12], dtype=torch.int32, device="cuda")
        both = torch.arange(5, dtype=torch.int32, device="cuda"), ends
        longest = (1, 30)
    options: dict[str, Any] = {"scale": 0.2, "window": window, "stored": stored}
    found = kernel.attend(q, k, v, both if cached else (ends, ends), longest, **options)
    wide = replace(kernel, function=by_rows)
    places = tuple(x.cpu() for x in (both if cached else (ends, ends)))
    options["stored"] = None if stored is None else stored.cpu()
    wanted = wide.attend(
        *(x.cpu().float() for x in (q, k, v)), (places[0], places[1]), longest, **options
    )
    torch.testing.assert_close(found.cpu().float(), wanted, rtol=2e-2, atol=2e-2)


@pytest.mark.skipif(varlen.of_torch() is None, reason="no GPU with torch's varlen_attn")
def test_a_graph_of_steps_gives_the_answers_of_single_steps(tiny_llama: Path) -> None:
    config = ModelConfig(name_or_path=str(tiny_llama), device="cuda", dtype="bfloat16")
    model = models.load(config, batching=Batching(rows=4))
    prompts = [row.prompt for row in ROWS]
    found = generate(model, prompts, max_new_tokens=40)
    with varlen.using(None):
        wanted = generate(model, prompts, max_new_tokens=40)
    same = sum(one == other for one, other in zip(found, wanted, strict=True))
    assert same >= len(prompts) - 2  # the likeliest of two near words hangs on rounding

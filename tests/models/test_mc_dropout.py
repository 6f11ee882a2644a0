"""MC dropout: masks that depend on their key alone, and a model that is put back."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn

from star.config import McDropoutConfig
from star.errors import InputError
from star.models import adapter, likelihood, mc_dropout
from star.models.batching import Batch, Batching, lay_out
from star.models.encoding import TokenRow
from star.models.language_model import LanguageModel
from star.models.passes import Passes
from star.seeding import derive

ROWS = tiny.random_rows(7, seed=1)
KINDS = pytest.mark.parametrize("masks", ["consistent", "token"])


def passes_of(
    adapted: Any, masks: str, *, seed: int = 0, round_: int = 0, count: int = 3
) -> Passes:
    config = McDropoutConfig(passes=count, masks=masks)  # type: ignore[arg-type]
    return mc_dropout.passes(adapted, config, seed=seed, round_=round_)


def score(
    model: LanguageModel, passes: Passes | None, rows: list[TokenRow] = ROWS, batch_size: int = 3
) -> np.ndarray:
    return likelihood.nll(replace(model, batching=Batching(batch_size)), rows, passes=passes)


# --- guard and restoration ---------------------------------------------------------------------


def test_dropout_0_is_refused(model: LanguageModel) -> None:
    with (
        tiny.learned(model, replace(tiny.ADAPTER, lora_dropout=0.0)) as adapted,
        pytest.raises(InputError, match=r"needs adapter\.lora_dropout > 0, but .*q_proj"),
    ):
        passes_of(adapted, "consistent")


def test_a_merged_adapter_is_refused(adapted: Any) -> None:
    adapted.merge_adapter()
    with pytest.raises(InputError, match="unmerged"):
        passes_of(adapted, "consistent")
    adapted.unmerge_adapter()
    passes_of(adapted, "consistent")


def test_no_adapter_is_refused(model: LanguageModel) -> None:
    with pytest.raises(InputError, match="needs an adapter"):
        passes_of(model.causal, "token")


@KINDS
def test_everything_is_put_back_after_an_exception(adapted: Any, masks: str) -> None:
    def weights() -> dict[str, tuple[int, Tensor]]:
        return {n: (p.data_ptr(), p.detach().clone()) for n, p in adapted.named_parameters()}

    modules = dict(adapted.named_modules())
    before = weights()
    with pytest.raises(RuntimeError, match="mine"), passes_of(adapted, masks).installed() as passes:
        passes.select_pass(1)
        raise RuntimeError("mine")
    after = weights()
    assert all(
        after[n][0] == before[n][0] and torch.equal(after[n][1], before[n][1]) for n in after
    )
    found = dict(adapted.named_modules())
    assert found.keys() == modules.keys() and all(found[n] is modules[n] for n in found)
    assert not any(module.training for module in found.values())


@KINDS
def test_scores_without_passes_are_the_same_afterwards(
    model: LanguageModel, adapted: Any, masks: str
) -> None:
    before = score(model, None)
    with passes_of(adapted, masks).installed() as passes:
        assert not np.allclose(score(model, passes)[:, :1], before, atol=1e-2)
    assert np.array_equal(score(model, None), before)


@KINDS
def test_no_global_random_numbers_and_no_training_mode(
    model: LanguageModel, adapted: Any, masks: str
) -> None:
    before = torch.get_rng_state()
    with passes_of(adapted, masks).installed() as passes:
        score(model, passes)
        assert not any(module.training for module in adapted.modules())
    assert torch.equal(torch.get_rng_state(), before)


@KINDS
def test_the_base_models_own_dropout_stays_off(tiny_llama: Path, masks: str) -> None:
    plain, noisy = tiny.load(tiny_llama), tiny.load(tiny_llama)
    for module in noisy.causal.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.5
    results = []
    for model in (plain, noisy):
        with tiny.learned(model) as adapted, passes_of(adapted, masks).installed() as passes:
            results.append(score(model, passes))
    assert np.array_equal(*results)
    with torch.no_grad():  # and the dropout is one that would have been felt
        ids = torch.tensor([ROWS[0].prompt + ROWS[0].continuation])
        quiet = noisy.causal(input_ids=ids).logits
        assert not torch.allclose(noisy.causal.train()(input_ids=ids).logits, quiet, atol=0.1)


# --- what the passes are -----------------------------------------------------------------------


@KINDS
def test_passes_differ_once_b_is_not_0(model: LanguageModel, masks: str) -> None:
    with adapter.fresh(model, tiny.ADAPTER, seed=0, round_=0) as adapted:
        with passes_of(adapted, masks).installed() as passes:
            scores = score(model, passes)
            assert (scores == scores[:, :1]).all()
            with pytest.raises(InputError, match="all 3 MC-dropout passes gave equal scores"):
                passes.check_spread(scores)
        tiny.learn(adapted)
        with passes_of(adapted, masks).installed() as passes:
            scores = score(model, passes)
        assert (np.abs(np.diff(scores, axis=1)) > 1e-3).all()
        passes.check_spread(scores)


@KINDS
def test_masks_do_not_depend_on_the_neighbours(
    model: LanguageModel, adapted: Any, masks: str
) -> None:
    with passes_of(adapted, masks).installed() as passes:
        alone = np.concatenate([score(model, passes, [row], 1) for row in ROWS])
        for rows, size in ((ROWS, 2), (ROWS, 7), (ROWS[::-1], 3)):
            order = [ROWS.index(row) for row in rows]
            found = score(model, passes, rows, size)
            np.testing.assert_allclose(found, alone[order], rtol=1e-5, atol=1e-5)


@KINDS
@pytest.mark.parametrize("change", [{"seed": 1}, {"round_": 1}])
def test_masks_depend_on_seed_and_round(
    model: LanguageModel, adapted: Any, masks: str, change: dict[str, int]
) -> None:
    with passes_of(adapted, masks).installed() as passes:
        one = score(model, passes)
    with passes_of(adapted, masks).installed() as passes:
        assert np.array_equal(score(model, passes), one)
    with passes_of(adapted, masks, **change).installed() as passes:
        assert (np.abs(score(model, passes) - one) > 1e-4).all()


def test_more_passes_begin_with_the_same_ones(model: LanguageModel, adapted: Any) -> None:
    with passes_of(adapted, "consistent", count=2).installed() as passes:
        two = score(model, passes)
    with passes_of(adapted, "consistent", count=4).installed() as passes:
        assert np.allclose(score(model, passes)[:, :2], two, rtol=1e-5)


def test_a_consistent_pass_is_a_fixed_sub_network(model: LanguageModel, adapted: Any) -> None:
    row = ROWS[0]
    with passes_of(adapted, "consistent").installed() as passes:
        found = score(model, passes, [row])[0]
    start = {n: layer.lora_A["default"].weight.data for n, layer in adapter.layers(adapted)}
    for s in range(3):
        for name, layer in adapter.layers(adapted):
            stream = torch.Generator().manual_seed(derive(0, "mc_dropout", 0, s, name))
            kept = torch.rand(start[name].shape[1], generator=stream) >= 0.3
            mask = torch.diag(kept.double()) / (1 - 0.3)
            layer.lora_A["default"].weight.data = (start[name].double() @ mask).float()
        logs = tiny.naive_log_probs(model, row)
        expected = -logs[range(len(row.continuation)), row.continuation].sum()
        assert found[s] == pytest.approx(float(expected), rel=1e-5)


# --- token masks -------------------------------------------------------------------------------

FEATURES, TOKENS = 512, 256


def batch_of(*first: int, tokens: int = TOKENS) -> Batch:
    rows = [TokenRow(0, (index,) + (1,) * (tokens - 1)) for index in first]
    return lay_out(rows, packed=False, pad_id=0, device=torch.device("cpu"))


def token_masks(adapted: Any, pass_: int = 0, **key: int) -> dict[str, Tensor]:
    """Return each module's boolean (B, T, F) masks of two examples."""
    passes = passes_of(adapted, "token", **key)
    with passes.installed():
        passes.select_pass(pass_)
        passes.set_batch(batch_of(3, 4))
        ones = torch.ones(2, TOKENS, FEATURES)
        return {n: m.lora_dropout["default"](ones) > 0 for n, m in adapter.layers(adapted)}


def independent(one: Tensor, two: Tensor) -> bool:
    """Whether masks of keep rate 0.7 agree where chance says, within 5 standard deviations."""
    agree = 0.7**2 + 0.3**2
    bound = 5 * math.sqrt(agree * (1 - agree) / one.numel())
    return abs(float((one == two).double().mean()) - agree) < bound


def test_token_masks_keep_the_right_share_and_scale(adapted: Any) -> None:
    passes = passes_of(adapted, "token")
    with passes.installed():
        passes.select_pass(0)
        passes.set_batch(batch_of(3, 4))
        _, layer = next(adapter.layers(adapted))
        out = layer.lora_dropout["default"](torch.ones(2, TOKENS, FEATURES))
    assert out.unique().tolist() == pytest.approx([0, 1 / 0.7])
    kept = (out > 0).double()
    for over in ((0, 1, 2), (0, 1), (1, 2), (0, 2)):  # in all, by feature, example and position
        share = kept.mean(dim=over)
        bound = 5.5 * math.sqrt(0.7 * 0.3 * share.numel() / kept.numel())
        assert (share - 0.7).abs().max() < bound


def test_token_masks_are_independent(adapted: Any) -> None:
    masks = token_masks(adapted)
    first, second = list(masks.values())[:2]
    assert not independent(first, first)  # the check can fail
    assert independent(first, second)  # modules
    assert independent(first[0], first[1])  # examples
    assert independent(first[:, 1:], first[:, :-1])  # positions
    assert independent(first[..., 1:], first[..., :-1])  # features
    name = next(iter(masks))
    for other in (
        token_masks(adapted, 1),
        token_masks(adapted, seed=1),
        token_masks(adapted, round_=1),
    ):
        assert independent(first, other[name])
    assert torch.equal(first, token_masks(adapted)[name])


def masks_of(adapted: Any, rows: list[TokenRow], *, packed: bool) -> list[Tensor]:
    """Return one module's boolean (T, F) mask of each row, laid out as said."""
    passes = passes_of(adapted, "token")
    batch = lay_out(rows, packed=packed, pad_id=0, device=torch.device("cpu"))
    with passes.installed():
        passes.select_pass(1)
        passes.set_batch(batch)
        _, layer = next(adapter.layers(adapted))
        kept = layer.lora_dropout["default"](torch.ones(*batch.ids.shape, FEATURES)) > 0
    lengths = [max(1, len(row) - bool(row.continuation)) for row in rows]
    if packed:
        return list(kept[0].split(lengths))
    return [one[:length] for one, length in zip(kept, lengths, strict=True)]


def test_token_masks_hang_on_the_row_up_to_there_alone(adapted: Any) -> None:
    """Whatever its index, its place in a batch, its neighbours, the layout, and what follows."""
    row, other = TokenRow(3, (1, 5, 7, 6), (9, 8, 4)), TokenRow(8, (1, 5, 4, 6, 2, 2, 3), (9,))
    [alone] = masks_of(adapted, [row], packed=False)
    for packed in (True, False):
        _, again, third, twice = masks_of(
            adapted,
            [other, replace(row, index=77), replace(row, continuation=(9, 9, 5, 5)), row],
            packed=packed,
        )
        assert torch.equal(again, alone) and torch.equal(twice, alone)
        assert torch.equal(third[:5], alone[:5])
        assert independent(third[5:], alone[5:6].expand_as(third[5:]))
    [far] = masks_of(adapted, [other], packed=False)
    assert torch.equal(far[:2], alone[:2])
    assert independent(far[2:6], alone[2:])  # a token that differs changes all masks behind it


@pytest.mark.parametrize("packed", [True, False])
def test_no_two_beginnings_have_one_mask(adapted: Any, packed: bool) -> None:
    stream = torch.Generator().manual_seed(0)
    rows = [TokenRow(0, tuple(torch.randint(1, 9, (9,), generator=stream).tolist()))]
    rows += [TokenRow(0, rows[0].prompt[:i] + rows[0].prompt[i:][::-1]) for i in range(8)]
    masks: dict[bytes, tuple[int, ...]] = {}
    for row, mask in zip(rows, masks_of(adapted, rows, packed=packed), strict=True):
        for i, one in enumerate(mask):
            begins = row.prompt[: i + 1]
            assert masks.setdefault(one.numpy().tobytes(), begins) == begins
    assert len(masks) == len(set(masks.values())) > 30


def test_a_forward_pass_that_was_not_announced_is_a_fault(
    model: LanguageModel, adapted: nn.Module
) -> None:
    with passes_of(adapted, "token").installed() as passes:
        with pytest.raises(RuntimeError, match="aimed at None"):
            model.hidden(torch.tensor([[1, 2, 3]]))
        passes.select_pass(0)
        passes.set_batch(batch_of(0, tokens=4))
        with pytest.raises(RuntimeError, match=r"aimed at \(1, 4\)"):
            model.hidden(torch.tensor([[1, 2, 3]]))


def test_check_spread(adapted: Any) -> None:
    passes = passes_of(adapted, "consistent")
    passes.check_spread(np.zeros((0, 3)))
    passes.check_spread(np.ones((4, 1)))
    passes.check_spread(np.array([[1.0, 1.0], [1.0, 2.0]]))
    with pytest.raises(InputError, match="all 2"):
        passes.check_spread(np.array([[1.0, 1.0], [2.0, 2.0]]))

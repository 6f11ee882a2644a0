"""Embeddings of prompts against a loop over single rows, in any batch, of either view."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from star.data.fewshot import joined
from star.data.task import Example, Shot
from star.errors import InputError
from star.models import adapter
from star.models.batching import Batching
from star.models.embedding import Encoder, embed, side_by_side
from star.models.encoding import TokenRow
from star.models.language_model import LanguageModel
from star.models.stored_rows import Rows
from star.models.traits import Traits

PROMPTS = [replace(row, continuation=()) for row in tiny.random_rows(11, seed=4, longest=14)]


@torch.no_grad()
def naive(model: LanguageModel) -> np.ndarray:
    return np.stack(
        [
            model.causal.model(input_ids=torch.tensor([row.prompt])).last_hidden_state[0].mean(0)
            for row in PROMPTS
        ]
    )


@pytest.mark.parametrize("packable", [True, False])
@pytest.mark.parametrize("rows, tokens", [(1, 4096), (4, 4096), (64, 4096), (64, 20)])
def test_no_batch_changes_an_embedding(
    model: LanguageModel, rows: int, tokens: int, packable: bool
) -> None:
    model = replace(model, batching=Batching(rows=rows, tokens=tokens), packable=packable)
    vectors = embed(model, PROMPTS)
    assert vectors.dtype == np.float32 and vectors.shape == (11, 32)
    np.testing.assert_allclose(vectors, naive(model), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(embed(model, Rows(PROMPTS)), vectors)


@pytest.mark.parametrize("packable", [True, False])
@pytest.mark.parametrize("rows", [1, 4, 64])
def test_the_state_of_the_last_token(model: LanguageModel, rows: int, packable: bool) -> None:
    model = replace(model, batching=Batching(rows=rows, tokens=4096), packable=packable)
    with torch.no_grad():
        last = np.stack(
            [
                model.causal.model(input_ids=torch.tensor([row.prompt])).last_hidden_state[0, -1]
                for row in PROMPTS
            ]
        )
    np.testing.assert_allclose(embed(model, PROMPTS, pooling="last"), last, rtol=1e-4, atol=1e-5)
    with tiny.learned(model):  # the vocabulary's head takes it, bit by bit
        head = embed(model, PROMPTS, pooling="head")
        np.testing.assert_array_equal(head, embed(model, PROMPTS, pooling="last"))
    both = embed(model, PROMPTS, pooling="mean_last")
    expected = np.concatenate([naive(model), last], axis=1)
    np.testing.assert_allclose(both, expected, rtol=1e-4, atol=1e-5)


def test_halves_count_alike_whatever_their_size_and_their_common_part() -> None:
    random = np.random.default_rng(0)
    mean, last = random.normal(size=(2, 9, 5))
    scaled = side_by_side(np.concatenate([mean, last], axis=1).astype(np.float32))
    other = side_by_side(np.concatenate([mean + 100, 50 * last - 7], axis=1).astype(np.float32))
    np.testing.assert_allclose(other, scaled, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(scaled[:, :5], axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(scaled[:, 5:], axis=1), 1, rtol=1e-6)
    assert not side_by_side(np.ones((3, 4), np.float32)).any()  # all alike: no direction


def test_the_view_that_is_on(model: LanguageModel) -> None:
    base = embed(model, PROMPTS)
    with tiny.learned(model) as adapted:
        full = embed(model, PROMPTS)
        np.testing.assert_allclose(full, naive(model), rtol=1e-4, atol=1e-5)
        with adapter.base_model(adapted):
            np.testing.assert_allclose(embed(model, PROMPTS), base, rtol=1e-5, atol=1e-6)
    assert np.abs(full - base).max() > 0.1


def test_a_prompt_as_long_as_the_model_s_positions_or_window(model: LanguageModel) -> None:
    long = [TokenRow(7, (1, *[5, 9, 11] * 85)), *PROMPTS]
    assert len(long[0]) == model.max_length
    alone = embed(model, long)
    np.testing.assert_allclose(alone[1:], embed(model, PROMPTS), rtol=1e-4, atol=1e-5)
    cut = replace(model, traits=Traits(window=len(PROMPTS[0])))
    np.testing.assert_allclose(embed(cut, PROMPTS), alone[1:], rtol=1e-4, atol=1e-5)


def test_no_rows_and_what_is_not_finite(model: LanguageModel) -> None:
    assert len(embed(model, [])) == 0
    norm = model.causal.model.norm.weight
    kept = norm.data.clone()
    try:
        norm.data.fill_(float("nan"))
        with pytest.raises(InputError, match=r"embedding of row \d+ is not finite"):
            embed(model, PROMPTS)
    finally:
        norm.data.copy_(kept)


@pytest.mark.parametrize(
    "choices, shared",
    [
        ((" red", " blue"), ""),
        ((" the red pens", " the red eggs"), " the red"),
        ((" red", " red pens"), " red"),
        (None, ""),
    ],
)
@pytest.mark.parametrize("count", [0, 2])
def test_the_last_layer_s_input_is_where_choices_part_behind_the_shots(
    model: LanguageModel, choices: tuple[str, ...] | None, shared: str, count: int
) -> None:
    """There the gradient of −log p in the vocabulary's head is (p − onehot) ⊗ h."""
    shots = tuple(Shot(90 + i, f"how many pens ? {i}", " the red pens") for i in range(count))
    examples = {
        i: Example(i, f"what is {i} plus {i % 3} ?" + " so" * (i % 4), choices, shots=shots)
        for i in range(7)
    }
    index = np.array([5, 2, 6])
    texts = [joined(shots, examples[i].prompt) + shared for i in index.tolist()]
    with tiny.learned(model) as adapted:
        made = Encoder(model, adapted, examples, pooling="mean")("head", index)
        tokens = [torch.tensor([model.tokenizer(text)["input_ids"]]) for text in texts]
        with torch.no_grad():
            states = [model.causal.model(input_ids=row).last_hidden_state[0, -1] for row in tokens]
    np.testing.assert_allclose(made, np.stack(states), rtol=1e-4, atol=1e-5)

"""Greedy answers against a loop without batches, cache or padding."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch

from star.models.batching import Batching
from star.models.generation import generate, text_of
from star.models.language_model import LanguageModel

PROMPTS = [(1, *row.prompt) for row in tiny.random_rows(12, seed=3)]


@torch.no_grad()
def naive(model: LanguageModel, prompt: tuple[int, ...], limit: int) -> tuple[int, ...]:
    made: list[int] = []
    while len(made) < limit and not (made and made[-1] in model.stop_ids):
        logits = model.causal(input_ids=torch.tensor([[*prompt, *made]]), use_cache=False).logits
        made.append(int(logits[0, -1].argmax()))
    return tuple(made)


@pytest.mark.parametrize("batch_size", [1, 5, 12])
def test_equals_a_naive_loop(model: LanguageModel, batch_size: int) -> None:
    expected = [naive(model, prompt, 8) for prompt in PROMPTS]
    # Both ends are met, or the test would not see the one it misses.
    assert any(e[-1] in model.stop_ids for e in expected)
    assert any(len(e) == 8 and e[-1] not in model.stop_ids for e in expected)
    model = replace(model, batching=Batching(batch_size))
    assert generate(model, PROMPTS, max_new_tokens=8) == expected


def test_the_adapter_in_view_answers(model: LanguageModel) -> None:
    before = generate(model, PROMPTS, max_new_tokens=4)
    with tiny.learned(model):
        found = generate(model, PROMPTS, max_new_tokens=4)
        assert found == [naive(model, prompt, 4) for prompt in PROMPTS]
    assert found != before
    assert generate(model, PROMPTS, max_new_tokens=4) == before


def test_advice_in_the_models_folder_changes_nothing(
    model: LanguageModel, tiny_llama: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "advised"
    shutil.copytree(tiny_llama, folder)
    path = folder / "generation_config.json"
    advice = {"do_sample": True, "temperature": 0.5, "repetition_penalty": 5.0, "min_length": 30}
    path.write_text(json.dumps({**json.loads(path.read_text()), **advice}))
    advised = tiny.load(folder)
    assert advised.stop_ids == model.stop_ids
    expected = generate(model, PROMPTS, max_new_tokens=8)
    assert generate(advised, PROMPTS, max_new_tokens=8) == expected


def test_every_stop_token_ends_an_answer(model: LanguageModel) -> None:
    plain = generate(model, PROMPTS, max_new_tokens=6)
    usual, more = model.stop_ids, next(p[1] for p in plain if p[1] not in model.stop_ids)
    try:
        model.stop_ids = usual | {more}
        found = generate(model, PROMPTS, max_new_tokens=6)
        assert found == [naive(model, prompt, 6) for prompt in PROMPTS] and found != plain
    finally:
        model.stop_ids = usual


def test_text_leaves_the_stop_token_out(model: LanguageModel) -> None:
    ids = model.tokenizer("the answer")["input_ids"]
    assert text_of(model, [*ids, model.tokenizer.eos_token_id]) == "the answer"
    assert text_of(model, ids) == "the answer"
    assert text_of(model, []) == ""


def test_nothing_to_do(model: LanguageModel) -> None:
    assert generate(model, [], max_new_tokens=3) == []

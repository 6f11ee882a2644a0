"""Rows laid end to end against each row alone, for the architectures people fine-tune."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import transformers

from star.models import likelihood, merging, packing
from star.models.batching import lay_out
from star.models.encoding import TokenRow
from star.models.generation import generate, generate_scored
from star.models.language_model import LanguageModel

ROWS = sorted(tiny.random_rows(7, seed=5), key=len, reverse=True)
KINDS: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Qwen2": {},
    "Qwen3": {"head_dim": 8},
    "Gemma": {"head_dim": 8},
    "Granite": {},
    "Mistral": {"sliding_window": None},
}


def load(kind: str, more: dict[str, Any], tiny_llama: Path, folder: Path) -> LanguageModel:
    """Return a tiny random model of the kind, with the tokenizer of the tiny LLaMA."""
    shutil.copytree(tiny_llama, folder)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=58, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
        initializer_range=0.4, pad_token_id=0, bos_token_id=1, eos_token_id=2, **more,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        getattr(transformers, f"{kind}ForCausalLM")(config).save_pretrained(folder)
    return tiny.load(folder)


@torch.inference_mode()
@pytest.mark.parametrize("kind", KINDS)
def test_packed_rows_do_not_see_each_other(kind: str, tiny_llama: Path, tmp_path: Path) -> None:
    model = load(kind, KINDS[kind], tiny_llama, tmp_path / "model")
    assert model.packable
    before = model.causal.config._attn_implementation
    together = model.predict(model.lay_out(ROWS))
    alone = [
        model.predict(lay_out([row], packed=False, pad_id=0, device=model.device)) for row in ROWS
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)
    assert model.causal.config._attn_implementation == before
    # Another neighbour, the same states; and the neighbour's own are not the same.
    other = [*ROWS[:-1], TokenRow(1, (1, 5, 6), (7,))]
    changed = model.predict(model.lay_out(other))
    kept = sum(len(row.continuation) for row in ROWS[:-1])
    torch.testing.assert_close(changed[:kept], together[:kept], rtol=1e-4, atol=1e-4)
    prompts = [row.prompt for row in ROWS]
    answers = generate(model, prompts, max_new_tokens=8)
    model.packable = False
    assert generate(model, prompts, max_new_tokens=8) == answers


def test_rows_that_a_window_cuts_are_padded(tiny_llama: Path, tmp_path: Path) -> None:
    model = load("Mistral", {"sliding_window": 10}, tiny_llama, tmp_path / "model")
    laid = {bool(model.lay_out([row]).runs) for row in ROWS}
    assert laid == {True, False} and not model.lay_out(ROWS).runs
    found = likelihood.nll(model, ROWS)[:, 0]
    logs = [tiny.naive_log_probs(model, row) for row in ROWS]
    expected = [
        -float(log[range(len(log)), row.continuation].sum())
        for row, log in zip(ROWS, logs, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    tokens, log_probs = generate_scored(model, [r.prompt for r in ROWS], max_new_tokens=2)
    made = [TokenRow(0, r.prompt, t) for r, t in zip(ROWS, tokens, strict=True)]
    nll = likelihood.nll(model, made)[:, 0]
    np.testing.assert_allclose(log_probs, -nll, rtol=1e-5)


def test_a_model_that_hands_nothing_down_is_padded(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = LanguageModel.hidden
    monkeypatch.setattr(
        LanguageModel, "hidden", lambda self, ids, star_rows=None, **more: plain(self, ids, **more)
    )
    assert not tiny.load(tiny_llama).packable


@torch.inference_mode()
def test_a_cache_goes_on_where_the_rows_were_and_lets_rows_leave(tiny_llama: Path) -> None:
    model = tiny.load(tiny_llama)
    prompts = [TokenRow(i, row.prompt, (0,)) for i, row in enumerate(ROWS)]
    cache = packing.Cache(model.lay_out(prompts), 40)
    model.predict(model.lay_out(prompts), cache)
    cache.advance()
    texts = [list(row.prompt) for row in ROWS]
    going = list(range(len(ROWS)))
    stream = torch.Generator().manual_seed(0)
    for step, leaving in enumerate(([], [0, 6], [3], [], [1, 2])):
        rows = cache.keep([place for place, text in enumerate(going) if text not in leaving])
        going = [going[row] for row in rows]
        assert sorted(going) == sorted(set(going)) and not set(leaving) & set(going)
        new = torch.randint(4, 58, (len(going),), generator=stream)
        for text, token in zip(going, new.tolist(), strict=True):
            texts[text].append(token)
        hidden = model.step(new, cache)
        cache.advance()
        for place, text in enumerate(going):
            alone = model.hidden(torch.tensor([texts[text]]))[0, -1]
            torch.testing.assert_close(hidden[place], alone, rtol=1e-4, atol=1e-4)
        assert cache.lengths.tolist() == [len(texts[text]) for text in going], step


def test_likelihoods_come_with_the_answers(tiny_llama: Path) -> None:
    model = tiny.load(tiny_llama)
    prompts = [row.prompt for row in ROWS]
    for adapted in (False, True):
        with tiny.learned(model) if adapted else merging.merged(model.causal):
            options: dict[str, Any] = {"max_new_tokens": 6}
            tokens, log_probs = generate_scored(model, prompts, **options)
            rows = [TokenRow(0, p, t) for p, t in zip(prompts, tokens, strict=True)]
            nll = likelihood.nll(model, rows)[:, 0]
        np.testing.assert_allclose(log_probs, -nll, rtol=1e-5, atol=1e-5)

"""`evaluation.max_batch_tokens` bounds every forward pass but training's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import architectures
import pytest
import runs
import tiny
import torch

from star.models import loading as models
from star.models.batching import Batching
from star.models.generation import generate_scored
from star.models.language_model import LanguageModel
from star.models.score_texts import score_texts

MOST = 40  # more than the longest row with its answer, less than two of them


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collect the tokens, padding included, of each forward pass without a gradient."""
    seen: list[int] = []
    load = models.load

    def watched(*arguments: Any, **options: Any) -> LanguageModel:
        model = load(*arguments, **options)

        def record(_: Any, inputs: tuple[torch.Tensor, ...], __: Any) -> None:
            if not torch.is_grad_enabled():
                seen.append(inputs[0].numel())

        model.causal.get_input_embeddings().register_forward_hook(record)
        return model

    monkeypatch.setattr(models, "load", watched)
    return seen


@pytest.mark.parametrize("most", [MOST, 4096])
@pytest.mark.parametrize(
    "words",
    [
        ("acquisition.continuation=base", "train.keep=best"),
        ("acquisition.continuation=model", "evaluation.views=[base,full,mc]"),
        (*runs.CHOICES, "evaluation.choice_by=generation"),
        (*runs.CHOICES, "evaluation.choice_by=likelihood"),
    ],
    ids=lambda words: words[-1].rpartition("=")[2],
)
def test_a_run(
    words: tuple[str, ...], most: int, sizes: list[int], tiny_llama: Path, tmp_path: Path
) -> None:
    data = runs.write_data(tmp_path / "data", pool=24, choices="choices" in " ".join(words))
    limits = (f"evaluation.max_batch_tokens={most}", f"tracking.cache_dir={tmp_path / 'cache'}")
    settings = ("pool.rounds=2", "task.validation_size=6", *limits, *words)
    runs.go(tiny_llama, data, tmp_path / "out", *settings)
    assert (max(sizes) > MOST) is (most > MOST)  # they would be larger


@pytest.mark.parametrize("name", ["mamba", "gpt_oss", "mistral"])
def test_answers_of_models_that_are_padded(name: str, sizes: list[int], tmp_path: Path) -> None:
    folder = architectures.make(name, tmp_path / name)
    prompts = [{"prompt": "Ann has 3 pens and " * (1 + i % 2)} for i in range(6)]
    options: dict[str, Any] = {"device": "cpu", "max_new_tokens": 4}
    expected = score_texts(str(folder), prompts, **options)
    assert max(sizes) > MOST
    sizes.clear()
    assert score_texts(str(folder), prompts, batch_tokens=MOST, **options) == [
        row | {key: pytest.approx(row[key], rel=1e-5) for key in ("nll", "entropy", "perplexity")}
        for row in expected
    ]
    assert max(sizes) <= MOST


def test_prompts_in_parts_have_the_answers_they_have_at_once(
    sizes: list[int], tiny_llama: Path
) -> None:
    model = tiny.load(tiny_llama)
    prompts = [row.prompt for row in tiny.random_rows(12, seed=3)]
    options: dict[str, Any] = {"max_new_tokens": 8}
    model.batching = Batching(12)
    tokens, log_probs = generate_scored(model, prompts, **options)
    assert max(sizes) > 20
    for most in (20, 5):
        sizes.clear()
        model.batching = Batching(12, most)
        again, likelihoods = generate_scored(model, prompts, **options)
        assert again == tokens and likelihoods == pytest.approx(log_probs, rel=1e-5)
        assert max(sizes) <= max(most, *map(len, prompts))

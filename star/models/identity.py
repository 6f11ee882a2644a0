"""What things are, by content and not by name: the hashes that caches and resumed runs go by.

A model is the files that decide its scores, or a commit of a Hub repository (``weights`` finds it);
its numbers are decided by what computes them, too: dtype, device, kernels, libraries. An identity
is never unknown: where it cannot be had, ``InputError`` says so.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from star.cache import digest
from star.config import ModelConfig
from star.errors import InputError
from star.files import atomic_write
from star.provenance import installed

logger = logging.getLogger(__name__)

# A new version may round otherwise, or cut words otherwise. None stands for "not installed".
LIBRARIES = ("torch", "transformers", "tokenizers", "bitsandbytes", "flash-attn")
# Words, pictures, code that is never run, weights that are never read. Anything else may decide.
IDLE = {".md", ".rst", ".html", ".pdf", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".log", ".py"}
IDLE |= {".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".ot", ".onnx", ".tflite", ".gguf"}
IDLE_NAMES = {"LICENSE", "LICENCE", "NOTICE", "COPYING", "README"}
LARGE = 2**26  # bytes; to hash so much takes longer than to look the hash up
SETTLED = 2.0  # seconds after which a file's time stamps would show a change


def computation(
    config: ModelConfig, *, device: str, packed: bool, varlen: bool = False
) -> dict[str, Any]:
    """Return what decides a model's numbers beside its content.

    Args:
        config: ``model``, as it was loaded.
        device: ``cpu``, ``mps``, or ``cuda`` with the GPU's name.
        packed: Whether rows are laid end to end, else padded.
        varlen: Whether one kernel attends to them then.
    """
    rows = "packed" if packed else "padded"
    return {
        "dtype": config.dtype,
        "quantization": _scheme(config),
        "device": device,
        "attention": config.attn_implementation,
        "rows": f"{rows}, varlen_attn" if varlen else rows,
        "torch_compile": config.torch_compile,
        "libraries": {name: installed(name) for name in LIBRARIES},
    }


def _scheme(config: ModelConfig) -> str:
    """Return how weights are quantised; "nf4" alone stood for bitsandbytes' layout of its own."""
    if config.quantization == "none":
        return config.quantization
    return f"{config.quantization}, {'double' if config.double_quantization else 'single'}"


def hash_folder(folder: Path, kept: Path | None = None) -> str:
    """Return one SHA-256 (hex) of all files of a model's folder that may decide its scores.

    Args:
        folder: With weights, configuration and tokenizer; links are followed.
        kept: As for :func:`hash_file`.

    Raises:
        InputError: A file cannot be read, or there is none.
    """
    total, paths = hashlib.sha256(), sorted(_deciding(folder))
    if not paths:
        raise InputError(f"{folder} holds no model: no weights, config.json or tokenizer")
    for path in paths:
        name = Path(os.path.relpath(path, folder)).as_posix()
        total.update(f"{name}:{hash_file(path, kept)}\n".encode())
    return total.hexdigest()


def _deciding(folder: Path) -> Iterator[Path]:
    """Yield the files that ``from_pretrained`` may read: weights, settings, tokenizers."""
    shards: set[Path] = set()
    for path in folder.iterdir():
        hidden = path.name.startswith(".")
        if path.is_dir():  # of folders inside, that one alone is read
            if path.name == "additional_chat_templates":
                yield from (file for file in path.iterdir() if file.is_file())
        elif not (hidden or path.suffix in IDLE or path.name in IDLE_NAMES):
            yield path
            if path.name.endswith(".safetensors.index.json"):
                shards |= _shards(path)
    yield from (shard for shard in shards if shard.parent != folder)


def _shards(index: Path) -> set[Path]:
    """Return the files that an index of weights names; the loader says it if it is damaged."""
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return {index.parent / name for name in names if (index.parent / name).is_file()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()


def hash_file(path: Path, kept: Path | None = None) -> str:
    """Return the SHA-256 (hex) of a file's bytes; a file that has not changed is read once.

    Args:
        path: The file.
        kept: A folder for the hashes of large files, so that the processes and runs after this one
            need not read them again. A hash is found by the file's place, inode, size, and times of
            change, as git does; a file that was changed just now, whose times could stay the same
            through another change, is not kept.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        path = path.resolve(strict=True)
        stamp = _stamp(path)
        if stamp[2] < LARGE:
            return read_through(path)
        return _hash_large(path, stamp, kept)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def _stamp(path: Path) -> tuple[int, ...]:
    """Return what changes with a file's content. The time ``ctime`` no program can set back."""
    at = path.stat()
    return at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns


@functools.lru_cache(maxsize=1024)
def _hash_large(path: Path, stamp: tuple[int, ...], kept: Path | None) -> str:
    place = None if kept is None else kept / digest([str(path), stamp])[:32]
    if place is not None and place.is_file():
        stored, _, check = place.read_text(encoding="ascii", errors="replace").partition(" ")
        if check == digest(stored):
            return stored
    found = read_through(path)
    if _stamp(path) != stamp:
        raise InputError(f"{path} is being written; start again when it is complete")
    if place is not None and time.time() - max(stamp[3:]) / 1e9 > SETTLED:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(place) as file:
                file.write(f"{found} {digest(found)}".encode())
        except OSError as error:  # it costs time alone
            logger.debug("the hash of %s is not kept: %s", path, error.strerror)
    return found


def read_through(path: Path) -> str:
    """Return the SHA-256 (hex) of a file, read from its first byte to its last."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

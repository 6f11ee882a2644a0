"""Keys whose values are names, and become part of a path or an address: they cannot lead away."""

from __future__ import annotations

from star.config.schema import Config
from star.errors import InputError
from star.names import device, inside, plain


def check_names(config: Config) -> None:
    """Raise ``InputError`` for a name that is a path to somewhere else.

    Where a run's folder is, ``star.active_learning.run_names`` says; where a model is, its address.
    """
    split = config.task.test_split
    if not plain(split):
        raise InputError(
            f"task.test_split must be the name of a split, not a path, got {split!r}; "
            "task.data_dir is the folder"
        )
    for key, revision in (
        ("model.revision", config.model.revision),
        ("task.revision", config.task.revision),
    ):
        if revision is not None and not inside(revision):
            raise InputError(f"{key} must be a branch, tag or commit, got {revision!r}")
    for key, name in (
        ("run_name", config.run_name),
        ("acquisition.name", config.acquisition.name),
        ("task.test_split", split),
    ):
        part = None if name is None else device(name)
        if part is not None:
            raise InputError(
                f"{key} must be a name that every system takes, got {name!r}: {part} is a device "
                "on Windows"
            )

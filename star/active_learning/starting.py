"""What can be said of a run before torch is loaded: that it has finished, or that it cannot start.

Libraries take seconds to load, longer than most mistakes take to be seen.
"""

from __future__ import annotations

import logging
from pathlib import Path

from star.acquisition.user_function import fingerprint
from star.active_learning import contents
from star.active_learning.run_folder import RunFolder
from star.active_learning.run_names import folder_of
from star.active_learning.run_reader import RunReader
from star.config import Config, own_strategy
from star.data import loading as tasks
from star.models import sources

logger = logging.getLogger(__name__)


def finished(config: Config) -> Path | None:
    """Return the run's folder if it has finished; ``None``: there is work to do.

    Raises:
        InputError: It was made of another configuration, or on another content of its names.
    """
    if not RunReader(folder_of(config)).finished:
        return None
    with RunFolder.open(config) as folder:
        return nothing_to_do(folder, config)


def nothing_to_do(folder: RunFolder, config: Config) -> Path:
    """Return the path of a finished run's folder, and say that it is one.

    Raises:
        InputError: It was made on another content of the configuration's names, for which its
            numbers do not answer.
    """
    if folder.write:
        contents.refuse_other(folder.path, contents.Contents().of(config))
    logger.info("%s is finished already; nothing to do", folder.path)
    return folder.path


def rows(config: Config) -> tasks.TaskData:
    """Return the task's rows, once it is known that what else the configuration names is there.

    Raises:
        InputError: The user's own strategy, the rows or a local model cannot be had.
    """
    fingerprint(own_strategy(config.acquisition))
    data = tasks.load(config.task, seed=config.seed)
    data.require(config.pool.initial_size + config.task.validation_size, len(data.pool))
    name = config.model.name_or_path
    # The Hub is asked once, when the model is loaded; so is a package, whose file is converted.
    if name.startswith((".", "/", "~", "embedded://")) and not name.endswith(".gguf"):
        sources.resolve(config.model, sources.cache_root(config.tracking.cache_dir))
    return data


def dry_run(config: Config) -> str:
    """Return in a line what the strategy gives for made-up components; loads no rows, no model.

    Raises:
        InputError: It cannot be had, failed, or returned what is neither scores nor a batch.
    """
    from star.acquisition.trial import trial  # late: it brings torch

    fingerprint(own_strategy(config.acquisition))
    return trial(config, labels=len(tasks.TASKS[config.task.name](config.task).labels or ()))

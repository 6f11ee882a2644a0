"""A run's model as a folder that plain transformers, or PEFT, opens elsewhere.

Beside the weights lies ``star.json``, which says how a question becomes tokens and logits become an
answer, and a model card with the lines that do it. Nothing in the folder names a place on the
machine that it was made on.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from star.active_learning.export_settings import BASE, settings
from star.active_learning.model_card import card
from star.active_learning.trained_run import TrainedRun
from star.data.task import Task
from star.errors import InputError, one_line
from star.files import beside, kind_of, read_json, write_json, writing
from star.models import adapter, classifier, saved_adapter
from star.models.batching import Batching
from star.models.classifier import Classifier
from star.models.language_model import LanguageModel
from star.outputs import refuse_inside_run

HUB = "hub:"
SETTINGS, CARD = "star.json", "README.md"


def export(run: str | Path, place: str, *, merge: bool, round_: int | None = None) -> str:
    """Write a run's model where other programs can open it, and return where that is.

    Args:
        run: A run folder.
        place: A folder that does not exist or is empty; or ``hub:OWNER/NAME``, a repository that
            is made there, private.
        merge: The base model with the adapter in its weights; else the adapter alone, with the base
            beside it where the Hub does not have it.
        round_: Whose adapter; ``None``: that of the last round that has kept it.

    Raises:
        InputError: Nothing can be written there; no adapter; weights that cannot be merged.
    """
    owned = place.removeprefix(HUB) if place.startswith(HUB) else None
    token = _token(owned) if owned is not None else None
    if owned is None:
        _refuse_taken(Path(place))
    trained = TrainedRun.of(run, round_)
    if merge and trained.config.model.quantization != "none":
        raise InputError(
            f"--merge: the base has {trained.config.model.quantization} weights, which cannot be "
            "added to without rounding anew; give --adapter"
        )
    if owned is not None:
        with tempfile.TemporaryDirectory() as scratch:
            _write(trained, Path(scratch) / "model", merge)
            return _upload(Path(scratch) / "model", owned, token)
    with writing(place, "name another folder"), beside(Path(place)) as made:
        _write(trained, made, merge)
    return place


def _refuse_taken(place: Path) -> None:
    refuse_inside_run(place)
    kind = kind_of(place)
    if kind is not None and not place.is_dir():
        raise InputError(f"cannot write {place}: it is {kind}; name a folder")
    if kind is not None and any(place.iterdir()):
        raise InputError(f"cannot write {place}: the folder is not empty; name another")


def _write(trained: TrainedRun, folder: Path, merge: bool) -> None:
    """Write weights, tokenizer, settings and card into a folder that is made."""
    folder.mkdir(parents=True)
    config, task = trained.config, trained.task
    words = tuple(map(task.target, task.labels or ()))
    model = classifier.model_of(config, words, Batching.of(config))
    described = settings(trained, model, merge)
    _name_classes(model, task)
    if merge:
        with saved_adapter.load(model, trained.adapter) as adapted:
            _refuse_tied(model)
            whole = adapted.merge_and_unload(safe_merge=True)
            _save(whole, described, folder)
    else:
        _copy_adapter(trained, folder, described["base"])
        if described["base"]["model"] == BASE:
            full = replace(config, model=replace(config.model, quantization="none"))
            if full != config:
                model = classifier.model_of(full, words, Batching.of(config))
                _name_classes(model, task)
            _save(model.causal, described, folder / BASE)
            model.tokenizer.save_pretrained(folder / BASE)
    model.tokenizer.save_pretrained(folder)
    _forget_places(folder)
    write_json(folder / SETTINGS, described)
    (folder / CARD).write_text(card(trained, model.info, described), encoding="utf-8")


def _name_classes(model: LanguageModel, task: Task) -> None:
    if isinstance(model, Classifier):
        names = dict(enumerate(task.labels or ()))
        settings: Any = model.causal.config
        settings.id2label, settings.label2id = names, {name: i for i, name in names.items()}
        settings.problem_type = "single_label_classification"


def _refuse_tied(model: LanguageModel) -> None:
    """Refuse to merge into weights that another module has, too: it would be changed as well."""
    owners: dict[int, int] = {}
    for module in model.causal.modules():
        for weight in module.parameters(recurse=False):
            owners[weight.data_ptr()] = owners.get(weight.data_ptr(), 0) + 1
    for name, layer in adapter.layers(model.causal):
        if owners[layer.base_layer.weight.data_ptr()] > 1:
            raise InputError(
                f"--merge: the weights of {name} are those of another module, too, which would "
                "change with it; give --adapter"
            )


def _save(module: Any, described: dict[str, Any], folder: Path) -> None:
    if described["kind"] != "head":
        # As the run generates: the plain greedy answer.
        module.generation_config = GenerationConfig(
            do_sample=False,
            max_new_tokens=described["max_new_tokens"],
            eos_token_id=described["stop"] or None,
        )
    module.save_pretrained(folder)


def _copy_adapter(trained: TrainedRun, folder: Path, base: dict[str, str | None]) -> None:
    source = trained.adapter
    shutil.copyfile(source / "adapter_model.safetensors", folder / "adapter_model.safetensors")
    content = read_json(source / "adapter_config.json")
    content |= {"base_model_name_or_path": base["model"], "revision": base["revision"]}
    write_json(folder / "adapter_config.json", content)


def _forget_places(folder: Path) -> None:
    """Take out what transformers notes of where a model lay."""
    for path in folder.rglob("*.json"):
        if path.name in ("config.json", "tokenizer_config.json"):
            content = json.loads(path.read_text(encoding="utf-8"))
            for name in ("_name_or_path", "name_or_path", "local_files_only", "is_local"):
                content.pop(name, None)
            write_json(path, content)


def _token(name: str) -> str:
    """Return the Hub's token.

    Raises:
        InputError: There is none, or the name is none of a repository.
    """
    from huggingface_hub import get_token

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise InputError(f"--to {HUB}{name}: a repository is called OWNER/NAME")
    token = get_token()
    if token is None:
        raise InputError(
            f"--to {HUB}{name} needs a token that may write there: run `hf auth login`, or set "
            "HF_TOKEN"
        )
    return token


def _upload(folder: Path, name: str, token: str | None) -> str:
    """Make a private repository of a folder's files, and return its address."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(token=token)
    calls: tuple[Callable[[], Any], ...] = (
        lambda: api.create_repo(name, private=True),
        lambda: api.upload_folder(repo_id=name, folder_path=folder, commit_message="Export"),
    )
    try:
        for call in calls:
            call()
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise InputError(f"cannot write to {HUB}{name}: {one_line(error)}") from error
    return f"https://huggingface.co/{name}"

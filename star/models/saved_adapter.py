"""An adapter from a folder of PEFT's, refused unless it is LoRA and fits weight by weight."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import (
    LoraConfig,
    PeftModel,
    PeftModelForCausalLM,
    PeftModelForSequenceClassification,
    get_peft_model_state_dict,
)
from safetensors import SafetensorError, safe_open

from star.checksums import check_adapter
from star.errors import InputError, one_line
from star.files import refuse_torn_json
from star.models import adapter
from star.models.language_model import LanguageModel

# By the model's kind and not by the file's word, which other programs leave out.
KINDS = {"CAUSAL_LM": PeftModelForCausalLM, "SEQ_CLS": PeftModelForSequenceClassification}


@contextmanager
def load(model: LanguageModel, folder: str | Path) -> Iterator[PeftModel]:
    """Yield the model with a saved adapter (safetensors); on exit the base is as it was before.

    Raises:
        InputError: No LoRA adapter, or one that does not fit the model weight by weight.
    """
    folder = Path(folder)
    keys = _read(folder, model)
    try:
        with adapter.quietly():
            settings = LoraConfig.from_pretrained(str(folder))
            settings.inference_mode = True
            adapted = KINDS[model.task_type](model.causal, settings, adapter.NAME)
            loaded = adapted.load_adapter(str(folder), adapter.NAME, torch_device=str(model.device))
            # What PEFT would save of it, under the names that the file has.
            whole = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    except (*adapter.REFUSALS, SafetensorError) as error:
        adapter.remove(model)
        lacks = "it lacks " if isinstance(error, KeyError) else ""
        raise InputError(
            f"adapter {folder} does not fit the model: {lacks}{one_line(error)}"
        ) from error
    try:
        # PEFT warns of a weight that the file lacks, which keeps its random start, and says nothing
        # of others: one that it does not know, or the base model's own, which would be replaced.
        _refuse_misfit(
            folder,
            lacks=[*loaded.missing_keys, *(k for k in whole - keys if ".lora_" not in k)],
            alien=[*loaded.unexpected_keys, *(k for k in keys - whole if ".lora_" not in k)],
        )
        yield adapted.eval()
    finally:
        adapter.remove(model)


def _read(folder: Path, model: LanguageModel) -> set[str]:
    """Return the names of a saved adapter's weights, without copies of the base model's own.

    Raises:
        InputError: The folder holds no LoRA adapter, one that follows its input, or one that brings
            other weights for the base model, where PEFT would leave them.
    """
    weights, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    if not weights.is_file() and (folder / "adapter_model.bin").is_file():
        raise InputError(
            f"adapter {folder} has its weights in pickle alone (adapter_model.bin), which is not "
            "loaded; save them as adapter_model.safetensors"
        )
    for path in (weights, config):
        if not path.is_file():
            raise InputError(f"no {path.name} in {folder}; expected a PEFT adapter folder")
    check_adapter(folder)
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
        kind = content["peft_type"]
        with safe_open(weights, "pt") as file:
            keys = set(file.keys())
            whole = content.get("modules_to_save") or ()
            others = {
                key: file.get_tensor(key)
                for key in keys
                if ".lora_" not in key and not any(f".{name}." in key for name in whole)
            }
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        refuse_torn_json(folder)
        raise InputError(f"adapter {folder} cannot be read: {one_line(error)}") from error
    if kind != "LORA":
        raise InputError(f"adapter {folder} is of the kind {kind}; only LORA can be used here")
    if content.get("alora_invocation_tokens"):
        raise InputError(
            f"adapter {folder} is an activated LoRA, on behind certain tokens alone; only LoRA "
            "that is always on can be used here"
        )
    own = model.causal.state_dict()
    for key, weight in others.items():
        name = key.removeprefix("base_model.model.").replace(".base_layer.", ".")
        if name in own and not torch.equal(weight.to(own[name]), own[name]):
            raise InputError(
                f"adapter {folder} brings its own {name} in the place of the base model's; give "
                "the model it was trained on"
            )
        keys -= {key} if name in own else set()
    return keys


def _refuse_misfit(folder: Path, *, lacks: Sequence[str], alien: Sequence[str]) -> None:
    for what, names in (("lacks", lacks), ("has besides LoRA's own", alien)):
        if names:
            raise InputError(
                f"adapter {folder} does not fit the model: the file {what} {min(names)}"
                f"{f' and {len(names) - 1} more' if len(names) > 1 else ''}; give the model it was "
                "trained on"
            )

"""A tokenizer and a causal LM read from their files, whole: nothing missing, nothing made up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as ENCODERS
from transformers.utils import logging as transformers_logging

from star.config import ModelConfig
from star.errors import InputError, one_line
from star.files import refuse_torn_json
from star.models import distributed, quantization
from star.models.sources import hub_trouble, refuse_adapter
from star.models.weight_files import own_code, refuse_shards

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class NoSuchAttention(InputError):
    """The architecture does not run with ``model.attn_implementation``."""


def read(
    config: ModelConfig, where: str, options: dict[str, Any], *, body: bool = False, **head: Any
) -> tuple[Any, nn.Module, frozenset[str]]:
    """Return tokenizer and model of a folder or Hub id, with ``from_pretrained``'s options.

    Args:
        config: ``model``.
        where: The folder or Hub id.
        options: Of ``from_pretrained``.
        body: Read the body alone, of which a pooling layer may be missing in the files.
        head: Options of a classification head (``num_labels``, ...), which may be missing in the
            files; without any a causal LM is read, of which nothing may.

    Returns:
        Tokenizer, model, and the names of the parameters that the files do not have.

    Raises:
        InputError: What is there cannot be read, or is not all of this model.
    """
    refuse_adapter(config.name_or_path, where, options.get("revision"))
    refuse_shards(config.name_or_path, where, options)
    dtype = DTYPES[config.dtype]
    four_bit = quantization.options(config, dtype, device_of(config))
    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(where, **options)
            kind = AutoModelForSequenceClassification if head else AutoModelForCausalLM
            kind = AutoModel if body else kind
            told = AutoConfig.from_pretrained(where, **options)
            _refuse_kind(config, told, writes=kind is AutoModelForCausalLM)
            causal, report = kind.from_pretrained(
                where,
                dtype=dtype,
                use_safetensors=True,
                attn_implementation=config.attn_implementation,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # to name them below
                **four_bit,
                **options,
                **head,
            )
    except (InputError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # torn files and refused configurations raise all kinds
        refuse_torn_json(where)
        raise _explained(config, error) from error
    quantization.keep_as_stored(causal)
    _require_plain(config, causal)
    absent = frozenset()
    if body:
        absent = frozenset(k for k in report["missing_keys"] if ".pooler." in f".{k}")
        report = {**report, "missing_keys": {*report["missing_keys"]} - absent}
    if head:
        absent = _missing_head(causal, report)
        report = {**report, "missing_keys": {*report["missing_keys"]} - absent}
        report["mismatched_keys"] = [k for k in report["mismatched_keys"] if k[0] not in absent]
    _require_whole(config, causal, report)
    return tokenizer, causal, absent


def _refuse_kind(config: ModelConfig, told: Any, *, writes: bool) -> None:
    """Refuse an encoder-decoder, which reads a text in two parts, and an encoder that is to write.

    It sees what comes after a token: read as a causal LM it may still run.
    """
    if getattr(told, "is_encoder_decoder", False):
        raise InputError(
            f"model {config.name_or_path} is an encoder-decoder ({told.model_type}), which star "
            f"does not take; name a causal LM{'' if writes else ', or an encoder'}"
        )
    decodes = any(getattr(told, mark, False) for mark in ("is_decoder", "causal"))  # causal: XLM's
    if writes and told.model_type in ENCODERS and not decodes:
        raise InputError(
            f"model {config.name_or_path} is an encoder ({told.model_type}), which writes no text; "
            "name a causal LM, or classify by a head on it (task.classify_by=head)"
        )


def device_of(config: ModelConfig) -> torch.device:
    """Return ``model.device``; ``auto`` is the device Accelerate gives this process."""
    if config.device == "auto":
        return distributed.state().device
    try:
        device = torch.device(config.device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        what = str(error).splitlines()[0]
        raise InputError(f"model.device={config.device} cannot be used here: {what}") from None
    return device


def pad_of(tokenizer: Any, vocabulary: int, name: str) -> int:
    """Return a token id to fill batches with, one of the ``vocabulary`` that have embeddings.

    Raises:
        InputError: The end-of-sequence token, which is trained and scored, has none.
    """
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    if end is None:
        raise InputError(f"the tokenizer of {name} has no end-of-sequence token")
    if end >= vocabulary:
        raise InputError(
            f"the end-of-sequence token of {name} has id {end}, its embeddings end at "
            f"{vocabulary - 1}; take the tokenizer that belongs to the model"
        )
    return end if pad is None or pad >= vocabulary else pad


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' reports off the screen: what is wrong is said in one line."""
    transformers_logging.disable_progress_bar()
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(transformers_logging.CRITICAL)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def _require_plain(config: ModelConfig, causal: nn.Module) -> None:
    """Refuse a model that comes with more than its weights, or with coded ones."""
    name = config.name_or_path
    if any(isinstance(module, BaseTunerLayer) for module in causal.modules()):
        raise InputError(f"model {name} has an adapter on; merge it into the weights")
    if getattr(causal, "is_quantized", False) and config.quantization == "none":
        raise InputError(
            f"the weights of model {name} are stored quantised; give the model as it was before, "
            "with model.quantization=nf4 to have it quantised here"
        )


def _require_whole(config: ModelConfig, causal: nn.Module, report: dict[str, Any]) -> None:
    """Refuse weights that do not make up this model: transformers fills in random numbers."""
    name, told = config.name_or_path, "the weights' files do not fit its config.json"
    misfits = sorted(report["mismatched_keys"])
    if misfits:
        key, there, wanted = misfits[0]
        raise InputError(
            f"model {name}: {told}: {key} is {list(there)} in the files, {list(wanted)} in the "
            f"configuration{_and_more(misfits)}"
        )
    missing = sorted(report["missing_keys"])
    if missing:
        raise InputError(f"model {name}: {told}: no {missing[0]} there{_and_more(missing)}")
    # Vision towers and the like may be left over; layers like those that were read may not.
    patterns = {re.sub(r"\d+", "*", key) for key in causal.state_dict()}
    more = [k for k in sorted(report["unexpected_keys"]) if re.sub(r"\d+", "*", k) in patterns]
    if more:
        raise InputError(
            f"model {name}: {told}: {more[0]} is beyond the layers of the configuration"
            f"{_and_more(more)}"
        )
    if report["error_msgs"]:
        raise InputError(f"model {name}: {told}: {' '.join(report['error_msgs'])}")


def _missing_head(model: nn.Module, report: dict[str, Any]) -> frozenset[str]:
    """Return the parameters of the head, and of a pooling layer, that the files do not have."""
    body = f"{model.base_model_prefix}."
    keys = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    return frozenset(k for k in keys if not k.startswith(body) or ".pooler." in f".{k}")


def _and_more(keys: list[Any]) -> str:
    return f", and {len(keys) - 1} more like it" if len(keys) > 1 else ""


def _explained(config: ModelConfig, error: BaseException) -> InputError:
    """Return in one line what is wrong with a model that could not be loaded."""
    name = config.name_or_path
    text = str(error)
    trouble = own_code(name, error) or hub_trouble(name, error)
    if trouble is not None:
        return InputError(trouble)
    if "attention implementation" in text or "attn_implementation" in text:
        return NoSuchAttention(
            f"model {name} does not run with attn_implementation={config.attn_implementation} "
            "here; set model.attn_implementation=eager (star score: --attn eager)"
        )
    if type(error).__name__ == "SafetensorError":
        return InputError(f"model {name}: a safetensors file is damaged: {one_line(error)}")
    if "backend tokenizer" in text:
        return InputError(f"model {name} has no tokenizer that can be read: {one_line(error)}")
    if "safetensors" in text:
        return InputError(
            f"model {name} has no safetensors weights; pickled weights are not loaded"
        )
    return InputError(f"model {name} cannot be loaded: {one_line(error)}")

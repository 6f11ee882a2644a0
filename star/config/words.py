"""The words ``key=value`` of the command line, spelt as YAML that means what was typed.

A text key takes its text as it stands: YAML reads ``{text} is`` as half a mapping, the commit
0123456 as 42798 and ``no`` as false. A list takes words with commas, a mapping pairs with commas.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping
from typing import Any

import yaml

from star.errors import InputError, one_line

TEXT = ("str", "Optional[str]")
MODULES = "adapter.target_modules"
MODULE_WORDS = ("auto", "all-linear")


def spell(word: str, kinds: Mapping[str, str]) -> str:
    """Return a word whose value YAML reads as the key's type wants it, or the word as it is.

    Args:
        word: ``key=value``.
        kinds: The schema's keys and their types, as they are written there.

    Raises:
        InputError: No such word, not UTF-8, or a value that can be meant in two ways.
    """
    if "=" not in word or word.startswith(("=", "-")):
        raise InputError(f"expected key=value, got '{word}' (see star run --help)")
    key, _, raw = word.partition("=")
    try:
        word.encode()
    except UnicodeEncodeError:
        raise InputError(f"{key!a} must be text in UTF-8, got {raw!a}") from None
    kind = kinds.get(key, "")
    if "dict[" in kinds.get(key.rpartition(".")[0], ""):
        kind = "str"
    try:
        node = yaml.compose(raw, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        if raw.lstrip().startswith(("'", '"')) or kind not in TEXT:
            shown = word if word.isprintable() else ascii(word)
            shown = shown if len(shown) <= 200 else f"{shown[:200]}…"
            raise InputError(
                f"cannot read {shown}: {one_line(error)}; {_how_to_quote(key, kind)}"
            ) from None
        return f"{key}={json.dumps(_raw(key, raw))}"
    if node is None:  # nothing behind the equals sign, or what YAML takes for a comment
        return f"{key}={json.dumps(_raw(key, raw))}" if raw.strip() and kind in TEXT else word
    if kind in TEXT:
        value: Any = _text(key, raw, node)
    elif key == MODULES or "list[" in kind:
        value = _list(key, node)
    elif "dict[" in kind:
        value = _pairs(node)
    else:
        value = None
    return word if value is None else f"{key}={json.dumps(value)}"


def _how_to_quote(key: str, kind: str) -> str:
    if "dict[" in kind:
        return f"write '{key}={{question: COLUMN, answer: COLUMN}}'"
    if "list[" in kind or key == MODULES:
        return f"write '{key}=[A, B]' or {key}=A,B"
    if kind in TEXT:
        return f'write \'{key}="TEXT"\', with \\" for a quote inside'
    return f"write '{key}=VALUE'"


def _plain(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None


def _null(node: yaml.Node) -> bool:
    return _plain(node) and node.tag == "tag:yaml.org,2002:null"


def _text(key: str, raw: str, node: yaml.Node) -> str | None:
    """Return a text key's text as it was typed; ``None`` where YAML's quotes or null say it."""
    quoted = isinstance(node, yaml.ScalarNode) and node.style in ("'", '"')
    return None if quoted or _null(node) else _raw(key, raw)


def _raw(key: str, raw: str) -> str:
    if key == "task.prompt" and "\\" in raw:
        raise InputError(
            f"{key}: a backslash outside of quotes, got {raw[:60]}; write '{key}=\"...\"' where "
            f"\\n is a line break; where a backslash is itself, double it there"
        )
    return raw.strip()


def _list(key: str, node: yaml.Node) -> list[str] | None:
    """Return the texts of ``a,b`` or ``[a, 1, no]`` as they were typed."""
    if _plain(node) and not _null(node):
        if key == MODULES and node.value in MODULE_WORDS:
            return None
        return [part.strip() for part in node.value.split(",") if part.strip()]
    if not isinstance(node, yaml.SequenceNode):
        return None
    if not all(isinstance(item, yaml.ScalarNode) and not _null(item) for item in node.value):
        return None
    return [item.value for item in node.value]


def _pairs(node: yaml.Node) -> dict[str, str] | None:
    """Return the pairs of ``a:b,c:d`` or ``{a:b, c: 1}`` as they were typed."""
    if _plain(node) and ":" in node.value:
        parts = [part.partition(":") for part in node.value.split(",") if part.strip()]
    elif isinstance(node, yaml.MappingNode):
        parts = []
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or not isinstance(value, yaml.ScalarNode):
                return None
            # In braces YAML takes a:b, without the blank, for a key with no value.
            joined = value.value == "" and _null(value) and ":" in key.value
            parts.append(key.value.partition(":") if joined else (key.value, ":", value.value))
    else:
        return None
    if not all(colon for _, colon, _ in parts):
        return None
    return {name.strip(): value.strip() for name, _, value in parts}


# What other programs call a key, by its last part; the first of the same section is meant.
ALIASES = {
    "lr": ("train.learning_rate",),
    "epochs": ("train.num_train_epochs",),
    "num_epochs": ("train.num_train_epochs",),
    "n_epochs": ("train.num_train_epochs",),
    "batch_size": (
        "train.per_device_train_batch_size",
        "evaluation.per_device_eval_batch_size",
    ),
    "train_batch_size": ("train.per_device_train_batch_size",),
    "eval_batch_size": ("evaluation.per_device_eval_batch_size",),
    "grad_accum": ("train.gradient_accumulation_steps",),
    "gradient_accumulation": ("train.gradient_accumulation_steps",),
    "accumulation_steps": ("train.gradient_accumulation_steps",),
    "scheduler": ("train.lr_scheduler_type",),
    "lr_scheduler": ("train.lr_scheduler_type",),
    "warmup": ("train.warmup_ratio",),
    "steps": ("train.max_steps",),
    "clip": ("train.max_grad_norm",),
    "max_seq_length": ("train.max_length",),
    "max_seq_len": ("train.max_length",),
    "cutoff_len": ("train.max_length",),
    "weight_decay": ("regularizer.beta",),
    "rank": ("adapter.r",),
    "lora_r": ("adapter.r",),
    "lora_rank": ("adapter.r",),
    "alpha": ("adapter.lora_alpha",),
    "dropout": ("adapter.lora_dropout",),
    "rslora": ("adapter.use_rslora",),
    "modules": ("adapter.target_modules",),
    "lora_target_modules": ("adapter.target_modules",),
    "model": ("model.name_or_path",),
    "model_name": ("model.name_or_path",),
    "model_id": ("model.name_or_path",),
    "path": ("model.name_or_path", "task.data_dir"),
    "name": ("model.name_or_path", "task.name", "acquisition.name"),
    "torch_dtype": ("model.dtype",),
    "precision": ("model.dtype",),
    "attn": ("model.attn_implementation",),
    "load_in_4bit": ("model.quantization",),
    "use_double_quant": ("model.double_quantization",),
    "bnb_4bit_use_double_quant": ("model.double_quantization",),
    "optim": ("train.optimizer",),
    "dataset": ("task.name", "task.data_dir", "task.hub_id"),
    "data": ("task.data_dir",),
    "data_path": ("task.data_dir",),
    "template": ("task.prompt",),
    "chat": ("task.chat_template",),
    "shots": ("task.num_fewshot",),
    "fewshot": ("task.num_fewshot",),
    "n_shot": ("task.num_fewshot",),
    "apply_chat_template": ("task.chat_template",),
    "labels": ("task.choices",),
    "max_samples": ("task.pool_limit",),
    "train_limit": ("task.pool_limit",),
    "split": ("task.test_split",),
    "k": ("pool.query_size",),
    "budget": ("pool.query_size",),
    "batch": ("pool.query_size",),
    "n_rounds": ("pool.rounds",),
    "iterations": ("pool.rounds",),
    "init_size": ("pool.initial_size",),
    "n_initial": ("pool.initial_size",),
    "mc_passes": ("acquisition.mc_dropout.passes",),
    "mc_samples": ("acquisition.mc_dropout.passes",),
    "members": ("acquisition.mc_dropout.passes",),
    "epsilon": ("acquisition.tfb_tolerance",),
    "samples": ("acquisition.mc_dropout.passes",),
    "uncertainty": ("acquisition.measure",),
    "random_seed": ("seed",),
    "random_state": ("seed",),
    "output": ("output_dir",),
    "out_dir": ("output_dir",),
    "save_dir": ("output_dir",),
    "cache": ("tracking.cache_dir",),
    "report_to": ("tracking.log_with",),
    "logger": ("tracking.log_with",),
}


def meant(key: str, known: Collection[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for a key that is not there, or what its section has.

    Args:
        key: As it was written.
        known: The schema's keys, sections among them.
    """
    section, _, last = key.rpartition(".")
    beside = {k.rpartition(".")[2]: k for k in known if k.rpartition(".")[0] == section}
    same = [k for k in known if k.rpartition(".")[2] == last]
    others = ALIASES.get(last.lower(), ())
    near = difflib.get_close_matches(last, list(beside), n=1, cutoff=0.6)
    candidates = [
        *(other for other in others if other in beside.values()),
        *same,
        *others,
        *(beside[name] for name in near),
        *difflib.get_close_matches(key, list(known), n=1, cutoff=0.7),
    ]
    if candidates:
        return f"; did you mean '{candidates[0]}'?"
    return f"; {section} has {', '.join(beside)}" if section and beside else ""

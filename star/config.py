"""The schema of a run, and how a YAML file and ``key=value`` words become one.

The frozen dataclasses below are the schema: names, types, defaults, allowed ranges, and one line
of help each. ``load`` merges defaults < one YAML file < ``key=value`` words (the last of a repeated
key wins) and refuses whatever the schema does not know. No includes, no interpolation. The only
file that knows OmegaConf, and it imports it late, so that everything else runs without it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional

from star.errors import InputError, nearest

# OmegaConf reads these annotations at run time; it wants Optional[...] and plain list/dict.

LLAMA_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "gate_proj")
NOT_IN_HASH = ("output_dir", "run_name", "tracking")


def _key(default: Any, text: str, **bounds: float) -> Any:
    """Return a dataclass field with a line of help and the bounds ``ge, gt, le, lt``."""
    metadata = {"help": text, **bounds}
    if isinstance(default, (list, tuple)):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class ModelConfig:
    name_or_path: str = _key(
        "embedded://tiny",
        "Hub id, local folder, package://PACKAGE/FILE.gguf, or embedded://tiny",
    )
    revision: Optional[str] = _key(None, "Hub revision (branch, tag or commit); null = main")
    dtype: Literal["float32", "bfloat16", "float16"] = _key("float32", "dtype of the base weights")
    device: str = _key("auto", "auto (Accelerate's choice), cpu, cuda, mps")
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] = _key(
        "sdpa", "attention kernel"
    )
    quantization: Literal["none", "nf4"] = _key(
        "none", "4-bit NormalFloat base weights (needs bitsandbytes)"
    )


@dataclass(frozen=True)
class TaskConfig:
    name: Literal["arithmetic", "truefalse", "choice", "gsm8k", "boolq", "openbookqa", "jsonl"] = (
        _key("arithmetic", "the benchmark")
    )
    data_dir: Optional[str] = _key(
        None, "folder of stored splits (train, test, ...: jsonl, csv or parquet); null = the Hub"
    )
    revision: Optional[str] = _key(None, "revision of the Hub data set; null = the task's own")
    pool_limit: Optional[int] = _key(None, "use the first so many rows of the train split", ge=1)
    test_limit: Optional[int] = _key(None, "use the first so many rows of the test split", ge=1)
    test_split: str = _key("test", "name of the split that is evaluated")
    validation_size: int = _key(
        0, "train rows labelled at the start and held out from training; they count as labels", ge=0
    )
    pool_mix: Literal["planted", "uniform"] = _key(
        "planted", "embedded families: instructive kinds are a minority, or all kinds alike"
    )
    prompt: Optional[str] = _key(
        None, "prompt template with {column} fields; null = the task's own"
    )
    columns: Optional[dict[str, str]] = _key(
        None, "task jsonl: which columns are {question: ..., answer: ...}"
    )
    choices: Optional[list[str]] = _key(
        None, "task jsonl: the possible answers; makes it a choice task"
    )
    overlong: Literal["truncate", "drop", "error"] = _key(
        "truncate", "a prompt longer than the model allows: cut from the left, leave out, or stop"
    )


@dataclass(frozen=True)
class PoolConfig:
    initial_size: int = _key(20, "examples labelled before round 0, drawn at random", ge=1)
    query_size: int = _key(20, "K, examples labelled after each round but the last", ge=1)
    rounds: int = _key(10, "R, number of trainings = points of the learning curve", ge=1)


@dataclass(frozen=True)
class AdapterConfig:
    r: int = _key(64, "rank of the LoRA matrices", ge=1)
    lora_alpha: int = _key(16, "LoRA scale is lora_alpha / r", ge=1)
    lora_dropout: float = _key(
        0.1, "dropout on the input of A, in training and MC passes", ge=0, lt=1
    )
    target_modules: list[str] = _key(LLAMA_PROJECTIONS, "modules that get an adapter")


@dataclass(frozen=True)
class RegularizerConfig:
    kind: Literal["none", "decoupled", "loss"] = _key(
        "decoupled", "constraint on B: AdamW decay on B alone, or beta/2 * sum |B|^2 in the loss"
    )
    beta: Optional[float] = _key(None, "strength; null = the default of the kind", ge=0)


@dataclass(frozen=True)
class TrainConfig:
    learning_rate: float = _key(1.5e-4, "peak learning rate of AdamW", gt=0)
    num_train_epochs: int = _key(3, "passes over the labelled examples", ge=1)
    max_steps: Optional[int] = _key(None, "number of updates instead of epochs", ge=1)
    per_device_train_batch_size: int = _key(8, "examples per forward pass and process", ge=1)
    gradient_accumulation_steps: int = _key(1, "forward passes per update", ge=1)
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = _key(
        "linear", "shape of the learning rate over the updates"
    )
    warmup_ratio: float = _key(0.0, "share of the updates with a rising rate", ge=0, le=1)
    max_grad_norm: float = _key(1.0, "clip the gradient's norm", gt=0)
    max_length: Optional[int] = _key(
        None, "tokens of prompt and answer together; null = what the model allows", ge=2
    )
    gradient_checkpointing: bool = _key(False, "recompute activations to save memory")
    keep: Literal["last", "best"] = _key(
        "last", "adapter after the last epoch, or of the lowest validation loss"
    )


@dataclass(frozen=True)
class BaseWeightConfig:
    schedule: Literal["linear", "cosine", "exponential", "constant"] = _key(
        "linear", "lambda(t), the base model's weight; linear = 1 - (t+1)/R"
    )
    value: float = _key(0.5, "lambda of the constant schedule", ge=0, le=1)
    decay: float = _key(0.5, "exponential: lambda(t) = lambda(0) * decay^t", gt=0, lt=1)


@dataclass(frozen=True)
class McDropoutConfig:
    passes: int = _key(3, "S, stochastic passes; 0 = one pass without dropout", ge=0)
    masks: Literal["consistent", "token"] = _key(
        "consistent", "one mask a pass for all tokens, or a fresh one for every token"
    )


@dataclass(frozen=True)
class AcquisitionConfig:
    strategy: Optional[str] = _key(None, "the row's name in tables; null = derived")
    select: Literal["top_k", "random"] = _key("top_k", "how the query is picked")
    measure: Literal["predictive_entropy", "max_entropy", "margin", "least_confidence", "bald"] = (
        _key("predictive_entropy", "uncertainty of one view")
    )
    continuation: Literal["model", "base", "choices", "gold"] = _key(
        "model",
        "what is scored: each view's own answer, the base's, the choices, or gold (labels!)",
    )
    reduction: Literal["sum", "mean"] = _key("sum", "over the continuation's tokens")
    combine: Literal["none", "subtract", "dynamic"] = _key(
        "dynamic", "full only, full - base, or lambda * base + (1 - lambda) * full"
    )
    normalization: Literal["minmax", "rank", "zscore", "none"] = _key(
        "minmax", "common scale of the views over the unlabelled pool"
    )
    base_weight: BaseWeightConfig = field(default_factory=BaseWeightConfig)
    mc_dropout: McDropoutConfig = field(default_factory=McDropoutConfig)


@dataclass(frozen=True)
class EvaluationConfig:
    per_device_eval_batch_size: int = _key(64, "rows per forward pass in scoring too", ge=1)
    max_new_tokens: int = _key(256, "limit of a generated answer, tokens", ge=1)
    choice_by: Literal["likelihood", "generation"] = _key(
        "likelihood", "how choice tasks are judged"
    )
    ece_bins: int = _key(15, "equal-width bins of the calibration error", ge=1)


@dataclass(frozen=True)
class TrackingConfig:
    progress: bool = _key(True, "progress bars on stderr")
    save_adapters: Literal["all", "last", "none"] = _key("all", "which rounds keep their adapter")
    cache_dir: Optional[str] = _key(
        None, "base scores and converted models; null = $STAR_CACHE or ~/.cache/star-al"
    )


@dataclass(frozen=True)
class Config:
    """One run. See :func:`load`."""

    model: ModelConfig = field(default_factory=ModelConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    pool: PoolConfig = field(default_factory=PoolConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    regularizer: RegularizerConfig = field(default_factory=RegularizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    acquisition: AcquisitionConfig = field(default_factory=AcquisitionConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    seed: int = _key(0, "root of every random stream", ge=0)
    output_dir: str = _key("runs", "where run folders go")
    run_name: Optional[str] = _key(None, "folder name instead of <task>/<strategy>/seed<k>-<hash>")


def load(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Return the checked configuration: defaults < YAML file < ``key=value`` words.

    Raises:
        InputError: Unreadable file, unknown key (with the nearest right one), wrong type, value out
            of range, or settings that contradict each other.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    tree = OmegaConf.structured(Config)
    for source, name in ((path, str(path)), (list(overrides), "the command line")):
        if not source:
            continue
        try:
            part = _read_yaml(Path(source)) if source is path else _read_words(source)
            _refuse_unknown(OmegaConf.to_container(part, resolve=False), name)
            tree = OmegaConf.merge(tree, part)
        except OmegaConfBaseException as error:
            key = getattr(error, "full_key", None)
            what = str(error).splitlines()[0]
            raise InputError(f"{name}: {key + ': ' if key else ''}{what}") from None
    config = OmegaConf.to_object(tree)
    assert isinstance(config, Config)
    check(config)
    return config


def _read_yaml(path: Path) -> Any:
    from omegaconf import OmegaConf
    from yaml import YAMLError

    if not path.is_file():
        raise InputError(f"configuration file {path} not found")
    try:
        part = OmegaConf.load(path)
    except (YAMLError, UnicodeDecodeError, OSError) as error:  # OSError: a lone number or word
        what = " ".join(str(error).split())
        raise InputError(f"{path} is not readable as YAML: {what}") from None
    if not OmegaConf.is_dict(part):
        raise InputError(f"{path} must hold a mapping of sections, got a {type(part).__name__}")
    return part


def _read_words(words: Sequence[str]) -> Any:
    from omegaconf import OmegaConf
    from yaml import YAMLError

    for word in words:
        if "=" not in word or word.startswith(("=", "-")):
            raise InputError(f"expected key=value, got '{word}' (see star run --help)")
    try:
        part = OmegaConf.from_dotlist(list(words))
    except YAMLError as error:
        raise InputError(f"cannot read {list(words)}: {' '.join(str(error).split())}") from None
    # Text stays as it was typed: YAML reads the commit 0123456 as 42798, and `no` as false.
    texts = {key for key, item in fields_of(Config) if item.type in ("str", "Optional[str]")}
    for key, raw in {w.partition("=")[0]: w.partition("=")[2] for w in words}.items():
        if key in texts and isinstance(OmegaConf.select(part, key), (bool, int, float)):
            OmegaConf.update(part, key, raw)
    return part


def _refuse_unknown(part: Any, source: str) -> None:
    known = {key: str(item.type) for key, item in fields_of(Config)}
    sections = {key.rpartition(".")[0] for key in known} - {""}

    def walk(node: dict[Any, Any], prefix: str) -> None:
        for name, value in node.items():
            key = f"{prefix}{name}"
            if key in sections:
                if not isinstance(value, dict):
                    raise InputError(f"{source}: {key} is a section, got the value {value!r}")
                walk(value, f"{key}.")
            elif key not in known:
                # The nearest by its last part too: `lr` for `train.learning_rate` stays unknown,
                # but `train.query_size` finds `pool.query_size`.
                hint = nearest(key, known if "." in key else {*known, *sections})
                same = [k for k in known if k.rpartition(".")[2] == str(name)]
                hint = f"; did you mean '{same[0]}'?" if same else hint
                raise InputError(f"{source}: unknown key '{key}'{hint}")
            else:
                _check_leaf(f"{source}: {key}", value, known[key])

    walk(part, "")


def _check_leaf(name: str, value: Any, kind: str) -> None:
    """Raise ``InputError`` for what OmegaConf would take, but not as it was meant."""
    if "list" in kind and isinstance(value, dict):
        raise InputError(f"{name} is a list; write it whole, [a, b]")
    for item in _items(value):
        if isinstance(item, str) and ("${" in item or item == "???"):
            raise InputError(f"{name}: interpolation '${{...}}' and '???' are not supported")
        if "str" in kind and isinstance(item, (bool, int, float, list, dict)):
            raise InputError(f"{name} must be text, got {item!r} as YAML reads it; quote it")


def _items(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list) else [value]


def fields_of(kind: type, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    """Yield every leaf of the schema as (dotted key, field)."""
    for item in dataclasses.fields(kind):
        nested = item.default_factory
        if isinstance(nested, type) and dataclasses.is_dataclass(nested):
            yield from fields_of(nested, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}", item


def get(config: Any, key: str) -> Any:
    """Return the value at a dotted key."""
    for name in key.split("."):
        config = getattr(config, name)
    return config


_BOUNDS = {
    "ge": (lambda v, b: v >= b, "at least"),
    "gt": (lambda v, b: v > b, "greater than"),
    "le": (lambda v, b: v <= b, "at most"),
    "lt": (lambda v, b: v < b, "less than"),
}


def check(config: Config) -> None:
    """Raise ``InputError`` for a value out of range or settings that contradict each other."""
    for key, item in fields_of(Config):
        value = get(config, key)
        if value is None or isinstance(value, (str, bool)):
            continue
        for name, (holds, words) in _BOUNDS.items():
            bound = item.metadata.get(name)
            if bound is not None and not (math.isfinite(value) and holds(value, bound)):
                raise InputError(f"{key} must be {words} {bound}, got {value}")
    _check_acquisition(config)
    if not config.adapter.target_modules:
        raise InputError("adapter.target_modules is empty; name at least one module")
    if config.train.keep == "best" and config.task.validation_size == 0:
        raise InputError("train.keep=best needs validation rows; set task.validation_size > 0")
    if config.task.name != "jsonl":
        for key in ("columns", "choices"):
            if getattr(config.task, key) is not None:
                raise InputError(f"task.{key} belongs to task.name=jsonl, got {config.task.name}")


def _check_acquisition(config: Config) -> None:
    a = config.acquisition
    if a.select == "random":  # nothing is scored
        return
    if a.mc_dropout.passes > 0 and config.adapter.lora_dropout == 0:
        raise InputError(
            "acquisition.mc_dropout.passes > 0 with adapter.lora_dropout=0: all passes would be "
            "equal; set lora_dropout > 0 or passes=0"
        )
    if a.combine == "subtract" and a.continuation == "model":
        raise InputError(
            "acquisition.combine=subtract needs one continuation for both views; set "
            "acquisition.continuation to base, choices or gold, got model"
        )
    if a.measure == "bald":
        if a.combine != "none":
            raise InputError(
                f"acquisition.measure=bald has no base view; set acquisition.combine=none, "
                f"got {a.combine}"
            )
        if a.mc_dropout.passes < 2:
            raise InputError(
                "acquisition.measure=bald needs acquisition.mc_dropout.passes >= 2, "
                f"got {a.mc_dropout.passes}"
            )


def strategy_name(config: Config) -> str:
    """Return ``acquisition.strategy``, or a name derived from what the strategy does.

    ``random``; a measure's name for the full model alone; ``subtract-`` and ``star-`` before the
    measure for the two combinations; ``-gold`` behind what reads labels.
    """
    a = config.acquisition
    if a.strategy is not None:
        return a.strategy
    if a.select == "random":
        return "random"
    prefix = {"none": "", "subtract": "subtract-", "dynamic": "star-"}[a.combine]
    suffix = "-gold" if a.continuation == "gold" else ""
    return f"{prefix}{a.measure}{suffix}"


def label_free(config: Config) -> bool:
    """Whether no score of the run reads an answer that was not bought."""
    return config.acquisition.select == "random" or config.acquisition.continuation != "gold"


def config_hash(config: Config) -> str:
    """Return 16 hex digits of all that decides a run's result.

    Where the output goes and what is kept (``output_dir``, ``run_name``, ``tracking``) is left out.
    """
    tree = {k: v for k, v in dataclasses.asdict(config).items() if k not in NOT_IN_HASH}
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


def to_yaml(config: Config) -> str:
    """Return the resolved configuration as YAML, as ``config.yaml`` holds it."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.structured(config))


def describe() -> str:
    """Return one line a key: name, type, default and help; for ``star run --help``."""
    lines = []
    for key, item in fields_of(Config):
        default = item.default
        if default is dataclasses.MISSING:
            default = item.default_factory()  # type: ignore[misc]
        shown = "null" if default is None else json.dumps(default)
        allowed = str(item.type)
        if allowed.startswith("Literal["):
            words = allowed[len("Literal[") : -1].replace("'", "").replace(",", " |").split()
            shown += f"  ({' '.join(words)})"
        lines.append(f"  {key}={shown}\n      {item.metadata.get('help', '')}")
    return "\n".join(lines)

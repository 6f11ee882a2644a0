"""The schema of a run: names, types, defaults, allowed ranges, and one line of help a key.

Plain frozen dataclasses and nothing else: what follows from their values is in ``derived``, what is
refused in ``checks``, how a file and words become one in ``reading``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Optional

from star.config.acquisition import AcquisitionConfig
from star.config.field import key

# OmegaConf reads these annotations at run time; it wants Optional[...] and plain list/dict.


@dataclass(frozen=True)
class ModelConfig:
    name_or_path: str = key(
        "embedded://tiny",
        "Hub id, local folder, package://PACKAGE/FILE.gguf, or embedded://tiny",
    )
    revision: Optional[str] = key(
        None, "revision of a model on the Hub: branch, tag or commit; null = main"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = key("float32", "dtype of the base weights")
    device: str = key("auto", "auto (Accelerate's choice), cpu, cuda, mps")
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] = key(
        "sdpa", "attention kernel"
    )
    quantization: Literal["none", "nf4"] = key(
        "none", "4-bit NormalFloat base weights (needs bitsandbytes)"
    )
    double_quantization: bool = key(
        True, "quantization=nf4: scales of the blocks in 8 bits too", added=True
    )
    torch_compile: bool = key(
        False,
        "compile the layers: minutes at first, then faster (a CPU needs a C++ compiler); training "
        "draws other dropout masks",
    )


@dataclass(frozen=True)
class TaskConfig:
    name: Literal[
        "arithmetic", "truefalse", "choice", "gsm8k", "boolq", "openbookqa", "jsonl",
        "classification", "sst2", "emotion",
    ] = key("arithmetic", "the benchmark; of your own: jsonl, classification")  # fmt: skip
    data_dir: Optional[str] = key(
        None, "folder of stored splits (train, test, ...: jsonl, csv or parquet); null = the Hub"
    )
    revision: Optional[str] = key(None, "revision of the Hub data set; null = the task's own")
    pool_limit: Optional[int] = key(
        None, "use so many rows of the train split, the first ones where draw is fixed", ge=1
    )
    test_limit: Optional[int] = key(
        None, "use so many rows of the test split, the first ones where draw is fixed", ge=1
    )
    test_split: str = key("test", "name of the split that is evaluated")
    test_size: Optional[int] = key(
        None,
        "evaluate so many rows of the pool, drawn at random and left out of it; null = test_split",
        added=True,
        ge=1,
    )
    oracle: Literal["data", "people"] = key(
        "data",
        "who answers: the rows themselves, or people, whose decisions are in the run folder (star "
        "init)",
        added=True,
    )
    validation_size: int = key(
        0, "train rows labelled at the start and held out from training; they count as labels", ge=0
    )
    draw: Literal["fixed", "seeded"] = key(
        "fixed",
        "which rows: the same for every seed, or drawn by the seed (families are generated anew; "
        "of stored splits, task.pool_limit and task.test_limit rows at random)",
    )
    pool_mix: Literal["planted", "uniform"] = key(
        "planted", "embedded families: instructive kinds are a minority, or all kinds alike"
    )
    prompt: Optional[str] = key(
        None, "prompt template with {column} fields; null = the task's own (a run says which)"
    )
    columns: Optional[dict[str, str]] = key(
        None,
        "{question: ..., answer: ...} of jsonl, {text: ..., label: ...} of a classification",
    )
    choices: Optional[list[str]] = key(
        None, "jsonl: the possible answers, makes it a choice task; classification: the classes"
    )
    verbalizer: Optional[dict[str, str]] = key(
        None, "classification: {class: word that stands for it}; null = the names", added=True
    )
    classify_by: Literal["words", "head"] = key(
        "words", "classification: by a causal LM's words, or by a head on any model", added=True
    )
    hub_id: Optional[str] = key(
        None, "classification: Hub data set, OWNER/NAME or OWNER/NAME:CONFIGURATION", added=True
    )
    chat_template: bool = key(
        False,
        "ask by the tokenizer's chat template: the prompt is a user's turn, the answer the "
        "assistant's",
        added=True,
    )
    num_fewshot: int = key(
        0,
        "so many of the first labels stand before each prompt, question and answer",
        ge=0,
        added=True,
    )
    trailing_space: Literal["answer", "prompt"] = key(
        "answer", "white space between prompt and answer opens the answer, or ends the prompt"
    )
    overlong: Literal["truncate", "drop", "error"] = key(
        "truncate", "a prompt longer than the model allows: cut from the left, leave out, or stop"
    )


@dataclass(frozen=True)
class PoolConfig:
    initial_size: int = key(20, "examples labelled before round 0, drawn at random", ge=1)
    query_size: int = key(20, "K, examples labelled after each round but the last", ge=1)
    rounds: int = key(10, "R, number of trainings = points of the learning curve", ge=1)


@dataclass(frozen=True)
class AdapterConfig:
    r: int = key(64, "rank of the LoRA matrices", ge=1)
    lora_alpha: int = key(16, "LoRA scale is lora_alpha / r", ge=1)
    use_rslora: bool = key(False, "LoRA scale is lora_alpha / sqrt(r) instead")
    lora_dropout: float = key(
        0.1, "dropout on the input of A, in training and MC passes", ge=0, lt=1
    )
    target_modules: Any = key(
        "auto",
        "modules that get an adapter: [names or ends of paths], all-linear (the output head left "
        "out), or auto = LLaMA's seven projections, else PEFT's list for the architecture, else "
        "all-linear; a run's config.yaml has {auto: [what it was]}",
    )


@dataclass(frozen=True)
class RegularizerConfig:
    kind: Literal["none", "decoupled", "loss"] = key(
        "none", "constraint on B: AdamW decay on B alone, or beta/2 * sum |B|^2 in the loss"
    )
    beta: Optional[float] = key(None, "strength; null = the default of the kind", ge=0)


@dataclass(frozen=True)
class TrainConfig:
    optimizer: Literal["adamw", "paged_adamw"] = key(
        "adamw",
        "AdamW; paged_adamw (bitsandbytes, a GPU) lets its averages go to the computer's memory "
        "where the GPU's is full",
        added=True,
    )
    learning_rate: float = key(1.5e-4, "peak learning rate of AdamW", gt=0)
    num_train_epochs: int = key(3, "passes over the labelled examples", ge=1)
    max_steps: Optional[int] = key(
        None, "number of updates instead of epochs; 0 = none: the base model as it is", ge=0
    )
    per_device_train_batch_size: int = key(8, "examples per forward pass and process", ge=1)
    gradient_accumulation_steps: int = key(1, "forward passes per update", ge=1)
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = key(
        "linear", "shape of the learning rate over the updates"
    )
    schedule_from: Literal["labels", "test"] = key(
        "labels", "what the schedule is as long as: the labels, or the test split (released code)"
    )
    append_eos: bool = key(True, "train the end-of-sequence token behind every answer")
    loss_mask: Literal["answer", "released"] = key(
        "answer", "tokens with a loss: the answer's, or the released code's count of them"
    )
    warmup_ratio: float = key(0.0, "share of the updates with a rising rate", ge=0, le=1)
    max_grad_norm: float = key(1.0, "clip the gradient's norm", gt=0)
    max_length: Optional[int] = key(
        None, "tokens of prompt and answer together; null = what the model allows", ge=2
    )
    gradient_checkpointing: bool = key(False, "recompute activations to save memory")
    keep: Literal["last", "best"] = key(
        "last", "adapter after the last epoch, or of the lowest validation loss"
    )


@dataclass(frozen=True)
class EvaluationConfig:
    per_device_eval_batch_size: int = key(64, "rows per forward pass in scoring too", ge=1)
    max_batch_tokens: Any = key(
        4096,
        "tokens scored in a forward pass at most, though a single row may have more; auto = by a "
        "GPU's free memory, 4096 on a CPU",
        ge=1,
    )
    max_new_tokens: int = key(256, "limit of a generated answer, tokens", ge=1)
    choice_by: Literal["likelihood", "generation"] = key(
        "likelihood", "how choice tasks are judged"
    )
    choice_score: Literal["sum", "mean"] = key(
        "sum",
        "what the likeliest choice of a test question has most of: log p summed over its tokens, "
        "or their mean (acquisition takes sums)",
    )
    extraction: Literal["task", "digits"] = key(
        "task", "reading of generated answers: the task's, or digits alone (released code)"
    )
    max_prompt_length: Optional[int] = key(
        None, "cut test prompts from the left to so many tokens (released code: 128)", ge=1
    )
    views: list[str] = key(
        ("base", "full", "mc"), "whose calibration each round reports; full is always evaluated"
    )
    ece_bins: int = key(
        15,
        "equal-width bins of the calibration error; beyond 1000 a bin is finer than what any test "
        "split tells of",
        ge=1,
        le=1000,
    )


@dataclass(frozen=True)
class AnnotationConfig:
    min_new_labels: Optional[int] = key(
        None, "labels of people before the next training; null = all that were asked for", ge=1
    )
    budget: Optional[int] = key(None, "labels that people will give; null = no limit", ge=1)
    resolve: Literal["none", "majority"] = key(
        "none", "a row with two labels: undecided until somebody settles it, or what most say"
    )
    masking: Optional[str] = key(
        None,
        "mask what people see, not what is trained on: patterns, or patterns behind a function of "
        "your own, module:function",
    )


@dataclass(frozen=True)
class TrackingConfig:
    progress: bool = key(True, "progress bars on stderr")
    save_adapters: Literal["all", "last", "none"] = key("all", "which rounds keep their adapter")
    cache_dir: Optional[str] = key(
        None, "base scores and converted models; null = $STAR_CACHE or ~/.cache/star-al"
    )
    first_rounds: Optional[str] = key(
        None, "folder in which runs of a seed share their first round; null = not shared"
    )
    checkpoint_minutes: Optional[float] = key(
        5.0,
        "minutes of work after which what a round has done so far is kept; 0 = after each update "
        "and batch, null = never",
        ge=0,
    )
    log_with: Optional[list[str]] = key(
        None,
        "trackers to log to: tensorboard, trackio, wandb, mlflow, or module:Class, a "
        "GeneralTracker of Accelerate's; null = none",
    )


@dataclass(frozen=True)
class Config:
    """One run. See :func:`star.config.load`."""

    model: ModelConfig = field(default_factory=ModelConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    pool: PoolConfig = field(default_factory=PoolConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    regularizer: RegularizerConfig = field(default_factory=RegularizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    acquisition: AcquisitionConfig = field(default_factory=AcquisitionConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    annotation: AnnotationConfig = field(default_factory=AnnotationConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    seed: int = key(0, "root of every random stream", ge=0, lt=2**63)
    output_dir: str = key("runs", "where run folders go")
    run_name: Optional[str] = key(None, "folder name instead of <task>/<strategy>/seed<k>-<hash>")

"""The part of the schema that says which examples are picked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Optional

from star.config.field import key

# OmegaConf reads these annotations at run time; it wants Optional[...] and plain list/dict.


@dataclass(frozen=True)
class BaseWeightConfig:
    schedule: Literal["linear", "cosine", "exponential", "constant"] = key(
        "linear", "lambda(t), the base model's weight; linear = 1 - (t+1)/R"
    )
    value: float = key(0.5, "lambda of the constant schedule", ge=0, le=1)
    rounds: Optional[int] = key(
        None, "R of the schedule; null = pool.rounds (released code: 10)", ge=1
    )
    decay: float = key(0.5, "exponential: lambda(t) = lambda(0) * decay^t", gt=0, lt=1)


@dataclass(frozen=True)
class McDropoutConfig:
    passes: int = key(3, "S, stochastic passes; 0 = one pass without dropout", ge=0)
    masks: Literal["consistent", "token"] = key(
        "consistent", "one mask a pass for all tokens, or a fresh one for every token"
    )


@dataclass(frozen=True)
class AcquisitionConfig:
    strategy: Optional[str] = key(
        None,
        "module:function, a strategy of your own, which scores the pool (see "
        "star.acquisition.strategies), or skactiveml:NAME",
    )
    name: Optional[str] = key(
        None, "what the strategy is called in results and folders; null = derived"
    )
    select: Literal[
        "top_k", "random", "softmax", "power", "softrank", "k_center", "weighted_k_center",
        "uncertain_k_center", "cluster", "badge", "typiclust", "maxherding", "uherding",
        "uherding_calibrated", "minimum_energy", "epig", "trust", "lookahead",
    ] = key("top_k", "how the query is picked: see star/acquisition/README.md")  # fmt: skip
    coldness: float = key(
        1.0, "beta of select=softmax, power, softrank: towards 0 a uniform draw", added=True, gt=0
    )
    preselect: int = key(
        4, "select=uncertain_k_center spreads over so many times K uncertain rows", added=True, ge=1
    )
    random_share: float = key(
        0.0,
        "share of every query that is drawn at random from all that is unlabelled; the strategy "
        "picks the others. What is drawn gives an interval on the accuracy of the unlabelled rows",
        added=True,
        ge=0,
        lt=1,
    )
    candidates: Optional[int] = key(
        None,
        "an approximation for large pools: only so many of the unlabelled examples are scored, and "
        "can be picked, after each round; null = all",
        added=True,
        ge=1,
    )
    candidates_by: Literal["random", "embeddings"] = key(
        "random",
        "which these are: drawn, or spread over acquisition.embeddings (k-centre)",
        added=True,
    )
    initial: Literal["random", "typiclust", "maxherding"] = key(
        "random", "how pool.initial_size examples are chosen: drawn, or by a cold start", added=True
    )
    embeddings: str = key(
        "auto",
        "what strategies take for embeddings: base, full (the model's own), or a sentence encoder, "
        "named as model.name_or_path; auto = base; select=badge takes the last layer's input",
        added=True,
    )
    pooling: Literal["mean", "last", "mean_last"] = key(
        "mean",
        "which of a prompt's last hidden states the model's own embedding is: their mean, the last "
        "token's, or both side by side; select=badge goes by none",
        added=True,
    )
    measure: Literal["predictive_entropy", "max_entropy", "margin", "least_confidence", "bald"] = (
        key("predictive_entropy", "uncertainty of one view")
    )
    continuation: Literal["auto", "model", "base", "choices", "gold"] = key(
        "auto",
        "what is scored: the choices, each view's own answer (model), the base's, or gold "
        "(labels!); auto = the choices of a choice task, else base (model if combine is none)",
    )
    reduction: Literal["sum", "mean"] = key("sum", "over the continuation's tokens")
    combine: Literal["none", "subtract", "dynamic"] = key(
        "dynamic", "full only, full - base, or lambda * base + (1 - lambda) * full"
    )
    normalization: Literal["minmax", "rank", "zscore", "none", "base_minmax"] = key(
        "minmax",
        "common scale of the views over the unlabelled pool; base_minmax: the base alone, over the "
        "whole pool (released code)",
    )
    entropy_floor: float = key(
        0.0,
        "combine=dynamic: clip the full view's probabilities here in max_entropy, without "
        "renormalising (released code: 1e-6)",
        ge=0,
        lt=1,
    )
    base_weight: BaseWeightConfig = field(default_factory=BaseWeightConfig)
    passes: Literal["dropout", "tfb", "ensemble"] = key(
        "dropout",
        "what the S passes of mc_dropout.passes are: masks of the LoRA branch, draws from a "
        "training-free posterior (TFB), or S adapters trained apart (S trainings a round)",
        added=True,
    )
    tfb_tolerance: float = key(
        0.003,
        "passes=tfb: fraction by which the noise may change the training NLL (the authors' 0.3 %)",
        added=True,
        gt=0,
    )
    mc_dropout: McDropoutConfig = field(default_factory=McDropoutConfig)

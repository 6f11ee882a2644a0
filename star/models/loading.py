"""The base model and its tokenizer, from wherever ``model.name_or_path`` points.

One :class:`LanguageModel` is loaded for a run and stays; adapters come and go round it
(``adapter``). Weights are read from safetensors or GGUF alone, never from pickle, and no code from
a model repository is run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import GenerationConfig
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import logging as transformers_logging

from star.config import ModelConfig
from star.errors import InputError, one_line
from star.models import identity, isolation, packing
from star.models.batching import Batch, Batching, lay_out
from star.models.encoding import TokenRow
from star.models.reading import DTYPES as DTYPES
from star.models.reading import device_of, pad_of, read
from star.models.sources import cache_root, resolve
from star.models.traits import Traits, most_positions, text_config, traits_of


@dataclass
class LanguageModel:
    """A frozen causal LM in two parts, body and vocabulary head, with its tokenizer.

    Attributes:
        causal: The ``...ForCausalLM`` module; adapters are injected into it in place.
        tokenizer: Its tokenizer.
        fingerprint: sha256 hex of the content that was loaded and of all that computes with it, see
            ``identity``. The model's part of every cache key.
        info: What ``environment.json`` says of it.
        max_length: Tokens that fit the model's positions.
        stop_ids: Token ids that end a generated answer.
        pad_id: Token id to fill batches with; never attended to.
        traits: How far its layers look.
        packable: Whether rows that fit its window may be laid end to end (``packing``), or have to
            be padded.
        batching: What goes through it at once.
    """

    causal: nn.Module
    tokenizer: Any
    fingerprint: str
    info: dict[str, Any]
    max_length: int
    stop_ids: frozenset[int]
    pad_id: int
    traits: Traits = Traits()
    packable: bool = False
    batching: Batching = Batching()

    @property
    def device(self) -> torch.device:
        return next(self.causal.parameters()).device

    def hidden(self, input_ids: Tensor, **more: Any) -> Tensor:
        """Return the body's last hidden states, (B, T) ids padded on the right to (B, T, H).

        No attention mask: attention is causal, so padding on the right is never looked at.
        """
        output: Tensor = self._body(input_ids=input_ids, use_cache=False, **more).last_hidden_state
        return output

    @property
    def _body(self) -> nn.Module:
        # Llama 4 has the prefix of the model that it is a part of, Mllama a path.
        names = (str(self.causal.base_model_prefix), "model")
        return next(getattr(self.causal, name) for name in names if hasattr(self.causal, name))

    def packs(self, length: int) -> bool:
        """Return whether a row of so many tokens is packed: where no window cuts it."""
        window = self.traits.window
        return self.packable and (window is None or length <= window)

    @cached_property
    def answers_together(self) -> str:
        """Which prompts transformers' ``generate`` keeps apart: ``any``, ``equal`` or ``none``."""
        return isolation.answers_together(self)

    def lay_out(self, rows: Sequence[TokenRow], *, whole: bool = True) -> Batch:
        """Return rows as a batch for :meth:`predict`: packed where the model can, else padded.

        Args:
            rows: B rows, on one side of each of ``traits.cuts``.
            whole: They are whole rows; else their last token is still to be made, and does not
                count to their length.

        Raises:
            InputError: A token has no embedding.
        """
        return lay_out(
            rows,
            packed=self.packs(max(map(len, rows))),
            pad_id=self.pad_id,
            device=self.device,
            vocabulary=self.causal.get_input_embeddings().weight.shape[0],
            last=whole and self.traits.turn is not None,
        )

    def packing(self, batch: Batch) -> AbstractContextManager[None]:
        """Return the context a packed batch needs where a backward pass may recompute it."""
        return packing.attention(self._configs) if batch.runs else nullcontext()

    @cached_property
    def _configs(self) -> list[Any]:
        return packing.configs_of(self.causal)

    def predict(self, batch: Batch, cache: packing.Cache | None = None) -> Tensor:
        """Return the hidden states that predict the batch's continuation tokens, (P, H).

        With a ``cache``, which needs a packed batch, the rows' keys and values are stored there.
        """
        if not batch.runs:
            return self.hidden(batch.ids).flatten(0, 1)[batch.predicting]
        with packing.attention(self._configs):
            told = {"position_ids": batch.positions, "star_rows": cache or packing.Layout(batch)}
            return self.hidden(batch.ids, **told)[0, batch.predicting]

    def step(self, tokens: Tensor, cache: packing.Cache) -> Tensor:
        """Return the hidden states behind (B,) next tokens of the rows in the cache, (B, H)."""
        with packing.attention(self._configs):
            told = {"position_ids": cache.lengths.unsqueeze(0), "star_rows": cache}
            return self.hidden(tokens.unsqueeze(0), **told)[0]

    def logits(self, hidden: Tensor, of: Tensor | None = None) -> Tensor:
        """Return float32 logits over the vocabulary, (P, H) to (P, V), or of the (W,) words ``of``.

        For chosen positions only: the whole (B, T, V) block is what makes scoring dear.
        """
        head = self.causal.get_output_embeddings()
        if head.weight.is_floating_point():  # Mamba's body gives float32 to a head of bfloat16
            hidden = hidden.to(head.weight.dtype)
        if of is None:
            logits = head(hidden).float()
        elif type(head) is not nn.Linear:  # an adapter's: more than its weight
            logits = head(hidden)[..., of].float()
        else:  # some words alone: their rows of the head
            bias = getattr(head, "bias", None)
            logits = linear(hidden, head.weight[of], None if bias is None else bias[of]).float()
        config = text_config(self.causal)

        def words(*names: str) -> list[float]:
            return [v for v in (getattr(config, name, None) for name in names) if v is not None]

        for factor in words("logit_scale", "lm_head_multiplier"):  # Cohere, Falcon-H1
            logits = logits * factor
        for divisor in words("logits_scaling"):  # Granite
            logits = logits / divisor
        for cap in words("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap"):
            logits = torch.tanh(logits / cap) * cap  # Gemma, RecurrentGemma, xLSTM
        return logits

    def log_probs(self, hidden: Tensor) -> Tensor:
        """Return natural-log probabilities over the vocabulary in float32, (P, H) to (P, V)."""
        return self.logits(hidden).log_softmax(-1)


def load(
    config: ModelConfig, *, cache_dir: str | None = None, batching: Batching | None = None
) -> LanguageModel:
    """Load a model for scoring and fine-tuning: eval mode, all weights frozen.

    Raises:
        InputError: No such model, package or file; a gated or unreachable Hub repository; weights
            in pickle only; quantization without bitsandbytes; an output head that this program
            does not know.
    """
    transformers_logging.disable_progress_bar()
    where, info = resolve(config, cache_root(cache_dir))
    options: dict[str, Any] = {"trust_remote_code": False}
    if info["source"] == "hub":
        options["revision"] = info["revision"]  # a commit: all files of one snapshot
    tokenizer, causal = read(config, where, options)
    if config.quantization == "none":
        causal.to(device_of(config))
    causal.eval().requires_grad_(False)

    eos = getattr(causal.generation_config, "eos_token_id", None)
    stops = {tokenizer.eos_token_id, *(eos if isinstance(eos, (list, tuple)) else [eos])} - {None}
    # `generate` would fill in what a model's authors advise (repetition_penalty, temperature, ...);
    # here an answer is the plain greedy one, the same that is scored.
    causal.generation_config = GenerationConfig()
    vocabulary = causal.get_input_embeddings().weight.shape[0]  # type: ignore[operator,union-attr]
    model = LanguageModel(
        causal=causal,
        tokenizer=tokenizer,
        fingerprint="",
        info=info | {"name_or_path": config.name_or_path, "dtype": config.dtype},
        max_length=most_positions(causal),
        stop_ids=frozenset(stops),
        pad_id=pad_of(tokenizer, vocabulary, config.name_or_path),
        traits=traits_of(causal),
        batching=batching or Batching(),
    )
    if config.torch_compile:
        _compile(causal)
    try:
        _check_head(model, config)
    except (InputError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of code that is not ours: no kernel for this dtype or device, ...
        raise InputError(
            f"model {config.name_or_path} does not run with model.dtype={config.dtype} and "
            f"model.attn_implementation={config.attn_implementation} here: {one_line(error)}"
        ) from error
    if config.attn_implementation == "sdpa":
        model.packable = True  # while it is tried
        model.packable = isolation.packs(model)
    if not model.packable:
        isolation.require_causal(model)
    model.info["computation"] = identity.computation(
        config, device=_device_name(model.device), packed=model.packable
    )
    name = config.name_or_path if info["source"] == "hub" else None  # elsewhere a place, no more
    model.fingerprint = identity.digest([name, info["revision"], model.info["computation"]])
    return model


def _device_name(device: torch.device) -> str:
    """Return the kind of a device, with a GPU's name: others round otherwise."""
    if device.type != "cuda":
        return device.type
    return f"{device.type} {torch.cuda.get_device_name(device)}"


def _compile(causal: nn.Module) -> None:
    """Compile each layer, all alike once; attention stays as it is, it is one kernel already.

    Adapters come and go inside a compiled layer; that and folding them cost a compilation each, the
    first time.
    """
    compiler = os.environ.get("CXX", "g++")
    if next(causal.parameters()).device.type == "cpu" and shutil.which(compiler) is None:
        raise InputError(
            f"model.torch_compile needs a C++ compiler on a CPU, there is no {compiler}; install "
            "one or set model.torch_compile=false"
        )
    for module in causal.modules():
        if isinstance(module, GradientCheckpointingLayer):  # transformers' word for a whole layer
            module.compile(dynamic=True)


@torch.inference_mode()
def _check_head(model: LanguageModel, config: ModelConfig) -> None:
    """Refuse an architecture whose logits are not body + head as ``LanguageModel.logits`` has it.

    Scoring calls body and head apart; an unknown step between them would shift every score.
    """
    vocabulary = model.causal.get_input_embeddings().weight.shape[0]
    ids = torch.arange(1, 9, device=model.device).remainder(vocabulary).unsqueeze(0)
    whole = model.causal(input_ids=ids, use_cache=False).logits[0].float()
    parts = model.logits(model.hidden(ids)[0])
    tolerance = 1e-4 if config.dtype == "float32" else 5e-2
    if not torch.allclose(whole, parts, rtol=tolerance, atol=tolerance):
        kind = type(model.causal).__name__
        raise InputError(f"{kind} changes its logits in a way star does not know; please report it")

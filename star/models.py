"""The base model and its tokenizer, from wherever ``model.name_or_path`` points.

One :class:`LanguageModel` is loaded for a run and stays; adapters come and go round it
(``adapter``). Weights are read from safetensors or GGUF alone, never from pickle, and no code from
a model repository is run.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import logging as transformers_logging

from star import distributed, identity, packing
from star.batches import Batch, lay_out
from star.config import ModelConfig
from star.encoding import TokenRow
from star.errors import InputError
from star.weights import cache_root, first_line, hub_trouble, resolve

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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
        packable: Whether rows may be laid end to end (``packing``), or have to be padded.
    """

    causal: nn.Module
    tokenizer: Any
    fingerprint: str
    info: dict[str, Any]
    max_length: int
    stop_ids: frozenset[int]
    pad_id: int
    packable: bool = False

    @property
    def device(self) -> torch.device:
        return next(self.causal.parameters()).device

    def hidden(self, input_ids: Tensor, **more: Any) -> Tensor:
        """Return the body's last hidden states, (B, T) ids padded on the right to (B, T, H).

        No attention mask: attention is causal, so padding on the right is never looked at.
        """
        body = getattr(self.causal, self.causal.base_model_prefix)
        output: Tensor = body(input_ids=input_ids, use_cache=False, **more).last_hidden_state
        return output

    def lay_out(self, rows: Sequence[TokenRow]) -> Batch:
        """Return rows as a batch for :meth:`predict`: packed where the model can, else padded."""
        return lay_out(rows, packed=self.packable, pad_id=self.pad_id, device=self.device)

    def packing(self) -> AbstractContextManager[None]:
        """Return the context packed batches need, where a backward pass may recompute them."""
        return packing.attention(self.causal) if self.packable else nullcontext()

    def predict(self, batch: Batch, cache: packing.Cache | None = None) -> Tensor:
        """Return the hidden states that predict the batch's continuation tokens, (P, H).

        With a ``cache``, which needs a packed batch, the rows' keys and values are stored there.
        """
        if not batch.runs:
            return self.hidden(batch.ids).flatten(0, 1)[batch.predicting]
        with packing.attention(self.causal):
            told = {"position_ids": batch.positions, "star_rows": cache or packing.Layout(batch)}
            return self.hidden(batch.ids, **told)[0, batch.predicting]

    def step(self, tokens: Tensor, cache: packing.Cache) -> Tensor:
        """Return the hidden states behind (B,) next tokens of the rows in the cache, (B, H)."""
        with packing.attention(self.causal):
            told = {"position_ids": cache.lengths.unsqueeze(0), "star_rows": cache}
            return self.hidden(tokens.unsqueeze(0), **told)[0]

    def logits(self, hidden: Tensor, of: Tensor | None = None) -> Tensor:
        """Return float32 logits over the vocabulary, (P, H) to (P, V), or of the (W,) words ``of``.

        For chosen positions only: the whole (B, T, V) block is what makes scoring dear.
        """
        head = self.causal.get_output_embeddings()
        if of is None:
            logits = head(hidden).float()
        else:  # some words alone: their rows of the head
            bias = getattr(head, "bias", None)
            logits = linear(hidden, head.weight[of], None if bias is None else bias[of]).float()
        config = self.causal.config
        scale = getattr(config, "logit_scale", None)  # Cohere multiplies, Granite divides
        if scale is not None:
            logits = logits * scale
        divisor = getattr(config, "logits_scaling", None)
        if divisor is not None:
            logits = logits / divisor
        cap = getattr(config, "final_logit_softcapping", None)  # Gemma
        return torch.tanh(logits / cap) * cap if cap is not None else logits

    def log_probs(self, hidden: Tensor) -> Tensor:
        """Return natural-log probabilities over the vocabulary in float32, (P, H) to (P, V)."""
        return self.logits(hidden).log_softmax(-1)


def load(config: ModelConfig, *, cache_dir: str | None = None) -> LanguageModel:
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
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
        causal = AutoModelForCausalLM.from_pretrained(
            where,
            dtype=DTYPES[config.dtype],
            use_safetensors=True,
            attn_implementation=config.attn_implementation,
            **_quantization(config),
            **options,
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise InputError(_explain(config, error)) from error
    if config.quantization == "none":
        causal.to(device_of(config))
    causal.eval().requires_grad_(False)

    eos = getattr(causal.generation_config, "eos_token_id", None)
    stops = {tokenizer.eos_token_id, *(eos if isinstance(eos, (list, tuple)) else [eos])} - {None}
    # `generate` would fill in what a model's authors advise (repetition_penalty, temperature, ...);
    # here an answer is the plain greedy one, the same that is scored.
    causal.generation_config = GenerationConfig()
    if tokenizer.eos_token_id is None:
        raise InputError(f"the tokenizer of {config.name_or_path} has no end-of-sequence token")
    pad = tokenizer.pad_token_id
    model = LanguageModel(
        causal=causal,
        tokenizer=tokenizer,
        fingerprint="",
        info=info | {"name_or_path": config.name_or_path, "dtype": config.dtype},
        max_length=int(getattr(causal.config, "max_position_embeddings", 0) or 2**30),
        stop_ids=frozenset(stops),
        pad_id=tokenizer.eos_token_id if pad is None else pad,
    )
    if config.torch_compile:
        _compile(causal)
    _check_head(model, config)
    model.packable = config.attn_implementation == "sdpa" and _packs(model, config)
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


def _quantization(config: ModelConfig) -> dict[str, Any]:
    if config.quantization == "none":
        return {}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError("model.quantization=nf4 needs bitsandbytes; pip install bitsandbytes")
    from transformers import BitsAndBytesConfig

    four_bit = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=DTYPES[config.dtype],
    )
    return {"quantization_config": four_bit, "device_map": {"": str(device_of(config))}}


def _explain(config: ModelConfig, error: BaseException) -> str:
    """Return one line that says what is wrong with a model that could not be loaded."""
    name = config.name_or_path
    text = str(error)
    trouble = hub_trouble(name, error)
    if trouble is not None:
        return trouble
    if "attention implementation" in text or "attn_implementation" in text:
        return (
            f"model {name} does not run with attn_implementation={config.attn_implementation} "
            "here; set model.attn_implementation=eager"
        )
    if "safetensors" in text:
        return f"model {name} has no safetensors weights; pickled weights are not loaded"
    return f"model {name} cannot be loaded: {first_line(error)}"


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


@torch.inference_mode()
def _packs(model: LanguageModel, config: ModelConfig) -> bool:
    """Whether rows laid end to end have the hidden states each has alone."""
    ids = [tuple(i % model.causal.config.vocab_size for i in range(n, 3 * n)) for n in (4, 3, 3)]
    rows = [TokenRow(0, one[:1], one[1:]) for one in ids]
    batches = [
        lay_out(part, packed=packed, pad_id=model.pad_id, device=model.device)
        for packed, part in ((True, rows), *((False, [row]) for row in rows))
    ]
    try:
        together, *alone = [model.predict(batch).float() for batch in batches]
    except (packing.NotPackable, TypeError, RuntimeError) as error:
        logger.info("rows of this model are padded, not packed: %s", first_line(error))
        return False
    # By the norm: hidden states of some tokens are hundreds of times larger than others'.
    tolerance = 1e-3 if config.dtype == "float32" else 1e-1
    apart = torch.cat(alone)
    return bool((together - apart).norm() <= tolerance * apart.norm())

"""Base weights in four bits (QLoRA, arXiv 2305.14314): how they are read, and what computes.

Frozen matrices of the body are NF4 in blocks of 64; with double quantisation the blocks' scales are
8-bit numbers too: 4.127 instead of 4.5 bits a weight. Each is made a matrix of ``model.dtype`` when
it is multiplied, in training and in scoring alike: dtype of the scores is ``model.dtype``. Head,
embeddings and norms stay what they are; the adapter and its optimiser are float32.

PEFT's ``prepare_model_for_kbit_training`` is not called. It makes head, embeddings and norms
float32, so that training and scoring would see other models than ``model.dtype`` says; the
gradients at the inputs that it asks for are needed by reentrant checkpointing alone, and
``learning_mode`` recomputes without reentrance.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from torch import nn

from star.config import ModelConfig
from star.errors import InputError

PACKS = "support_avx512bf16_for_cpu"  # bitsandbytes' name, an attribute of its linear modules


def options(config: ModelConfig, dtype: Any, device: Any) -> dict[str, Any]:
    """Return what ``from_pretrained`` takes for ``model.quantization``.

    Args:
        config: ``model``.
        dtype: Its ``dtype``, torch's.
        device: Its device; weights are quantised when they come there.

    Raises:
        InputError: bitsandbytes is not installed.
    """
    if config.quantization == "none":
        return {}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError("model.quantization=nf4 needs bitsandbytes; pip install bitsandbytes")
    from transformers import BitsAndBytesConfig

    four_bit = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=config.double_quantization,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": four_bit, "device_map": {"": str(device)}}


def keep_as_stored(model: nn.Module) -> None:
    """Keep bitsandbytes from laying quantised weights out anew; before any forward pass.

    On a CPU with AVX512-BF16 it does so in the first pass without gradients, for good: scales are
    rounded to bfloat16 and no longer quantised themselves, products are of bfloat16 whatever the
    compute dtype, and no gradient goes through them to the layers below, of which torch only warns
    (bitsandbytes 0.50: ``Linear4bit.forward``, ``matmul_4bit``).
    """
    for module in model.modules():
        if hasattr(module, PACKS):
            setattr(module, PACKS, False)

"""How many tokens go through a model at once, by the memory that a GPU has left."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from torch import nn

from star.config import EvaluationConfig
from star.models.batching import Batching
from star.models.traits import text_config

logger = logging.getLogger(__name__)

LEAST, MOST = EvaluationConfig.max_batch_tokens, 65_536
# Of what is free: the rest is for logits, a merged copy of the weights, and training.
SHARE = 0.25


def tokens_that_fit(causal: nn.Module, free: float) -> int:
    """Return how many tokens' activations take a quarter of ``free`` bytes, from 4,096 to 65,536.

    Args:
        causal: The model, whose first weights have its dtype.
        free: Bytes.
    """
    settings = text_config(causal)
    heads = getattr(settings, "num_attention_heads", None) or 0  # none in a state-space model
    width = getattr(settings, "head_dim", None) or settings.hidden_size // max(1, heads)
    inner = getattr(settings, "intermediate_size", None) or 4 * settings.hidden_size
    size = causal.get_input_embeddings().weight.element_size()  # type: ignore[operator,union-attr]
    # One layer's activations, which are not kept behind it; as an estimate of a run has them.
    each = size * (4 * settings.hidden_size + 2 * heads * width + 3 * inner)
    return int(min(MOST, max(LEAST, SHARE * free // each)))


def fitted(batching: Batching, causal: nn.Module, device: torch.device) -> Batching:
    """Return how rows go through a loaded model, where ``max_batch_tokens=auto`` leaves it open.

    On a CPU nothing is gained by more than the default. Whatever comes out changes memory and
    speed, and no result; what does not fit after all is halved.
    """
    if not batching.auto or device.type != "cuda":
        return batching
    free, _ = torch.cuda.mem_get_info(device)
    # What torch holds for itself and does not use is free, too.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    tokens = tokens_that_fit(causal, free)
    gib = free / 2**30
    logger.info("evaluation.max_batch_tokens=auto: %d, with %.1f GiB free", tokens, gib)
    return replace(batching, tokens=tokens)

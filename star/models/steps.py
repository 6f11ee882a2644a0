"""Cached steps that the host does not watch: static shapes, replayed from a CUDA graph.

Python has to ask for the hundreds of kernels of a step, and the GPU waits for it where they are
short. So tensors stay where they are, a graph of the kernels is replayed, and the host looks at the
tokens every few steps: a row that has met its stop token meanwhile runs on, and what it made behind
it is thrown away. What that saves nobody has measured; on a CPU the same steps run without a graph.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from star.errors import one_line
from star.models.distributed import Others
from star.models.language_model import LanguageModel
from star.models.packing import Cache

logger = logging.getLogger(__name__)

UNWATCHED = 16  # steps between two looks


def greedy(model: LanguageModel, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Return the (B,) likeliest next tokens behind (B, H) states, and their log-probabilities."""
    logits = model.logits(hidden)
    best, tokens = logits.max(-1)
    return tokens, best - logits.logsumexp(-1)


class Steps:
    """Greedy steps of the rows in a cache, each row's new token being fed to the next step.

    Args:
        model: In whichever view.
        cache: Of B rows, its shapes ``static``.
        tokens: (B,) what is fed first.
    """

    def __init__(self, model: LanguageModel, cache: Cache, tokens: Tensor) -> None:
        self._model, self._cache, self._fed = model, cache, tokens.clone()
        self._scored = torch.zeros(len(tokens), device=tokens.device)
        self._graph: Callable[[], object] | None = None
        self._tried = False

    def run(self, count: int) -> tuple[list[list[int]], NDArray[np.float64]]:
        """Return (B, count) new tokens, and their log-probabilities in nats."""
        tokens, scored = [], []
        for _ in range(count):
            (self._graph or self._step)()
            tokens.append(self._fed.clone())
            scored.append(self._scored.clone())
        if not self._tried:  # by now libraries have what they set up in their first call
            self._tried = True
            if Others.help is None:  # else each step asks the other processes
                self._graph = graph_of(self._step, self._fed.device)
            self._cache.break_off()  # what a capture noted was not computed
        made: list[list[int]] = torch.stack(tokens, 1).tolist()
        return made, torch.stack(scored, 1).double().cpu().numpy()

    def _step(self) -> None:
        hidden = self._model.step(self._fed, self._cache)
        self._cache.advance()
        tokens, scored = greedy(self._model, hidden)
        self._fed.copy_(tokens)
        self._scored.copy_(scored)


def graph_of(step: Callable[[], None], device: torch.device) -> Callable[[], object] | None:
    """Return what replays a step; ``None`` on a CPU, or where it asks the host for something."""
    if device.type != "cuda":
        return None
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            step()
    except RuntimeError as error:  # of code that is not ours
        logger.info("steps of this model are not replayed from a graph: %s", one_line(error))
        return None
    return graph.replay

"""The S passes of a round: other weights for the adapter, put in place one pass after the other.

What the weights of a pass are is said by what makes the passes: ``mc_dropout``, ``tfb`` or
``ensemble``. They are the same for every example and token, so that a pass is one sub-network, is
folded into the base weights where an adapter can be, and costs a bare forward pass. (Masks per
token, of MC dropout alone, are no weights: ``token_masks``.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from peft import PeftModel
from torch import Tensor

from star.errors import InputError
from star.models import adapter, merging
from star.models.batching import Batch
from star.models.token_masks import TokenMasks

SubNetwork = Callable[[int], Mapping[str, Tensor]]


class Passes:
    """S passes. Use inside ``with passes.installed():``.

    Attributes:
        count: S.
        kind: What messages call them.
        drawn: What decides their weights beside the adapter's, as JSON.
    """

    def __init__(
        self,
        adapted: PeftModel,
        count: int,
        sub_network: SubNetwork,
        *,
        kind: str,
        drawn: Mapping[str, Any],
        masks: TokenMasks | None = None,
    ) -> None:
        """Say what the passes are.

        Args:
            adapted: The model with its adapter.
            count: S.
            sub_network: A pass, 0 … S − 1, to the weights that it has in the place of the
                adapter's: name among ``adapted``'s parameters to values, the same names in all.
            kind: What messages call them.
            drawn: What decides those weights beside the adapter's, as JSON.
            masks: That every token draws in each pass, beside its weights.

        Raises:
            InputError: No adapter, or one that is merged into the base weights already.
        """
        self.count, self.kind, self.drawn = count, kind, dict(drawn)
        self._adapted, self._sub_network, self._masks = adapted, sub_network, masks
        layers = dict(adapter.layers(adapted))
        if not layers:
            raise InputError(f"{kind} needs an adapter, the model has none")
        for name, layer in layers.items():
            if layer.merged:
                raise InputError(f"{kind} needs an unmerged adapter, but {name} is merged")

    @contextmanager
    def installed(self) -> Iterator[Passes]:
        """Make ``select_pass`` work; weights and modules are restored at the end, come what may."""
        self._parameters = dict(self._adapted.named_parameters())
        self._own: dict[str, Tensor] = {}
        self._pass: int | None = None
        self._way = merging.way_of(self._adapted.get_base_model(), masked=self._masks is not None)
        try:
            masks = self._masks.installed() if self._masks else nullcontext()
            with masks, self._way or nullcontext():
                yield self
        finally:
            for name, values in self._own.items():
                self._parameters[name].data = values

    def select_pass(self, pass_: int) -> None:
        """Make the next forward passes those of the ``pass_``-th sub-network, 0 … S − 1."""
        if self._pass == pass_:
            return
        self._pass = pass_
        for name, values in self._sub_network(pass_).items():
            parameter = self._parameters[name]
            self._own.setdefault(name, parameter.data)
            parameter.data = values
        if self._way is not None:
            self._way.set()

    def set_batch(self, batch: Batch) -> None:
        """Say which rows the next forward pass sees; masks per token are functions of that."""
        if self._masks is not None:
            assert self._pass is not None
            self._masks.set_batch(self._pass, batch)

    def check_spread(self, scores: np.ndarray) -> None:
        """Raise ``InputError`` if the S passes gave every example the same score.

        Args:
            scores: (N, S). An adapter that has learned (B ≠ 0) moves some score, unless what it
                adds is lost in rounding.
        """
        if scores.shape[0] and scores.shape[1] > 1 and (scores == scores[:, :1]).all():
            passes = f"{self.kind.replace(' ', '-')} passes"
            raise InputError(
                f"all {scores.shape[1]} {passes} gave equal scores: the adapter has not been "
                "trained, or moves less than the model's dtype can tell; train it longer or at a "
                "higher rate, or go without passes"
            )


def matrix_a(layer: str) -> str:
    """Return the name of an adapted module's A among the parameters."""
    return f"{layer}.lora_A.{adapter.NAME}.weight"

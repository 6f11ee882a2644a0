"""One view's scores of some examples, and how they are kept in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from star.acquisition.scores import reduced
from star.models.stored_rows import Ragged

Array = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """One view's scores of N examples.

    Attributes:
        sums: Measure name to (N, S) sums over the continuation's tokens.
        num_tokens: (N,) tokens of the continuation; 1 where the choices are scored.
        continuations: N lists of token ids that were scored; empty ones where the choices are.
        tokens: Logical work of making it: tokens through the model, cached or not.
        log_probs: (N, S, C) log-probabilities of the choices, in nats; ``None`` where none are
            scored.
    """

    sums: dict[str, Array]
    num_tokens: NDArray[np.int64]
    continuations: Ragged
    tokens: int
    log_probs: Array | None = None

    def score(self, measure: str, reduction: str) -> Array:
        """Return (N,) scores: the mean over the passes, summed or averaged over the tokens."""
        return reduced(self.sums[measure], self.num_tokens, reduction)

    def at(self, places: ArrayLike) -> View:
        """Return the view of some examples, by their positions."""
        places = np.asarray(places, dtype=np.int64)
        return View(
            {name: value[places] for name, value in self.sums.items()},
            self.num_tokens[places],
            Ragged(self.continuations[i] for i in places.tolist()),
            self.tokens,
            None if self.log_probs is None else self.log_probs[places],
        )

    def arrays(self) -> dict[str, Any]:
        """Return all of it as arrays by name, for an ``.npz`` file."""
        return {
            **{f"sum_{name}": value for name, value in self.sums.items()},
            "num_tokens": self.num_tokens,
            "tokens": np.array(self.tokens),
            "flat": self.continuations.tokens,
            "ends": self.continuations.ends,
            **({} if self.log_probs is None else {"log_probs": self.log_probs}),
        }

    @classmethod
    def of(cls, arrays: Mapping[str, Any], count: int) -> View:
        """Return the view of ``count`` examples that these arrays are, others among them or not.

        Raises:
            KeyError: One is missing.
            ValueError: They are of another number of examples.
        """
        ends, flat = arrays["ends"], arrays["flat"]
        view = cls(
            {k.removeprefix("sum_"): v for k, v in arrays.items() if k.startswith("sum_")},
            arrays["num_tokens"],
            Ragged(flat[start:end] for start, end in pairwise(ends)),
            int(arrays["tokens"]),
            arrays.get("log_probs"),
        )
        tables = (*view.sums.values(), view.num_tokens, view.continuations)
        counts = {len(t) for t in (*tables, *([] if view.log_probs is None else [view.log_probs]))}
        if counts != {count}:
            raise ValueError(f"it holds scores of {sorted(counts)} examples, not of {count}")
        return view

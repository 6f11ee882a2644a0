"""What a strategy has to say that it looks at, because it costs a run something."""

from __future__ import annotations

from collections.abc import Mapping

OUTCOMES = "outcomes"
NEEDS: Mapping[str, tuple[str, ...]] = {
    "scores": (),
    "log_probs": ("scores",),
    "history": ("scores",),
    "embeddings": (),
    OUTCOMES: (),
}
"""A word to the words that come with it:

- ``scores``: the pool is scored under both views.
- ``log_probs``: of the choices, kept with the scores.
- ``history``: what a query buys is answered by the model of that round before it is trained on.
- ``embeddings``: of the prompts, made when they are asked for, and kept.
- ``outcomes``: what training on a batch would give, labels being read for it: not for functions of
  one's own.

Prompts, and what is labelled with its answers, are there without asking.
"""


def needs(*words: str) -> frozenset[str]:
    """Return words of ``NEEDS`` with all that comes with them."""
    return frozenset(words).union(*(NEEDS[word] for word in words))

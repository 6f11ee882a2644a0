"""Scores of continuations token by token, where ``likelihood`` sums them up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from star.models import likelihood
from star.models.batching import Batch
from star.models.encoding import TokenRow
from star.models.language_model import LanguageModel
from star.models.likelihood import Array, Reduction, chunks
from star.models.passes import Passes
from star.models.row_batches import run_batches

OF_TOKENS = {"token_nll": likelihood.NLL, "token_entropy": "max_entropy"}  # as _reduced calls them


def each_token(
    model: LanguageModel,
    rows: Sequence[TokenRow],
    reduction: Reduction,
    *,
    passes: Passes | None = None,
    desc: str = "score",
) -> dict[str, list[Array]]:
    """Return what ``reduction`` makes of each continuation token.

    Arguments and errors as for :func:`star.models.likelihood.token_scores`.

    Returns:
        Name to N arrays (S, T) of a row's T tokens.
    """
    longest = max(len(row.continuation) for row in rows)

    def spread(batch: Batch, hidden: Tensor) -> dict[str, Array]:
        """Return (B, longest) values, 0 behind a row's end."""
        owner = np.repeat(np.arange(len(batch.counts)), batch.counts)
        place = np.concatenate([np.arange(count) for count in batch.counts])
        tables: dict[str, Array] = {}
        for part in chunks(model, hidden):
            values = reduction(model.logits(hidden[part]), batch.targets[part])
            for name, value in values.items():
                table = tables.setdefault(name, np.zeros((len(batch.counts), longest)))
                table[owner[part], place[part]] = value.double().cpu().numpy()
        return tables

    found = run_batches(model, rows, passes, spread, None, desc, what="each token")
    return {
        name: [values[:, : len(row.continuation)] for values, row in zip(table, rows, strict=True)]
        for name, table in found.items()
    }


def totals(each: Mapping[str, Sequence[Array]]) -> dict[str, Array]:
    """Return (N, S) sums over the tokens, added one after the other as ``likelihood`` does."""
    return {
        name: np.stack([value.cumsum(axis=1)[:, -1] for value in values])
        for name, values in each.items()
    }


def measured(
    loaded: LanguageModel, rows: Sequence[TokenRow], tokens: bool, passes: Passes | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return −log p and entropy of N continuations, in nats.

    Args:
        loaded: The model, in whichever view.
        rows: N rows.
        tokens: Whether each token's are wanted.
        passes: As for :func:`each_token`.

    Returns:
        (N, S) sums over the tokens; and, if wanted, ``token_nll`` and ``token_entropy``, each N
        arrays (S, T).
    """
    if not tokens:
        return likelihood.token_scores(loaded, rows, _reduced, passes=passes), {}
    each = each_token(loaded, rows, _reduced, passes=passes)
    return totals(each), {name: each[key] for name, key in OF_TOKENS.items()}


def _reduced(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Return −log p of (P,) targets and the entropy of (P, V) logits, which are overwritten.

    One exponential a word: x the logits less their maximum, Z = Σ e^x, H = log Z − Σ x·e^x/Z.
    """
    shifted = logits.sub_(logits.max(-1, keepdim=True).values)
    weights = shifted.exp()
    total = weights.sum(-1)
    log_total = total.log()
    of_targets = shifted.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    inner = shifted.mul_(weights).sum(-1)
    if inner.isnan().any():  # a word that is ruled out has 0 · −∞ there, which is 0
        inner = shifted.nan_to_num_(nan=0.0).sum(-1)
    return {likelihood.NLL: log_total - of_targets, "max_entropy": log_total - inner / total}

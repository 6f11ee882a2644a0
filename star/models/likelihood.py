"""Scores of continuations under the model in view, in row order: sums of what logits reduce to.

Each quantity is computed once: rows of like length share a batch without padding, the vocabulary
head is applied at continuation positions only and in chunks, an adapter is merged into the weights
once a pass. No autograd, no mask of the base model's own: what a row scores depends on the row, the
weights and, where there are passes, the pass alone. Memory does not grow with the pool beyond its
tokens and S sums a measure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from star.models.batching import Batch
from star.models.encoding import TokenRow
from star.models.language_model import LanguageModel
from star.models.passes import Passes
from star.models.row_batches import Array, run_batches
from star.models.stored_rows import Rows

# Logits held at once, in elements: 2^23 float32 are 32 MiB, and still enough rows for a fast
# matrix product.
CHUNK_ELEMENTS = 2**23


Reduction = Callable[[Tensor, Tensor], dict[str, Tensor]]


def token_scores(
    model: LanguageModel,
    rows: Sequence[TokenRow],
    reduction: Reduction,
    *,
    passes: Passes | None = None,
    over_passes: Callable[[Tensor], dict[str, Tensor]] | None = None,
    desc: str = "score",
) -> dict[str, Array]:
    """Return what ``reduction`` makes of each continuation token, summed over a row's tokens.

    Args:
        model: With the adapter on or off; without dropout unless ``passes`` are given.
        rows: N rows with a continuation of at least one token.
        reduction: (P, V) logits, which it may overwrite, and the (P,) tokens to names and (P,)
            values.
        passes: Installed passes; ``None`` is one deterministic pass (S = 1).
        over_passes: Also of all passes at once: (S, P, V) log-probabilities to names and (P,)
            values.
        desc: What the bar says, if there is one.

    Returns:
        Name to (N, S) sums over tokens, (N, 1) of ``over_passes``.

    Raises:
        InputError: A score is NaN or infinite (names the row).
    """

    def one_pass(batch: Batch, hidden: Tensor) -> dict[str, Array]:
        sums = _Sums(batch)
        for place in chunks(model, hidden):
            sums.add(place, reduction(model.logits(hidden[place]), batch.targets[place]))
        return sums.totals

    def all_passes(batch: Batch, hidden: Tensor) -> dict[str, Array]:
        assert over_passes is not None
        sums = _Sums(batch)
        for place in chunks(model, hidden[0], hidden.shape[0]):
            sums.add(place, over_passes(model.log_probs(hidden[:, place])))
        return sums.totals

    together = all_passes if over_passes else None
    what = [_named(reduction), over_passes and _named(over_passes)]
    return run_batches(model, rows, passes, one_pass, together, desc, what=what)


def _named(function: Callable[..., Any]) -> list[Any]:
    """Return what a reduction is called, and the settings that it has, as JSON."""
    if isinstance(function, partial):
        return [*_named(function.func), function.args, function.keywords]
    return [function.__module__, function.__qualname__]


def nll(model: LanguageModel, rows: Sequence[TokenRow], **options: Any) -> Array:
    """Return (N, S) negative log-likelihoods of the continuations, −Σ log p, in nats.

    Arguments as for :func:`token_scores`, without a reduction.
    """
    return token_scores(model, rows, _nll, **options)[NLL]


NLL = "predictive_entropy"  # the paper's name, by which a message calls it


def _nll(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    shifted = logits.sub_(logits.max(-1, keepdim=True).values)
    of_targets = shifted.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return {NLL: shifted.exp_().sum(-1).log() - of_targets}


def choice_log_probs(
    model: LanguageModel, rows: Sequence[Sequence[TokenRow]], **options: Any
) -> Array:
    """Return the normalised log-likelihoods of each example's choices, in nats: (N, S, C).

    ``p(c | x) = exp ℓ_c / Σ_c' exp ℓ_c'`` with ℓ_c the summed log-likelihood of the choice's
    tokens. Arguments as for :func:`choice_scores`.
    """
    return normalised(choice_scores(model, rows, **options))


def normalised(scores: Array, num_tokens: NDArray[np.int64] | None = None) -> Array:
    """Return (N, S, C) log-probabilities of choices, which sum to 1 over C, in nats.

    Args:
        scores: (N, S, C) from :func:`choice_scores`.
        num_tokens: (N, C) tokens of each choice, its end included where it is closed, to compare
            the mean log-likelihoods of a token; ``None`` compares the sums.
    """
    if num_tokens is not None:
        scores = scores / num_tokens[:, None, :]
    return torch.from_numpy(np.ascontiguousarray(scores)).log_softmax(-1).numpy()


def choice_scores(
    model: LanguageModel,
    rows: Sequence[Sequence[TokenRow]],
    *,
    passes: Passes | None = None,
    desc: str = "score",
) -> Array:
    """Return the summed log-likelihoods of each example's choices, to compare them: (N, S, C).

    In nats. Where the choices of every example differ in their last token alone, their common
    beginning cancels in any comparison, and so does the sum over the vocabulary: one forward pass
    serves all of them, and the head's rows of the C tokens are enough. What is returned then lacks
    a number that all choices of an example and pass have in common.

    Args:
        model: With the adapter on or off.
        rows: (N, C) rows; the C rows of an example share its prompt.
        passes: Installed passes; ``None`` is one deterministic pass (S = 1).
        desc: What the bar says, if there is one.
    """
    if not rows:
        return np.zeros((0, passes.count if passes else 1, 0))
    if all(differ_in_last_token(group) for group in rows):
        # The target of a row stands for its place in `rows`, which is all its candidates hang on.
        heads = Rows(_last_only(group[0], place) for place, group in enumerate(rows))
        last = (row.continuation[-1] for group in rows for row in group)
        tokens, column = np.unique(np.fromiter(last, dtype=np.int64), return_inverse=True)
        words = torch.from_numpy(tokens).to(model.device)
        wanted = torch.from_numpy(column.reshape(len(rows), -1))

        def candidates(batch: Batch, hidden: Tensor) -> dict[str, Array]:
            logits = model.logits(hidden, words)  # (B, W)
            mine = logits.gather(-1, wanted[batch.targets.cpu()].to(logits.device))
            return {str(c): v for c, v in enumerate(mine.double().cpu().numpy().T)}

        asked = hashlib.sha256(tokens.tobytes() + column.tobytes()).hexdigest()
        found = run_batches(model, heads, passes, candidates, None, desc, what=["choices", asked])
        return np.stack([found[str(c)] for c in range(len(rows[0]))], axis=-1)
    flat = Rows(row for group in rows for row in group)
    lost = nll(model, flat, passes=passes, desc=desc)  # (N * C, S)
    return -lost.reshape(len(rows), len(rows[0]), -1).transpose(0, 2, 1)


def differ_in_last_token(group: Sequence[TokenRow]) -> bool:
    """Whether an example's choices are alike but for their last token, of which each has one."""
    heads = {row.continuation[:-1] for row in group}
    return len(heads) == 1 and all(row.continuation for row in group)


def _last_only(row: TokenRow, place: int) -> TokenRow:
    """Return the row with all but the continuation's last token counted to the prompt."""
    return TokenRow(row.index, row.prompt + row.continuation[:-1], (place,))


class _Sums:
    """Sums over the tokens of each row of a batch, in float64."""

    def __init__(self, batch: Batch) -> None:
        self._rows = len(batch.counts)
        self._owner = torch.repeat_interleave(torch.tensor(batch.counts))
        self.totals: dict[str, Array] = {}

    def add(self, place: slice, values: dict[str, Tensor]) -> None:
        """Add (p,) values of the tokens at ``place``."""
        for name, value in values.items():
            total = self.totals.setdefault(name, np.zeros(self._rows))
            torch.from_numpy(total).index_add_(0, self._owner[place], value.double().cpu())


def chunks(model: LanguageModel, hidden: Tensor, passes: int = 1) -> Iterator[slice]:
    """Yield slices of the (P, H) hidden states' positions, for the head."""
    step = max(1, CHUNK_ELEMENTS // (model.vocabulary * passes))
    for start in range(0, len(hidden), step):
        yield slice(start, min(start + step, len(hidden)))

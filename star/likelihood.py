"""Scores of continuations under the model in view: one forward pass, all measures, row order.

The vocabulary head is applied at continuation positions only and in chunks, so memory does not grow
with prompt length or pool size. No autograd, no mask of the base model's own: what a row scores
depends on the row, the weights and, with MC dropout, the pass alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from star import uncertainty
from star.distributed import collect, is_main, share
from star.encoding import TokenRow, length_batches, pad
from star.errors import InputError
from star.mc_dropout import Passes
from star.models import LanguageModel

Array = NDArray[np.float64]

# Log-probabilities held at once, in elements: 2^25 float32 are 128 MiB.
CHUNK_ELEMENTS = 2**25


@dataclass(frozen=True)
class _Batch:
    rows: list[int]  # (B,) positions in the caller's list
    counts: list[int]  # (B,) continuation tokens of each row
    targets: Tensor  # (P,) continuation token ids, row after row
    hidden: Tensor  # (S, P, H) hidden states that predict them


def token_scores(
    model: LanguageModel,
    rows: Sequence[TokenRow],
    *,
    batch_size: int,
    passes: Passes | None = None,
    bald: bool = False,
    entropy_floor: float = 0.0,
    progress: bool = False,
    desc: str = "score",
) -> dict[str, Array]:
    """Return every measure of every row's continuation, summed over its tokens.

    Args:
        model: With the adapter on or off; without dropout unless ``passes`` are given.
        rows: N rows with a continuation of at least one token.
        batch_size: Rows in a forward pass; changes no ranking.
        passes: Installed MC-dropout passes; ``None`` is one deterministic pass (S = 1).
        bald: Also the mutual information over the passes, shape (N, 1).
        entropy_floor: Of ``max_entropy``, see there.
        progress: Show a bar with tokens per second.
        desc: What the bar says.

    Returns:
        Measure name to (N, S) sums over tokens: nats for the entropies, else unit-less.

    Raises:
        InputError: A score is NaN or infinite (names the row).
    """

    def reduce(batch: _Batch) -> dict[str, Array]:
        owner = torch.repeat_interleave(torch.tensor(batch.counts)).to(model.device)
        size = (batch.hidden.shape[0], len(batch.rows))
        sums = {m: torch.zeros(size, dtype=torch.float64) for m in uncertainty.MEASURES}
        if bald:
            sums["bald"] = torch.zeros((1, len(batch.rows)), dtype=torch.float64)
        for place, log_probs in _chunks(model, batch.hidden):
            targets = batch.targets[place].expand(log_probs.shape[:-1])
            values = uncertainty.all_measures(log_probs, targets, entropy_floor)
            if bald:
                values["bald"] = uncertainty.bald(log_probs).unsqueeze(0)
            for name, value in values.items():
                sums[name].index_add_(1, owner[place].cpu(), value.double().cpu())
        return {name: total.numpy() for name, total in sums.items()}

    return _run(model, rows, batch_size, passes, reduce, progress, desc)


def choice_log_probs(
    model: LanguageModel,
    rows: Sequence[Sequence[TokenRow]],
    *,
    batch_size: int,
    passes: Passes | None = None,
    progress: bool = False,
    desc: str = "score",
) -> Array:
    """Return the normalised log-likelihoods of each example's choices, in nats: (N, S, C).

    ``p(c | x) = exp ℓ_c / Σ_c' exp ℓ_c'`` with ℓ_c the summed log-likelihood of the choice's
    tokens. Where the choices differ in their last token alone, their common beginning cancels and
    one forward pass serves all of them.

    Args:
        model: With the adapter on or off.
        rows: (N, C) rows; the C rows of an example share its prompt.
        batch_size: Rows in a forward pass.
        passes: Installed MC-dropout passes; ``None`` is one deterministic pass (S = 1).
        progress: Show a bar.
        desc: What the bar says.
    """
    if not rows:
        return np.zeros((0, passes.count if passes else 1, 0))
    if all(_differ_in_last_token(group) for group in rows):
        candidates = torch.tensor([[r.continuation[-1] for r in group] for group in rows])
        heads = [_last_only(group[0]) for group in rows]

        def reduce(batch: _Batch) -> dict[str, Array]:
            wanted = candidates[batch.rows].to(model.device)
            parts = [
                log_probs.gather(-1, wanted[place].expand(log_probs.shape[0], -1, -1))
                for place, log_probs in _chunks(model, batch.hidden)
            ]
            values = torch.cat(parts, dim=1).double().cpu().numpy()  # (S, B, C)
            return {str(c): values[..., c] for c in range(values.shape[-1])}

        found = _run(model, heads, batch_size, passes, reduce, progress, desc)
        scores = np.stack([found[str(c)] for c in range(len(rows[0]))], axis=-1)
    else:
        flat = [row for group in rows for row in group]
        found = token_scores(
            model, flat, batch_size=batch_size, passes=passes, progress=progress, desc=desc
        )
        nll = found["predictive_entropy"]  # (N * C, S)
        scores = -nll.reshape(len(rows), len(rows[0]), -1).transpose(0, 2, 1)
    return torch.from_numpy(np.ascontiguousarray(scores)).log_softmax(-1).numpy()


def choice_measures(log_probs: Array, *, entropy_floor: float = 0.0) -> dict[str, Array]:
    """Return every measure of a distribution over choices, one position: (N, S, C) to (N, S).

    The response that ``predictive_entropy`` scores is the choice each pass itself likes best.
    """
    tensor = torch.from_numpy(log_probs)
    best = tensor.argmax(-1)
    found = uncertainty.all_measures(tensor, best, entropy_floor)
    measures = {name: value.numpy() for name, value in found.items()}
    if log_probs.shape[1] > 1:
        measures["bald"] = uncertainty.bald(tensor.transpose(0, 1)).unsqueeze(-1).numpy()
    return measures


def _differ_in_last_token(group: Sequence[TokenRow]) -> bool:
    heads = {row.continuation[:-1] for row in group}
    return len(heads) == 1 and all(row.continuation for row in group)


def _last_only(row: TokenRow) -> TokenRow:
    """Return the row with all but the continuation's last token counted to the prompt."""
    return TokenRow(row.index, row.prompt + row.continuation[:-1], row.continuation[-1:])


def _chunks(model: LanguageModel, hidden: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield (positions, log-probabilities (S, p, V)) over (S, P, H) hidden states."""
    passes, positions, _ = hidden.shape
    vocabulary = model.causal.get_output_embeddings().weight.shape[0]
    step = max(1, CHUNK_ELEMENTS // (vocabulary * passes))
    for start in range(0, positions, step):
        place = slice(start, min(start + step, positions))
        yield place, model.log_probs(hidden[:, place])


@torch.inference_mode()
def _run(
    model: LanguageModel,
    rows: Sequence[TokenRow],
    batch_size: int,
    passes: Passes | None,
    reduce: Any,
    progress: bool,
    desc: str,
) -> dict[str, Array]:
    """Run ``reduce`` on batches of like length, shared among processes; results in row order."""
    mine = share(len(rows))
    done: dict[int, dict[str, Array]] = {}
    bar = tqdm(
        total=sum(len(rows[i]) for i in mine) * (passes.count if passes else 1),
        desc=desc,
        unit="tok",
        unit_scale=True,
        leave=False,
        disable=not progress or not is_main(),
    )
    for places in length_batches([len(rows[i]) for i in mine], batch_size):
        batch = _forward(model, rows, [mine[i] for i in places], passes)
        values = reduce(batch)  # name to (S, B)
        for column, position in enumerate(batch.rows):
            one = {name: value[:, column] for name, value in values.items()}
            _require_finite(one, rows[position])
            done[position] = one
        bar.update(sum(len(rows[i]) for i in batch.rows) * batch.hidden.shape[0])
    bar.close()
    ordered = collect(done, len(rows))
    names = ordered[0].keys() if ordered else ()
    return {name: np.stack([one[name] for one in ordered]) for name in names}


def _forward(
    model: LanguageModel, rows: Sequence[TokenRow], places: list[int], passes: Passes | None
) -> _Batch:
    chosen = [rows[i] for i in places]
    # The last token predicts nothing that is asked for, so it is not fed.
    ids = pad([(r.prompt + r.continuation)[:-1] for r in chosen], model.pad_id).to(model.device)
    owner = [b for b, r in enumerate(chosen) for _ in r.continuation]
    position = [len(r.prompt) - 1 + j for r in chosen for j in range(len(r.continuation))]
    hidden = []
    for s in range(passes.count if passes else 1):
        if passes:
            passes.begin(s, [r.index for r in chosen], ids.shape[1])
        hidden.append(model.hidden(ids)[owner, position])
    return _Batch(
        rows=places,
        counts=[len(r.continuation) for r in chosen],
        targets=torch.tensor([t for r in chosen for t in r.continuation], device=model.device),
        hidden=torch.stack(hidden),
    )


def _require_finite(values: dict[str, Array], row: TokenRow) -> None:
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise InputError(
                f"score {name} of row {row.index} is {value.tolist()}; the model's output is not "
                "finite (lower train.learning_rate, or use float32 or bfloat16)"
            )

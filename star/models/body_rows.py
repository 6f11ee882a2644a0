"""A batch on its way into a classification model of transformers: padded, or its rows end to end.

A head there takes padded rows: it pools the first place, or the last one that is no padding. So it
is called on a padded batch either way; of a packed one the rows are laid end to end on the body's
doorstep, and what comes out of the body is padded again. The body is nearly all of the work, and an
update of short texts, drawn at random, is more than half padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from star.models import packing
from star.models.batching import Batch


def inputs(batch: Batch, behind: int | None) -> dict[str, Any]:
    """Return what a body takes of a batch, and of a padded one its head too.

    Args:
        batch: Padded, each text to be seen to its end; or packed.
        behind: Of a packed one: the padding token, where positions are counted from behind it and
            it has none of its own, wherever it stands, as in RoBERTa; ``None``: they are places.
    """
    if not batch.runs:
        width, ends = batch.ids.shape[1], torch.tensor(batch.counts).cumsum(0) - 1
        last = batch.predicting[ends.to(batch.predicting.device)] % width
        seen = torch.arange(width, device=batch.ids.device) <= last.unsqueeze(1)
        return {"input_ids": batch.ids, "attention_mask": seen.long()}
    return {
        "input_ids": batch.ids,
        "attention_mask": None,
        "position_ids": batch.positions if behind is None else _counted(batch, behind),
        "star_rows": packing.Layout(batch, one_way=False),
    }


def _counted(batch: Batch, pad_id: int) -> Tensor:
    """Return (1, T) positions by ``create_position_ids_from_input_ids`` of transformers."""
    counts = (batch.ids != pad_id).long()
    return batch.row_sums(counts) * counts + pad_id


@contextmanager
def doorstep(
    body: nn.Module, batch: Batch, *, behind: int | None, pad_id: int
) -> Iterator[dict[str, Tensor]]:
    """Let a body take a batch as it is while the context lasts; yield what its head is to be given.

    Raises:
        NotPackable: Later, from the body: its head hands it more than ids, or it gives no states.
    """
    if not batch.runs:
        yield inputs(batch, behind)
        return
    ends = torch.tensor(batch.lengths, device=batch.ids.device)
    seen = torch.arange(max(batch.lengths), device=ends.device) < ends.unsqueeze(1)  # (B, W)
    ids = batch.ids.new_full(seen.shape, pad_id)
    ids[seen] = batch.ids[0]
    places = seen.flatten().nonzero().squeeze(1)

    def enter(_: nn.Module, args: tuple[Any, ...], words: dict[str, Any]) -> Any:
        if len(args) > 1:
            raise packing.NotPackable(f"the head hands its body {len(args)} things without a name")
        return (), words | inputs(batch, behind)

    def leave(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if not isinstance(output, ModelOutput):
            raise packing.NotPackable(f"{type(body).__name__} gives a {type(output).__name__}")
        states = output["last_hidden_state"][0]  # (T, H)
        wide = states.new_zeros(seen.numel(), states.shape[1]).index_copy(0, places, states)
        output["last_hidden_state"] = wide.unflatten(0, seen.shape)
        if output.get("pooler_output") is not None:
            pooler: Any = body.pooler
            output["pooler_output"] = pooler(output["last_hidden_state"])
        return output

    hooks = [
        body.register_forward_pre_hook(enter, with_kwargs=True),
        body.register_forward_hook(leave),
    ]
    try:
        yield {"input_ids": ids, "attention_mask": seen.long()}
    finally:
        for hook in hooks:
            hook.remove()

"""Text to token ids: prompt and continuation, the truncation rule, padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from star.errors import InputError


@dataclass(frozen=True)
class TokenRow:
    """A prompt and a continuation as token ids.

    Attributes:
        index: The row in its stored split.
        prompt: At least one token id, special tokens of the model at the start included.
        continuation: Token ids that are scored or trained on; may be empty before generation.
    """

    index: int
    prompt: tuple[int, ...]
    continuation: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.prompt) + len(self.continuation)


def encode(
    tokenizer: Any, prompts: Sequence[str], continuations: Sequence[str], *, eos: bool
) -> list[TokenRow]:
    """Return one ``TokenRow`` for each prompt and continuation; ``index`` counts from 0.

    The ids are those of the joined text, split where the prompt ends. Where the tokenizer merges
    characters across that border (a prompt's ids are not the start of the joined ids), prompt and
    continuation are encoded apart, so that the prompt a model sees never depends on the answer.

    Special tokens that stand in a text (``</s>``, ``<|im_start|>``) are read as such, in prompts
    and continuations, as chat templates need it and as Hugging Face's tokenizers do by themselves.
    A prompt that begins with what the tokenizer puts in front of every text, its
    beginning-of-sequence token, gets no second one.

    Args:
        tokenizer: A Hugging Face tokenizer.
        prompts: (N,) texts.
        continuations: (N,) texts.
        eos: Append the end-of-sequence token to each continuation (training targets).
    """
    if not prompts:
        return []
    start, _ = marks(tokenizer)
    whole = [p + c for p, c in zip(prompts, continuations, strict=True)]
    texts = dict.fromkeys([*prompts, *whole])  # choices share a prompt, and a bare one is whole
    ids_of = dict(zip(texts, _ids(tokenizer, list(texts), special=True), strict=True))
    heads, joined = ([list(ids_of[text]) for text in part] for part in (prompts, whole))
    for head, both in zip(heads, joined, strict=True):
        if start and head[: 2 * len(start)] == start * 2:
            # By the prompt alone: the start of an empty one's continuation is the continuation's.
            del head[: len(start)]
            if both[: 2 * len(start)] == start * 2:
                del both[: len(start)]
    alone = None
    rows = []
    for i, (head, both) in enumerate(zip(heads, joined, strict=True)):
        if both[: len(head)] == head:
            tail = both[len(head) :]
        else:
            alone = alone or _ids(tokenizer, list(continuations), special=False)
            tail = alone[i]
        if not head:  # an empty prompt still needs a token that predicts the first one
            first = tokenizer.bos_token_id
            head = [tokenizer.eos_token_id if first is None else first]
        rows.append(
            TokenRow(i, tuple(head), tuple(tail) + ((tokenizer.eos_token_id,) if eos else ()))
        )
    return rows


def marks(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return what the tokenizer puts in front of every text, and behind it, by itself."""
    whole, bare = (tokenizer("a", add_special_tokens=add)["input_ids"] for add in (True, False))
    for start in range(len(whole) - len(bare) + 1):
        stop = start + len(bare)
        if whole[start:stop] == bare:
            return whole[:start], whole[stop:]
    return [], []


def _ids(tokenizer: Any, texts: list[str], *, special: bool) -> list[list[int]]:
    # Not verbose: what is too long is cut behind, and said by who cuts it.
    told = tokenizer(texts, add_special_tokens=special, verbose=False)
    encoded: list[list[int]] = told["input_ids"]
    # Some tokenizers append the end token by themselves; here its place is said by `eos` alone.
    # One that stands in the text (a chat prompt's) is not theirs and stays.
    if special and marks(tokenizer)[1] == [tokenizer.eos_token_id]:
        return [ids[:-1] for ids in encoded]
    return encoded


@dataclass(frozen=True)
class Truncated:
    """Rows after the truncation rule, and what it did: positions of rows cut or left out."""

    rows: list[TokenRow]
    truncated: list[int]
    dropped: list[int]


def last_tokens(prompt: tuple[int, ...], room: int) -> tuple[int, ...]:
    """Return a prompt cut from the left: its end asks the question."""
    return prompt[-room:]


def truncate(
    rows: Sequence[TokenRow],
    *,
    max_length: int,
    reserve: int,
    overlong: str,
    shortened: Callable[[tuple[int, ...], int], tuple[int, ...]] = last_tokens,
    named: Callable[[int], str] = "row {}".format,
) -> Truncated:
    """Apply ``task.overlong`` to rows that do not fit ``max_length`` tokens.

    Args:
        rows: Prompt and continuation.
        max_length: Tokens that the model (or ``train.max_length``) allows in all.
        reserve: Tokens to keep free behind the prompt for an answer still to be generated.
        overlong: ``truncate`` cuts the prompt from the left (its end asks the question) and, where
            that is not enough, the continuation from the right; ``drop`` leaves the row out;
            ``error`` refuses.
        shortened: A prompt and how many of its tokens there is room for, to the cut prompt.
        named: What a message calls a row, by its index.

    Raises:
        InputError: ``error``, and a row is too long; or ``reserve`` leaves no room for a prompt.
    """
    if reserve >= max_length:
        raise InputError(
            f"evaluation.max_new_tokens={reserve} leaves no room for a prompt in the model's "
            f"{max_length} tokens; lower it"
        )
    kept, truncated, dropped = [], [], []
    for position, row in enumerate(rows):
        tail = max(len(row.continuation), reserve)
        if len(row.prompt) + tail <= max_length:
            kept.append(row)
        elif overlong == "error":
            raise InputError(
                f"{named(row.index)} is longer than the {max_length - tail} tokens that a prompt "
                "may have beside its answer; shorten it, or set task.overlong to truncate or drop"
            )
        elif overlong == "drop":
            dropped.append(position)
        else:
            truncated.append(position)
            room = max(1, max_length - tail)
            kept.append(
                replace(
                    row,
                    prompt=shortened(row.prompt, room),
                    continuation=row.continuation[: max_length - min(room, len(row.prompt))],
                )
            )
    return Truncated(kept, truncated, dropped)


def pad(sequences: Sequence[Sequence[int]], pad_id: int, *, left: bool = False) -> Tensor:
    """Return (B, T) token ids, padded on the right, or on the left for generation."""
    width = max(len(s) for s in sequences)
    out = torch.full((len(sequences), width), pad_id, dtype=torch.long)
    for row, ids in zip(out, sequences, strict=True):
        place = slice(width - len(ids), None) if left else slice(len(ids))
        row[place] = torch.tensor(ids, dtype=torch.long)
    return out

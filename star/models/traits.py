"""What a model's configuration says of how far its layers look: windows, state, RoPE by length.

A fault here is silent (a neighbour's tokens in a row's scores), and a trial run cannot show a
window of thousands of tokens. So the configuration's own words decide first, and a trial
(``isolation``) has only the last word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn

# Layers that look at the tokens before them as a mask says, or at each token alone. All others,
# known or not, are taken for ones that hand a state on or choose among all tokens of the line.
MASKED = {"attention", "full_attention", "sliding_attention", "chunked_attention"}
MASKED |= {"global", "local"}  # GPT-Neo
STATEFUL = {"linear_attention", "mamba", "conv"}
TOKENWISE = {"dense", "sparse", "moe", "mlp"}
# Words with "window" in them that are no number of tokens.
NO_WINDOW = ("pattern", "layers", "kernel", "num")
# Names of a limit to the positions; GPT-2's and others' are aliases of the first.
POSITIONS = ("max_position_embeddings", "max_seq_len", "max_sequence_length", "n_positions")


@dataclass(frozen=True)
class Traits:
    """How far the layers look.

    Attributes:
        window: Tokens of the longest row that no window or chunk of any layer cuts; ``None``: there
            is neither.
        turn: Rows of more tokens have another RoPE, at all of their positions (LongRoPE, NTK);
            ``None``: a position's RoPE hangs on the position alone.
        maskable: A mask keeps rows apart, and padding on the left away. Not so where layers hand a
            state on (recurrent ones, convolutions) or choose among all tokens (indexed attention).
        chunked: Attention within chunks that are counted from the first place.
        cached: transformers' ``generate`` can keep what it has read. Not so where no layer attends:
            its cache cannot tell then how much that is.
        uneven: Rows of up to so many tokens share a batch with rows as long alone: what fills a
            batch would show (``isolation``).
    """

    window: int | None = None
    turn: int | None = None
    maskable: bool = True
    chunked: bool = False
    cached: bool = True
    uneven: int = 0

    @cached_property
    def cuts(self) -> tuple[int, ...]:
        """Lengths above which a row is treated otherwise; a batch has rows of one side only."""
        ends = {cut for cut in (self.window, self.turn) if cut is not None}
        return tuple(sorted(ends.union(range(self.uneven))))


def text_config(causal: nn.Module) -> Any:
    """Return the configuration of the part that reads text; most models have only that."""
    config: Any = causal.config
    return config.get_text_config()


def traits_of(causal: nn.Module) -> Traits:
    """Return what the configuration of a causal LM says."""
    words: dict[str, Any] = text_config(causal).to_dict()
    windows = [
        value
        for name, value in words.items()
        if ("window" in name or name == "attention_chunk_size")
        and not any(part in name for part in NO_WINDOW)
        and type(value) is int
        and value > 0
    ]
    kinds = set(_layer_kinds(words))
    stateful = getattr(causal, "_is_stateful", False) or any(
        isinstance(module, nn.Conv1d) for module in causal.modules()
    )
    return Traits(
        window=min(windows, default=None),
        turn=_turn(words),
        maskable=not stateful and kinds <= MASKED | TOKENWISE and not words.get("index_topk"),
        chunked=bool(words.get("attention_chunk_size")) or "chunked_attention" in kinds,
        cached=not (kinds & STATEFUL and kinds <= STATEFUL | TOKENWISE),
    )


def most_positions(causal: nn.Module) -> int:
    """Return the tokens that fit the model's positions; 2^30 where there is no limit."""
    config = text_config(causal)
    limits = [getattr(config, name, None) for name in POSITIONS]
    return next((int(limit) for limit in limits if limit and limit > 0), 2**30)  # XLNet says -1


def _layer_kinds(words: Mapping[str, Any]) -> Iterator[str]:
    """Yield the kinds of layers, from the lists that name one for each layer."""
    for name, value in words.items():
        if isinstance(value, (list, tuple)) and any(p in name for p in ("layer", "block_type")):
            yield from (kind for kind in value if isinstance(kind, str))


def _turn(words: Mapping[str, Any]) -> int | None:
    turns = []
    for rope in _ropes(words.get("rope_parameters") or words.get("rope_scaling") or {}):
        kind = str(rope.get("rope_type", rope.get("type")))
        if kind == "longrope":
            original = rope.get("original_max_position_embeddings")
            turns.append(original or words.get("original_max_position_embeddings"))
        elif "dynamic" in kind:
            turns.append(words.get("max_position_embeddings"))
    return min((int(turn) for turn in turns if turn), default=None)


def _ropes(given: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the settings of RoPE: one, or one for each kind of layer."""
    if isinstance(given, Mapping):
        if "rope_type" in given or "type" in given:
            yield given
        for value in given.values():
            yield from _ropes(value)

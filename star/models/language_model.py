"""A language model in the hand of a run: body and head, and how rows go through it.

One :class:`LanguageModel` is loaded for a run (``loading``) and stays; adapters come and go round
it (``adapter``).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from star.data.fewshot import joined
from star.data.task import Shot
from star.models import isolation, packing
from star.models.batching import Batch, Batching, lay_out
from star.models.chat import Chat
from star.models.encoding import TokenRow, encode, last_tokens
from star.models.traits import Traits, text_config


@dataclass
class LanguageModel:
    """A frozen causal LM in two parts, body and vocabulary head, with its tokenizer.

    Attributes:
        causal: The ``...ForCausalLM`` module; adapters are injected into it in place.
        tokenizer: Its tokenizer.
        fingerprint: sha256 hex of the content that was loaded and of all that computes with it, see
            ``identity``. The model's part of every cache key.
        info: What ``environment.json`` says of it.
        max_length: Tokens that fit the model's positions.
        stop_ids: Token ids that end a generated answer.
        pad_id: Token id to fill batches with; never attended to.
        traits: How far its layers look.
        packable: Whether rows that fit its window may be laid end to end (``packing``), or have to
            be padded.
        windows: Whether rows that a window cuts may be, too: the kernel is told of every window.
        batching: What goes through it at once.
        chat: The template that it is asked by; ``None``: prompts are bare text.
    """

    causal: nn.Module
    tokenizer: Any
    fingerprint: str
    info: dict[str, Any]
    max_length: int
    stop_ids: frozenset[int]
    pad_id: int
    traits: Traits = Traits()
    packable: bool = False
    windows: bool = False
    batching: Batching = Batching()
    chat: Chat | None = None

    has_base: ClassVar[bool] = True  # whether it has an opinion without an adapter
    task_type: ClassVar[str] = "CAUSAL_LM"  # PEFT's word
    cut_from: ClassVar[str] = "left"  # where an overlong prompt loses its tokens
    heads: tuple[str, ...] = ()  # modules that are trained whole beside the adapter

    @property
    def vocabulary(self) -> int:
        """V: how many words the logits are over."""
        size: int = self.causal.get_output_embeddings().weight.shape[0]  # type: ignore[operator,union-attr,assignment]
        return size

    def encode(
        self,
        prompts: Sequence[str],
        continuations: Sequence[str],
        *,
        eos: bool,
        shots: Sequence[Sequence[Shot]] = (),
    ) -> list[TokenRow]:
        """Return texts as token rows, see :func:`star.models.encoding.encode` and ``chat``.

        Args:
            prompts: (N,) texts.
            continuations: (N,) texts.
            eos: End each continuation with :attr:`end_id`.
            shots: (N,) what is shown before each prompt; nothing at all if it is empty.
        """
        if self.chat is not None:
            return self.chat.encode(prompts, continuations, eos=eos, shots=shots)
        if shots:
            prompts = [joined(*pair) for pair in zip(shots, prompts, strict=True)]
        return encode(self.tokenizer, prompts, continuations, eos=eos)

    def shortened(self, prompt: tuple[int, ...], room: int) -> tuple[int, ...]:
        """Return a prompt cut to ``room`` tokens, what a chat template begins with kept."""
        head = () if self.chat is None else self.chat.head
        if len(prompt) <= room or len(head) >= room or prompt[: len(head)] != head:
            return last_tokens(prompt, room)
        return head + last_tokens(prompt, room - len(head))

    @property
    def end_id(self) -> int | None:
        """The token that ends an answer: of a chat the one that ends the assistant's turn."""
        end: int | None = self.tokenizer.eos_token_id if self.chat is None else self.chat.end
        return end

    def renew(self) -> None:
        """Start afresh what is trained whole; draws from torch's stream."""

    @property
    def device(self) -> torch.device:
        return next(self.causal.parameters()).device

    def hidden(self, input_ids: Tensor, **more: Any) -> Tensor:
        """Return the body's last hidden states, (B, T) ids padded on the right to (B, T, H).

        No attention mask: attention is causal, so padding on the right is never looked at.
        """
        output: Tensor = self._body(input_ids=input_ids, use_cache=False, **more).last_hidden_state
        return output

    @property
    def _body(self) -> nn.Module:
        # Llama 4 has the prefix of the model that it is a part of, Mllama a path.
        names = (str(self.causal.base_model_prefix), "model")
        return next(getattr(self.causal, name) for name in names if hasattr(self.causal, name))

    def head_input(self, batch: Batch) -> Tensor:
        """Return what the last layer takes of each row, (B, d).

        It is the state where the row predicts last; see the classifier's for another head's.
        """
        return self.states(batch)[torch.tensor(batch.counts).cumsum(0) - 1]

    def packs(self, length: int) -> bool:
        """Return whether a row of so many tokens is packed: where no window cuts it unseen."""
        window = self.traits.window
        return self.packable and (self.windows or window is None or length <= window)

    @cached_property
    def answers_together(self) -> str:
        """Which prompts transformers' ``generate`` keeps apart: ``any``, ``equal`` or ``none``."""
        return isolation.answers_together(self)

    def lay_out(self, rows: Sequence[TokenRow], *, whole: bool = True) -> Batch:
        """Return rows as a batch for :meth:`predict`: packed where the model can, else padded.

        Args:
            rows: B rows, on one side of each of ``traits.cuts``.
            whole: They are whole rows; else their last token is still to be made, and does not
                count to their length.

        Raises:
            InputError: A token has no embedding.
        """
        return lay_out(
            rows,
            packed=self.packs(max(map(len, rows))),
            pad_id=self.pad_id,
            device=self.device,
            vocabulary=self.causal.get_input_embeddings().weight.shape[0],
            last=whole and self.traits.turn is not None,
        )

    def packing(self, batch: Batch) -> AbstractContextManager[None]:
        """Return the context a packed batch needs where a backward pass may recompute it."""
        return packing.attention(self._configs) if batch.runs else nullcontext()

    @cached_property
    def _configs(self) -> list[Any]:
        return packing.configs_of(self.causal)

    def predict(self, batch: Batch, cache: packing.Cache | None = None) -> Tensor:
        """Return the hidden states that predict the batch's continuation tokens, (P, H).

        With a ``cache``, which needs a packed batch, the rows' keys and values are stored there.
        """
        if not batch.runs:
            return self.hidden(batch.ids).flatten(0, 1)[batch.predicting]
        with packing.attention(self._configs):
            told = {"position_ids": batch.positions, "star_rows": cache or packing.Layout(batch)}
            return self.hidden(batch.ids, **told)[0, batch.predicting]

    def states(self, batch: Batch) -> Tensor:
        """Return the body's last hidden states where the batch predicts, (P, H)."""
        return self.predict(batch)

    def step(self, tokens: Tensor, cache: packing.Cache) -> Tensor:
        """Return the hidden states behind (B,) next tokens of the rows in the cache, (B, H)."""
        with packing.attention(self._configs):
            told = {"position_ids": cache.lengths.unsqueeze(0), "star_rows": cache}
            return self.hidden(tokens.unsqueeze(0), **told)[0]

    def logits(self, hidden: Tensor, of: Tensor | None = None) -> Tensor:
        """Return float32 logits over the vocabulary, (P, H) to (P, V), or of the (W,) words ``of``.

        For chosen positions only: the whole (B, T, V) block is what makes scoring dear.
        """
        head = self.causal.get_output_embeddings()
        if head.weight.is_floating_point():  # Mamba's body gives float32 to a head of bfloat16
            hidden = hidden.to(head.weight.dtype)
        if of is None:
            logits = head(hidden).float()
        elif type(head) is not nn.Linear:  # an adapter's: more than its weight
            logits = head(hidden)[..., of].float()
        else:  # some words alone: their rows of the head
            bias = getattr(head, "bias", None)
            logits = linear(hidden, head.weight[of], None if bias is None else bias[of]).float()
        config = text_config(self.causal)

        def words(*names: str) -> list[float]:
            return [v for v in (getattr(config, name, None) for name in names) if v is not None]

        for factor in words("logit_scale", "lm_head_multiplier"):  # Cohere, Falcon-H1
            logits = logits * factor
        for divisor in words("logits_scaling"):  # Granite
            logits = logits / divisor
        for cap in words("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap"):
            logits = torch.tanh(logits / cap) * cap  # Gemma, RecurrentGemma, xLSTM
        return logits

    def log_probs(self, hidden: Tensor) -> Tensor:
        """Return natural-log probabilities over the vocabulary in float32, (P, H) to (P, V)."""
        return self.logits(hidden).log_softmax(-1)

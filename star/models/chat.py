"""A tokenizer's chat template: a prompt as the user's turn, its continuation as the assistant's.

The template writes every special token, the beginning of the sequence included, so that none is
added; those that stand in a text of ours stay text. Thinking is off where a template knows the
word: what would be an empty block in front of the answer is then part of the prompt. To a template
that says what day it is (Llama 3's, SmolLM3's) it is always the same: a prompt is tomorrow what it
is today.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import takewhile
from typing import Any

from star.data.task import Shot
from star.errors import InputError, one_line
from star.models.encoding import TokenRow

Turns = list[dict[str, str]]

DAY = date(2024, 7, 26)  # which Llama 3's templates have where they are not told the time
CODES = ("%a", "%A", "%b", "%B", "%d", "%m", "%y", "%Y", "%H", "%I", "%M", "%S", "%f", "%p", "%j")
CLOCK = "strftime_now"  # transformers' name of what a template reads the time by
# A macro, as a function that is handed to a template comes there as a text.
STOPPED = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f"|replace('{code}', '{DAY.strftime(code)}')" for code in CODES)
    + " }}{% endmacro %}"
)


@dataclass(frozen=True)
class Chat:
    """How a tokenizer writes a conversation down.

    Attributes:
        tokenizer: A Hugging Face tokenizer with a chat template.
        end: Token id that ends the assistant's turn, and so a generated answer.
        written: Whether the template writes it; else it is the end-of-sequence token, appended.
        head: Token ids that every prompt begins with, the template's own.
    """

    tokenizer: Any
    end: int
    written: bool = True
    head: tuple[int, ...] = ()

    @property
    def template(self) -> str:
        """The tokenizer's template, told what day it is where it wants to know."""
        template: str = self.tokenizer.get_chat_template()
        return STOPPED + template if CLOCK in template else template

    def encode(
        self,
        prompts: Sequence[str],
        continuations: Sequence[str],
        *,
        eos: bool,
        shots: Sequence[Sequence[Shot]] = (),
    ) -> list[TokenRow]:
        """Return one ``TokenRow`` for each prompt and continuation; ``index`` counts from 0.

        The prompt's tokens are those of ``apply_chat_template(..., add_generation_prompt=True)``,
        the continuation's those behind them once the assistant has answered. Where the template
        writes an answered conversation otherwise, the continuation is encoded apart, so that the
        prompt a model sees never depends on the answer. White space round a continuation, which
        joins it to a prompt of text, goes.

        Args:
            prompts: (N,) texts.
            continuations: (N,) texts; empty: the answer is still to be made.
            eos: End each continuation with the token that ends the turn (training targets).
            shots: (N,) earlier turns of each prompt's conversation; none at all if it is empty.

        Raises:
            InputError: The template refuses the conversation, or loses a text.
        """
        shown = shots or [()] * len(prompts)
        asked = [_turns(*pair) for pair in zip(prompts, shown, strict=True)]
        texts = [text.strip() for text in continuations]
        heads = self._ids(asked, add_generation_prompt=True)
        closed = eos and self.written
        given = [i for i, text in enumerate(texts) if text]
        answered = [[*asked[i], _said(texts[i])] for i in given]
        ids = self._ids(answered, continue_final_message=not closed)
        wholes = dict(zip(given, ids, strict=True))
        rows = []
        for i, head in enumerate(heads):
            tail = self._behind(head, wholes[i], texts[i]) if i in wholes else []
            if eos:
                tail = [*takewhile(lambda token: token != self.end, tail), self.end]
            rows.append(TokenRow(i, tuple(head), tuple(tail)))
        return rows

    def _behind(self, head: list[int], whole: list[int], text: str) -> list[int]:
        if whole[: len(head)] == head:
            return whole[len(head) :]
        plain = {"add_special_tokens": False, "split_special_tokens": True}
        alone: list[int] = self.tokenizer(text, **plain)["input_ids"]
        return alone

    def _ids(self, conversations: Sequence[Turns], **how: bool) -> list[list[int]]:
        if not conversations:
            return []
        try:
            ids: list[list[int]] = self.tokenizer.apply_chat_template(
                list(conversations),
                chat_template=self.template,
                return_dict=False,
                sanitize_control_tokens=True,
                enable_thinking=False,
                **how,
            )
        except Exception as error:  # of code that is not ours: a template's raise_exception, ...
            raise InputError(
                f"the tokenizer's chat template refuses a conversation: {one_line(error)}; set "
                "task.chat_template=false"
            ) from error
        return ids


def chat_of(tokenizer: Any, name: str) -> Chat:
    """Return how a tokenizer writes conversations down.

    Args:
        tokenizer: A Hugging Face tokenizer.
        name: What the model is called in messages.

    Raises:
        InputError: It has no chat template, or none that it can be asked by.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            f"the tokenizer of {name} has no chat template: it is no model for conversations; set "
            "task.chat_template=false"
        )
    chat = Chat(tokenizer, end=-1)
    first, other = (chat.encode([text], [""], eos=False)[0].prompt for text in ("a", "b"))
    if first == other:
        raise InputError(
            f"the chat template of {name} does not show a user's text; set task.chat_template=false"
        )
    pairs = zip(first, other, strict=False)
    head = tuple(own for own, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    end = _end_of_turn(chat)
    if end is None:
        return Chat(tokenizer, end=tokenizer.eos_token_id, written=False, head=head)
    return Chat(tokenizer, end=end, head=head)


def _end_of_turn(chat: Chat) -> int | None:
    """Return the first special token that the template writes behind an answer, if there is one."""
    turns = [[*_turns("a"), _said("b")]]
    [whole], [opened] = chat._ids(turns), chat._ids(turns, continue_final_message=True)
    special = chat.tokenizer.added_tokens_decoder
    return next((token for token in whole[len(opened) :] if token in special), None)


def _turns(prompt: str, shots: Sequence[Shot] = ()) -> Turns:
    """Return a conversation that waits for an answer."""
    earlier = [turn for shot in shots for turn in (_asked(shot.prompt), _said(shot.answer.strip()))]
    return [*earlier, _asked(prompt)]


def _asked(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}

"""Examples to token rows, and which of them are cut or left out because they do not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from star.encoding import Fitted, TokenRow, encode, fit
from star.models import LanguageModel
from star.tasks.base import Answer, Example


@dataclass(frozen=True)
class Limits:
    """What bounds an answer and a batch, from ``evaluation``."""

    max_new_tokens: int
    batch_size: int
    batch_tokens: int = 4096
    max_prompt_length: int | None = None  # of test prompts; None = what the model allows


def encode_rows(
    model: LanguageModel,
    examples: Sequence[Example],
    continuations: Sequence[str] | None,
    *,
    reserve: int = 0,
    eos: bool = False,
    max_length: int | None = None,
    max_prompt_length: int | None = None,
) -> Fitted:
    """Return the examples as token rows, keyed by the examples' indices, cut to what fits.

    Args:
        model: Whose tokenizer and length count.
        examples: N examples.
        continuations: (N,) texts, or ``None`` where the answer is still to be generated.
        reserve: Tokens kept free for it.
        eos: End each continuation with the end-of-sequence token (training targets).
        max_length: Fewer tokens than the model allows; ``None`` = what the model allows.
        max_prompt_length: Cut longer prompts from the left; ``None`` = leave them.
    """
    texts = [""] * len(examples) if continuations is None else list(continuations)
    encoded = encode(model.tokenizer, [e.prompt for e in examples], texts, eos=eos)
    rows = [replace(row, index=e.index) for e, row in zip(examples, encoded, strict=True)]
    cut: set[int] = set()
    if max_prompt_length is not None:
        cut = {i for i, row in enumerate(rows) if len(row.prompt) > max_prompt_length}
        rows = [replace(row, prompt=row.prompt[-max_prompt_length:]) for row in rows]
    allowed = min(model.max_length, max_length or model.max_length)
    fitted = fit(rows, max_length=allowed, reserve=reserve, overlong="truncate")
    return replace(fitted, truncated=sorted({*fitted.truncated, *cut}))


def released_mask(
    model: LanguageModel, rows: Sequence[TokenRow], answers: Mapping[int, Answer]
) -> list[TokenRow]:
    """Return training rows whose first answer tokens have no loss, as in the released code.

    It counts the answer's tokens in the text as stored (``#### 72``) and takes so many from the end
    of what is trained on (``The final answer is 72``), which has more (fault 9).

    Args:
        model: Whose tokenizer counts.
        rows: Training rows.
        answers: By the rows' index; bought ones.
    """
    masked = []
    for row in rows:
        answer = answers[row.index]
        trained, stored = (
            len(model.tokenizer(text, add_special_tokens=False)["input_ids"])
            for text in (answer.target, answer.stored or answer.target)
        )
        # What has no loss is, for the training, prompt; at least one token keeps its loss.
        shift = min(max(0, trained - stored), len(row.continuation) - 1)
        head, tail = row.continuation[:shift], row.continuation[shift:]
        masked.append(replace(row, prompt=row.prompt + head, continuation=tail))
    return masked


def encode_choices(
    model: LanguageModel, examples: Sequence[Example], *, max_prompt_length: int | None = None
) -> list[list[TokenRow]]:
    """Return (N, C) token rows; the choices of an example share one prompt, cut to what fits."""
    flat = [(e, choice) for e in examples for choice in e.choices or ()]
    rows = encode_rows(
        model,
        [e for e, _ in flat],
        [choice for _, choice in flat],
        max_prompt_length=max_prompt_length,
    ).rows
    groups: dict[int, list[TokenRow]] = {e.index: [] for e in examples}
    for row in rows:
        groups[row.index].append(row)
    for group in groups.values():
        # Where cutting left prompts of unequal length, the choices would be asked different things.
        shortest = min(len(row.prompt) for row in group)
        group[:] = [replace(row, prompt=row.prompt[-shortest:]) for row in group]
    return list(groups.values())


def admit(
    model: LanguageModel, examples: Sequence[Example], *, limits: Limits, overlong: str, where: str
) -> tuple[list[Example], str | None]:
    """Apply ``task.overlong`` to prompts; return the examples that stay and a line of report.

    A prompt is overlong if it leaves no room for the longest choice, or for a generated answer of
    ``max_new_tokens``, in the model's positions.

    Raises:
        InputError: ``overlong`` is ``error`` and there is one.
    """
    longest = {c for e in examples for c in e.choices or ()}
    tails = [
        len(r.continuation)
        for r in encode(model.tokenizer, [""] * len(longest), sorted(longest), eos=False)
    ]
    reserve = max(tails) if tails else limits.max_new_tokens
    rows = encode_rows(model, examples, None).rows
    fitted = fit(rows, max_length=model.max_length, reserve=reserve, overlong=overlong)
    if not (fitted.truncated or fitted.dropped):
        return list(examples), None
    gone = set(fitted.dropped)
    kept = [e for i, e in enumerate(examples) if i not in gone]
    done = f"{len(gone)} left out" if gone else f"{len(fitted.truncated)} cut from the left"
    return kept, f"{where}: {done}, longer than the model's {model.max_length} tokens allow"

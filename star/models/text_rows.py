"""The rows of ``star score``: read, checked before any model is loaded, and not overwritten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from star.errors import InputError, listed, spelled
from star.files import json_line, kind_of, parse_json, refuse_half_characters

SUMS = ("num_tokens", "nll", "entropy", "perplexity")
OF_PASSES = tuple(f"{name}_{part}" for name in SUMS[1:] for part in ("mean", "std"))
TOKENS = ("tokens", "token_ids", "token_nll", "token_entropy")
TOKENS_OF_PASSES = tuple(f"{name}_{part}" for name in TOKENS[2:] for part in ("mean", "std"))
CUT = "truncated"
IDS = "continuation_ids"

Row = Mapping[str, Any]


def read_rows(source: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows of a JSON-lines file, and where each stands.

    Raises:
        InputError: No such file, or a line that is no object, names a key twice, or holds what
            cannot be written again: NaN, infinity, half of a surrogate pair.
    """
    kind = kind_of(source)
    if kind is None:
        raise InputError(f"input file {source} not found")
    if not source.is_file():
        raise InputError(f"the input must be a file, {source} is {kind}")
    try:
        content = source.read_bytes()
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{source}, line {line} is not UTF-8: {error.reason}") from None
    except OSError as error:
        raise InputError(f"cannot read {source}: {error.strerror}") from None
    rows, places = [], []
    # Not splitlines(): it also splits at U+2028 and the like, which JSON allows inside a text.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{source}, line {number}"
        row = parse_json(line, place)
        if not isinstance(row, dict):
            raise InputError(f"{place} must be an object, got {line[:40]}")
        _refuse_unwritable(row, place)
        rows.append(row)
        places.append(place)
    if not rows:
        raise InputError(f"{source} has no rows")
    return rows, places


def _refuse_unwritable(row: Row, place: str) -> None:
    for key, value in row.items():
        try:
            json_line({key: value})
        except UnicodeEncodeError as error:
            half = ascii(error.object[error.start])
            raise InputError(
                f"{place}: '{spelled(key)}' holds {half}, half of a character (a surrogate without "
                "its partner); mend or remove it"
            ) from None
        except ValueError:
            raise InputError(
                f"{place}: '{spelled(key)}' holds NaN or an infinite number, which JSON has not; "
                "write null"
            ) from None


def check_rows(
    rows: Sequence[Row], places: Sequence[str], *, passes: bool, tokens: bool = False
) -> None:
    """Refuse rows that cannot be scored, or whose own columns the scores would replace.

    Args:
        rows: As given to ``score_texts``.
        places: What each is called in a message.
        passes: Whether there are scores over MC-dropout passes.
        tokens: Whether there are scores of each token.

    Raises:
        InputError: Names the row.
    """
    if not rows:
        raise InputError("there are no rows to score")
    written = {*SUMS, CUT, *(OF_PASSES if passes else ()), *(TOKENS if tokens else ())}
    written |= {*TOKENS_OF_PASSES} if passes and tokens else set()
    for row, place in zip(rows, places, strict=True):
        prompt, continuation, ids = (row.get(key) for key in ("prompt", "continuation", IDS))
        if not isinstance(prompt, str):
            raise InputError(f"{place}: needs a text in 'prompt', has {listed(sorted(row))}")
        refuse_half_characters(prompt, f"{place}: 'prompt'")
        if ids is not None and not (
            isinstance(ids, list) and ids and all(type(one) is int and one >= 0 for one in ids)
        ):
            raise InputError(f"{place}: '{IDS}' must be a list of token ids that is not empty")
        if continuation is not None:
            if not isinstance(continuation, str) or not (continuation or ids):
                raise InputError(
                    f"{place}: 'continuation' must be a text that is not empty, or null"
                )
            refuse_half_characters(continuation, f"{place}: 'continuation'")
        taken = [name for name in without_scores(row) if name in written]
        if taken:
            raise InputError(
                f"{place}: the scores would replace its own {listed(taken)}; rename "
                f"{'it' if len(taken) == 1 else 'them'}"
            )


def without_scores(row: Row) -> dict[str, Any]:
    """Return a row without the scores of an earlier time, which may be made anew.

    They are known by what ``star score`` writes: the four sums, all of them numbers; beside these
    the six figures of the passes, likewise, the lists of the tokens, as long as there are tokens,
    and ``truncated`` where it is true. Any other column of such a name is the user's own, and
    stays.
    """
    old: set[str] = set()
    if _are_numbers(row, SUMS):
        old |= {*SUMS, *(OF_PASSES if _are_numbers(row, OF_PASSES) else ())}
        for names in (TOKENS, TOKENS_OF_PASSES):
            old |= {*names} if _are_lists(row, names, row["num_tokens"]) else set()
        old |= {CUT} if row.get(CUT) is True else set()
    return {key: value for key, value in row.items() if key not in old}


def _are_numbers(row: Row, names: Sequence[str]) -> bool:
    return all(type(row.get(name)) in (int, float) for name in names)


def _are_lists(row: Row, names: Sequence[str], size: Any) -> bool:
    lists = [row.get(name) for name in names]
    return all(isinstance(items, list) and len(items) == size for items in lists)

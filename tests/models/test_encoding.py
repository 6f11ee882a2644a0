"""Text to ids, the truncation rule, batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers import models as tokenizer_models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from star.errors import InputError
from star.models.batching import length_batches
from star.models.encoding import TokenRow, encode, pad, truncate


@pytest.fixture(scope="module")
def words(tiny_llama: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_llama)


def letters(*, add: str = "", bos: bool = True) -> Any:
    """Return a byte-pair tokenizer of a, b and the merge ab; ``add`` is its template round $A."""
    vocabulary = {"<s>": 0, "</s>": 1, "a": 2, "b": 3, "ab": 4, "<unk>": 5}
    core = Tokenizer(tokenizer_models.BPE(vocabulary, [("a", "b")], unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    if add:
        core.post_processor = processors.TemplateProcessing(
            single=add, special_tokens=[("<s>", 0), ("</s>", 1)]
        )
    start = {"bos_token": "<s>"} if bos else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="</s>", unk_token="<unk>", **start
    )


def test_split_where_the_prompt_ends(words: Any) -> None:
    rows = encode(words, ["what is", "tom"], ["the answer", "yes no"], eos=False)
    assert [row.index for row in rows] == [0, 1]
    assert [words.decode(r.prompt) for r in rows] == ["what is", "tom"]
    assert [words.decode(r.continuation) for r in rows] == ["the answer", "yes no"]
    assert len(rows[0]) == 4
    assert encode(words, [], [], eos=True) == []


def test_eos_is_appended_to_the_continuation_alone(words: Any) -> None:
    [plain] = encode(words, ["tom"], ["yes"], eos=False)
    [ended] = encode(words, ["tom"], ["yes"], eos=True)
    assert ended.prompt == plain.prompt
    assert ended.continuation == (*plain.continuation, words.eos_token_id)


def test_a_merge_across_the_border_leaves_the_prompt_alone() -> None:
    tokenizer = letters()
    apart, merged = encode(tokenizer, ["bb", "ba"], ["ab", "ba"], eos=False)
    assert apart == TokenRow(0, (3, 3), (4,))
    assert merged == TokenRow(1, (3, 2), (3, 2))  # joined it would be b, ab, a


@pytest.mark.parametrize("bos, start", [(True, 0), (False, 1)])
def test_an_empty_prompt_gets_a_start_token(bos: bool, start: int) -> None:
    assert encode(letters(bos=bos), [""], ["ab"], eos=False) == [TokenRow(0, (start,), (4,))]


def test_a_start_token_that_the_tokenizer_adds_is_not_doubled() -> None:
    tokenizer = letters(add="<s> $A")
    rows = encode(tokenizer, ["", "a"], ["ab", "ab"], eos=False)
    assert rows == [TokenRow(0, (0,), (4,)), TokenRow(1, (0, 2), (4,))]


def test_an_end_token_that_the_tokenizer_adds_is_taken_away() -> None:
    tokenizer = letters(add="<s> $A </s>")
    rows = encode(tokenizer, ["a", "ba"], ["ab", "ba"], eos=False)
    assert rows == [TokenRow(0, (0, 2), (4,)), TokenRow(1, (0, 3, 2), (3, 2))]
    assert encode(tokenizer, ["a"], ["ab"], eos=True)[0].continuation == (4, 1)


def test_an_end_token_in_the_text_itself_stays() -> None:
    rows = encode(letters(), ["a</s>"], ["b</s>"], eos=False)
    assert rows == [TokenRow(0, (2, 1), (3, 1))]


KINDS = [
    {"add": "<s> $A"},
    {"add": "<s> $A </s>"},
    {"add": "</s> $A", "bos": False},
    {"add": "</s> $A </s>", "bos": False},
    {"add": "</s> <s> $A"},
    {"add": ""},
    {"add": "", "bos": False},
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("eos", [True, False])
def test_a_prompt_that_brings_its_start_token_gets_no_second_one(
    kind: dict[str, Any], eos: bool
) -> None:
    tokenizer = letters(**kind)
    start = kind["add"].partition("$")[0].replace(" ", "") or "<s>"
    bare, begun, doubled = encode(
        tokenizer, ["ab", f"{start}ab", f"{start * 2}ab"], ["b", "b", "b"], eos=eos
    )
    first = tuple(tokenizer(start, add_special_tokens=False)["input_ids"])
    assert begun.prompt == (*first, 4)
    assert bare.prompt == ((*first, 4) if kind["add"] else (4,))
    assert doubled.prompt == (*first, *first, 4)  # what the text says, and no third
    assert bare.continuation == begun.continuation == doubled.continuation == (3, *[1] * eos)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_the_prompt_is_the_same_with_and_without_a_continuation(
    kind: dict[str, Any], data: st.DataObject
) -> None:
    """Special tokens in texts included: a question is one question, whatever answer follows."""
    piece = st.lists(st.sampled_from(["a", "b", " ", "<s>", "</s>", "<"]), max_size=5).map("".join)
    prompt, answers = data.draw(piece), data.draw(st.lists(piece, min_size=1, max_size=3))
    tokenizer = letters(**kind)
    rows = encode(tokenizer, [prompt] * len(answers), answers, eos=False)
    [alone] = encode(tokenizer, [prompt], [""], eos=False)
    assert {row.prompt for row in rows} == {alone.prompt}
    given_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    assert alone.prompt[-len(given_ids) :] == tuple(given_ids) or not given_ids
    extra = alone.prompt[: len(alone.prompt) - len(given_ids)]
    assert len(extra) <= 2 and (not kind["add"] or alone.prompt[0] in (0, 1))


def test_the_start_of_a_continuation_is_kept() -> None:
    tokenizer = letters(add="<s> $A")
    assert encode(tokenizer, [""], ["<s>a"], eos=False) == [TokenRow(0, (0,), (0, 2))]


# --- the truncation rule -----------------------------------------------------------------------

ROW = TokenRow(7, (1, 2, 3, 4, 5), (6, 7, 8))


def test_what_fits_is_left_alone() -> None:
    fitted = truncate([ROW], max_length=8, reserve=0, overlong="error")
    assert fitted.rows == [ROW] and not fitted.truncated and not fitted.dropped


@pytest.mark.parametrize(
    "max_length, reserve, prompt, continuation",
    [
        (7, 0, (2, 3, 4, 5), (6, 7, 8)),
        (4, 0, (5,), (6, 7, 8)),
        (3, 0, (5,), (6, 7)),  # the continuation is cut only where one prompt token is not enough
        (8, 6, (4, 5), (6, 7, 8)),  # room for an answer is kept
        (8, 2, (1, 2, 3, 4, 5), (6, 7, 8)),  # the reserve is for the answer, not beside it
    ],
)
def test_truncate(
    max_length: int, reserve: int, prompt: tuple[int, ...], continuation: tuple[int, ...]
) -> None:
    fitted = truncate([ROW], max_length=max_length, reserve=reserve, overlong="truncate")
    assert fitted.rows == [TokenRow(7, prompt, continuation)]
    assert fitted.truncated == ([] if fitted.rows == [ROW] else [0])


def test_drop_and_error_name_positions_and_rows() -> None:
    short = TokenRow(3, (1,), (2,))
    fitted = truncate([short, ROW, short], max_length=7, reserve=0, overlong="drop")
    assert fitted.rows == [short, short] and fitted.dropped == [1] and not fitted.truncated
    with pytest.raises(
        InputError, match=r"row 7 is longer than the \d tokens that a prompt may have.*overlong"
    ):
        truncate([short, ROW], max_length=7, reserve=0, overlong="error")


def test_a_reserve_without_room_for_a_prompt_is_refused() -> None:
    with pytest.raises(InputError, match="max_new_tokens=8 leaves no room"):
        truncate([ROW], max_length=8, reserve=8, overlong="truncate")


tokens = st.lists(st.integers(0, 9), min_size=1, max_size=12).map(tuple)


@given(tokens, tokens, st.integers(2, 16), st.integers(0, 15))
def test_a_truncated_row_fits_and_keeps_the_border(
    prompt: tuple[int, ...], continuation: tuple[int, ...], max_length: int, reserve: int
) -> None:
    if reserve >= max_length:
        return
    row = TokenRow(0, prompt, continuation)
    [cut] = truncate([row], max_length=max_length, reserve=reserve, overlong="truncate").rows
    assert len(cut) <= max_length and len(cut.prompt) + reserve <= max_length
    assert cut.prompt and prompt[-len(cut.prompt) :] == cut.prompt
    assert cut.continuation and continuation[: len(cut.continuation)] == cut.continuation
    assert cut.continuation == continuation or len(cut.prompt) == 1


# --- batches -----------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 20), max_size=30), st.integers(1, 7))
def test_length_batches_cover_each_row_once(lengths: list[int], batch_size: int) -> None:
    batches = list(length_batches(lengths, batch_size))
    flat = [i for batch in batches for i in batch]
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[i] for i in flat] == sorted(lengths, reverse=True)
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert all(0 < len(batch) <= batch_size for batch in batches[-1:])


def test_pad() -> None:
    assert pad([[1, 2, 3], [4]], 9).tolist() == [[1, 2, 3], [4, 9, 9]]
    assert pad([[1, 2, 3], [4]], 9, left=True).tolist() == [[1, 2, 3], [9, 9, 4]]

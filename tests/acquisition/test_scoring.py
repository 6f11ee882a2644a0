"""The two views of the pool: what is scored, what is cached, what is cut."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from star.acquisition import uncertainty
from star.acquisition.pool_scorer import PoolScorer
from star.acquisition.view import View
from star.config import AcquisitionConfig, McDropoutConfig
from star.data.pool import Oracle
from star.data.task import Answer, Example
from star.errors import InputError
from star.files import write_npz
from star.models import adapter, likelihood, mc_dropout
from star.models.batching import Batching
from star.models.encoding import TokenRow
from star.models.generation import generate
from star.models.language_model import LanguageModel
from star.models.truncation import Limits, encode_choices, encode_rows, truncate_prompts

LIMITS = Limits(max_new_tokens=5)
WORDS = ("eggs", "pens", "blue", "many", "then", "she", "buys")


@pytest.fixture
def forwards(model: LanguageModel) -> Iterator[list[tuple[int, ...]]]:
    """Return the shapes of every batch that went through the model."""
    shapes: list[tuple[int, ...]] = []
    body = getattr(model.causal, model.causal.base_model_prefix)
    handle = body.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(tuple((args or [kwargs["input_ids"]])[0].shape)),
        with_kwargs=True,
    )
    yield shapes
    handle.remove()


def pool(choices: tuple[str, ...] | None = None) -> list[Example]:
    return [
        Example(50 - 3 * i, f"what {' '.join(WORDS[: 1 + i])} : {i}", choices) for i in range(7)
    ]


def oracle_of(examples: list[Example], target: str = " 4 2") -> Oracle[Answer]:
    return Oracle({e.index: Answer(target, target.strip()) for e in examples})


def scorer(
    model: LanguageModel,
    examples: list[Example],
    continuation: str = "model",
    *,
    cache: Path | None = None,
    limits: Limits = LIMITS,
    oracle: Oracle[Answer] | None = None,
    **settings: Any,
) -> PoolScorer:
    config = AcquisitionConfig(continuation=continuation, **settings)  # type: ignore[arg-type]
    oracle = oracle or oracle_of(examples)
    return PoolScorer(model, examples, config=config, limits=limits, oracle=oracle, cache=cache)


def same(first: View, second: View) -> None:
    assert first.continuations[:] == second.continuations[:]
    assert first.tokens == second.tokens
    assert (first.num_tokens == second.num_tokens).all() and set(first.sums) == set(second.sums)
    assert all((values == second.sums[name]).all() for name, values in first.sums.items())
    np.testing.assert_array_equal(first.log_probs, second.log_probs)


# --- views -------------------------------------------------------------------------------------


def test_reduction_is_over_tokens_and_the_mean_over_passes() -> None:
    sums = {"margin": np.array([[1.0, 3.0], [8.0, 8.0]])}
    view = View(sums, np.array([4, 2]), [(1, 2, 3, 4), (5, 6)], tokens=9)
    assert view.score("margin", "sum").tolist() == [2, 8]
    assert view.score("margin", "mean").tolist() == [0.5, 4]
    part = view.at([1])
    assert part.score("margin", "mean").tolist() == [4]
    assert (part.num_tokens.tolist(), list(part.continuations)) == ([2], [(5, 6)])


@pytest.mark.parametrize("continuation", ["model", "base", "choices", "gold"])
def test_views_are_in_the_order_asked_for(model: LanguageModel, continuation: str) -> None:
    examples = pool((" 1", " 2 3"))
    made = scorer(model, examples, continuation)
    base = made.base()
    with tiny.learned(model):
        indices = [examples[i].index for i in (4, 0, 5)]
        whole = made.full([e.index for e in examples], None)
        some = made.full(indices, None)
    for name, values in some.sums.items():
        np.testing.assert_allclose(values, whole.at([4, 0, 5]).sums[name], rtol=1e-4, atol=1e-5)
    same(replace(made.base_at(indices), tokens=0), replace(base.at([4, 0, 5]), tokens=0))


def test_each_view_scores_its_own_answer(model: LanguageModel) -> None:
    examples = pool()
    made = scorer(model, examples)
    prompts = [r.prompt for r in encode_rows(model, examples, None).rows]
    options = {"max_new_tokens": 5}
    assert list(made.base().continuations) == generate(model, prompts, **options)
    with tiny.learned(model) as adapted:
        full = made.full([e.index for e in examples], None)
        assert list(full.continuations) == generate(model, prompts, **options)
        passes = mc_dropout.passes(adapted, McDropoutConfig(passes=2), seed=0, round_=0)
        # Dropout scores the answer; it does not make another.
        again = made.full([e.index for e in examples], passes)
        assert again.continuations[:] == full.continuations[:]
    assert full.continuations[:] != made.base().continuations[:]


def test_the_bases_answer_is_scored_by_both(model: LanguageModel) -> None:
    examples = pool()
    made = scorer(model, examples, "base")
    base = made.base()
    with tiny.learned(model) as adapted:
        full = made.full([e.index for e in examples], None)
        rows = encode_rows(model, examples, None).rows
        pairs = zip(rows, base.continuations, strict=True)
        given = [TokenRow(row.index, row.prompt, answer) for row, answer in pairs]
        expected = likelihood.token_scores(model, given, uncertainty.from_logits)
        with adapter.base_model(adapted):
            again = made.full([e.index for e in examples], None)
    assert full.continuations[:] == base.continuations[:]
    np.testing.assert_allclose(full.sums["max_entropy"], expected["max_entropy"], rtol=1e-5)
    assert not np.allclose(full.sums["max_entropy"], base.sums["max_entropy"])
    np.testing.assert_allclose(again.sums["max_entropy"], base.sums["max_entropy"], rtol=1e-5)


def test_gold_scores_the_targets_and_others_never_ask(model: LanguageModel) -> None:
    class Shut(Oracle[Answer]):
        def label(self, indices: Any) -> Any:
            raise AssertionError("an answer was read")

        def label_all(self, indices: Any, *, reason: str) -> Any:
            raise AssertionError("all answers were read")

    examples = pool((" 1", " 2"))
    for continuation in ("model", "base", "choices"):
        scorer(model, examples, continuation, oracle=Shut({})).base()
    with pytest.raises(AssertionError, match="all answers"):
        scorer(model, examples, "gold", oracle=Shut({}))
    view = scorer(model, examples, "gold").base()
    ids = tuple(model.tokenizer("4 2", add_special_tokens=False)["input_ids"])
    assert view.continuations[:] == [ids] * len(examples)


def test_choices_are_one_position(model: LanguageModel) -> None:
    examples = pool((" 1", " 2", " 3"))
    view = scorer(model, examples, "choices").base()
    log_probs = likelihood.choice_log_probs(model, encode_choices(model, examples))
    best = log_probs[:, 0].max(-1)
    np.testing.assert_allclose(view.score("predictive_entropy", "sum"), -best, rtol=1e-4)
    np.testing.assert_allclose(view.score("least_confidence", "mean"), 1 - np.exp(best), rtol=1e-4)
    assert view.num_tokens.tolist() == [1] * len(examples)
    np.testing.assert_allclose(view.log_probs, log_probs, rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="choices needs a choice task"):
        scorer(model, pool(), "choices")


def test_log_probabilities_of_choices_are_told_where_they_are_needed(model: LanguageModel) -> None:
    examples = pool((" 1", " 2", " 3"))
    indices = [examples[i].index for i in (3, 1)]
    for wanted in (True, False):
        limits, oracle = LIMITS, oracle_of(examples)
        config = AcquisitionConfig(continuation="choices")
        made = PoolScorer(
            model, examples, config=config, limits=limits, oracle=oracle, log_probs=wanted
        )
        made.base()
        with tiny.learned(model) as adapted:
            passes = mc_dropout.passes(adapted, McDropoutConfig(passes=2), seed=0, round_=0)
            scores = made.scores(indices, made.full(indices, passes))
        assert ("base_log_probs" in scores.arrays) == wanted
        if wanted:
            assert scores.log_probs("base").shape == (2, 1, 3)
            full = scores.log_probs("full")
            assert full.shape == (2, 2, 3)
            entropy = scores.arrays["full_max_entropy"]
            np.testing.assert_allclose(-(np.exp(full) * full).sum(2), entropy, rtol=1e-4)
        else:
            with pytest.raises(InputError, match="they are of choices"):
                scores.log_probs("base")


# --- cache -------------------------------------------------------------------------------------


@pytest.mark.parametrize("continuation", ["model", "base", "choices", "gold"])
def test_the_base_view_is_made_once(
    model: LanguageModel, continuation: str, tmp_path: Path, forwards: list
) -> None:
    examples = pool((" 1", " 2 3"))
    view = scorer(model, examples, continuation, cache=tmp_path).base()
    assert forwards
    forwards.clear()
    second = scorer(model, examples, continuation, cache=tmp_path)
    second.base_at([e.index for e in examples[:3]])
    # Another measure, blend or batch size needs no other base view.
    settings = {"measure": "margin", "reduction": "mean", "combine": "none"}
    smaller = replace(model, batching=Batching(1))
    other = scorer(smaller, examples, continuation, cache=tmp_path, **settings)
    same(other.base(), view)
    assert not forwards
    same(second.base(), view)


def test_the_key_is_the_content(model: LanguageModel, tmp_path: Path) -> None:
    examples, few = pool((" 1", " 2")), replace(LIMITS, max_new_tokens=4)
    closed = [replace(e, choices=(" 1", " 3")) for e in examples]
    variants = [
        scorer(model, examples, cache=tmp_path),
        scorer(replace(model, fingerprint="other"), examples, cache=tmp_path),
        scorer(model, examples, limits=few, cache=tmp_path),
        scorer(model, [*examples[1:], replace(examples[0], prompt="what : 1")], cache=tmp_path),
        scorer(model, examples[1:], cache=tmp_path),
        scorer(model, examples, "choices", cache=tmp_path),
        scorer(model, closed, "choices", cache=tmp_path),
        scorer(model, examples, "gold", cache=tmp_path),
        scorer(model, examples, "gold", oracle=oracle_of(examples, " 5"), cache=tmp_path),
    ]
    for count, variant in enumerate(variants, 1):
        variant.base()
        assert len(list(tmp_path.rglob("*.npz"))) == count
    # The base's own answer is scored for both; and it bounds no gold answer and no choice.
    for continuation, limits in (("base", LIMITS), ("choices", few), ("gold", few)):
        scorer(model, examples, continuation, limits=limits, cache=tmp_path).base()
    assert len(list(tmp_path.rglob("*.npz"))) == len(variants)


@pytest.mark.parametrize("damage", ["empty", "text", "half", "flipped", "short", "other"])
def test_a_damaged_cache_is_made_again(
    model: LanguageModel, damage: str, tmp_path: Path, forwards: list
) -> None:
    examples = pool()
    view = scorer(model, examples, cache=tmp_path).base()
    (path,) = tmp_path.rglob("*.npz")
    whole = path.read_bytes()
    if damage == "short":  # a whole file, but of fewer examples
        write_npz(path, **view.at([0, 1]).arrays())
    elif damage == "other":
        np.savez(path, something=np.zeros(3))
    else:
        flipped = whole[:200] + bytes([whole[200] ^ 0xFF]) + whole[201:]
        bad = {"empty": b"", "text": b"x", "half": whole[: len(whole) // 2], "flipped": flipped}
        path.write_bytes(bad[damage])
    forwards.clear()
    same(scorer(model, examples, cache=tmp_path).base(), view)
    assert forwards
    assert path.read_bytes() == whole  # mended


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(
    model: LanguageModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "base").write_text("a file")
    view = scorer(model, pool(), cache=tmp_path).base()
    assert "not kept" in caplog.text
    same(view, scorer(model, pool()).base())


# --- what is cut -------------------------------------------------------------------------------


def test_choices_share_one_prompt_also_where_it_is_cut(model: LanguageModel) -> None:
    prompt = "what is the answer of 1 2 3 4 5 6"
    examples = [Example(7, prompt, (" 1", " 2 3 4")), Example(2, "what", (" 1", " 2 3 4"))]
    groups = encode_choices(replace(model, max_length=8), examples)
    assert [[r.index for r in group] for group in groups] == [[7, 7], [2, 2]]
    for group in groups:
        assert len({row.prompt for row in group}) == 1
        assert [len(row.continuation) for row in group] == [1, 3]
    whole = encode_rows(model, examples, None).rows[0].prompt
    assert groups[0][0].prompt == whole[-5:]  # its end asks the question


def test_admission(model: LanguageModel) -> None:
    examples = [Example(i, "what " * (3 * i + 1)) for i in range(4)]  # 1, 4, 7, 10 words
    options = {"limits": LIMITS, "where": "pool"}
    fits = len(encode_rows(model, examples, None).rows[2])
    tight = replace(model, max_length=fits + LIMITS.max_new_tokens)  # the last one is too long
    assert truncate_prompts(model, examples, overlong="error", **options) == (examples, None)
    kept, line = truncate_prompts(tight, examples, overlong="truncate", **options)
    assert kept == examples and line is not None
    assert line.startswith("pool: 1 cut from the left")
    kept, line = truncate_prompts(tight, examples, overlong="drop", **options)
    assert kept == examples[:3] and line is not None and "1 left out" in line
    with pytest.raises(InputError, match=r"pool row 3 is longer .* task\.overlong"):
        truncate_prompts(tight, examples, overlong="error", **options)
    with pytest.raises(InputError, match="max_new_tokens=5 leaves no room"):
        truncate_prompts(replace(model, max_length=5), examples, overlong="truncate", **options)


def test_choice_tasks_keep_room_for_the_longest_choice(model: LanguageModel) -> None:
    examples = [Example(0, "what is the answer", (" 1", " 2 3 4"))]
    length = len(encode_rows(model, examples, None).rows[0].prompt)
    options = {"limits": Limits(100), "where": "test", "overlong": "error"}
    assert truncate_prompts(replace(model, max_length=length + 3), examples, **options) == (
        examples,
        None,
    )
    with pytest.raises(InputError, match="row 0"):
        truncate_prompts(replace(model, max_length=length + 2), examples, **options)


def test_what_is_cut_in_scoring_alone_is_said(
    model: LanguageModel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    examples = pool((" 1", " 2"))
    longest = max(len(r) for r in encode_rows(model, examples, None).rows)
    tight = replace(
        model, max_length=longest + 1
    )  # room for a choice, not for an answer of five tokens
    assert (
        truncate_prompts(tight, examples, limits=LIMITS, overlong="error", where="pool")[1] is None
    )
    scorer(tight, examples, "choices")
    assert not caplog.records
    scorer(tight, examples, "model")
    assert "scoring: 4 rows are cut" in caplog.text


def test_the_base_view_counts_its_answers_whoever_asked_for_it(
    model: LanguageModel, tmp_path: Path
) -> None:
    examples = pool()
    tokens = set()
    for kind in ("model", "base"):
        for cache in (tmp_path / kind, tmp_path / "shared"):
            tokens.add(scorer(model, examples, kind, cache=cache).base().tokens)
    assert len(tokens) == 1

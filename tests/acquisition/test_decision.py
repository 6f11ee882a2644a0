"""What every entry of the dictionary of strategies, and a user's own function, keeps to."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import own_strategies
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from star import seeding
from star.acquisition.components import Context, History, Purchase
from star.acquisition.decision import Decision, decide
from star.acquisition.needs import NEEDS
from star.acquisition.scores import Scores
from star.acquisition.strategies import STRATEGIES, strategy_of
from star.acquisition.uncertainty import MEASURES
from star.config import (
    NEEDS_NO_SCORES,
    UNORDERED,
    AcquisitionConfig,
    label_free,
    load,
    needs_scores,
)
from star.errors import InputError

STAR = Path(__file__).parents[2] / "star"
OWN = {
    name: AcquisitionConfig(strategy=name)
    for name in (
        "star.strategies:longest_first",
        "star.strategies:length_matched_random",
        "own_strategies:batch",
        "own_strategies:drawn",
        "own_strategies:everything",
    )
}
ENCODED = {
    f"{name} by an encoder": AcquisitionConfig(select=name, embeddings="some/encoder")  # type: ignore[arg-type]
    for name, strategy in STRATEGIES.items()
    if "embeddings" in strategy.needs and name != "badge"
}
SHARED = {
    f"{name} and a share at random": AcquisitionConfig(select=name, random_share=0.4)  # type: ignore[arg-type]
    for name in ("top_k", "random", "k_center", "cluster")  # one of each kind that there is
}
ENTRIES = (
    {name: AcquisitionConfig(select=name) for name in STRATEGIES} | OWN | ENCODED | SHARED  # type: ignore[arg-type]
)
COLD = [word for word in get_args(get_type_hints(AcquisitionConfig)["initial"]) if word != "random"]


LABELLED, BOUGHT = (5001, 5007, 5004), (5013, 5010)  # indices that no made-up pool has


def scores(size: int, *, seed: int = 0, tied: bool = False) -> Scores:
    """Return made-up scores of a pool with gaps in its indices; ``tied``: all examples alike."""
    rng = np.random.default_rng(seed)
    index = np.sort(rng.choice(10 * size + 1, size, replace=False))
    arrays: dict[str, Any] = {"index": index}
    draw: Callable[..., Any] = np.ones if tied else rng.random
    for view, passes in (("base", 1), ("full", 3)):
        arrays[f"{view}_num_tokens"] = np.ones(size, dtype=np.int64)
        arrays |= {f"{view}_{measure}": draw((size, passes)) for measure in MEASURES}
        arrays[f"{view}_log_probs"] = np.log(rng.dirichlet(np.ones(4), (size, passes)))
    arrays["prompt_tokens"] = np.full(size, 5) if tied else rng.permutation(size) + 5
    arrays |= {f"base_range_{measure}": np.array([[0.0, 1.0]] * 2) for measure in MEASURES}
    return Scores(arrays)


def vector(view: str, index: int, pool: Scores) -> Any:
    """Return an embedding of an example, of what it is and not of where it stands."""
    place = np.flatnonzero(pool.index == index)
    own = pool.arrays["full_margin"][place].sum() if len(place) else index
    return np.random.default_rng(int(own * 2**40)).normal(size=6) + len(view) - len("base")


def context(pool: Scores, t: int = 1) -> Context:
    """Return what a strategy may be told beside the scores: two were bought after round 0."""
    index = np.sort([*pool.index, *BOUGHT])
    then = Scores(
        {"index": index}
        | {
            f"{view}_{name}": np.linspace(0, 1, len(index) * passes).reshape(-1, passes)
            for view, passes in (("base", 1), ("full", 3))
            for name in MEASURES
        }
        | {f"{view}_num_tokens": np.ones(len(index), dtype=int) for view in ("base", "full")}
        | {"full_log_probs": np.log(np.full((len(index), 3, 4), 0.25))}
    )
    bought = Purchase(0, then.read_only(), np.array(BOUGHT), np.array([True, False]))
    known = [*pool.index.tolist(), *LABELLED, *BOUGHT]
    return Context(
        prompts=lambda: {i: f"question {i}" for i in known},
        answers=lambda: dict.fromkeys((*LABELLED, *(BOUGHT if t else ())), "true"),
        history=lambda: History((bought,) if t else ()),
        embed=lambda view, index: np.array(
            [vector(view, i, pool) for i in index.tolist()], dtype=np.float32
        ).reshape(-1, 6),
        outcomes=lambda batches: len(batches) - 1,
    )


def ask(pool: Scores, a: AcquisitionConfig, count: int, **changed: Any) -> Decision:
    options = {"t": 1, "rounds": 4, "count": count, "seed": 0} | changed
    return decide(pool, a, context=context(pool, options["t"]), **options)


def test_the_words_are_the_dictionary_s() -> None:
    assert set(STRATEGIES) == set(get_args(get_type_hints(AcquisitionConfig)["select"]))
    assert {n for n, s in STRATEGIES.items() if "scores" not in s.needs} == set(NEEDS_NO_SCORES)
    assert {n for n, s in STRATEGIES.items() if not s.needs} == set(UNORDERED)
    for a in ENTRIES.values():
        assert needs_scores(a) == ("scores" in strategy_of(a).needs)
        assert strategy_of(a).needs <= set(NEEDS)


def test_no_other_place_compares_with_the_word_random() -> None:
    for path in STAR.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                words = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
                assert "random" not in words, f"{path}:{node.lineno}"


@pytest.mark.parametrize("name", ENTRIES)
@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 3))
def test_a_query_is_k_of_the_pool_none_twice(name: str, size: int, count: int, seed: int) -> None:
    pool = scores(size, seed=seed)
    made = ask(pool, ENTRIES[name], count, seed=seed)
    assert len(made.indices) == len(set(made.indices)) == min(size, count)
    assert set(made.indices) <= set(pool.index.tolist())
    assert all(type(i) is int for i in made.indices)
    again = ask(scores(size, seed=seed), ENTRIES[name], count, seed=seed)
    assert again.indices == made.indices  # by seed and round, and by nothing else
    if count >= size:  # the whole remainder
        assert sorted(made.indices) == pool.index.tolist()


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("t", [0, 2])
def test_it_writes_to_nothing_and_draws_from_its_own_stream(name: str, t: int) -> None:
    pool, a = scores(20), ENTRIES[name]
    before = {key: array.tobytes() for key, array in pool.arrays.items()}
    streams = global_streams()
    ask(pool, a, 6, t=t)
    assert {key: array.tobytes() for key, array in pool.arrays.items()} == before
    assert global_streams() == streams


def global_streams() -> tuple[bytes, bytes]:
    numbers = np.random.get_state()[1]  # noqa: NPY002 - what a strategy must not draw from
    return numbers.tobytes(), torch.get_rng_state().numpy().tobytes()


# They go by place: the batch as it is written, and the clusters as k-means draws where to begin.
BY_PLACE = {"own_strategies:batch", "cluster", "typiclust"}
BY_PLACE |= {"cluster by an encoder", "typiclust by an encoder"}


@pytest.mark.parametrize("name", sorted(ENTRIES.keys() - BY_PLACE - SHARED.keys()))
@settings(max_examples=20)
@given(st.integers(2, 24), st.integers(1, 12), st.randoms(use_true_random=False))
def test_the_order_of_the_pool_decides_nothing(name: str, size: int, count: int, draw: Any) -> None:
    """Each example's scores go to another index: the same examples are picked."""
    pool, a = scores(size), ENTRIES[name]
    if len({tuple(ask(pool, a, count, seed=seed).indices) for seed in range(4)}) > 1:
        return  # it draws, and draws belong to places
    to = list(range(size))
    draw.shuffle(to)
    moved = {
        key: array if key == "index" or key.startswith("base_range") else array[to]
        for key, array in pool.arrays.items()
    }
    first, second = (
        np.searchsorted(pool.index, ask(each, a, count).indices) for each in (pool, Scores(moved))
    )
    assert {to[place] for place in second} == set(first.tolist())


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_pool_of_which_nothing_is_left(name: str) -> None:
    assert ask(scores(0), ENTRIES[name], 3).indices == []


@pytest.mark.parametrize("name", COLD)
@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 3))
def test_nothing_labelled_is_enough_for_a_cold_start(
    name: str, size: int, count: int, seed: int
) -> None:
    pool, a = Scores({"index": scores(size, seed=seed).index}), AcquisitionConfig(select=name)  # type: ignore[arg-type]
    told = replace(context(scores(size, seed=seed)), answers=dict)
    options = {"t": -1, "rounds": 4, "count": count, "seed": seed, "context": told}
    made = decide(pool, a, **options)  # type: ignore[arg-type]
    assert len(made.indices) == len(set(made.indices)) == min(size, count)
    assert set(made.indices) <= set(pool.index.tolist())
    assert decide(pool, a, **options).indices == made.indices  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ENCODED)
def test_rounding_of_an_encoder_s_batches_changes_no_query(name: str) -> None:
    pool, a, rng = scores(30), ENCODED[name], np.random.default_rng(0)
    plain = context(pool)
    assert plain.embed is not None
    embed = plain.embed
    rounded = replace(
        plain,
        embed=lambda view, index: (
            embed(view, index) + rng.normal(scale=1e-7, size=(len(index), 6)).astype(np.float32)
        ),
    )
    options = {"t": 1, "rounds": 4, "count": 7, "seed": 0}
    made = decide(pool, a, context=plain, **options)  # type: ignore[arg-type]
    assert decide(pool, a, context=rounded, **options).indices == made.indices  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["top_k"])
def test_ties_go_to_the_smaller_index(name: str) -> None:
    pool = scores(9, tied=True)
    assert ask(pool, ENTRIES[name], 4).indices == pool.index[:4].tolist()


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("count", [3, 99])
def test_stored_scores_give_the_same_query(name: str, count: int, tmp_path: Path) -> None:
    pool, a = scores(12), ENTRIES[name]
    made = ask(pool, a, count)
    decided = made.arrays() if made.full is not None else {}
    pool.save(tmp_path / "scores.npz", **decided, label_free=np.array(True))
    stored = Scores.load(tmp_path / "scores.npz", passes=3)
    again = decide(stored, a, t=1, rounds=4, count=count, seed=0, context=context(pool))
    assert again.indices == made.indices and again.near_ties == made.near_ties
    assert again.effective_weight == made.effective_weight
    if made.blended is not None:
        assert made.blended.tobytes() == again.blended.tobytes()


def test_random_is_an_entry_that_looks_at_no_score() -> None:
    a, index = AcquisitionConfig(select="random"), scores(20).index
    made = ask(Scores({"index": index}), a, 6, seed=3)
    order = torch.randperm(20, generator=seeding.generator(3, "random", 1))[:6]
    assert made.indices == sorted(index[order.numpy()].tolist())
    assert made == ask(scores(20), a, 6, seed=3) and made.full is None
    assert made.indices != ask(scores(20), a, 6, seed=3, t=2).indices
    assert label_free(load(None, ["acquisition.select=random", "acquisition.continuation=gold"]))


def test_a_batch_is_taken_as_it_stands() -> None:
    pool, a = scores(12), OWN["own_strategies:batch"]
    made = ask(pool, a, 4)
    assert made.indices == pool.index[[3, 2, 1, 0]].tolist()
    assert made.near_ties is None and made.effective_weight == {"base": None, "full": None}
    assert made.blended.tobytes() == ask(pool, AcquisitionConfig(), 4).blended.tobytes()


@pytest.mark.parametrize("name", ENTRIES)
def test_all_that_is_left_is_picked_as_a_part_of_it_is(name: str) -> None:
    """Who picks a batch of 11 of 12 picks one of 12, best first, and no pool index is a score."""
    pool, a = scores(12), ENTRIES[name]
    part, whole = ask(pool, a, 11), ask(pool, a, 12)
    assert whole.batch == part.batch
    if whole.batch and whole.blended is not None:
        assert whole.blended.tobytes() == part.blended.tobytes()
        assert whole.effective_weight == part.effective_weight and whole.near_ties is None


@pytest.mark.parametrize("drawn", [False, True])
def test_whole_numbers_for_all_that_is_left_are_what_they_are_for_a_part(
    drawn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores that happen to be the pool's indices are scores, and asking twice draws once."""
    pool, order = scores(6), np.array([2, 0, 5, 1, 4, 3])

    def ranked(told: Any) -> Any:
        return told.random.permutation(told.index) if drawn else pool.index[order]

    monkeypatch.setattr(own_strategies, "batch", ranked)
    made = ask(pool, OWN["own_strategies:batch"], 6)
    assert not made.batch and made.indices == pool.index[np.argsort(-made.blended)].tolist()
    assert sorted(made.blended.tolist()) == pool.index.tolist() and made.near_ties == 0
    monkeypatch.setattr(own_strategies, "batch", lambda told: ranked(told)[: told.query_size])
    made = ask(pool, OWN["own_strategies:batch"], 6)
    assert made.batch and sorted(made.indices) == pool.index.tolist()
    if not drawn:
        assert made.indices == pool.index[order].tolist()


@pytest.mark.parametrize(
    "given, said",
    [
        (lambda pool: pool.index[[0, 0, 1]], "must pick 3 distinct of the unlabelled pool indices"),
        (lambda pool: [-1, *pool.index[:2]], r"distinct of the unlabelled pool indices; got \[-1"),
        (lambda pool: pool.index[:3] + 0.5, "must return 9 numbers, one an example, or 3 pool ind"),
        (lambda pool: pool.index[:4], r"got int64 of shape \(4,\) after round 1"),
        (lambda pool: [[1, 2], [3]], "got a list of 2 unequal parts"),
        (
            lambda pool: torch.ones(9, requires_grad=True),
            "got a Tensor that is no array: Can't call",
        ),
        (lambda pool: None, r"got object of shape \(\) after round 1"),
    ],
)
def test_what_is_neither_scores_nor_a_batch(
    given: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_strategies, "batch", given)
    with pytest.raises(InputError, match=said) as caught:
        ask(scores(9), OWN["own_strategies:batch"], 3)
    assert str(caught.value).startswith("acquisition.strategy=own_strategies:batch must ")
    assert "\n" not in str(caught.value)


def test_bald_is_told_where_it_is_of_the_same_passes() -> None:
    pool = scores(5)
    pool = replace(pool, arrays={**pool.arrays, "full_bald": np.ones((5, 1))})
    assert "bald" in pool.measures("full") and "bald" not in pool.measures("base")
    assert "bald" in replace(pool, passes=3).measures("full")
    assert "bald" not in replace(pool, passes=2).measures("full")
    assert replace(pool, passes=2).measures("full")["margin"].shape == (5, 2)

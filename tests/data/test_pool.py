"""The pool: a partition at all times, errors with numbers, and one door to the answers."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star.data.pool import NotUnlabelledError, Oracle, Pool, PoolExhaustedError, first_labels
from star.errors import InputError
from star.seeding import generator


@given(st.sets(st.integers(0, 99), min_size=1), st.data())
def test_a_pool_is_a_partition_after_every_query(indices: set[int], data: st.DataObject) -> None:
    pool: Pool[str] = Pool(sorted(indices, reverse=True))
    oracle = Oracle({i: f"answer {i}" for i in indices})
    bought: list[int] = []
    held: list[int] = []
    while pool.unlabelled:
        query = data.draw(
            st.lists(st.sampled_from(pool.unlabelled), unique=True, min_size=1), "query"
        )
        if data.draw(st.booleans(), "held out"):
            pool.hold_out(oracle.label(query))
            held += query
        else:
            pool.add(oracle.label(query))
            bought += query
        assert list(pool.labelled) == bought  # in the order they were bought
        assert list(pool.held_out) == held
        assert pool.label_count == len(bought) + len(held)
        assert pool.unlabelled == sorted(indices - {*bought, *held})
        everything = pool.labelled | pool.held_out
        assert all(answer == f"answer {i}" for i, answer in everything.items())


def test_indices_are_taken_as_they_are() -> None:
    pool: Pool[str] = Pool([70, 3, 12])  # rows left out of the pool never renumber the others
    pool.add({12: "a"})
    assert (pool.labelled, pool.unlabelled) == ({12: "a"}, [3, 70])
    with pytest.raises(ValueError, match="repeat"):
        Pool([3, 3])


@pytest.mark.parametrize("query", [[0], [3], [9], [2, 9]])
def test_a_wrong_query_changes_nothing(query: list[int]) -> None:
    pool: Pool[str] = Pool([0, 1, 2, 3])
    pool.add({0: "a"})
    pool.hold_out({3: "b"})
    for move in (pool.add, pool.hold_out):
        with pytest.raises(NotUnlabelledError, match=str(query[-1])):
            move(dict.fromkeys(query, "c"))
        assert (pool.labelled, pool.held_out, pool.unlabelled) == ({0: "a"}, {3: "b"}, [1, 2])


def test_what_is_handed_out_are_copies() -> None:
    pool: Pool[str] = Pool([0, 1, 2])
    pool.add({0: "a"})
    pool.hold_out({2: "b"})
    pool.labelled[1] = "c"
    pool.held_out[1] = "c"
    pool.unlabelled.clear()
    assert (pool.labelled, pool.held_out, pool.unlabelled) == ({0: "a"}, {2: "b"}, [1])


# --- drawing -----------------------------------------------------------------------------------


@given(st.integers(0, 20), st.integers(0, 5))
def test_draws_are_reproducible_and_without_replacement(count: int, seed: int) -> None:
    pool: Pool[str] = Pool(range(100, 120))
    first = pool.draw(count, generator(seed, "initial"))
    assert first == sorted(set(first)) and len(first) == count
    assert set(first) <= set(pool.unlabelled)
    assert pool.draw(count, generator(seed, "initial")) == first
    assert pool.label_count == 0  # drawing is not buying


def test_draws_do_not_depend_on_the_order_of_the_pool() -> None:
    draws = {tuple(Pool(p).draw(5, generator(0, "x"))) for p in (range(20), range(19, -1, -1))}
    assert len(draws) == 1


def test_every_example_is_drawn_alike() -> None:
    pool: Pool[str] = Pool(range(10))
    times = [0] * 10
    for seed in range(600):
        for index in pool.draw(3, generator(seed, "initial")):
            times[index] += 1
    # 180 expected; sd of a Binomial(600, 0.3) is 11.2, so 5 sd are 56.
    assert max(abs(count - 180) for count in times) < 56


def test_an_exhausted_pool_says_both_numbers() -> None:
    pool: Pool[str] = Pool(range(7))
    pool.add({0: "a", 1: "b"})
    with pytest.raises(PoolExhaustedError, match="5 available / 6 requested") as error:
        pool.draw(6, generator(0, "initial"))
    assert isinstance(error.value, InputError)
    with pytest.raises(PoolExhaustedError, match="5 available / 6 requested"):
        pool.require(6)
    pool.require(5)
    assert len(pool.draw(5, generator(0, "initial"))) == 5


@given(st.integers(0, 8), st.integers(0, 8), st.integers(0, 3))
def test_the_first_labels_and_the_validation_rows_are_apart(
    held_out: int, initial: int, seed: int
) -> None:
    pool: Pool[str] = Pool(range(100, 120))
    held, first = first_labels(pool, held_out=held_out, initial=initial, seed=seed)
    assert (len(held), len(first)) == (held_out, initial)
    assert held == pool.draw(held_out, generator(seed, "validation"))
    assert first == sorted(first) and not set(held) & set(first)
    assert pool.label_count == 0
    # As if the validation rows were labelled first, one draw after the other.
    pool.hold_out(dict.fromkeys(held, "a"))
    assert first == pool.draw(initial, generator(seed, "initial"))


# --- the oracle --------------------------------------------------------------------------------


def test_the_oracle_answers_in_order_and_remembers() -> None:
    oracle = Oracle({3: "c", 1: "a", 2: "b"})
    assert list(oracle.label([2, 3]).items()) == [(2, "b"), (3, "c")]
    assert oracle.label([1]) == {1: "a"}
    assert oracle.asked == [2, 3, 1]
    with pytest.raises(KeyError):
        oracle.label([1, 9])
    with pytest.raises(NotUnlabelledError):
        oracle.label([1, 1])
    assert oracle.asked == [2, 3, 1]  # nothing was handed out


def test_all_labels_only_for_the_mode_that_says_so() -> None:
    oracle = Oracle({1: "a", 2: "b"})
    for reason in ("", "gold", "continuation=model", "evaluation"):
        with pytest.raises(PermissionError):
            oracle.label_all([1, 2], reason=reason)
    assert oracle.label_all([2, 1], reason="continuation=gold") == ["b", "a"]
    assert oracle.asked == []  # not bought


def test_the_answers_have_no_other_door() -> None:
    answers = {1: "secret"}
    oracle = Oracle(answers)
    answers[1] = "changed outside"
    assert oracle.label([1]) == {1: "secret"}
    public = {name for name, _ in inspect.getmembers(oracle) if not name.startswith("_")}
    assert public == {"asked", "label", "label_all"}
    assert not any(name.startswith("__") and "answers" in name for name in vars(oracle))

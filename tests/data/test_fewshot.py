"""The labelled examples that stand before a prompt: which, in what order, never itself."""

from __future__ import annotations

import pytest

from star.data import fewshot
from star.data.task import Answer, Example, Shot

EXAMPLES = {i: Example(i, f"question {i}") for i in (2, 3, 5, 7, 11, 13)}
LABELLED = {i: Answer(f" answer {i}", f"answer {i}") for i in (13, 2, 5, 7)}


def test_shots_are_drawn_of_the_labels_by_the_seed_alone() -> None:
    drawn = {
        seed: tuple(fewshot.draw(EXAMPLES, LABELLED, count=2, seed=seed)) for seed in range(20)
    }
    for shots in drawn.values():
        assert len(shots) == len(set(shots)) == 3  # one stands in
        assert all(shot == Shot(i, f"question {i}", f" answer {i}")
                   for shot, i in zip(shots, [s.index for s in shots], strict=True))  # fmt: skip
        assert {shot.index for shot in shots} <= set(LABELLED)
    assert len(set(drawn.values())) > 5
    assert {shot.index for shots in drawn.values() for shot in shots} == set(LABELLED)
    other_order = dict(reversed(LABELLED.items()))
    assert tuple(fewshot.draw(EXAMPLES, other_order, count=2, seed=4)) == drawn[4]
    # More shots are the same ones and others behind them.
    assert fewshot.draw(EXAMPLES, LABELLED, count=3, seed=4)[:3] == list(drawn[4])


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_no_question_is_shown_its_own_answer(count: int) -> None:
    shots = fewshot.draw(EXAMPLES, LABELLED, count=count, seed=0)
    twin = Example(0, shots[0].prompt)  # of the test split, say
    *shown, test = fewshot.show([*EXAMPLES.values(), twin], shots, count)
    usual = tuple(shots[:count])
    for example in shown:
        assert all(shot.prompt != example.prompt for shot in example.shots)
        if example.index not in {shot.index for shot in usual}:
            assert example.shots == usual
        else:  # one stands in, where there is one
            assert len(example.shots) == min(count, len(LABELLED) - 1)
    assert test.shots == next(e for e in shown if e.prompt == test.prompt).shots
    assert all(e.shots == () for e in fewshot.show([twin], shots, 0))


def test_shots_as_text_are_joined_by_a_blank_line() -> None:
    shots = [Shot(1, "1 + 1 =", " 2"), Shot(2, "2 + 2 =", " 4")]
    assert fewshot.joined(shots, "3 + 3 =") == "1 + 1 = 2\n\n2 + 2 = 4\n\n3 + 3 ="
    assert fewshot.joined([], "x") == "x"

"""Views weighted by evidence, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from star.acquisition.trust import discrimination, evidence_weights, trusted

PRIOR = {"base": 0.7, "full": 0.3}


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=30))
def test_discrimination_is_auroc(pairs: list[tuple[int, bool]]) -> None:
    scores, wrong = np.array([p[0] for p in pairs], dtype=float), np.array([p[1] for p in pairs])
    expected = 2 * roc_auc_score(wrong, scores) - 1 if 0 < wrong.sum() < len(wrong) else 0
    assert discrimination(scores, wrong) == pytest.approx(expected)


def test_no_history_is_the_prior() -> None:
    nothing = np.array([])
    history = {"base": nothing, "full": nothing}
    assert evidence_weights(history, nothing, nothing, PRIOR) == PRIOR
    # Nor do examples tell of anything that were all wrong, or all right.
    history = {"base": np.arange(6.0), "full": np.arange(6.0)}
    wrong, when = np.array([1, 1, 1, 0, 0, 0], dtype=bool), np.array([0, 0, 0, 1, 1, 1])
    assert evidence_weights(history, wrong, when, PRIOR) == PRIOR


def test_by_hand() -> None:
    # One round, two wrong and two right: n = 4. The base orders them, the full inverts them.
    history = {"base": np.array([4.0, 3, 2, 1]), "full": np.array([1.0, 2, 3, 4])}
    wrong, when = np.array([True, True, False, False]), np.zeros(4)
    weights = evidence_weights(history, wrong, when, PRIOR, strength=4.0)
    assert weights == pytest.approx({"base": (0.7 + 1) / 2, "full": (0.3 - 1) / 2})
    # Three rounds of it: the prior counts a quarter.
    thrice = {view: np.tile(scores, 3) for view, scores in history.items()}
    weights = evidence_weights(
        thrice, np.tile(wrong, 3), np.repeat([0, 1, 2], 4), PRIOR, strength=4
    )
    assert weights == pytest.approx({"base": 0.7 / 4 + 0.75, "full": 0.3 / 4 - 0.75})


def test_scores_of_two_rounds_are_not_compared() -> None:
    # Within each round the view is perfect; between rounds its unit changes.
    scores = np.array([0.2, 0.1, 20.0, 10.0])
    wrong, when = np.array([True, False, True, False]), np.array([0, 0, 1, 1])
    weights = evidence_weights({"full": scores}, wrong, when, {"full": 0.0}, strength=4.0)
    assert weights["full"] == pytest.approx(4 / (4 + 4))


def test_rounds_count_as_their_variance_has_it() -> None:
    # Round 0 has one wrong of ten: n = 4·1·9/10 = 3.6 and d = 1. Round 1, 5 of 10: n = 10, d = −1.
    scores = np.concatenate([np.arange(10.0), np.arange(10.0)])
    wrong = np.concatenate([np.arange(10) == 9, np.arange(10) < 5])
    weights = evidence_weights(
        {"full": scores}, wrong, np.repeat([0, 1], 10), {"full": 0.5}, strength=10.0
    )
    assert weights["full"] == pytest.approx((5 + 3.6 - 10) / (10 + 13.6))


def test_the_highest_of_the_blend_and_a_share_at_random() -> None:
    views = {"base": np.array([3.0, 1, 2, 0, 5, 4]), "full": np.arange(6.0)}
    random = np.random.default_rng(0)
    assert trusted(views, {"base": 1.0, "full": 0.0}, 3, random, share=0) == [4, 5, 0]
    assert trusted(views, {"base": -1.0, "full": 0.0}, 3, random, share=0) == [3, 1, 2]
    assert trusted(views, {"base": 0.0, "full": 0.0}, 3, random, share=0) == [0, 1, 2]
    picks = [
        trusted(views, {"base": 1.0, "full": 0.0}, 4, np.random.default_rng(s), share=0.5)
        for s in range(200)
    ]
    assert all(p[:2] == [4, 5] and len(set(p)) == 4 for p in picks)
    assert set(np.ravel([p[2:] for p in picks])) == {0, 1, 2, 3}


def test_ranks_make_the_unit_of_a_view_no_matter() -> None:
    random, weights = np.random.default_rng(3), {"base": 0.4, "full": -0.2}
    views = {"base": random.uniform(size=30), "full": random.uniform(size=30)}
    other = {"base": np.exp(9 * views["base"]), "full": views["full"] * 1e3 - 7}
    one, two = (trusted(v, weights, 9, np.random.default_rng(1)) for v in (views, other))
    assert one == two


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("count", [0, 1, 6, 40])
def test_never_more_than_there_are(count: int, share: float) -> None:
    views = {"full": np.arange(6.0)}
    picks = trusted(views, {"full": 1.0}, count, np.random.default_rng(0), share=share)
    assert len(picks) == len(set(picks)) == min(count, 6)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="strength"):
        evidence_weights({"full": []}, [], [], {"full": 1.0}, strength=0.0)
    with pytest.raises(ValueError, match="one score, outcome and round"):
        evidence_weights({"full": [1.0]}, [True, False], [0, 0], {"full": 1.0})
    with pytest.raises(ValueError, match="share"):
        trusted({"full": [1.0]}, {"full": 1.0}, 1, np.random.default_rng(0), share=2.0)

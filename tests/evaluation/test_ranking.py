"""AUROC, risk and coverage, and the summary against scikit-learn and loops over all orders."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from star.evaluation import calibration
from star.evaluation.calibration import summary
from star.evaluation.ranking import area_under_risk_coverage, auroc, risk_coverage

VALUES = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]) | st.floats(0, 1)
ROWS = st.lists(st.tuples(VALUES, st.booleans()), min_size=1, max_size=30)


@given(ROWS)
def test_auroc_equals_a_loop_over_pairs_and_scikit_learn(rows: list) -> None:
    uncertainty, error = zip(*rows, strict=True)
    wrong = [u for u, e in rows if e]
    right = [u for u, e in rows if not e]
    ours = auroc(uncertainty, error)
    if not wrong or not right:
        assert ours is None
        return
    wins = [(w > r) + 0.5 * (w == r) for w in wrong for r in right]
    assert ours == pytest.approx(sum(wins) / len(wins), abs=1e-12)
    assert ours == pytest.approx(roc_auc_score(error, uncertainty), abs=1e-9)
    assert auroc(uncertainty[::-1], error[::-1]) == ours


def test_auroc_closed_forms() -> None:
    assert auroc([3.0, -1.0], [1, 0]) == 1.0
    assert auroc([3.0, -1.0], [0, 1]) == 0.0
    assert auroc([0.3, 0.3, 0.3], [0, 1, 1]) == 0.5
    assert auroc([math.inf, 2.0, 2.0, -math.inf], [1, 1, 0, 0]) == 0.875
    assert auroc([0.5], [1]) is None
    assert auroc([0.1, 0.9], [0, 0]) is None
    assert auroc([0.1, 0.9], [1, 1]) is None


def loop_risks(rows: list[tuple[float, bool]]) -> np.ndarray:
    """Return the risks, averaged over every order of the rows that falls in confidence."""
    total, count = np.zeros(len(rows)), 0
    for order in itertools.permutations(rows):
        if all(a[0] >= b[0] for a, b in itertools.pairwise(order)):
            errors = itertools.accumulate(not correct for _, correct in order)
            total += [e / k for k, e in enumerate(errors, start=1)]
            count += 1
    return total / count


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.4, 0.8, 1.0]), st.booleans()), min_size=1, max_size=6
    )
)
def test_risks_are_means_over_all_orders_of_ties(rows: list[tuple[float, bool]]) -> None:
    coverage, risk = risk_coverage(*zip(*rows, strict=True))
    expected = loop_risks(rows)
    np.testing.assert_allclose(risk, expected, atol=1e-12)
    np.testing.assert_allclose(coverage, np.arange(1, len(rows) + 1) / len(rows), atol=1e-15)
    area = area_under_risk_coverage(*zip(*rows, strict=True))
    assert area == pytest.approx(expected.mean(), abs=1e-12)


@given(ROWS, st.randoms())
def test_the_area_does_not_depend_on_the_order(rows: list, random) -> None:
    ours = area_under_risk_coverage(*zip(*rows, strict=True))
    other = area_under_risk_coverage(*zip(*random.sample(rows, len(rows)), strict=True))
    assert ours == pytest.approx(other, abs=1e-12)
    assert 0.0 <= ours <= 1.0


def test_risk_and_coverage_without_ties_equal_a_loop() -> None:
    rng = np.random.default_rng(0)
    confidence, correct = rng.normal(size=100), rng.integers(0, 2, size=100)
    order = sorted(range(100), key=lambda i: -confidence[i])
    expected = [sum(1 - correct[i] for i in order[:k]) / k for k in range(1, 101)]
    _, risk = risk_coverage(confidence, correct)
    np.testing.assert_allclose(risk, expected, atol=1e-12)
    assert risk[-1] == pytest.approx(1.0 - correct.mean())


def test_area_closed_forms() -> None:
    assert area_under_risk_coverage([0.9, 0.1], [1, 0]) == pytest.approx(0.25)
    assert area_under_risk_coverage([0.9, 0.1], [0, 1]) == pytest.approx(0.75)
    assert area_under_risk_coverage([0.5, 0.5], [0, 1]) == pytest.approx(0.5)
    assert area_under_risk_coverage([0.2, 0.7, 0.7], [1, 1, 1]) == 0.0
    assert area_under_risk_coverage([0.2, 0.7, 0.7], [0, 0, 0]) == 1.0
    assert area_under_risk_coverage([-3.0], [0]) == 1.0


@pytest.mark.parametrize(
    "score, outcome",
    [([], []), ([0.5], [1, 0]), ([math.nan], [1]), ([0.5], [2]), ([[0.5]], [[1]])],
)
def test_bad_scores_are_refused(score: list, outcome: list) -> None:
    for measure in (auroc, risk_coverage, area_under_risk_coverage, summary):
        with pytest.raises(ValueError):
            measure(score, outcome)


@given(ROWS)
def test_the_summary_is_its_parts(rows: list) -> None:
    p, correct = np.array([p for p, _ in rows]), np.array([c for _, c in rows])
    found = summary(p, correct, bins=5)
    assert list(found) == [
        "accuracy",
        "ece",
        "ece_equal_mass",
        "overconfidence",
        "brier",
        "auroc",
        "aurc",
        "reliability",
    ]
    ece = calibration.expected_calibration_error
    assert found["accuracy"] == pytest.approx(correct.mean())
    assert found["ece"] == ece(p, correct, bins=5)
    assert found["ece_equal_mass"] == ece(p, correct, bins=5, scheme="equal_mass")
    assert found["overconfidence"] == pytest.approx(p.mean() - correct.mean(), abs=1e-12)
    assert found["brier"] == pytest.approx(((p - correct) ** 2).mean(), abs=1e-12)
    assert found["auroc"] == auroc(-p, ~correct)
    assert found["aurc"] == area_under_risk_coverage(p, correct)
    assert found["reliability"] == calibration.reliability_bins(p, correct, bins=5)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_summary_keeps_tiny_confidences_apart() -> None:
    # 1 − 1e-20 and 1 − 1e-30 are the same double.
    assert summary([1e-20, 1e-30], [1, 0])["auroc"] == 1.0
    assert summary([0.9, 0.3], [1, 0])["auroc"] == 1.0
    assert summary([0.9, 0.3], [0, 1])["auroc"] == 0.0
    for outcome in (0, 1):
        assert summary([0.9, 0.3], [outcome] * 2)["auroc"] is None
    with pytest.raises(ValueError):
        summary([1.5], [1])

"""Temperatures against scikit-learn, scipy's minimiser and cases whose answer is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logit
from sklearn.linear_model import LogisticRegression

from star.evaluation.proper_scores import negative_log_likelihood
from star.evaluation.temperature import (
    LIMITS,
    fit_confidence_temperature,
    fit_temperature,
    scale,
    scale_confidence,
)


def random_logits(seed: int, *, n: int = 200, classes: int = 4, spread: float = 2.0) -> tuple:
    rng = np.random.default_rng(seed)
    z = rng.normal(scale=spread, size=(n, classes))
    return z, np.array([rng.choice(classes, p=p) for p in np.exp(log_softmax(z, axis=1))])


def loss(z: np.ndarray, label: np.ndarray, temperature: float) -> float:
    return float(-log_softmax(z / temperature, axis=1)[np.arange(len(label)), label].mean())


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_temperature_equals_scipys(seed: int, factor: float) -> None:
    z, label = random_logits(seed)
    z = z * factor
    theirs = minimize_scalar(
        lambda x: loss(z, label, math.exp(x)),
        bounds=np.log(LIMITS),
        method="bounded",
        options={"xatol": 1e-10},
    )
    ours = fit_temperature(z, label)
    assert ours == pytest.approx(math.exp(theirs.x), rel=1e-6)
    assert loss(z, label, ours) <= theirs.fun + 1e-12
    # Sampled from softmax(z / factor), so this is what there is to find.
    assert ours == pytest.approx(factor, rel=0.25)


def test_the_temperature_scales_with_the_logits_and_ignores_their_level() -> None:
    z, label = random_logits(2)
    ours = fit_temperature(z, label)
    assert fit_temperature(3.0 * z, label) == pytest.approx(3.0 * ours, rel=1e-9)
    assert fit_temperature(z + 1000.0, label) == pytest.approx(ours, rel=1e-9)
    assert fit_temperature(log_softmax(z, axis=1), label) == pytest.approx(ours, rel=1e-9)
    assert fit_temperature(z[::-1], label[::-1]) == pytest.approx(ours, rel=1e-9)
    assert fit_temperature(scale(z, ours), label) == pytest.approx(1.0, rel=1e-9)


@given(
    st.lists(
        st.tuples(st.lists(st.floats(-30, 30), min_size=3, max_size=3), st.integers(0, 2)),
        min_size=1,
        max_size=8,
    )
)
def test_no_other_temperature_within_the_limits_is_better(rows: list) -> None:
    z, label = np.array([z for z, _ in rows]), np.array([y for _, y in rows])
    ours = fit_temperature(z, label)
    assert LIMITS[0] <= ours <= LIMITS[1]
    for other in np.geomspace(*LIMITS, 41):
        assert loss(z, label, ours) <= loss(z, label, other) + 1e-9


def test_at_the_bounds() -> None:
    z = np.array([[2.0, 0.0, 1.0], [0.0, 0.5, 0.4]])
    assert fit_temperature(z, [0, 1]) == LIMITS[0]  # all right
    assert fit_temperature(z, [1, 0]) == LIMITS[1]  # all as wrong as can be
    assert fit_temperature(z[:1], [0]) == LIMITS[0]
    assert fit_temperature(1e-4 * z, [0, 0]) == LIMITS[0]  # the minimum lies below
    assert fit_temperature([[math.log(1 / 3)] * 3] * 2, [0, 1]) == 1.0  # flat rows
    assert fit_temperature([[0.0]], [0]) == 1.0
    assert fit_temperature([[0.0, -2000.0]], [0]) == 1.0  # nothing left to gain
    assert fit_temperature([[0.0, -2000.0]], [1]) == LIMITS[1]


def test_scaled_rows_are_distributions_and_equal_scipys() -> None:
    z, label = random_logits(3)
    for temperature in (0.05, 0.7, 1.0, 20.0):
        ours = scale(z, temperature)
        np.testing.assert_allclose(ours, log_softmax(z / temperature, axis=1), atol=1e-9)
        assert (ours.argmax(axis=1) == z.argmax(axis=1)).all()
    # The two ways to the loss: this room's and calibration's.
    p = np.exp(scale(z, 1.7))
    assert negative_log_likelihood(p, label) == pytest.approx(loss(z, label, 1.7), abs=1e-12)


def random_confidences(seed: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.02, 0.98, size=500)
    correct = rng.random(500) < p
    return expit(logit(p) * temperature), correct


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_confidence_temperature_equals_a_logistic_regression(true: float) -> None:
    confidence, correct = random_confidences(4, true)
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-12, solver="newton-cholesky")
    slope = model.fit(logit(confidence)[:, None], correct).coef_[0, 0]
    ours = fit_confidence_temperature(confidence, correct)
    assert ours == pytest.approx(1.0 / slope, rel=1e-6)
    assert ours == pytest.approx(true, rel=0.25)


def test_confidences_at_the_bounds() -> None:
    assert fit_confidence_temperature([0.9, 0.2], [1, 0]) == LIMITS[0]
    assert fit_confidence_temperature([0.9, 0.2], [0, 1]) == LIMITS[1]
    assert fit_confidence_temperature([0.5, 0.5], [0, 1]) == 1.0
    assert fit_confidence_temperature([0.001, 0.01], [1, 1]) == LIMITS[1]  # one half is not crossed
    # 1 has no logit of its own and counts as 1 − 2^−24. With 9 of 10 right, sigmoid(24 ln 2 / T)
    # must be 0.9.
    hottest = fit_confidence_temperature([1.0] * 10, [1] * 9 + [0])
    assert hottest == pytest.approx(24 * math.log(2) / math.log(9), rel=1e-6)
    assert fit_confidence_temperature([0.0, 1.0], [0, 1]) == LIMITS[0]
    assert fit_confidence_temperature([0.0, 1.0], [1, 0]) == LIMITS[1]


def test_scaled_confidences() -> None:
    p = np.array([0.0, 1e-300, 1e-30, 0.2, 0.5, 0.8, 1.0 - 1e-6, 1.0])
    np.testing.assert_allclose(scale_confidence(p, 1.0), p, rtol=1e-12, atol=1e-7)
    for temperature in (0.05, 0.5, 3.0, 20.0):
        ours = scale_confidence(p, temperature)
        np.testing.assert_allclose(ours[2:6], expit(logit(p[2:6]) / temperature), rtol=1e-12)
        assert ours[4] == 0.5
        assert (np.diff(ours) >= 0).all() and (ours >= 0).all() and (ours <= 1).all()
    assert (np.diff(scale_confidence(p, 20.0)) > 0).all()
    assert scale_confidence([], 2.0).shape == (0,)


@pytest.mark.parametrize(
    "log_probs, label",
    [
        ([], []),
        ([0.0, 1.0], [0, 1]),
        ([[0.0, 1.0]], [2]),
        ([[0.0, 1.0]], [0, 1]),
        ([[0.0, 1.0]], [0.0]),
        ([[0.0, math.nan]], [0]),
        ([[0.0, -math.inf]], [0]),
    ],
)
def test_bad_log_probs_are_refused(log_probs: list, label: list) -> None:
    with pytest.raises(ValueError):
        fit_temperature(log_probs, label)


def test_bad_scalings_are_refused() -> None:
    for temperature in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="temperature"):
            scale([[0.0, 1.0]], temperature)
        with pytest.raises(ValueError, match="temperature"):
            scale_confidence([0.5], temperature)
    for log_probs in ([0.0, 1.0], [[]], [[math.inf, 0.0]]):
        with pytest.raises(ValueError):
            scale(log_probs, 1.0)
    for confidence in ([1.5], [-0.1], [math.nan], [[0.5]]):
        with pytest.raises(ValueError):
            scale_confidence(confidence, 1.0)
    for confidence, correct in (([], []), ([0.5], [1, 0]), ([0.5], [2]), ([math.nan], [1])):
        with pytest.raises(ValueError):
            fit_confidence_temperature(confidence, correct)

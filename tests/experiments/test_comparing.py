"""Paired comparisons against scipy, against counting, and over a thousand simulated tables."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import nct, permutation_test, ttest_1samp
from scipy.stats import t as student

from star.evaluation.learning_curves import area_under_curve
from star.experiments.report.significance import (
    Comparison,
    compare,
    holm,
    power_of_t_test,
    seeds_needed,
    sign_flip,
)

# Differences of accuracies on 40 test examples: ties and zeros are common.
COUNTS = st.lists(st.integers(-40, 40), min_size=1, max_size=9)


def counted(differences: list[int]) -> float:
    """Return the sign-flip p-value of whole numbers, which know no rounding."""
    signs = itertools.product((-1, 1), repeat=len(differences))
    sums = [abs(sum(s * d for s, d in zip(row, differences, strict=True))) for row in signs]
    return sum(value >= abs(sum(differences)) for value in sums) / len(sums)


# --- one comparison ----------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 5, 6, 10, 25])
def test_the_t_test_is_scipys(n: int) -> None:
    d = np.random.default_rng(n).normal(0.5, 1, size=n)
    found, theirs = compare(d), ttest_1samp(d, 0)
    interval = theirs.confidence_interval(0.95)
    assert found.p_t == pytest.approx(theirs.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert (found.mean, found.n) == (pytest.approx(d.mean()), n)
    assert (found.p_t < 0.05) == (found.low > 0 or found.high < 0)


def test_sign_flips_are_reported_from_six_seeds_on() -> None:
    d = [0.1, 0.3, 0.2, 0.4, 0.2, 0.1]
    five, six = compare(d[:5]), compare(d)
    assert five.p_sign_flip is None and five.p_t is not None
    assert six.p_sign_flip == 2 / 64


def test_one_seed_says_nothing_of_chance() -> None:
    assert compare([0.25]) == Comparison(0.25, None, None, 1, None, None)


@pytest.mark.parametrize("n", [2, 7])
def test_no_difference_at_all(n: int) -> None:
    found = compare([0.0] * n)
    assert (found.mean, found.low, found.high) == (0, 0, 0)
    assert found.p_t == 1 and found.p_sign_flip == (1 if n == 7 else None)
    assert seeds_needed([0.0] * n) is None


@pytest.mark.parametrize("n", [3, 6])
def test_differences_without_spread_claim_no_certainty(n: int) -> None:
    # Equal on paper; as floats they miss each other in the last digits.
    d = [(k + 1) / 10 - k / 10 for k in range(n)]
    assert len(set(d)) > 1
    found = compare(d)
    assert found.p_t is None
    assert found.p_sign_flip == (2 / 64 if n == 6 else None)
    assert seeds_needed(d) == 2


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=9))
def test_the_other_way_round_is_the_same_but_for_the_sign(counts: list[int]) -> None:
    d = np.array(counts) / 1000
    one, other = compare(d), compare(-d)
    assert other.mean == -one.mean
    if one.n > 1:
        assert (other.low, other.high) == (-one.high, -one.low)
    assert (other.p_t, other.p_sign_flip) == (one.p_t, one.p_sign_flip)
    assert seeds_needed(-d) == seeds_needed(d)
    # In points of a hundred, and the seeds in another order.
    third = compare(100 * d[::-1])
    assert third.p_sign_flip == one.p_sign_flip
    assert (third.p_t is None) == (one.p_t is None)
    if one.p_t is not None:
        assert third.p_t == pytest.approx(one.p_t, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("call", [compare, sign_flip, seeds_needed])
@pytest.mark.parametrize("bad", [[], [math.nan, 0.1], [math.inf, 0.1], [[0.1, 0.2]], 0.5])
def test_bad_differences_are_refused(call, bad) -> None:
    with pytest.raises(ValueError, match="finite values"):
        call(bad)


# --- sign flips --------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 6, 10])
def test_exact_sign_flips_are_scipys(n: int) -> None:
    d = np.random.default_rng(n).normal(0.4, 1, size=n)
    theirs = permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert sign_flip(d) == pytest.approx(theirs.pvalue, abs=1e-12)


@given(COUNTS)
def test_sign_flips_count_ties_that_rounding_hides(counts: list[int]) -> None:
    base = 17
    differences = [(base + k) / 40 - base / 40 for k in counts]
    assert sign_flip(differences) == counted(counts)


@given(COUNTS, st.integers(1, 10**6))
def test_sign_flips_of_fractions_are_exact(counts: list[int], questions: int) -> None:
    # As areas of curves are: of a denominator that no float has.
    exact = [Fraction(count, 3 * questions) for count in counts]
    assert sign_flip(exact) == counted(counts)
    # A hair off a tie is none, however small the hair.
    if sum(counts) > 0:
        off = [*exact, Fraction(1, 10**9)]
        assert sign_flip(off) == counted([3 * k * 10**9 for k in counts] + [3 * questions])


def test_fractions_too_fine_for_whole_numbers_go_by_floats() -> None:
    fine = [Fraction(1, prime) for prime in (999_983, 999_979, 999_961, 999_959)]
    assert sign_flip(fine) == 2 / 16


@given(COUNTS)
def test_the_least_sign_flips_can_say(counts: list[int]) -> None:
    p = sign_flip(counts)
    assert 2.0 ** (1 - len(counts)) <= p <= 1
    if len(set(np.sign(counts))) == 1 and counts[0]:
        assert p == 2.0 ** (1 - len(counts))


def test_beyond_fourteen_seeds_signs_are_drawn() -> None:
    rng = np.random.default_rng(0)
    d = rng.normal(0.3, 1, size=14)
    exact = sign_flip(d)
    # A fifteenth seed without difference changes no sum, only how they are found.
    drawn = sign_flip([*d, 0.0])
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 20_000))
    assert sign_flip([*d, 0.0]) == drawn
    assert sign_flip(np.full(40, 0.1)) == 1 / 20_001  # never 0
    assert sign_flip(np.zeros(40)) == 1


# --- correction for their number ---------------------------------------------------------------


def test_holm_by_hand() -> None:
    # Ascending 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, and no less than that.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.7]) == pytest.approx([0.8, 0.8])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


def test_what_could_not_be_compared_does_not_count() -> None:
    assert holm([None, 0.01, None, 0.04]) == [None, pytest.approx(0.02), None, 0.04]
    assert holm([None]) == [None]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms())
def test_holm_keeps_the_order_and_lies_between(p: list[float], random) -> None:
    corrected = holm(p)
    for a, b in zip(p, corrected, strict=True):
        assert a <= b <= min(1, len(p) * a)
    ascending = [corrected[k] for k in np.argsort(p, kind="stable")]
    assert ascending == sorted(ascending)
    assert min(corrected) == min(1, len(p) * min(p))  # the least one's is Bonferroni's
    order = list(range(len(p)))
    random.shuffle(order)
    assert holm([p[k] for k in order]) == [corrected[k] for k in order]


@pytest.mark.parametrize("bad", [-0.01, 1.01, math.nan])
def test_holm_refuses_what_is_no_p_value(bad: float) -> None:
    with pytest.raises(ValueError, match="p-values"):
        holm([0.5, bad])


# --- seeds needed ------------------------------------------------------------------------------


def with_effect(effect: float, n: int = 8) -> np.ndarray:
    """Return (n,) differences whose mean is ``effect`` of their standard deviations."""
    noise = np.random.default_rng(0).normal(size=n)
    return (noise - noise.mean()) / noise.std(ddof=1) + effect


@pytest.mark.parametrize("effect", [0.0, 0.1, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("n", [2, 3, 10, 100, 3000])
@pytest.mark.parametrize("level", [0.05, 0.05 / 12])
def test_the_power_is_that_of_the_noncentral_t(effect: float, n: int, level: float) -> None:
    critical, shift = student.isf(level / 2, n - 1), effect * math.sqrt(n)
    theirs = nct.sf(critical, n - 1, shift)
    if shift < 5:  # beyond, the other side is less than 1e-6, and NaN in scipy
        theirs += nct.cdf(-critical, n - 1, shift)
    assert power_of_t_test(effect, n, level=level) == pytest.approx(theirs, abs=1e-6)


def test_without_difference_the_power_is_the_level() -> None:
    assert power_of_t_test(0.0, 10) == pytest.approx(0.05)
    assert power_of_t_test(0.0, 10, level=0.01) == pytest.approx(0.01)


@pytest.mark.parametrize("effect, seeds", [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_seeds_needed_of_the_textbooks(effect: float, seeds: int) -> None:
    # Small, medium and large effects as G*Power and statsmodels give them.
    assert seeds_needed(with_effect(effect)) == seeds
    assert seeds_needed(-with_effect(effect)) == seeds


@pytest.mark.parametrize("effect", [0.4, 0.7, 1.0, 1.5, 3.0])
@pytest.mark.parametrize("power", [0.8, 0.95])
def test_seeds_needed_have_the_power_in_simulation(effect: float, power: float) -> None:
    seeds = seeds_needed(with_effect(effect), power=power)
    draws = np.random.default_rng(1).normal(effect, 1, size=(10_000, seeds))
    tolerance = 3 * math.sqrt(power * (1 - power) / len(draws))
    assert np.mean(ttest_1samp(draws, 0, axis=1).pvalue < 0.05) > power - tolerance
    if seeds > 2:
        fewer = ttest_1samp(draws[:, :-1], 0, axis=1).pvalue
        assert np.mean(fewer < 0.05) < power + tolerance


@given(st.floats(0.01, 50), st.floats(0.01, 50))
def test_a_larger_effect_needs_no_more_seeds(a: float, b: float) -> None:
    small, large = (seeds_needed(with_effect(effect)) for effect in sorted((a, b)))
    assert 2 <= large <= small
    if small > 2:
        effect = min(a, b)
        assert power_of_t_test(effect, small - 1) < 0.8 + 1e-6
        assert power_of_t_test(effect, small) > 0.8 - 1e-6


def test_seeds_needed_at_the_ends() -> None:
    assert seeds_needed([0.3]) is None
    assert seeds_needed([0.1, -0.1]) is None
    assert seeds_needed([0.1 + 0.2, -0.3]) is None  # zero but for rounding
    assert seeds_needed(with_effect(1e-4)) is None  # eight hundred million
    assert seeds_needed(with_effect(1e6)) == 2
    assert 70_000 < seeds_needed(with_effect(0.01)) < 90_000
    assert seeds_needed(with_effect(1.0), level=0.05 / 12) > seeds_needed(with_effect(1.0))


@pytest.mark.parametrize("power, level", [(0.0, 0.05), (1.0, 0.05), (0.8, 0.0), (0.04, 0.05)])
def test_power_and_level_are_checked(power: float, level: float) -> None:
    with pytest.raises(ValueError, match="level < power"):
        seeds_needed([0.1, 0.2], power=power, level=level)


# --- a thousand tables -------------------------------------------------------------------------

TABLES, METHODS, SEEDS = 1_000, 6, 10
LABELS = np.arange(20, 180, 20)
# Three binomial standard errors of a rate of 5 % in a thousand tables. The six comparisons of a
# table share random's runs, so a table counts once, however many it holds.
TOLERANCE = 3 * math.sqrt(0.05 * 0.95 / TABLES)


def simulated(seeds: int) -> np.ndarray:
    """Return (tables, methods, seeds) differences of AUC to random, paired by seed.

    Each run's curve rises with its labels, is moved by the luck of its seed, which all rows of the
    table share, and by its own, and is measured on 200 test examples. All methods are copies of
    random.
    """
    rng = np.random.default_rng(5)
    rows = METHODS + 1  # the last one is random
    shared = rng.normal(0, 0.03, size=(TABLES, 1, seeds, 1))
    own = rng.normal(0, 0.01, size=(TABLES, rows, seeds, 1))
    curves = rng.binomial(200, 0.7 - 0.4 * np.exp(-LABELS / 60) + shared + own) / 200
    # The area is linear in the accuracies: its weights are the areas of single points.
    weights = [area_under_curve(LABELS, point) for point in np.eye(LABELS.size)]
    areas = curves @ weights
    return areas[:, :METHODS] - areas[:, METHODS:]


@pytest.fixture(scope="module")
def copies() -> list[list[Comparison]]:
    return [[compare(d) for d in table] for table in simulated(SEEDS)]


@pytest.fixture(scope="module")
def planted(copies: list[list[Comparison]]) -> list[list[Comparison]]:
    """Return the same tables with the first method six points of accuracy better throughout."""
    first = [compare(d + 0.06) for d in simulated(SEEDS)[:, 0]]
    return [[one, *table[1:]] for one, table in zip(first, copies, strict=True)]


@pytest.mark.parametrize("test", ["p_t", "p_sign_flip"])
def test_between_copies_of_random_little_is_found(
    copies: list[list[Comparison]], test: str
) -> None:
    p = np.array([[getattr(c, test) for c in table] for table in copies])
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=TOLERANCE)
    found = [min(holm(table)) < 0.05 for table in p]
    assert np.mean(found) == pytest.approx(0.05, abs=TOLERANCE)
    # Without the correction a reader would be shown a difference in every fifth table.
    assert np.mean((p < 0.05).any(axis=1)) > 0.15


@pytest.mark.parametrize("seeds", [3, 5])
def test_with_few_seeds_the_t_test_errs_as_often_as_it_says(seeds: int) -> None:
    p = ttest_1samp(simulated(seeds), 0, axis=2).pvalue
    assert p[0, 0] == pytest.approx(compare(simulated(seeds)[0, 0]).p_t, rel=1e-9)
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=TOLERANCE)
    found = [min(holm(table)) < 0.05 for table in p]
    assert np.mean(found) == pytest.approx(0.05, abs=TOLERANCE)


def test_intervals_cover_the_difference(planted: list[list[Comparison]]) -> None:
    truth = [0.06, 0, 0, 0, 0, 0]
    inside = [[c.low <= d <= c.high for c, d in zip(t, truth, strict=True)] for t in planted]
    assert np.mean(inside) == pytest.approx(0.95, abs=TOLERANCE)
    assert np.mean([row[0] for row in inside]) == pytest.approx(0.95, abs=TOLERANCE)


def test_a_planted_difference_is_found(planted: list[list[Comparison]]) -> None:
    # Where the differences of two copies have a standard deviation of two points.
    spread = simulated(SEEDS).std()
    assert 0.06 / spread == pytest.approx(2.7, abs=0.3)
    corrected = np.array([holm([c.p_t for c in table]) for table in planted])
    assert np.mean(corrected[:, 0] < 0.05) > 0.99
    assert all(table[0].mean > 0 for table in planted)
    # The five that are copies are no more often taken for different than without it.
    assert np.mean((corrected[:, 1:] < 0.05).any(axis=1)) < 0.05 + TOLERANCE


def test_seeds_needed_of_a_table_agree_with_what_is_found() -> None:
    # One point and a half of accuracy: how many seeds does it take, and do they find it?
    truth = simulated(100)[:, 0] + 0.015
    needed = seeds_needed(truth.ravel())
    assert 10 <= needed <= 40
    tolerance = 3 * math.sqrt(0.8 * 0.2 / TABLES)
    found, fewer = (
        np.mean(ttest_1samp(truth[:, :seeds], 0, axis=1).pvalue < 0.05)
        for seeds in (needed, needed - 1)
    )
    assert 0.8 - tolerance < found < 0.8 + tolerance + 0.02  # a whole seed is that much
    assert fewer < 0.8 + tolerance

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from star.annotation.agreement import disagreements, krippendorff_alpha, pairwise_kappa
from star.annotation.suspects import ranked_suspects
from star.evaluation.kappa import cohen_kappa


def answers(**told: str) -> dict[str, dict[str, str]]:
    """Return answers from one word a row; a full stop is no answer."""
    rows = zip(*(words.split() for words in told.values()), strict=True)
    return {
        str(number): {who: label for who, label in zip(told, row, strict=True) if label != "."}
        for number, row in enumerate(rows)
    }


# Krippendorff 2011, section C: four observers, twelve units, gaps; nominal alpha 0.743.
PAPER = answers(
    a="1 2 3 3 2 1 4 1 2 . . .",
    b="1 2 3 3 2 2 4 1 2 5 . 3",
    c=". 3 3 3 2 3 4 2 2 5 1 .",
    d="1 2 3 3 2 4 4 1 2 5 1 .",
)


def test_alpha_is_that_of_the_published_examples() -> None:
    alpha = krippendorff_alpha(PAPER)
    assert alpha.value == pytest.approx(0.743, abs=5e-4) and alpha.rows == 11
    # Section A of the same paper: two observers, binary; 0.095.
    binary = answers(a="0 1 0 0 0 0 0 0 1 0", b="1 1 1 0 0 1 0 0 0 0")
    assert krippendorff_alpha(binary).value == pytest.approx(0.095, abs=5e-4)
    # Wikipedia, "Krippendorff's alpha": three coders, fifteen units; nominal 0.691.
    wiki = answers(
        a=". . . . . 3 4 1 2 1 1 3 3 . 3",
        b="1 . 2 1 3 3 4 3 . . . . . . .",
        c=". . 2 1 3 4 4 . 2 1 1 3 3 . 4",
    )
    assert krippendorff_alpha(wiki).value == pytest.approx(0.691, abs=5e-4)


def test_kappa_is_that_of_the_textbook() -> None:
    # 50 grants, two readers: 20 both yes, 15 both no, 5 and 10 mixed; p_o 0.7, p_e 0.5, kappa 0.4.
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    told = {
        str(k): {"ben": b, "anna": a} for k, (a, b) in enumerate(zip(first, second, strict=True))
    }
    told["alone"] = {"anna": "yes"}
    (pair, kappa), *none = pairwise_kappa(told).items()
    assert pair == ("anna", "ben") and not none
    assert (kappa.value, kappa.rows, kappa.observed) == (pytest.approx(0.4), 50, 0.7)
    assert set(pairwise_kappa(PAPER)) == {(a, b) for a in "abcd" for b in "abcd" if a < b}


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_scikit_learn_s(seed: int) -> None:
    random = np.random.default_rng(seed)
    first, second = random.integers(0, seed + 2, size=(2, 30)).tolist()
    expected = cohen_kappa_score(first, second)
    assert cohen_kappa(first, second) == pytest.approx(expected, abs=1e-12)


def test_what_is_undefined_says_why() -> None:
    same = {"1": {"anna": "joy", "ben": "joy"}, "2": {"anna": "joy", "ben": "joy"}}
    alpha, kappa = krippendorff_alpha(same), pairwise_kappa(same)["anna", "ben"]
    for found in (alpha, kappa):
        assert found.value is None and found.observed == 1 and "same label" in found.why
    apart = {"1": {"anna": "joy"}, "2": {"ben": "joy"}}
    for found in (krippendorff_alpha(apart), pairwise_kappa(apart)["anna", "ben"]):
        assert found.value is None and found.rows == 0 and "two annotators" in found.why
    one = {"1": {"anna": "joy"}}
    assert pairwise_kappa(one) == {} and krippendorff_alpha(one).value is None
    assert krippendorff_alpha({}).value is None
    with pytest.raises(ValueError):
        cohen_kappa([], [])
    with pytest.raises(ValueError):
        cohen_kappa(["a"], ["a", "b"])


@given(
    st.dictionaries(
        st.sampled_from("123456"),
        st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz"), min_size=1),
    )
)
def test_alpha_by_its_definition(told: dict[str, dict[str, str]]) -> None:
    # The coincidence matrix, filled pair by pair.
    cells: dict[tuple[str, str], float] = {}
    for given_ in told.values():
        for who, label in given_.items():
            for other, second in given_.items():
                if who != other:
                    key = (label, second)
                    cells[key] = cells.get(key, 0) + 1 / (len(given_) - 1)
    n = sum(cells.values())
    sums = {c: sum(v for (a, _), v in cells.items() if a == c) for c in "xyz"}
    expected = sum(sums[c] * sums[k] for c in "xyz" for k in "xyz" if c != k)
    found = krippendorff_alpha(told)
    if not expected:
        assert found.value is None
    else:
        observed = sum(v for (c, k), v in cells.items() if c != k)
        assert found.value == pytest.approx(1 - (n - 1) * observed / expected)


def test_disagreements_are_listed() -> None:
    told = {"1": {"a": "x", "b": "x"}, "2": {"a": "x", "b": "y"}, "3": {"a": "z"}}
    assert disagreements(told) == {"2": {"a": "x", "b": "y"}}


def test_suspects_come_by_disagreement_then_by_loss() -> None:
    assert ranked_suspects([0.1, 3.0, 0.2, 3.0, float("inf")]) == [4, 1, 3, 2, 0]
    assert ranked_suspects([0.1, 3.0, 0.2], [0.5, 0.0, 0.5]) == [2, 0, 1]
    assert ranked_suspects([0.1, 3.0], k=1) == [1] and ranked_suspects([]) == []
    for losses, share, k in (
        ([float("nan")], None, None),
        ([1.0], [1.5], None),
        ([1.0], [0.5, 0.5], None),
        ([[1.0]], None, None),
        ([1.0], None, -1),
    ):
        with pytest.raises(ValueError):
            ranked_suspects(losses, share, k)

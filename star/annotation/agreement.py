"""How far annotators agree: Cohen's kappa by pairs, Krippendorff's alpha over all. Pure functions.

Answers come as ``Standing.answers`` has them: id → annotator → label; a row that somebody has not
answered just lacks the annotator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from star.evaluation.kappa import cohen_kappa

Answers = Mapping[str, Mapping[str, str]]

ONE_LABEL = "all answers are the same label, so chance alone would agree everywhere"
NO_PAIR = "no row has answers of two annotators"


@dataclass(frozen=True)
class Agreement:
    """A coefficient, or why there is none.

    Attributes:
        value: At most 1, which is perfect; 0 is chance, below it worse; ``None``: undefined.
        rows: How many rows have answers of two or more of those compared.
        observed: Share of the pairs of answers that are equal; ``None`` without a pair.
        why: Why ``value`` is undefined; empty where it is not.
    """

    value: float | None
    rows: int
    observed: float | None
    why: str = ""


def pairwise_kappa(answers: Answers) -> dict[tuple[str, str], Agreement]:
    """Return Cohen's kappa of each two annotators, over the rows that both answered.

    Pairs are in the order of the annotators' names; one annotator alone gives an empty mapping.
    """
    names = sorted({name for given in answers.values() for name in given})
    return {pair: _kappa(answers, *pair) for pair in combinations(names, 2)}


def _kappa(answers: Answers, first: str, second: str) -> Agreement:
    both = [(row[first], row[second]) for row in answers.values() if first in row and second in row]
    if not both:
        return Agreement(None, 0, None, NO_PAIR)
    observed = sum(a == b for a, b in both) / len(both)
    value = cohen_kappa([a for a, _ in both], [b for _, b in both])
    return Agreement(value, len(both), observed, ONE_LABEL if value is None else "")


def krippendorff_alpha(answers: Answers) -> Agreement:
    """Return Krippendorff's alpha of nominal labels, any number of annotators, gaps allowed.

    ``α = 1 − D_o / D_e`` from the coincidences ``o_ck``: within a row of m ≥ 2 answers each ordered
    pair counts 1 / (m − 1). With ``n_c = Σ_k o_ck`` and ``n = Σ_c n_c``:
    ``D_o = Σ_{c≠k} o_ck / n`` and ``D_e = Σ_{c≠k} n_c n_k / (n (n − 1))``.

    Source: Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C.
    """
    rows = [Counter(given.values()) for given in answers.values() if len(given) > 1]
    if not rows:
        return Agreement(None, 0, None, NO_PAIR)
    counts: Counter[str] = Counter()
    equal = 0.0
    for row in rows:
        counts.update(row)
        m = row.total()
        equal += sum(number * (number - 1) for number in row.values()) / (m - 1)
    n = counts.total()
    by_chance = sum(number * (number - 1) for number in counts.values()) / (n - 1)
    if len(counts) == 1:
        return Agreement(None, len(rows), 1.0, ONE_LABEL)
    return Agreement(1 - (n - equal) / (n - by_chance), len(rows), equal / n)


def disagreements(answers: Answers) -> dict[str, dict[str, str]]:
    """Return the rows whose answers differ: id → annotator → label, in the order they came."""
    return {row: dict(given) for row, given in answers.items() if len(set(given.values())) > 1}

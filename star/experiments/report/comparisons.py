"""What the rows of a table say beside each other: differences by seed, tests, labels saved.

Whoever reads a table looks for what is marked in all its columns, so Holm's correction goes over
every comparison in it: of rows with the baseline, and with their naive counterparts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from star.config import NEEDS_NO_SCORES
from star.evaluation.learning_curves import (
    LabelShares,
    exact_accuracy,
    exact_area,
    label_shares,
    mean_interval,
    ripl,
)
from star.experiments.report.likeness import Likeness, unlike_in_words, untested_in_words
from star.experiments.report.record import CellResult, Row
from star.experiments.report.significance import EXACT_SEEDS, compare, holm, seeds_needed

LEVEL = 0.05  # of a corrected p-value that is marked
VERSUS = ("versus_random", "versus_naive")
QUERY = ("query_random", "query_naive")
Cells = dict[int, CellResult]  # of one row and column, by seed
# To which row; of areas, one a seed that both have; whether like is compared with like.
Differences = tuple[str, list[Fraction], bool]


@dataclass(frozen=True)
class Interval:
    """A mean over seeds, and its 95 % t-interval; one seed has none."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Shared:
    """The share of the first query in common with a row's on the same seed, over ``n`` seeds."""

    row: str
    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Versus:
    """The difference in area to a row on the same seeds; see ``Comparison``.

    Both p-values after Holm's correction, too, the t test's as ``p_corrected``; ``family``: the
    number of comparisons it was corrected for; ``seeds_needed`` at the level 0.05 / family. None of
    these where the rows' runs are not of like settings (``likeness.UNTESTED``).
    """

    row: str
    mean: float
    low: float | None
    high: float | None
    n: int
    p_t: float | None
    p_sign_flip: float | None
    p_corrected: float | None
    p_sign_flip_corrected: float | None
    family: int | None
    seeds_needed: int | None


def summarized(values: Sequence[float | None]) -> Interval | None:
    """Return mean and interval of one value a seed; ``None`` without values or with gaps."""
    known = [value for value in values if value is not None]
    return Interval(*mean_interval(known)) if known and len(known) == len(values) else None


def labels_of(cells: Sequence[CellResult]) -> list[int] | None:
    """Return the label counts of runs, ``None`` where they differ or there is no run."""
    counts = {cell.labels for cell in cells}
    return list(counts.pop()) if len(counts) == 1 else None


def accuracies(cell: CellResult) -> list[Fraction]:
    """Return a run's accuracies exactly, a round each; records may have rounded them."""
    # Every test question is in one of the bins.
    questions = sum(count for _, _, count in (cell.reliability or {}).get("full", ()))
    whole = int(questions) if questions == int(questions) else None
    return [exact_accuracy(point.accuracy, whole) for point in cell.rounds]


def area(cell: CellResult, counts: Sequence[int] | None = None) -> Fraction:
    """Return the exact area under a run's curve, through its points at these counts (all)."""
    found = dict(zip(cell.labels, accuracies(cell), strict=True))
    through = list(cell.labels if counts is None else counts)
    return exact_area(through, [found[count] for count in through])


def marked(versus: Versus | None) -> int:
    """Return 1 or −1 where a row is significantly better or worse after correction; else 0."""
    if versus is None or versus.p_corrected is None or versus.p_corrected >= LEVEL:
        return 0
    return 1 if versus.mean > 0 else -1


def out_of_reach(comparisons: Sequence[Versus]) -> tuple[int, int, float] | None:
    """Return why no sign-flip test of a table can fall below the level: too few seeds.

    Returns:
        Seeds of its largest comparison, size of the family, and the least p-value that the
        sign-flip test of so many seeds can give after correction; ``None`` if one could be lower.
    """
    made = [one for one in comparisons if one.p_sign_flip is not None]
    if not made or any(one.n > EXACT_SEEDS for one in made):
        return None
    most = max(one.n for one in made)
    least = min(1.0, len(made) * 2.0 ** (1 - most))
    return None if least < LEVEL else (most, len(made), least)


def naive_of(row: Row, present: set[str]) -> str | None:
    """Return the first of a row's naive counterparts that is ``present`` in a column."""
    names = (row.naive,) if isinstance(row.naive, str) else row.naive or ()
    return next((name for name in names if name in present), None)


def compared(
    row: Row,
    done: Mapping[str, Cells],
    others: tuple[str, str | None],
    likeness: Likeness,
) -> dict[str, Any]:
    """Return what the row's runs say beside those of random and of the naive counterpart.

    In the place of a comparison stand its ``Differences``, for :func:`corrected`; ``notes``: on
    what it is of, or why there is none. Runs of other data or another model are not compared.
    """
    baseline = others[0]
    found: dict[str, Any] = dict.fromkeys((*VERSUS, *QUERY, "ripl", "label_share"))
    notes: list[str] = []
    mine = done[row.name]
    whole = row.curve and labels_of(list(mine.values())) is not None
    for key, query, other in zip(VERSUS, QUERY, others, strict=True):
        # A naive counterpart that is the baseline would be the same comparison twice.
        if other in (None, row.name) or (key == VERSUS[1] and other == baseline):
            continue
        theirs = done.get(other, {})
        alike, unlike = likeness.sorted_out(mine, theirs)
        notes += unlike_in_words(other, unlike)
        pairs = [(mine[seed], theirs[seed]) for seed in alike]
        if not pairs or not whole:
            continue
        found[query] = _shared_query(other, pairs)
        both = [run for pair in pairs for run in pair]
        shared = labels_of(both) or _shared_counts(both)
        if labels_of(both) is None:
            counts = counts_in_words([run for _, run in pairs])
            if shared is None:
                notes.append(f"not compared with {other}, which has other label counts: {counts}")
                continue
            counts = ", ".join(map(str, shared))
            notes.append(f"compared with {other} at the label counts of both: {counts}")
        why_not = untested_in_words(other, pairs)
        notes += why_not
        areas = [(area(one, shared), area(two, shared)) for one, two in pairs]
        found[key] = (other, [one - two for one, two in areas], not why_not)
        if key == VERSUS[0]:
            found["ripl"] = summarized([ripl(float(one), float(two)) for one, two in areas])
    if whole:
        random = done.get(baseline, {})
        alike, _ = likeness.sorted_out(mine, random)
        found["label_share"] = _label_share([mine, random], alike)
    return found | {"notes": notes}


def corrected(differences: Sequence[Differences]) -> list[Versus]:
    """Return a table's comparisons, corrected for their number, and how many seeds they need."""
    made = [
        compare(values) if alike else replace(compare(values), p_t=None, p_sign_flip=None)
        for _, values, alike in differences
    ]
    family = sum(one.p_t is not None for one in made)
    ps, flips = holm([one.p_t for one in made]), holm([one.p_sign_flip for one in made])
    found = []
    for (row, values, _), one, p, flip in zip(differences, made, ps, flips, strict=True):
        test = (None, None)
        if one.p_t is not None:
            level = LEVEL / family
            test = (family, seeds_needed([float(value) for value in values], level=level))
        found.append(Versus(row, *vars(one).values(), p, flip, *test))
    return found


def _shared_query(other: str, pairs: Sequence[tuple[CellResult, CellResult]]) -> Shared | None:
    """Return how much of the first query two rows have in common; a pair is two runs of a seed."""
    shares = []
    for runs in pairs:
        one, two = (run.rounds[0] for run in runs)
        queries = [set(point.selected or ()) for point in (one, two)]
        by_chance = any(run.strategy in NEEDS_NO_SCORES for run in runs)
        if one.labeled == two.labeled and all(queries) and not by_chance:
            shares.append(len(queries[0] & queries[1]) / min(map(len, queries)))
    interval = summarized(shares)
    return None if interval is None else Shared(other, *vars(interval).values(), len(shares))


def _shared_counts(cells: Sequence[CellResult]) -> list[int] | None:
    """Return the label counts that all runs have; ``None`` unless all begin and end with them."""
    counts = [cell.labels for cell in cells]
    shared = sorted(set(counts[0]).intersection(*counts))
    ends = {(one[0], one[-1]) for one in counts}
    whole = len(shared) > 1 and ends == {(shared[0], shared[-1])}
    return shared if whole else None


def _label_share(rows: Sequence[Cells], seeds: Sequence[int]) -> LabelShares | None:
    labels = labels_of([runs[seed] for runs in rows for seed in seeds])
    if len(seeds) < 2 or labels is None or len(labels) < 2:
        return None
    method, other = ([list(map(float, accuracies(runs[seed]))) for seed in seeds] for runs in rows)
    return label_shares(labels, method, other, paired=True)


def counts_in_words(cells: Sequence[CellResult]) -> str:
    """Return the label counts of runs in words, each kind once."""
    kinds = dict.fromkeys(cell.labels for cell in cells)
    return " or ".join(", ".join(map(str, kind)) for kind in kinds)

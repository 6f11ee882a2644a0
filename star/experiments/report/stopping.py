"""What each rule of stopping would have saved and cost, computed from a record alone.

A rule looks at a run's rounds as far as they have come; the run went on, so that the rest is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from star.errors import InputError
from star.evaluation import stopping
from star.evaluation.learning_curves import mean_interval
from star.evaluation.stopping import History, outcome
from star.experiments.report.comparisons import Interval
from star.experiments.report.layout import Sheet, spread
from star.experiments.report.record import CellResult, Record

PRICES = (0.01, 0.1, 1.0)  # of an error, in labels
HALVES = ("even", "odd")  # of the test rows
SERVED = 1000  # answers that the model gives afterwards

NOTES = [
    "Stops: the share of runs that the rule stops before their last round. Labels saved and "
    "accuracy lost, in points, against the whole run; negative: stopping was better. Cost: labels "
    f"plus the price of each error among {SERVED} answers then given, less the same of the whole "
    "run, in labels; an error costs as many labels as the head says. Negative: stopping paid.",
    "± is half of the 95 % t-interval over seeds, of each seed's mean over the rows: the baseline, "
    "or all that have a curve. Nothing is tested.",
    "Half the budget: the first round with half of the last one's labels. No gain: the best "
    "accuracy has risen by less than 1 point over so many rounds. Unsure: mean 1 − confidence of "
    "the test rows. Kappa: between consecutive rounds' answers to the test rows, the mean of so "
    "many pairs; 0.99 of 3 is Bloodgood and Vijay-Shanker's.",
    "No gain looks at one half of the test rows and is judged by the other, both ways round; the "
    "labels of the half that it looks at are not counted. The other rules look at no answer's "
    "being right, and are judged by all test rows.",
]


@dataclass(frozen=True)
class Rule:
    """A rule with its settings.

    Attributes:
        name: As the table has it.
        stops: The round at which it says stop.
        judged: Whether it looks at an accuracy: then it is judged by that of other rows.
    """

    name: str
    stops: Callable[[History], int | None]
    judged: bool = False


RULES = (
    Rule("half the budget", lambda h: stopping.budget(h, math.ceil(h.labels[-1] / 2))),
    Rule("no gain, 1 round", lambda h: stopping.no_gain(h, patience=1), judged=True),
    Rule("no gain, 2 rounds", stopping.no_gain, judged=True),
    Rule("unsure < 0.1", stopping.low_uncertainty),
    Rule("kappa 0.8 of 2", lambda h: stopping.stable(h, 0.8, 2)),
    Rule("kappa 0.99 of 3", stopping.stable),
)


@dataclass(frozen=True)
class Effect:
    """What a rule does to a run, or to several in the mean.

    Attributes:
        stopped: Whether it stops before the last round, 0 to 1.
        saved: Labels.
        lost: Accuracy of the last round less that where it stops, a fraction.
        costs: Price of an error, in ``PRICES``' order, to the cost less the whole run's, in labels.
    """

    stopped: float
    saved: float
    lost: float
    costs: tuple[float, ...]


def recorded(cell: CellResult) -> bool:
    """Return whether a run's record says what the rules look at."""
    told = [point.answers or {} for point in cell.rounds]
    return len(told) > 1 and all(one.get(half) is not None for one in told for half in HALVES)


def history(cell: CellResult, half: str | None = None) -> History:
    """Return what the rules look at.

    Args:
        cell: With its answers recorded.
        half: One of ``HALVES``: its accuracy on these test rows alone.
    """
    told = [point.answers or {} for point in cell.rounds]
    sure = [point.overconfidence for point in cell.rounds]
    return History(
        labels=cell.labels,
        accuracy=[p.accuracy for p in cell.rounds]
        if half is None
        else [one[half] or 0.0 for one in told],
        # Over-confidence is mean confidence less accuracy.
        uncertainty=None
        if None in sure
        else [1 - p.accuracy - (p.overconfidence or 0.0) for p in cell.rounds],
        kappas=[one["kappa"] for one in told[1:]],
    )


def effect(cell: CellResult, rule: Rule) -> Effect:
    """Return what a rule would have done to a run."""
    sides = [(history(cell),) * 2]
    if rule.judged:
        even, odd = (history(cell, half) for half in HALVES)
        sides = [(even, odd), (odd, even)]
    found = []
    for seen, judge in sides:
        t = rule.stops(seen)
        here, end = (outcome(judge, at, PRICES, SERVED) for at in (t, None))
        early = t is not None and t < len(cell.rounds) - 1
        costs = tuple(here.costs[price] - end.costs[price] for price in PRICES)
        found.append(Effect(float(early), here.saved, here.lost, costs))
    return mean_of(found)


def mean_of(effects: Sequence[Effect]) -> Effect:
    """Return the mean of one effect or more."""
    return Effect(
        fmean(one.stopped for one in effects),
        fmean(one.saved for one in effects),
        fmean(one.lost for one in effects),
        tuple(map(fmean, zip(*(one.costs for one in effects), strict=True))),
    )


def stopping_sheet(record: Record) -> Sheet | None:
    """Return the rules by column: of the baseline, and of all rows with a curve; seed by seed.

    ``None``: no run's record says what the rules look at.
    """
    curves = [row.name for row in record.rows if row.curve]
    body = []
    for column in record.columns:
        done: dict[str, dict[int, CellResult]] = {}
        for cell in record.results(column.name):
            if cell.row in curves and recorded(cell):
                done.setdefault(cell.row, {})[cell.seed] = cell
        groups = {f"all {len(done)}": [*done]} if done else {}
        if record.baseline in done:
            groups = {record.baseline: [record.baseline]} | groups
        for rule in RULES:
            for name, rows in groups.items():
                seeds = [s for s in record.seeds if all(s in done[row] for row in rows)]
                if seeds:
                    each = [
                        mean_of([effect(done[row][seed], rule) for row in rows]) for seed in seeds
                    ]
                    body.append([rule.name, column.name, name, *_cells(each), str(len(seeds))])
    if not body:
        return None
    costs = [f"cost at {price:g}" for price in PRICES]
    head = ["rule", "pool", "rows", "stops", "labels saved", "accuracy lost", *costs, "n"]
    return Sheet(
        "stopping", "What stopping would have saved and cost", "", head, body, set(), NOTES
    )


def checked_sheet(record: Record) -> Sheet:
    """Return :func:`stopping_sheet`.

    Raises:
        InputError: There is none.
    """
    sheet = stopping_sheet(record)
    if sheet is None:
        raise InputError(
            f"the record of {record.table} does not hold its rounds' answers, which the rules of "
            "stopping look at; report its run folders (--output-dir) anew"
        )
    return sheet


def _cells(each: Sequence[Effect]) -> list[str]:
    """Return means over seeds of all that an effect says, with their intervals."""
    prices = range(len(PRICES))
    return [
        f"{100 * fmean(one.stopped for one in each):.0f} %",
        _labels([one.saved for one in each]),
        spread(Interval(*mean_interval([one.lost for one in each])), sign="+"),
        *(_labels([one.costs[place] for one in each], sign="+") for place in prices),
    ]


def _labels(values: Sequence[float], sign: str = "") -> str:
    # What is spread out is shown times 100, as fractions are.
    return spread(Interval(*mean_interval([value / 100 for value in values])), sign=sign)

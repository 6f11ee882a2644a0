"""The two confidences of a run's answers, as far as its record has them: of each view, by name.

``sequence``, the headline, is the probability of the whole answer; of choices, that of the choice.
``token_mean`` is the geometric mean over a generated answer's tokens; choices have none. Records
made before both were kept have one of them as ``ece``: the token mean where answers are generated.
"""

from __future__ import annotations

from star.experiments.report.record import CellResult, Point

NAMES = ("ece", "overconfidence", "ece_token_mean", "overconfidence_token_mean")
Found = dict[str, float | None]


def of_rounds(cell: CellResult) -> list[Found]:
    """Return each round's errors and signed gaps of the full model; ``None`` where not kept."""
    found = [_of_point(point) for point in cell.rounds]
    if cell.rounds[-1].overconfidence is None:  # an older record has bins, of the last round
        old = _of_bins(cell, "full")
        found[-1] |= {key: value for key, value in old.items() if found[-1][key] is None}
    return found


def of_base(cell: CellResult) -> Found:
    """Return the same of the base model on the run's test questions."""
    return {**_nothing(), **cell.base} if cell.base else _of_bins(cell, "base")


def _of_point(point: Point) -> Found:
    generated = point.accuracy_strict is not None
    if point.overconfidence is not None:
        names = NAMES if generated else NAMES[:2]  # of choices they stand there twice
        return _nothing() | {name: getattr(point, name) for name in names}
    return _nothing() | {"ece_token_mean" if generated else "ece": point.ece}


def _of_bins(cell: CellResult, view: str) -> Found:
    bins = (cell.reliability or {}).get(view, ())
    size = sum(count for _, _, count in bins)
    if not size:
        return _nothing()
    gaps = [count * (confidence - accuracy) / size for confidence, accuracy, count in bins]
    last = cell.rounds[-1]
    old = last.accuracy_strict is not None and last.overconfidence is None
    end = "_token_mean" if old else ""
    found = {f"ece{end}": sum(map(abs, gaps)), f"overconfidence{end}": sum(gaps)}
    return _nothing() | found


def _nothing() -> Found:
    return dict.fromkeys(NAMES)

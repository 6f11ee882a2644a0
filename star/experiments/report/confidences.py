"""The two confidences of a run's answers, as far as its record has them: of each view, by name.

``sequence``, the headline, is the probability of the whole answer; of choices, that of the choice.
``token_mean`` is the geometric mean over a generated answer's tokens; choices have none. Records
made before both were kept have one of them as ``ece``: the token mean where answers are generated.
"""

from __future__ import annotations

from star.experiments.report.record import CellResult, Point, Record

NAMES = ("ece", "overconfidence", "ece_token_mean", "overconfidence_token_mean")
Found = dict[str, float | None]
# Records have six digits; of bins they have those of each bin.
ROUNDING = 1e-4


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


def base_models(record: Record, column: str) -> list[list[str]]:
    """Return the rows of a column by what their base model says; the largest group first.

    Rows of other prompts, test questions or ways to read an answer have another base model beside
    them. Two are alike if no seed that both have says otherwise. Rows that know nothing of it are
    in no group.
    """
    groups: list[tuple[list[str], dict[int, Found]]] = []
    for row in record.rows:
        cells = [cell for cell in record.results(column) if cell.row == row.name]
        base = {cell.seed: of_base(cell) for cell in cells}
        if all(value is None for one in base.values() for value in one.values()):
            continue
        for names, known in groups:
            if all(_alike(known[seed], base[seed]) for seed in known.keys() & base.keys()):
                names.append(row.name)
                known |= {seed: one for seed, one in base.items() if seed not in known}
                break
        else:
            groups.append(([row.name], base))
    return sorted((names for names, _ in groups), key=len, reverse=True)


def _alike(one: Found, other: Found) -> bool:
    pairs = [(one[name], other[name]) for name in NAMES]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    return all(abs(a - b) <= ROUNDING for a, b in known)


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

"""What a table says of each of its rows, computed from a record alone: means, intervals, tests.

A *line* is one row in one column, over its seeds. Accuracies, areas and errors are fractions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from star.comparing import EXACT_SEEDS, compare, holm
from star.reporting.gathering import Record
from star.reporting.made_by import numbers
from star.statistics import area_under_curve, label_shares, mean_interval, ripl

LEVEL = 0.05  # of a corrected p-value that is marked
VERSUS = ("versus_random", "versus_naive")
QUERY = ("query_random", "query_naive")
Cells = dict[int, Mapping[str, Any]]  # of one row and column: seed to finished cell


def figures_of(record: Record) -> list[dict[str, Any]]:
    """Return the figures of every row in every column, column by column; JSON can hold them.

    Keys of a line:

    * ``column, row``; ``curve``: whether the row has a learning curve; ``label_free``: whether no
      score of it read a label that was not bought (``None``: no finished run says so);
    * ``n``: finished seeds; ``wanted``: all of them; ``seeds, missing, failed``: their lists;
      ``labels``: the label counts of its curves, ``None`` where its runs differ in them;
    * ``accuracy``: ``{"mean", "low", "high"}`` after the last round, over seeds, with its 95 %
      t-interval (``None`` for one seed); likewise ``auc``, ``ece_area`` (the same area under the
      expected calibration error) and ``ripl`` (to random on the same seed);
    * ``versus_random``: difference in AUC to the table's baseline on the seeds both have, a
      ``Comparison`` with ``row``, ``p_corrected`` and ``family``, the number of comparisons it was
      corrected for; ``versus_naive``: likewise to the row's naive counterpart;
    * ``query_random``: ``{"row", "mean", "low", "high", "n"}``, the share of the first query in
      common with the baseline's on the same seed, so after the same labels; of the smaller query
      where their sizes differ. ``None`` where either row chooses at random: that is chance.
      ``query_naive``: likewise with the naive counterpart;
    * ``label_share``: ``LabelShares``, where at least two seeds are common with the baseline; of
      the baseline itself: random against random, the reference for all others;
    * ``notes``: what could not be compared, and why.

    What there is no number for is ``None``. Holm's family is all comparisons of one column.
    """
    found: list[dict[str, Any]] = []
    for column in record["columns"]:
        every = [cell for cell in record["cells"] if cell["column"] == column["name"]]
        done: dict[str, Cells] = {row["name"]: {} for row in record["rows"]}
        for cell in every:
            if cell["status"] == "done":
                done[cell["row"]][cell["seed"]] = cell
        lines = []
        for row in record["rows"]:
            mine = [cell for cell in every if cell["row"] == row["name"]]
            if mine:
                line = _place(column["name"], row, mine) | _figures(row, done[row["name"]])
                others = (record["baseline"], _naive_of(row, {cell["row"] for cell in every}))
                line |= _compared(row, done, others, line["notes"])
                lines.append(line)
        _correct(lines)
        found += lines
    return [_plain(line) for line in found]


def summarized(values: Sequence[float]) -> dict[str, float | None] | None:
    """Return mean and 95 % t-interval of one value a seed; ``None`` without values."""
    if not values:
        return None
    return dict(zip(("mean", "low", "high"), mean_interval(values), strict=True))


def labels_of(cells: Sequence[Mapping[str, Any]]) -> list[int] | None:
    """Return the label counts of runs, ``None`` where they differ or there is no run."""
    counts = {tuple(point["labeled"] for point in cell["rounds"]) for cell in cells}
    return list(counts.pop()) if len(counts) == 1 else None


def marked(versus: Mapping[str, Any] | None) -> int:
    """Return 1 or −1 where a row is significantly better or worse after correction; else 0."""
    if versus is None or versus["p_corrected"] is None or versus["p_corrected"] >= LEVEL:
        return 0
    return 1 if versus["mean"] > 0 else -1


def beyond_reach(lines: Sequence[Mapping[str, Any]]) -> tuple[int, int, float] | None:
    """Return why no comparison of a column can be marked, whatever it found: too few seeds.

    Returns:
        Seeds of its largest comparison, size of the family, and the least p-value that the
        sign-flip test of so many seeds can give after correction; ``None`` if one could be marked.
    """
    made = [line[key] for line in lines for key in VERSUS if line[key] is not None]
    made = [one for one in made if one["p"] is not None]
    if not made or any(one["p_sign_flip"] is None or one["n"] > EXACT_SEEDS for one in made):
        return None
    most = max(made, key=lambda one: one["n"])
    least = min(1.0, most["family"] * 2.0 ** (1 - most["n"]))
    return None if least < LEVEL else (most["n"], most["family"], least)


def _place(
    column: str, row: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    seeds = {
        status: [cell["seed"] for cell in cells if cell["status"] == status]
        for status in ("done", "missing", "failed")
    }
    free = [cell["label_free"] for cell in cells if cell["status"] == "done"]
    return {
        "column": column,
        "row": row["name"],
        "curve": row["curve"],
        "label_free": all(free) if free else None,
        "n": len(seeds["done"]),
        "wanted": len(cells),
        "seeds": seeds["done"],
        "missing": seeds["missing"],
        "failed": seeds["failed"],
    }


def _figures(row: Mapping[str, Any], done: Cells) -> dict[str, Any]:
    """Return what a row's own runs say."""
    cells = list(done.values())
    labels = labels_of(cells)
    whole = row["curve"] and labels is not None
    errors = [[point["ece"] for point in cell["rounds"]] for cell in cells]
    ragged = len(cells) > 1 and labels is None
    notes = [f"its runs have different label counts: {_counts(cells)}"] if ragged else []
    return {
        "labels": labels,
        "accuracy": summarized([cell["rounds"][-1]["accuracy"] for cell in cells]),
        "auc": summarized([cell["auc"] for cell in cells]) if whole else None,
        "ece_area": summarized([area_under_curve(labels, e) for e in errors]) if whole else None,
        "notes": [*notes, *_mixed(done)],
    }


def _mixed(done: Cells) -> list[str]:
    """Return in what else than the seed a row's runs differ: then their mean is of no method."""
    notes = []
    for part in ("settings", "data", "model", "strategy"):
        seeds: dict[str, list[int]] = {}
        for seed, cell in done.items():
            content = (cell.get("content") or {}).get(part)
            if content is not None or part == "settings":  # those of the table file have no hash
                seeds.setdefault(str(content), []).append(seed)
        if len(seeds) > 1:
            groups = " and ".join(f"seed {numbers(some)}" for some in seeds.values())
            notes.append(f"runs of different {part} stand together: {groups}")
    return notes


def _naive_of(row: Mapping[str, Any], present: set[str]) -> str | None:
    """Return the first of a row's naive counterparts that is ``present`` in a column."""
    told = row["naive"] or []
    return next(
        (name for name in ([told] if isinstance(told, str) else told) if name in present), None
    )


def _compared(
    row: Mapping[str, Any],
    done: Mapping[str, Cells],
    others: tuple[str, str | None],
    notes: Sequence[str],
) -> dict[str, Any]:
    """Return what the row's runs say beside those of random and of the naive counterpart."""
    baseline = others[0]
    found: dict[str, Any] = dict.fromkeys((*VERSUS, *QUERY, "ripl", "label_share"))
    mine = done[row["name"]]
    if not row["curve"] or labels_of(list(mine.values())) is None:
        return found
    notes = list(notes)
    for key, query, other in zip(VERSUS, QUERY, others, strict=True):
        # A naive counterpart that is the baseline would be the same comparison twice.
        if other in (None, row["name"]) or (key == VERSUS[1] and other == baseline):
            continue
        theirs = done.get(other, {})
        seeds = [seed for seed in mine if seed in theirs]
        if not seeds:
            continue
        found[query] = _shared_query(other, [(mine[seed], theirs[seed]) for seed in seeds])
        both = [runs[seed] for runs in (mine, theirs) for seed in seeds]
        pairs = [(mine[seed]["auc"], theirs[seed]["auc"]) for seed in seeds]
        if labels_of(both) is None:
            shared = _shared_counts(both)
            if shared is None:
                counts = _counts([theirs[seed] for seed in seeds])
                notes.append(f"not compared with {other}, which has other label counts: {counts}")
                continue
            pairs = [(_auc_at(mine[seed], shared), _auc_at(theirs[seed], shared)) for seed in seeds]
            counts = ", ".join(map(str, shared))
            notes.append(f"compared with {other} at the label counts of both: {counts}")
        versus = dataclasses.asdict(compare([one - two for one, two in pairs]))
        found[key] = {"row": other, **versus, "p_corrected": None, "family": None}
        if key == VERSUS[0]:
            gains = [ripl(one, two) for one, two in pairs]
            found["ripl"] = None if None in gains else summarized(gains)
    found["label_share"] = _label_share(mine, done.get(baseline, {}))
    return found | {"notes": notes}


def _shared_query(
    other: str, pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]
) -> dict[str, Any] | None:
    """Return how much of the first query two rows have in common; a pair is two runs of a seed."""
    shares = []
    for runs in pairs:
        one, two = (run["rounds"][0] for run in runs)
        queries = [set(point.get("selected") or ()) for point in (one, two)]
        by_chance = any(run["strategy"] == "random" for run in runs)
        if one["labeled"] == two["labeled"] and all(queries) and not by_chance:
            shares.append(len(queries[0] & queries[1]) / min(map(len, queries)))
    interval = summarized(shares)
    return None if interval is None else {"row": other, **interval, "n": len(shares)}


def _shared_counts(cells: Sequence[Mapping[str, Any]]) -> list[int] | None:
    """Return the label counts that all runs have; ``None`` unless all begin and end with them."""
    counts = [[point["labeled"] for point in cell["rounds"]] for cell in cells]
    shared = sorted(set(counts[0]).intersection(*counts))
    ends = {(one[0], one[-1]) for one in counts}
    whole = len(shared) > 1 and ends == {(shared[0], shared[-1])}
    return shared if whole else None


def _auc_at(cell: Mapping[str, Any], counts: Sequence[int]) -> float:
    """Return the area under a run's curve through its points at these label counts."""
    found = {point["labeled"]: point["accuracy"] for point in cell["rounds"]}
    return area_under_curve(counts, [found[count] for count in counts])


def _label_share(mine: Cells, random: Cells) -> dict[str, Any] | None:
    seeds = [seed for seed in mine if seed in random]
    labels = labels_of([runs[seed] for runs in (mine, random) for seed in seeds])
    if len(seeds) < 2 or labels is None or len(labels) < 2:
        return None
    method, other = (
        [[point["accuracy"] for point in runs[seed]["rounds"]] for seed in seeds]
        for runs in (mine, random)
    )
    return dataclasses.asdict(label_shares(labels, method, other, paired=True))


def _correct(lines: Sequence[dict[str, Any]]) -> None:
    made = [line[key] for line in lines for key in VERSUS if line[key] is not None]
    family = sum(one["p"] is not None for one in made)
    for one, p in zip(made, holm([one["p"] for one in made]), strict=True):
        one["p_corrected"] = p
        one["family"] = None if p is None else family


def _counts(cells: Sequence[Mapping[str, Any]]) -> str:
    """Return the label counts of runs in words, each kind once."""
    kinds = dict.fromkeys(tuple(p["labeled"] for p in cell["rounds"]) for cell in cells)
    return " or ".join(", ".join(map(str, kind)) for kind in kinds)


def _plain(value: Any) -> Any:
    """Return JSON content: no number of numpy's, and ``None`` for what is not finite."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value

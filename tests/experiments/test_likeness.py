"""Rows are compared where their runs are of the same data and model; else a report says so."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from star.experiments.report import formats, series
from star.experiments.report.comparisons import Versus
from star.experiments.report.gains import gains_of
from star.experiments.report.likeness import Likeness, off_in_words
from star.experiments.report.record import CellResult, Record, read_record
from star.experiments.report.summary import Line, summary
from tests.support.made import area, cell, record

LABELS = (20, 60, 100)
LOW = [[0.20, 0.30, 0.40], [0.21, 0.30, 0.41], [0.20, 0.32, 0.40], [0.22, 0.30, 0.43]]
HIGH = [[0.20, 0.60, 0.80], [0.21, 0.61, 0.79], [0.20, 0.58, 0.82], [0.22, 0.60, 0.80]]
CURVES = {"random": LOW, "plain": LOW, "star": HIGH}
NAIVE = {"star": {"naive": ["plain"]}}
COMMITTED = Path(__file__).parents[2] / "scripts/results/sst2_study/results.json"
PARTS = ("data", "model")
QUERIED = {"selected": [1, 2, 3]}


def content_of(seed: int, draw: str | None = None, **changes: str) -> dict[str, str]:
    drawn = {} if draw is None else {"draw": draw}
    data = "d" if draw is None else f"d of seed {seed}"
    return {"data": data, "model": "m", **drawn, **changes}


def made(
    changes: dict[tuple[str, int], dict[str, str]] | None = None,
    *,
    draw: str | None = None,
    rows: dict[str, dict[str, Any]] | None = None,
    **record_changes: Any,
) -> Record:
    """Return a record of three rows and four seeds; ``changes``: of the content of some runs."""
    cells = []
    for row, curves in CURVES.items():
        for seed, accuracy in enumerate(curves):
            content = content_of(seed, draw, **(changes or {}).get((row, seed), {}))
            one = cell(row, seed, accuracy, content=content)
            one["rounds"][0] |= QUERIED
            cells.append(one)
    return record(*cells, rows=NAIVE if rows is None else rows, **record_changes)


def of(row: str, seeds: range | list[int] = range(4), **content: str) -> dict[Any, Any]:
    """Return changes of the content of a row's runs."""
    return {(row, seed): content for seed in seeds}


def line_of(record: Record, row: str) -> Line:
    [line] = [line for line in summary(record).lines if line.row == row]
    return line


def untested(other: str) -> str:
    """Return how a note on a row begins that is compared with runs of other settings."""
    return (
        f"compared with {other} without a test, since not both have the settings that the table "
        "file has now: seed "
    )


def section(text: str, title: str) -> str:
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_rows_of_the_same_data_and_model_are_compared() -> None:
    for draw in (None, "seeded"):
        star = line_of(made(draw=draw), "star")
        for versus in (star.versus_random, star.versus_naive):
            assert isinstance(versus, Versus) and versus.n == 4
            assert versus.p_corrected is not None and versus.p_corrected < 0.05
        assert star.notes == [] and star.label_share is not None
        text = formats.markdown(summary(made(draw=draw)))
        assert "↑" in section(text, "Area under the learning curve")
        assert "**" in section(text, "Area under the learning curve")
        assert "comparable" not in text and "other data" not in text


@pytest.mark.parametrize("draw", [None, "seeded"])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("changed", ["random", "star"])
def test_rows_of_other_data_or_models_are_not(draw: str | None, part: str, changed: str) -> None:
    # As when something has been edited between two sweeps of one table.
    table = summary(made(of(changed, **{part: "edited"}), draw=draw))
    [star] = [line for line in table.lines if line.row == "star"]
    nothing = ("versus_random", "ripl", "label_share")
    assert [getattr(star, key) for key in nothing] == [None] * 3
    said = f"not comparable with random, whose runs are of different {part}: seed 0 to 3"
    assert said in star.notes
    # The naive row is random's own kind here, so the other comparison goes the way of its runs.
    assert (star.versus_naive is None) == (star.query_naive is None) == (changed == "star")
    [left] = table.comparisons  # star with plain, or plain with random
    assert left.row == {"random": "plain", "star": "random"}[changed]

    text = formats.markdown(table)
    overview = section(text, "Area under the learning curve")
    [row] = [line for line in overview.splitlines() if line.startswith("| star ")]
    assert f"(other {part})" in row
    assert "↑" not in overview and "↓" not in overview and "**" not in overview
    assert f"* star: {said}." in section(text, "task")
    assert f"none in a column whose rows are of different {part}" in text
    assert f"star: {said}." in formats.latex(table)
    assert f"(other {part})" in formats.latex(table)
    [told] = [r for r in json.loads(formats.json(table))["rows"] if r["row"] == "star"]
    assert told["versus_random"] is None and said in told["notes"]
    [told] = [r for r in csv.DictReader(io.StringIO(formats.csv(table))) if r["row"] == "star"]
    assert told["versus_random_mean"] == "" and said in told["notes"]


def test_like_seeds_are_compared_and_the_others_named() -> None:
    changes = of("star", [1], data="x") | of("star", [3], data="x", model="y")
    star = line_of(made(changes), "star")
    assert star.notes[2:] == [
        f"not comparable with {other}, whose runs are of different {part}: seed {seed}"
        for other in ("random", "plain")
        for part, seed in (("data", 1), ("data and model", 3))
    ]
    assert star.n == 4
    for versus in (star.versus_random, star.versus_naive):
        assert versus is not None and versus.n == 2
        differences = [area(LABELS, HIGH[k]) - area(LABELS, LOW[k]) for k in (0, 2)]
        assert versus.mean == pytest.approx(np.mean(differences))
    assert star.query_naive is not None and star.query_naive.n == 2
    # Of these two seeds alone: a row that goes without reaches it in neither pair.
    few = {key: run for key, run in of("star").items() if key[1] not in (1, 3)}
    alone = [c for c in made(few).cells if c.seed in (0, 2)]
    alone_star = line_of(replace(made(), cells=tuple(alone), seeds=(0, 2)), "star")
    assert star.label_share == alone_star.label_share is not None
    assert star.ripl == alone_star.ripl is not None
    assert "n = 2" in formats.markdown(summary(made(changes)))


def test_a_row_without_a_curve_says_so_too() -> None:
    point = {"star": {"curve": False}}
    assert line_of(made(rows=point), "star").notes == []
    table = summary(made(of("star", data="x"), rows=point))
    text = formats.markdown(table)
    assert "* star: not comparable with random, whose runs are of different data: seed" in text
    [row] = [line for line in text.splitlines() if line.startswith("| star | accuracy ")]
    assert "(other data)" in row


def test_what_a_run_does_not_say_differs_from_nothing() -> None:
    old = made()
    cells = tuple(replace(c, content=None) if c.row == "random" else c for c in old.cells)
    assert line_of(replace(old, cells=cells), "star") == line_of(old, "star")


# --- differences that a table asks for -----------------------------------------------------------


@pytest.mark.parametrize(
    "part, own",
    [
        ("data", {"settings": ["task.test_limit=32"]}),
        ("data", {"preset": "released"}),  # which ends prompts in white space
        ("data", {"preset": "of another version"}),
        ("data", {"settings": ['task={"test_limit": 32}']}),
        ("model", {"settings": ["train.max_steps=3", "model.name_or_path=other"]}),
    ],
)
def test_a_row_whose_settings_say_so_is_compared(part: str, own: dict[str, Any]) -> None:
    plain = made(rows={"star": own})
    other = made(of("star", **{part: "x"}), rows={"star": own})
    assert line_of(other, "star") == line_of(plain, "star")
    assert formats.markdown(summary(other)) == formats.markdown(summary(plain))


@pytest.mark.parametrize(
    "part, own",
    [
        ("model", {"settings": ["task.test_limit=32"]}),
        ("data", {"settings": ["model.name_or_path=other"]}),
        ("data", {"settings": ["acquisition.select=random"]}),
        ("model", {"preset": "released"}),
    ],
)
def test_settings_of_something_else_excuse_nothing(part: str, own: dict[str, Any]) -> None:
    for rows in ({"star": own}, {key: {"preset": "star"} for key in CURVES}):
        changed = made(of("star", **{part: "x"}), rows=rows)
        assert line_of(changed, "star").versus_random is None


def test_two_rows_that_ask_for_the_same_other_data_are_held_to_it() -> None:
    own = {"settings": ["task.test_limit=32"]}
    rows = {"plain": own, "star": {**own, "naive": ["plain"]}}
    same = of("star", data="small") | of("plain", data="small")
    assert line_of(made(same, rows=rows), "star").versus_naive is not None
    edited = of("star", data="small") | of("plain", data="edited")
    star = line_of(made(edited, rows=rows), "star")
    assert star.versus_naive is None and star.versus_random is not None
    assert star.notes == [
        "not comparable with plain, whose runs are of different data: seed 0 to 3"
    ]
    assert "(other data)" not in formats.markdown(summary(made(edited, rows=rows)))


# --- whatever else lays rows side by side --------------------------------------------------------


def test_gains_are_of_like_seeds_alone() -> None:
    whole = {one.row: one.n for one in gains_of(made(gains=[]))}
    assert whole == {"random": 4, "plain": 4, "star": 4}
    some = {one.row: one.n for one in gains_of(made(of("star", [0], data="x"), gains=[]))}
    assert some == {"random": 4, "plain": 4, "star": 3}
    none = {one.row for one in gains_of(made(of("star", model="x"), gains=[]))}
    assert none == {"random", "plain"}


def test_picks_of_other_pools_do_not_overlap() -> None:
    def shares(record: Record) -> Any:
        return series.overlaps(series.strategies(record, "task"), Likeness(record))

    assert (shares(made())[0, 1:] == 1).all()
    found = shares(made(of("random", data="x")))
    assert np.isnan(found[0, 1:]).all() and np.isnan(found[1:, 0]).all()
    assert found[1, 2] == 1 and found[0, 0] == 1


@pytest.mark.parametrize("part", [*PARTS, "settings"])
def test_no_row_of_a_committed_record_can_be_of_something_else_in_silence(part: str) -> None:
    record = replace(read_record(COMMITTED), gains=None)  # whose bootstrap takes seconds
    plain = formats.markdown(summary(record))
    for row in record.rows:
        cells = tuple(
            replace(c, content={**(c.content or {}), part: "f" * 12})
            if isinstance(c, CellResult) and c.row == row.name
            else c
            for c in record.cells
        )
        table = summary(replace(record, cells=cells))
        text = formats.markdown(table)
        assert text != plain and row.name in text
        if part == "settings":
            assert f"* {row.name}: run with other settings than the table file has now" in text
            continue
        pairs = {(line.row, versus.row) for line in table.lines
                 for versus in (line.versus_random, line.versus_naive) if versus}  # fmt: skip
        assert all(row.name not in pair for pair in pairs)


# --- settings that are not the table file's ------------------------------------------------------


def test_runs_of_other_settings_say_so_even_where_all_seeds_share_them() -> None:
    rows = {"star": {"settings": ["train.max_steps=9"]}}
    words = "train.max_steps=3, pool.rounds=2"
    old = {"settings": "abc", "words": words}
    table = made(of("star", **old), rows=rows, settings=["pool.rounds=5"])
    star = line_of(table, "star")
    assert star.notes == [
        f"run with other settings than the table file has now: seed 0 to 3 ({words})",
        f"{untested('random')}0 to 3",
    ]
    assert line_of(table, "plain").notes == []
    text = formats.markdown(summary(table))
    # Where it stands what the row is, too.
    said = "These are the table file's settings now; runs of star had others, see the notes above."
    assert said in section(text, "Rows")
    assert said not in formats.markdown(summary(made(rows=rows)))


def test_a_row_that_is_compared_with_such_runs_says_so() -> None:
    table = made(of("random", [0, 1], settings="abc") | of("plain", settings="def"), rows={})
    assert line_of(table, "star").notes == [f"{untested('random')}0, 1"]
    assert line_of(table, "random").notes[-1] == (
        "run with other settings than the table file has now: seed 0, 1"
    )
    # On seeds 0 and 1 both are off alike.
    assert line_of(table, "plain").notes[-1] == f"{untested('random')}2, 3"


TESTED = ("p_t", "p_sign_flip", "p_corrected", "p_sign_flip_corrected", "family", "seeds_needed")
OFF = {
    "other settings": {"settings": "abc", "words": "pool.rounds=2"},
    "an earlier version's": {"settings": "abc"},
    "unreadable": {"settings": "unknown"},
    "two processes": {"processes": "2", "rows_per_update": "32"},
    "one, then two": {"processes": "1 and 2", "rows_per_update": "16 and 32"},
}


def ends_without_a_test(table: Record, row: str, other: str) -> bool:
    """Return whether a row's difference to another has no test, and nothing is made of it."""
    line = line_of(table, row)
    key = "versus_random" if other == "random" else "versus_naive"
    versus = getattr(line, key)
    assert versus.row == other and versus.low is not None  # it is shown, with its interval
    untested = [getattr(versus, part) is None for part in TESTED if part != "p_sign_flip"]
    assert all(untested) or not any(untested[:2])
    noted = any(n.startswith(f"compared with {other} without a test") for n in line.notes)
    assert noted == all(untested)
    return all(untested)


@pytest.mark.parametrize("off", OFF.values(), ids=OFF)
@pytest.mark.parametrize("changed", ["random", "star"])
@pytest.mark.parametrize("seeds", [[2], [0, 1, 2, 3]])
def test_no_test_stands_between_rows_that_are_not_like_for_like(
    off: dict[str, str], changed: str, seeds: list[int]
) -> None:
    table = made(of(changed, seeds, **off))
    assert ends_without_a_test(table, "star", "random")
    assert ends_without_a_test(table, "star", "plain") == (changed == "star")
    assert ends_without_a_test(table, "plain", "random") == (changed == "random")
    left = [one for one in summary(table).comparisons if one.p_corrected is not None]
    # What is not tested is in no family.
    assert {one.family for one in left} == {1}
    text = formats.markdown(summary(table))
    overview = section(text, "Area under the learning curve")
    assert "↑" not in overview and "↓" not in overview and "**" not in overview
    mark = "other update size" if "processes" in off else "other settings"
    [row] = [line for line in overview.splitlines() if line.startswith("| star ")]
    assert f"({mark})" in row
    assert f"none in a column with a row marked “{mark}”" in text
    assert "without a test" in section(text, "How to read this")
    assert json.loads(formats.json(summary(table)))["rows"][-1]["versus_random"]["p_t"] is None


@pytest.mark.parametrize("off", OFF.values(), ids=OFF)
def test_rows_that_are_off_alike_are_tested(off: dict[str, str]) -> None:
    # As when a setting of the whole table is edited once all has been run.
    every = of("random", **off) | of("plain", **off) | of("star", **off)
    known = off.get("settings") != "unknown"
    assert ends_without_a_test(made(every), "star", "random") != known
    other = of("star", **{**off, "words": "pool.rounds=3", "processes": "4"})
    assert ends_without_a_test(made(every | other), "star", "random")


def test_words_that_do_not_say_all_are_not_alike() -> None:
    for words in ("a=1, b=2 and 3 more", "task.prompt=long long lo…"):
        every = {"settings": "abc", "words": words}
        table = made(of("random", **every) | of("plain", **every) | of("star", **every))
        assert ends_without_a_test(table, "star", "random")


def test_seeds_of_larger_updates_are_named() -> None:
    table = made(of("star", [1, 2], processes="2", rows_per_update="32"))
    assert line_of(table, "star").notes == [
        "runs of different numbers of processes stand together: seed 0, 3 and seed 1, 2",
        "trained by updates of 32 rows, on 2 processes: seed 1, 2",
        *(
            f"compared with {other} without a test, since they trained on different numbers of "
            "processes: seed 1, 2"
            for other in ("random", "plain")
        ),
    ]
    assert line_of(table, "random").notes == []


def test_what_is_off_is_named_by_column_and_row() -> None:
    assert off_in_words(made()) == []
    off = of("star", [1, 2], processes="2", rows_per_update="32") | of("plain", [0], settings="a")
    assert off_in_words(made(off)) == [
        "task, plain: run with other settings than the table file has now: seed 0.",
        "task, star: trained by updates of 32 rows, on 2 processes: seed 1, 2.",
    ]


def test_gains_of_rows_that_are_not_like_for_like_say_so() -> None:
    text = formats.markdown(summary(made(of("star", **OFF["other settings"]), gains=[])))
    for title in ("gain of labels", "labels to a target"):
        assert f"* star: {untested('random')}0 to 3." in section(text, f"task: {title}")
    assert "without a test" not in formats.markdown(summary(made(gains=[])))


def test_settings_that_tell_single_runs_apart_are_named() -> None:
    table = made(of("star", words="train.learning_rate=1e-05"), table="runs")
    assert line_of(table, "star").notes == ["run with train.learning_rate=1e-05"]
    assert line_of(table, "star").versus_random is not None

"""Tables from a record: figures worked out by other means, and nothing hidden in any format."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import re
import shutil
import statistics
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import ENVIRONMENT, absent, area, cell, record
from scipy.stats import ttest_1samp

from star.experiments.report import formats
from star.experiments.report.formats import FORMATS
from star.experiments.report.layout import sheets_of
from star.experiments.report.made_by import numbers, provenance_line
from star.experiments.report.record import Record
from star.experiments.report.significance import seeds_needed
from star.experiments.report.summary import summary

T_2 = 4.302652729911275  # 0.975 quantile of t with 2 degrees of freedom, from a printed table
RANDOM = [[0.20, 0.40, 0.60], [0.30, 0.50, 0.50], [0.10, 0.40, 0.50]]
STAR = [[0.30, 0.60, 0.70], [0.30, 0.60, 0.80], [0.25, 0.45, 0.75]]


def three_cells() -> list[dict[str, Any]]:
    cells = [cell("random", k, a) for k, a in enumerate(RANDOM)]
    return cells + [cell("star", k, a, ece=0.05 * (k + 1)) for k, a in enumerate(STAR)]


def three_seeds(**changes: Any) -> Record:
    return record(*three_cells(), **changes)


def many_seeds(gains: list[float], row: str = "star", **changes: Any) -> list[dict[str, Any]]:
    return [cell(row, k, [0.2 + g, 0.4 + g, 0.5 + g], **changes) for k, g in enumerate(gains)]


def to_markdown(made: Record) -> str:
    return formats.markdown(summary(made))


def to_latex(made: Record) -> str:
    return formats.latex(summary(made))


def to_json(made: Record) -> dict[str, Any]:
    return json.loads(formats.json(summary(made)))


def to_csv(made: Record) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(formats.csv(summary(made)))))


def line_of(made: Record, row: str, column: str = "task") -> dict[str, Any]:
    found = [x for x in to_json(made)["rows"] if (x["row"], x["column"]) == (row, column)]
    assert len(found) == 1
    return found[0]


def close(interval: dict[str, float], values: list[float]) -> None:
    """Assert the mean and t-interval of three values."""
    half = T_2 * statistics.stdev(values) / math.sqrt(3)
    mean = statistics.fmean(values)
    assert interval["mean"] == pytest.approx(mean)
    assert (interval["low"], interval["high"]) == pytest.approx((mean - half, mean + half))


def grid(text: str, title: str) -> list[list[str]]:
    """Return the cells of the first Markdown table below a heading, without the rule."""
    lines = text.split(f"## {title}\n")[1].split("\n## ")[0].splitlines()
    rows = [line for line in lines if line.startswith("|")]
    rows = list(itertools.takewhile(lambda line: line.startswith("|"), rows))
    return [[c.strip() for c in re.split(r"(?<!\\)\|", r)[1:-1]] for r in (rows[0], *rows[2:])]


# --- figures ------------------------------------------------------------------------------------


def test_means_and_intervals() -> None:
    line, other = (line_of(three_seeds(), row) for row in ("star", "random"))
    labels = (20, 60, 100)
    aucs, base = ([area(labels, a) for a in runs] for runs in (STAR, RANDOM))
    close(line["auc"], aucs)
    close(other["auc"], base)
    close(line["accuracy"], [a[-1] for a in STAR])
    # The ECE rises by 0.01 from 20 to 60 and to 100 labels, so its mean height is the middle one.
    close(line["ece_area"], [0.05 + 0.01, 0.10 + 0.01, 0.15 + 0.01])
    close(line["ripl"], [(a - r) / (1 - r) for a, r in zip(aucs, base, strict=True)])
    close(line["versus_random"], [a - r for a, r in zip(aucs, base, strict=True)])
    assert line["labels"] == [20, 60, 100] and line["seeds"] == [0, 1, 2]
    assert (line["n"], line["wanted"], line["missing"], line["failed"]) == (3, 3, [], [])
    assert line["label_free"] is True and line["notes"] == []
    assert other["versus_random"] is None and other["ripl"] is None


def test_the_share_of_randoms_labels() -> None:
    line, other = (line_of(three_seeds(), row) for row in ("star", "random"))
    # star's runs reach 0.6 at 60, 60 and 80 labels, 0.5 at 140/3, 140/3 and 200/3; pairs of
    # different seeds. Random's third run reaches no other's end but the second's, at 100.
    shares = sorted([140 / 300, 140 / 300, 0.6, 140 / 300, 0.8, 200 / 300])
    assert line["label_share"]["median"] == pytest.approx(shares[2])
    assert line["label_share"]["never"] == 0 and line["label_share"]["pairs"] == 6
    # The first reaches 0.5 twice, halfway from 60 to 100; the second the third's 0.5 at 60, never
    # 0.6; the third the second's 0.5 at 100, never 0.6.
    reached = sorted([0.8, 0.8, 0.6, 1.0, math.inf, math.inf])
    assert other["label_share"]["median"] == pytest.approx(reached[2])
    assert other["label_share"]["never"] == pytest.approx(2 / 6)
    assert other["label_share"]["high"] is None


def test_the_tests_and_their_correction() -> None:
    base = many_seeds([0.0] * 6, "random")
    # All six differences positive: 2 of the 64 sign flips are as far out.
    gain = [0.10, 0.11, 0.12, 0.13, 0.14, 0.15]
    cells = [*base, *many_seeds(gain), *many_seeds([0.01, -0.01] * 3, "naive")]
    made = record(*cells, rows={"star": {"naive": "naive"}})
    line, other = line_of(made, "star"), line_of(made, "naive")
    first, second = line["versus_random"], line["versus_naive"]
    assert first["p_sign_flip"] == second["p_sign_flip"] == 2 / 64
    assert first["p_t"] == pytest.approx(ttest_1samp(gain, 0).pvalue)
    # A family of three: star to random, star to naive and naive to random.
    assert first["family"] == second["family"] == other["versus_random"]["family"] == 3
    ascending = sorted([first["p_t"], second["p_t"], other["versus_random"]["p_t"]])
    assert first["p_t"] == ascending[0] and first["p_corrected"] == 3 * ascending[0]
    assert second["p_corrected"] == pytest.approx(2 * ascending[1])
    assert first["p_sign_flip_corrected"] == pytest.approx(3 * 2 / 64)
    assert second["row"] == "naive"
    assert second["mean"] == pytest.approx(statistics.fmean(gain))
    alone = line_of(record(*base, *many_seeds(gain)), "star")["versus_random"]
    assert (alone["family"], alone["p_sign_flip_corrected"]) == (1, 2 / 64)
    assert alone["p_corrected"] == alone["p_t"]


def test_a_table_is_one_family_and_seeds_are_needed_at_its_level() -> None:
    gain = [0.01, 0.09, 0.03, 0.05, -0.02, 0.06]
    cells = [
        one
        for column in ("a", "b", "c")
        for one in (
            *many_seeds([0.0] * 6, "random", column=column),
            *many_seeds(gain, column=column),
        )
    ]
    alone = line_of(record(*cells[:12]), "star", "a")["versus_random"]
    for column in ("a", "b", "c"):
        versus = line_of(record(*cells), "star", column)["versus_random"]
        assert versus["family"] == 3
        assert "over the 3 comparisons of the whole table" in to_markdown(record(*cells))
        assert versus["p_corrected"] == pytest.approx(3 * alone["p_corrected"])
        assert versus["seeds_needed"] == seeds_needed(gain, level=0.05 / 3)
        assert versus["seeds_needed"] > alone["seeds_needed"] == seeds_needed(gain)


@pytest.mark.parametrize("digits", [6, 17])
def test_areas_that_are_equal_on_paper_tie_however_they_were_rounded(digits: int) -> None:
    # Right answers of 150, in thirds and sevenths of a point that no float and no six digits hold.
    counts = {
        "random": [
            [40, 50, 61],
            [37, 44, 50],
            [30, 41, 59],
            [35, 36, 44],
            [20, 55, 60],
            [41, 43, 50],
        ],
        "star": [
            [41, 52, 62],
            [39, 46, 51],
            [31, 40, 58],
            [36, 38, 44],
            [27, 55, 59],
            [37, 42, 53],
        ],
    }
    cells = [
        cell(
            row,
            k,
            [float(f"{count / 150:.{digits}g}") for count in of_seed],
            reliability={"full": [[0.5, 0.5, 150]]},
        )
        for row, runs in counts.items()
        for k, of_seed in enumerate(runs)
    ]
    # Twice the area times the questions: whole numbers.
    twice = [[a + 2 * b + c for a, b, c in counts[row]] for row in ("star", "random")]
    whole = [one - two for one, two in zip(*twice, strict=True)]
    assert 0 in whole or len({abs(one) for one in whole}) < len(whole)
    signs = itertools.product((-1, 1), repeat=len(whole))
    sums = [abs(sum(s * d for s, d in zip(row, whole, strict=True))) for row in signs]
    versus = line_of(record(*cells), "star")["versus_random"]
    assert versus["p_sign_flip"] == sum(one >= abs(sum(whole)) for one in sums) / len(sums)
    assert versus["mean"] == pytest.approx(statistics.fmean(whole) / 600, rel=1e-14)


def test_comparisons_use_the_seeds_that_both_have() -> None:
    cells = [cell("random", k, a) for k, a in enumerate(RANDOM)]
    cells[1] = absent("random", 1)
    cells += [cell("star", k, a) for k, a in enumerate(STAR)]
    line = line_of(record(*cells), "star")
    both = [area((20, 60, 100), s) - area((20, 60, 100), RANDOM[k]) for k, s in enumerate(STAR)]
    assert line["n"] == 3 and line["versus_random"]["n"] == 2
    assert line["versus_random"]["mean"] == pytest.approx((both[0] + both[2]) / 2)
    assert line["label_share"]["pairs"] == 2
    assert "; n = 2)" in grid(to_markdown(record(*cells)), "task")[2][3]


def test_one_seed_has_no_interval_and_no_p() -> None:
    made = record(cell("random", 0, RANDOM[0]), cell("star", 0, STAR[0]))
    line = line_of(made, "star")
    assert line["auc"] == {"mean": pytest.approx(0.55), "low": None, "high": None}
    assert line["versus_random"]["mean"] == pytest.approx(0.15)
    assert line["versus_random"]["p_corrected"] is None and line["label_share"] is None
    assert line["versus_random"]["family"] is None, "it is no test, and counts as none"
    rows = grid(to_markdown(made), "task")
    assert rows[0] == ["row", "final accuracy", "AUC", "AUC − random", "RIPL", "n"]
    assert rows[2] == ["star", "70.0", "55.0", "+15.0", "25.0", "1"]
    assert grid(to_markdown(made), "task: confidence")[2] == ["star", "12.0", "11.0", "1"]
    assert "Nothing is tested" in to_markdown(made) and "Holm" not in to_markdown(made)


def test_a_run_alone() -> None:
    made = record(cell("star", 3, STAR[0]))
    assert grid(to_markdown(made), "task")[0] == ["row", "final accuracy", "AUC", "n"]
    assert grid(to_markdown(made), "task: confidence")[0] == ["row", "ECE", "ECE area", "n"]
    assert "AUC − random" not in to_markdown(made) and "↑" not in to_markdown(made)


def test_the_naive_counterpart_is_the_first_that_a_column_has() -> None:
    cells = []
    for column, others in (("both", ("one", "two")), ("second", ("two",)), ("neither", ())):
        for row in ("random", *others, "star"):
            cells += many_seeds([0.0, 0.1, 0.3], row, column=column)
    made = record(*cells, rows={"star": {"naive": ["one", "two"]}})
    named = {
        column: line_of(made, "star", column)["versus_naive"]
        for column in ("both", "second", "neither")
    }
    assert named["both"]["row"] == "one" and named["second"]["row"] == "two"
    assert named["neither"] is None


def test_a_naive_counterpart_that_is_random_counts_once() -> None:
    line = line_of(three_seeds(rows={"star": {"naive": "random"}}), "star")
    assert line["versus_naive"] is None and line["versus_random"]["family"] == 1


def test_runs_of_other_label_counts_are_not_compared_by_area() -> None:
    cells = [cell("random", k, a) for k, a in enumerate(RANDOM)]
    other = [cell("fewer", k, a[:2]) for k, a in enumerate(STAR)]
    ragged = [cell("ragged", k, a[: 3 - k]) for k, a in enumerate(STAR)]
    made = record(*cells, *other, *ragged)
    fewer, uneven = line_of(made, "fewer"), line_of(made, "ragged")
    assert fewer["auc"] is not None and fewer["labels"] == [20, 60]
    assert uneven["auc"] is None and uneven["ece_area"] is None and uneven["labels"] is None
    for line in (fewer, uneven):
        assert all(line[key] is None for key in ("versus_random", "ripl", "label_share"))
    text = to_markdown(made)
    assert "fewer: not compared with random, which has other label counts: 20, 60, 100." in text
    assert "ragged: its runs have different label counts: 20, 60, 100 or 20, 60 or 20." in text
    assert grid(text, "Area under the learning curve")[3] == [
        "ragged",
        "seeds of different label counts",
    ]
    assert "seeds of different label counts" in to_latex(made)
    assert grid(text, "Area under the learning curve")[2][1].endswith("(other label counts)")
    # 55.0 beside random's 42.5, but over other label counts.
    assert [line[0] for line in grid(text, "Area under the learning curve") if "**" in line[1]] == [
        "random"
    ]


def test_other_queries_to_the_same_end_are_compared_where_both_have_a_point() -> None:
    cells = [cell("random", k, a) for k, a in enumerate(RANDOM)]
    other = [cell("often", k, [a[0], 0.9, a[2]], labels=(20, 40, 100)) for k, a in enumerate(STAR)]
    made = record(*cells, *other)
    line = line_of(made, "often")
    # At 20 and 100 labels alone: the mean of both ends.
    gains = [(s[0] + s[2] - r[0] - r[2]) / 2 for s, r in zip(STAR, RANDOM, strict=True)]
    assert line["versus_random"]["mean"] == pytest.approx(sum(gains) / len(gains))
    assert line["label_share"] is None
    said = "often: compared with random at the label counts of both: 20, 100."
    assert said in to_markdown(made)


def test_how_much_of_the_first_query_is_shared() -> None:
    def asking(row: str, seed: int, picks: list[int], **changes: Any) -> dict[str, Any]:
        made = cell(row, seed, [0.2, 0.4, 0.6], **changes)
        made["rounds"][0]["selected"] = picks
        made["rounds"][1]["selected"] = [90, 91]  # of later queries nothing is said
        return made

    made = record(
        *(asking("star", k, [1, 2, 3, 4]) for k in range(3)),
        *(asking("part", k, [1, 2, 3, 4][: 1 + k] + [7, 8, 9][k:]) for k in range(3)),
        *(asking("fewer", k, [4, 5]) for k in range(3)),
        asking("earlier", 0, [1, 2, 3, 4], labels=(10, 60, 100)),
        asking("chance", 0, [1, 2, 3, 4], strategy="random"),
        cell("silent", 0, [0.2, 0.4, 0.6]),
        baseline="star",
        rows={"fewer": {"naive": "part"}},
    )
    part, fewer = line_of(made, "part"), line_of(made, "fewer")
    close(part["query_random"], [1 / 4, 2 / 4, 3 / 4])
    assert (part["query_random"]["row"], part["query_random"]["n"]) == ("star", 3)
    assert part["query_naive"] is None
    close(fewer["query_random"], [1 / 2] * 3)  # of the smaller one
    close(fewer["query_naive"], [0.0] * 3)
    for row in ("star", "earlier", "chance", "silent"):
        assert line_of(made, row)["query_random"] is None
    head, *body = grid(to_markdown(made), "task")
    place = head.index("first query shared with star")
    shown = {row[0]: row[place : place + 2] for row in body}
    assert shown["part"] == ["50.0 ± 62.1", "–"] and shown["chance"] == ["–", "–"]
    assert shown["fewer"] == ["50.0 ± 0.0", "0.0 ± 0.0 (part)"]
    assert "First query shared" in to_markdown(made) and "query shared" not in to_latex(made)
    assert "query shared" not in to_markdown(three_seeds())


def test_a_perfect_random_leaves_nothing_to_improve() -> None:
    made = record(cell("random", 0, [1.0, 1.0]), cell("star", 0, [0.5, 1.0]))
    line = line_of(made, "star")
    assert line["ripl"] is None and line["versus_random"]["mean"] == pytest.approx(-0.25)


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=5),
    st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=5),
)
def test_whatever_the_curves_every_format_is_finite(
    mine: list[list[float]], theirs: list[list[float]]
) -> None:
    cells = [cell("random", k, a) for k, a in enumerate(theirs)]
    made = record(*cells, *(cell("star", k, a) for k, a in enumerate(mine)))
    for write in FORMATS.values():
        text = write(summary(made))
        assert not re.search(r"\b(nan|inf|NaN|Infinity)\b", text)
        assert text == write(summary(made))
    for line in to_json(made)["rows"]:
        assert line["auc"]["low"] is None or line["auc"]["low"] <= line["auc"]["mean"]


# --- confidences --------------------------------------------------------------------------------

BINS = [[0.3, 0.2, 10], [0.9, 0.7, 30]]  # errors 0.1 and 0.2, all over-confident
OVER = 0.25 * 0.1 + 0.75 * 0.2
TWO = {"ece": 0.2, "overconfidence": -0.1, "ece_token_mean": 0.5, "overconfidence_token_mean": 0.4}


def told(kind: str) -> dict[str, Any]:
    """Return a cell as this version writes it, or an older one, of generated answers or choices."""
    made = cell("star", 0, STAR[0], ece=0.3, reliability={"full": BINS, "base": BINS})
    if kind.endswith("generated"):
        made["rounds"] = [point | {"accuracy_strict": 0.1} for point in made["rounds"]]
    if kind == "new generated":
        made["rounds"] = [point | TWO for point in made["rounds"]]
        made["base"] = {name: value / 2 for name, value in TWO.items()}
    if kind == "new choice":  # of a choice there is one, which is written twice
        same = {"ece": 0.2, "ece_token_mean": 0.2}
        over = dict.fromkeys(("overconfidence", "overconfidence_token_mean"), -0.1)
        made["rounds"] = [point | same | over for point in made["rounds"]]
        made["base"] = {"ece": 0.1, "overconfidence": -0.05}
    return made


@pytest.mark.parametrize(
    "kind, full, base",
    [
        ("new generated", list(TWO.values()), [0.1, -0.05, 0.25, 0.2]),
        ("new choice", [0.2, -0.1, None, None], [0.1, -0.05, None, None]),
        ("old choice", [0.32, OVER, None, None], [OVER, OVER, None, None]),
        ("old generated", [None, None, 0.32, OVER], [None, None, OVER, OVER]),
    ],
)
def test_both_confidences_and_the_base_models(
    kind: str, full: list[float | None], base: list[float | None]
) -> None:
    made = record(told(kind))
    line = line_of(made, "star")
    for name, mine, theirs in zip(TWO, full, base, strict=True):
        for key, value in ((name, mine), (f"base_{name}", theirs)):
            shown = None if value is None else pytest.approx(value)
            assert (line[key] and line[key]["mean"]) == shown, key
    table = grid(to_markdown(made), "task: confidence")
    known = [name for name, value in zip(TWO, full, strict=True) if value is not None]
    assert sum("overconfidence" in head for head in table[0]) == len(known) // 2
    assert ("ECE, token mean" in table[0]) == ("generated" in kind)
    assert [row[0] for row in table[1:]] == ["star", "base model"]
    over = table[0].index("overconfidence" + ", token mean" * (full[0] is None))
    signed = full[1] if full[1] is not None else full[3]
    assert table[1][over] == f"{100 * signed:+.1f}".replace("-", "−")
    areas = [line["ece_area"], line["ece_token_mean_area"]]
    assert [one is not None for one in areas] == [full[0] is not None, full[2] is not None]


def test_without_a_view_of_the_base_model_there_is_no_row_of_it() -> None:
    assert "base model" not in to_markdown(three_seeds())


# --- what is shown ------------------------------------------------------------------------------


def test_the_summary() -> None:
    rows = {"whole": {"curve": False}, "star": {}}
    cells = [
        *many_seeds([0.0, 0.01, 0.0, 0.01, 0.0, 0.01], "random"),
        *many_seeds([0.11, 0.1, 0.09, 0.1, 0.1, 0.1]),
        *many_seeds([-0.10, -0.12, -0.1, -0.1, -0.1, -0.1], "worse"),
        *many_seeds([0.05, -0.05, 0.04, -0.03, 0.02, 0.0], "alike"),
        *(cell("whole", k, [0.9]) for k in range(6)),
        *many_seeds([0.3] * 6, "gold", label_free=False),
        cell("random", 0, [0.5, 0.6], column="other"),
    ]
    made = record(*cells, rows=rows)
    whole = line_of(made, "whole")
    assert whole["versus_random"] is None and whole["auc"] is None and whole["notes"] == []
    table = grid(to_markdown(made), "Area under the learning curve")
    shown = {line[0]: line[1:] for line in table[1:]}
    assert table[0] == ["row", "task", "other"]
    assert shown["star"] == ["**47.5 ± 0.7 ↑**", "–"] and shown["worse"][0] == "27.2 ± 0.9 ↓"
    assert shown["alike"][0] == "38.0 ± 4.1"
    assert shown["random"][1] == "**55.0**"
    assert shown["gold (label-using)"] == ["67.5 ± 0.0 ↑", "–"], "what reads labels is not the best"
    assert shown["whole"] == ["accuracy 90.0 ± 0.0", "–"]
    # Four comparisons of 2/64 each: no sign flip can be below 0.05.
    assert "With 6 seeds and 4 comparisons the least corrected p of a sign flip is 0.12" in (
        to_markdown(made)
    )
    two = record(*(c for c in cells if c["row"] in ("random", "worse")))
    [worse] = [
        x for x in grid(to_markdown(two), "Area under the learning curve") if x[0] == "worse"
    ]
    assert worse[1] == "27.2 ± 0.9 ↓"
    assert "the least corrected p" not in to_markdown(two)


def test_rows_without_curves_have_a_table_of_accuracies() -> None:
    rows = {"words": {"curve": False}, "digits": {"curve": False}}
    made = record(cell("words", 0, [0.5]), cell("digits", 0, [0.75]), baseline="words", rows=rows)
    text = to_markdown(made)
    assert grid(text, "Final accuracy")[1:] == [
        ["words", "accuracy 50.0"],
        ["digits", "accuracy 75.0"],
    ]
    assert "Bold" not in text


def test_equal_on_paper_is_equally_bold() -> None:
    made = record(cell("random", 0, [0.50001] * 3), cell("star", 0, [0.5] * 3))
    table = grid(to_markdown(made), "Area under the learning curve")
    assert [line[1] for line in table[1:]] == ["**50.0**", "**50.0**"]


@pytest.mark.parametrize("write", [to_markdown, to_latex])
def test_the_largest_area_of_unlike_seeds_is_not_bold(write: Any) -> None:
    rows = {"random": RANDOM, "star": STAR}
    cells = [cell(row, k, a) for row, runs in rows.items() for k, a in enumerate(runs)]
    bold = {to_markdown: "**", to_latex: "textbf"}[write]
    assert bold in write(record(*cells)) and "unlike seeds" not in write(record(*cells))
    # Of a sweep on its way: the mean of one seed, which may be the luckiest.
    cells[-1] = absent("star", len(STAR) - 1)
    text = write(record(*cells))
    assert bold not in text and "none in a column whose rows have unlike seeds" in text
    # What is not bold in any case keeps nothing from it.
    using = [{**one, "label_free": False} if one["row"] == "star" else one for one in cells[:-1]]
    assert bold in write(record(*using)) and "unlike seeds" not in write(record(*using))


def test_rows_with_another_base_model_beside_them_have_one_of_their_own() -> None:
    def of(row: str, *errors: float, seeds: int = 2) -> list[dict[str, Any]]:
        found = [cell(row, k, [0.5] * 3) for k in range(seeds)]
        return [
            {**one, "base": {"ece": error}} if error else one
            for one, error in zip(found, errors, strict=True)
        ]

    # Of seeds that draw their questions, so that each has its own; one row lacks a seed.
    alike = [*of("random", 0.2, 0.3), *of("star", 0.2, seeds=1), *of("mute", 0, 0)]
    text = to_markdown(record(*alike))
    assert "| base model | 25.0 ± 63.5 | – | 2 |" in text
    assert "base model of" not in text and "ask the base model alike" not in text
    text = to_markdown(record(*alike, *of("asked", 0.2, 0.8), *of("so-too", 0.2, 0.8)))
    for name, error in (("base model", "25.0 ± 63.5"), ("base model of asked, so-too", "50.0 ±")):
        assert f"| {name} | {error}" in text
    assert "* Not all rows ask the base model alike" in text


def test_details_of_a_difference() -> None:
    base = many_seeds([0.0] * 6, "random")
    gain = [0.10, 0.11, 0.12, 0.13, 0.14, 0.15]
    text = to_markdown(record(*base, *many_seeds(gain)))
    assert grid(text, "task")[2][3] == "+12.5 ± 2.0 ↑ (p < 0.001; flip = 0.031)"
    noisy = [0.05, -0.04, 0.05, -0.04, 0.02, 0.0]
    entry = grid(to_markdown(record(*base, *many_seeds(noisy))), "task")[2][3]
    assert re.fullmatch(r"\+0\.7 ± 4\.3 \(p = [01]\.\d\d; flip = [01]\.\d\d; \d+ seeds\)", entry)
    small = record(*base, *many_seeds([-0.0001] * 6))
    assert grid(to_markdown(small), "task")[2][3].startswith("+0.0 ± 0.0"), "no −0.0"


@pytest.mark.parametrize("write", [to_markdown, to_latex])
def test_gaps_are_shown(write: Any) -> None:
    cells = [cell("random", k, RANDOM[k % 3]) for k in range(10)]
    cells += [cell("star", k, STAR[k % 3]) for k in range(10)]
    for k in (3, 7):
        cells[10 + k] = absent("star", k)
    cells[12] = absent("star", 2, error="CUDA out of memory")
    cells += [absent("gone", k) for k in range(3)]
    cells += [absent("broken", k, error="no disk") for k in range(2)]
    cells += [absent("lost", k) for k in range(3)]
    text = write(record(*cells))
    gaps = "missing: seed 3, 7; failed: seed 2"
    assert (f"7 of 10; {gaps}" if write is to_markdown else f"star: {gaps}.") in text
    gaps = "missing: seed 0 to 2"
    assert (f"0 of 3; {gaps}" if write is to_markdown else f"gone, lost: {gaps}.") in text
    assert "star, seed 2 failed: CUDA out of memory" in text
    assert ("(n = 7 of 10)" if write is to_markdown else "(7 of 10)") in text
    assert "17 of 28 runs" in text
    lines = [line for line in text.splitlines() if re.match(r"\W*(gone|broken)\b", line)]
    assert "missing" in lines[0] and "failed" in lines[1]


def test_a_table_without_a_single_result() -> None:
    made = record(absent("random", 0), absent("star", 0))
    for write in FORMATS.values():
        assert "No finished run of 2." in write(summary(made))
    assert line_of(made, "star")["label_free"] is None


@pytest.mark.parametrize("write", [to_markdown, to_latex])
def test_who_reads_labels_is_marked_wherever_its_name_stands(write: Any) -> None:
    cells = [cell("random", 0, RANDOM[0]), cell("gold", 0, STAR[0], label_free=False)]
    text = write(record(*cells))
    rows = [line for line in text.splitlines() if re.match(r"\W*gold\b", line)]
    assert len(rows) >= 2 and all("gold (label-using)" in line for line in rows[:2])
    assert "Label-using: its scores read answers" in text
    assert "abel-using" not in write(record(cells[0]))


def test_one_run_that_reads_labels_marks_its_row() -> None:
    made = record(cell("x", 0, STAR[0]), cell("x", 1, STAR[1], label_free=False))
    assert line_of(made, "x")["label_free"] is False
    assert "**" not in to_markdown(made) and "x (label-using)" in to_markdown(made)


def test_a_column_says_what_it_is_and_its_label_counts() -> None:
    made = three_seeds(columns=[{"name": "task", "about": "word problems", "settings": []}])
    assert "## task\n\nword problems. Label counts: 20, 60, 100.\n" in to_markdown(made)
    assert "    word problems. Label counts: 20, 60, 100." in to_latex(made)


def test_the_prompt_stands_in_every_format() -> None:
    column = {"name": "task", "about": "", "settings": [], "prompts": {"Q: {q} |\nA:": ["star"]}}
    made = three_seeds(columns=[column])
    assert '\nPrompt: "Q: {q} \\|\\\\nA:". Label counts' in to_markdown(made)
    assert 'Prompt: "Q: \\{q\\} $|$\\textbackslash{}nA:".' in to_latex(made)
    assert to_json(made)["columns"][0]["prompts"] == column["prompts"]
    column["prompts"] |= {"{q}?": ["random", "other"]}
    text = to_markdown(three_seeds(columns=[column]))
    assert 'Prompt of star: "Q:' in text and 'Prompt of random, other: "{q}?".' in text


def test_what_has_changed_since_stands_above() -> None:
    made = three_seeds(since=["Made on 2026-01-02 with fixed draws."])
    assert to_markdown(made).startswith("# A table\n\n> Made on 2026-01-02 with fixed draws.\n\n##")
    assert "Made on 2026-01-02 with fixed draws." in to_latex(made)
    assert to_json(made)["since"] == list(made.since)


def test_what_seeds_draw_is_said() -> None:
    cells = three_cells()
    for one in cells:
        one["content"] = {"draw": "seeded", "data": f"of {one['seed']}"}
    text = to_markdown(record(*cells))
    assert "the pool and the test questions, which each draws for itself" in text
    assert "from stored rows seeds draw some in common, and all where no limit is set" in text
    assert "runs of different data" not in text
    assert "pool and test questions are the same" in to_markdown(three_seeds())
    for one in cells:
        del one["content"]["draw"]
    assert "runs of different data stand together" in to_markdown(record(*cells))


def test_rows_say_what_they_are() -> None:
    about = {"star": {"about": "ours | all", "preset": "star", "settings": ["a=1", "b=x|y"]}}
    text = to_markdown(three_seeds(rows=about, settings=["pool.rounds=3"]))
    assert grid(text, "Rows")[2] == ["star", "ours \\| all", "`--preset star a=1 b=x\\|y`"]
    assert "Of every row: `pool.rounds=3`" in text


def test_provenance_ends_every_text() -> None:
    other = {
        "star": {"version": "0.2.0", "commit": "f" * 40, "dirty": True},
        "hardware": {"cpu": "a cpu", "cores": 8, "gpus": ["big", "big"]},
        "packages": {"torch": "2.1"},
    }
    cells = [cell("random", k, a) for k, a in enumerate(RANDOM)]
    cells[2] |= {"environment": 0, "resumed": [1], "started": "2026-01-05"}
    environments = [ENVIRONMENT, other, {"star": {"version": "unused"}}]
    made = record(*cells, environments=environments)
    line = provenance_line(made)
    assert line == (
        "3 runs, seeds 0 to 2; started 2026-01-02 to 2026-01-05; 2 cores of a cpu and 8 cores of a "
        "cpu with 2 × big; star 0.1.0 commit 0123456789 and star 0.2.0 commit ffffffffff with "
        "changes; torch 2.0 or 2.1."
    )
    assert to_markdown(made).splitlines()[-1] == line
    assert to_latex(made).splitlines()[-1] == f"% {line}"
    assert to_json(made)["provenance"]["text"] == line
    assert [r["provenance"] for r in to_csv(made)] == [line]


@pytest.mark.parametrize(
    "values, words",
    [
        ([], ""),
        ([4], "4"),
        ([1, 0], "0, 1"),
        ([0, 1, 2], "0 to 2"),
        ([9, 3, 4, 5, 7], "3 to 5, 7, 9"),
    ],
)
def test_numbers_in_words(values: list[int], words: str) -> None:
    assert numbers(values) == words


@given(st.sets(st.integers(0, 40)))
def test_numbers_in_words_are_all_there(values: set[int]) -> None:
    parts = [part for part in numbers(values).split(", ") if part]
    found: set[int] = set()
    for part in parts:
        first, _, last = part.partition(" to ")
        found |= set(range(int(first), int(last or first) + 1))
    assert found == values


# --- formats ------------------------------------------------------------------------------------

NAMES = st.text(st.sampled_from("ab &%$#_{}[]*~^\\<>|`±−–…“”↑βλ\n\"'"), min_size=1, max_size=12)


@given(NAMES, NAMES)
def test_markdown_keeps_its_columns_whatever_the_names(row: str, column: str) -> None:
    row, column = f"x{row}", f"y{column}"
    made = record(cell(row, 0, STAR[0], column=column), absent(row, 1, column=column))
    tables_ = re.findall(r"(?:^\|.*\n)+", to_markdown(made), re.MULTILINE)
    for text, sheet in zip(tables_, sheets_of(summary(made)), strict=True):
        rows = [re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1] for line in text.splitlines()]
        assert {len(line) for line in rows} == {len(sheet.head)}


@given(NAMES, NAMES)
def test_latex_keeps_its_columns_and_lets_nothing_through(row: str, column: str) -> None:
    made = record(cell(f"x{row}", 0, STAR[0], column=f"y{column}", label_free=False), title=column)
    # What shrinks a wide table is ours: no text of a record stands in it.
    text = re.sub(r"^ *\\resizebox\{.*\}\{!\}\{%$", "{", to_latex(made), flags=re.MULTILINE)
    plain = re.sub(r"\\[&%$#_{}]|\\\\$|\\[A-Za-z]+", "", text, flags=re.MULTILINE)
    body = [line for line in plain.splitlines() if not line.startswith("%")]
    assert not re.search(r"[#~^%<>|\\±−–…“”↑βλ]", re.sub(r"\$[<>|-]?\$", "", "\n".join(body)))
    assert not re.search(r"(?<!tab:main)(?<!tab:main-y)_", "\n".join(body))
    assert "\n".join(body).count("{") == "\n".join(body).count("}")
    assert all(line.count("$") % 2 == 0 for line in body)
    for block, sheet in zip(
        text.split("\\toprule")[1:], sheets_of(summary(made), brief=True), strict=True
    ):
        rows = [line for line in block.split("\\bottomrule")[0].splitlines() if "rule" not in line]
        widths = {len(re.findall(r"(?<!\\)&", line)) + 1 for line in rows if line.strip()}
        assert widths == {len(sheet.head)}


def test_latex_is_a_booktabs_table() -> None:
    text = to_latex(three_seeds(title="50% of #1 & more_"))
    assert text.count("\\begin{table}") == text.count("\\end{table}") == 3
    assert "\\label{tab:main}" in text and "\\label{tab:main-task}" in text
    assert "\\label{tab:main-task-confidence}" in text
    assert "\\caption{50\\% of \\#1 \\& more\\_: task}" in text
    for word in ("toprule", "midrule", "bottomrule"):
        assert text.count(f"\\{word}") == 3
    _, row, _ = [line for line in text.splitlines() if line.startswith("    star &")]
    assert "$\\pm$" in row and row.endswith(" \\\\") and "p =" not in row


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_sets_it_within_the_line(tmp_path: Path) -> None:
    base, better = many_seeds([0.0] * 6, "random"), many_seeds([0.1] * 6, "naive")
    rows = {"a row of many words": {"naive": "naive"}}
    made = record(*base, *better, *many_seeds([0.2] * 6, "a row of many words"), rows=rows)
    (tmp_path / "table.tex").write_text(to_latex(made), encoding="utf-8")
    document = [
        "\\documentclass{article}",
        "\\usepackage{booktabs,graphicx}",
        "\\begin{document}\\input{table}\\end{document}",
    ]
    (tmp_path / "paper.tex").write_text("\n".join(document))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout[-2000:]
    assert "Overfull" not in ended.stdout


def test_csv_has_every_figure_in_full() -> None:
    made = three_seeds(rows={"star": {"naive": "random"}})
    rows = to_csv(made)
    assert [(r["table"], r["column"], r["row"]) for r in rows] == [
        ("main", "task", "random"), ("main", "task", "star")
    ]  # fmt: skip
    line, row = line_of(made, "star"), rows[1]
    for key in ("accuracy", "auc", "ece_area", "ripl"):
        for part in ("mean", "low", "high"):
            assert float(row[f"{key}_{part}"]) == line[key][part]
    for part, value in line["versus_random"].items():
        shown = row[f"versus_random_{part}"]
        assert (shown == "") if value is None else shown == str(value)
    for part, value in line["label_share"].items():
        assert float(row[f"label_share_{part}"]) == value
    assert row["label_free"] == "true" and row["seeds"] == "0 1 2" and row["n"] == "3"
    assert all(row[f"versus_naive_{part}"] == "" for part in ("mean", "p_t", "row"))


def test_json_is_what_programs_need() -> None:
    made = to_json(three_seeds())
    assert made["table"] == "main" and made["provenance"]["seeds"] == [0, 1, 2]
    star = made["rows"][1]
    assert star["n"] == 3 and set(star["auc"]) == {"mean", "low", "high"}

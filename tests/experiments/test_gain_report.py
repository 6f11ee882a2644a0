"""The section on what labels gain: shown where a table asks for it, and nowhere else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from star.experiments.report import formats
from star.experiments.report.record import Record, read_record, write_record
from star.experiments.report.summary import summary
from tests.support.made import cell, record

RANDOM = [[0.20, 0.40, 0.60], [0.30, 0.50, 0.50], [0.10, 0.40, 0.50]]
STAR = [[0.20, 0.60, 0.70], [0.30, 0.60, 0.80], [0.10, 0.45, 0.75]]


def made(seeds: int = 3, **changes: Any) -> Record:
    rows = {"random": RANDOM[:seeds], "star": STAR[:seeds]}
    return record(*(cell(row, k, a) for row, runs in rows.items() for k, a in enumerate(runs)),
                  **changes)  # fmt: skip


def markdown(record: Record) -> str:
    return formats.markdown(summary(record))


def test_the_section_is_there_where_it_is_asked_for() -> None:
    plain, asked = made(), made(gains=[])
    assert "gain of labels" not in markdown(plain)
    assert "gains" not in json.loads(formats.json(summary(plain)))
    assert "## task: gain of labels" in markdown(asked)
    assert "## task: labels to a target" in markdown(asked)
    assert "task: gain of labels" in formats.latex(summary(asked))
    # All else stays as it is.
    assert markdown(asked).startswith(markdown(plain).partition("## How to read this")[0])
    assert formats.csv(summary(asked)) == formats.csv(summary(plain))


def test_gains_by_hand() -> None:
    gains = json.loads(formats.json(summary(made(gains=[0.55]))))["gains"]
    random, star = gains
    assert (random["row"], star["row"], star["n"], star["start"]) == ("random", "star", 3, 20)
    first, last = star["points"]
    assert (first["labels"], last["labels"]) == (60, 100)
    assert last["gain"]["mean"] == pytest.approx((0.5 + 0.5 + 0.65) / 3)
    assert last["difference"]["mean"] == pytest.approx((0.1 + 0.3 + 0.25) / 3)
    assert last["factor"]["value"] == pytest.approx(1.65 / 1.0)
    assert random["points"][0]["factor"] is None
    end, given = star["targets"]
    assert end["target"] == pytest.approx(1.6 / 3) and given["target"] == 0.55
    # star's mean is 0.2, 0.55, 0.75.
    assert end["labels"] == pytest.approx(20 + 40 * (1.6 / 3 - 0.2) / 0.35)
    assert given["labels"] == pytest.approx(60)
    assert random["targets"][1]["labels"] is None
    assert "| random | 100" in markdown(made(gains=[0.55]))
    assert "not reached" in markdown(made(gains=[0.55]))


def test_one_seed_is_said_to_have_no_interval() -> None:
    text = markdown(made(seeds=1, gains=[]))
    assert "* One seed has no interval." in text
    assert "| star | 100 | +50.0 | +10.0 | 1.25 | 1 |" in text


def test_a_row_of_other_label_counts_has_no_gain() -> None:
    cells = [cell("random", k, a) for k, a in enumerate(RANDOM)]
    cells += [cell("other", k, a, labels=(20, 50, 100)) for k, a in enumerate(STAR)]
    table = summary(record(*cells, gains=[]))
    gains = json.loads(formats.json(table))["gains"]
    assert [one["row"] for one in gains] == ["random"]
    said = "other: left out, its label counts 20, 50, 100 aren't random's, 20, 60, 100."
    assert formats.markdown(table).count(said) == 2
    assert "left out" not in markdown(made(gains=[]))


def test_a_row_of_other_seeds_or_other_data_says_so() -> None:
    cells = [cell("random", k, a) for k, a in enumerate(RANDOM)]
    later = [cell("other", k + 3, a) for k, a in enumerate(STAR)]
    said = "* other: left out, no seed of it is random's too."
    assert markdown(record(*cells, *later, gains=[])).count(said) == 2
    cells = [{**one, "content": {"data": one["row"]}} for one in cells]
    edited = [cell("other", k, a, content={"data": "x"}) for k, a in enumerate(STAR)]
    said = "* other: not comparable with random, whose runs are of different data: seed 0 to 2."
    text = markdown(record(*cells, *edited, gains=[]))
    assert text.count(said) == 3  # in the column's own notes too


def test_a_gain_that_is_zero_on_paper_is_no_divisor() -> None:
    # 0.8 − 0.7 and 0.6 − 0.7 are not opposite in floats: their mean is 5e-17.
    cells = [cell("random", 0, [0.7, 0.8]), cell("random", 1, [0.7, 0.6])]
    cells += [cell("star", k, [0.7, 0.8 + 0.1 * k]) for k in range(2)]
    assert "| star | 60 | +15.0 ± 63.5 | +15.0 ± 190.6 | – | 2 |" in markdown(
        record(*cells, gains=[])
    )


def test_a_factor_that_rounds_to_nothing_has_no_minus() -> None:
    cells = [cell("random", k, [0.2, 0.3 + k / 10]) for k in range(2)]
    cells += [cell("star", k, [0.2, 0.1999]) for k in range(2)]
    text = markdown(record(*cells, gains=[]))
    assert "| 0.00 (" in text and "−0.00 (" not in text


def test_the_record_keeps_what_is_asked_for(tmp_path: Any) -> None:
    for asked in (made(), made(gains=[]), made(gains=[0.8])):
        write_record(tmp_path / "results.json", asked)
        assert read_record(tmp_path / "results.json") == asked

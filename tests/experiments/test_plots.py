"""Pictures of a table: what is drawn is what the record says, and the same bytes every time."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from star.errors import InputError
from star.experiments.report import curves, figures, series
from star.experiments.report.likeness import Likeness
from star.experiments.report.record import CellResult, Record, parse, write_record

ROOT = Path(__file__).parents[2]
ROUNDS, FIRST, QUERY, POOL, TEST = 6, 20, 20, 400, 200


def make_record(rows: Iterable[str] = ("random", "pe", "star-pe"), **changes: Any) -> Record:
    """Return the record of made-up runs; see :func:`make_content`."""
    return parse(make_content(rows, **changes), "made")


def make_content(
    rows: Iterable[str] = ("random", "pe", "star-pe"),
    *,
    columns: Iterable[str] = ("arithmetic",),
    seeds: int = 4,
    points: Mapping[str, float] | None = None,
    failed: Iterable[tuple[str, str, int]] = (),
    views: Iterable[str] = ("base", "full", "mc"),
    gap: bool = True,
) -> dict[str, Any]:
    """Return a record of made-up runs as JSON; a row's curve is the higher, the later it comes.

    Args:
        rows: Those with a learning curve; the baseline is ``random``.
        columns: Names.
        seeds: How many.
        points: Rows that are a single point, with their accuracy.
        failed: (column, row, seed) of cells without a result.
        views: Those with reliability bins.
        gap: Whether the rows but ``random`` have scores.
    """
    rows, points, failed = list(rows), dict(points or {}), set(failed)
    plain = {"about": "", "preset": None, "naive": None, "settings": []}
    told = [{"name": name, **plain} for name in (*rows, *points)]
    cells = []
    for seed in range(seeds):
        for at, column in enumerate(columns):
            for i, row in enumerate([*rows, *points]):
                cell = {"column": column, "row": row, "seed": seed}
                if (column, row, seed) in failed:
                    cells.append({**cell, "status": "failed", "error": "out of memory"})
                    continue
                draws = np.random.default_rng([seed, at, i])
                scored = gap and row != "random"
                found = _point(points[row]) if row in points else _rounds(draws, i, scored)
                bins = {view: _bins(draws, k) for k, view in enumerate(views)}
                result = {"status": "done", "label_free": not row.endswith("gold"), "auc": 0.5}
                result |= {"task": column, "strategy": row, "config_hash": "", "started": None}
                result |= {"environment": 0, "rounds": found, "reliability": bins}
                cells.append({**cell, **result})
    return {
        "table": "made-up",
        "title": "Made up",
        "baseline": "random",
        "rows": [{**row, "curve": row["name"] not in points} for row in told],
        "columns": [{"name": column, "about": ""} for column in columns],
        "seeds": list(range(seeds)),
        "environments": [{"hardware": {"cpu": "a", "cores": 2}}],
        "cells": cells,
    }


def _point(accuracy: float) -> list[dict[str, Any]]:
    seconds = {"train": 90.0, "evaluate": 2.0}
    return [{"labeled": POOL, "accuracy": accuracy, "ece": 0.1, "seconds": seconds}]


def _rounds(draws: np.random.Generator, i: int, scored: bool) -> list[dict[str, Any]]:
    found, left = [], np.arange(POOL)
    for t in range(ROUNDS):
        height = 0.25 + (0.35 + 0.02 * i) * (1 - np.exp(-(t + 1) / 2.5))
        seconds = {"train": 3.0 + t, "evaluate": 1.5, "score": 4.0 if scored else 0.1}
        one: dict[str, Any] = {"labeled": FIRST + QUERY * t, "ece": 0.1, "seconds": seconds}
        one["accuracy"] = round(float(height + draws.normal(0, 0.02)), 6)
        if t < ROUNDS - 1:
            # Those with scores like the same, low, indices.
            odds = np.exp(-left / 120) if scored else np.ones(len(left))
            picks = draws.choice(left, QUERY, replace=False, p=odds / odds.sum())
            one["selected"] = [int(p) for p in picks]
            left = np.setdiff1d(left, picks)
            if scored:
                full = 2.0 * np.exp(-t / 4) + draws.normal(0, 0.05)
                one["gap"] = {"base": 2.2 - 0.02 * t, "full": float(full)}
                one["gap"]["rank_correlation"] = float(0.9 - 0.1 * t + draws.normal(0, 0.03))
        found.append(one)
    return found


def _bins(draws: np.random.Generator, k: int) -> list[list[float]]:
    """Return bins of TEST answers, which the later views are the less sure of."""
    confidence = draws.beta(4 + k, 1.5 + k, TEST)
    right = draws.random(TEST) < confidence - 0.15 + 0.05 * k
    place = np.ceil(confidence * 15)
    each = [place == b for b in np.unique(place)]
    return [[float(confidence[b].mean()), float(right[b].mean()), int(b.sum())] for b in each]


def lines_of(axes: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in axes.lines}


def legend_of(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def of_row(record: Record, row: str) -> list[CellResult]:
    return [cell for cell in record.results() if cell.row == row]


def table_of(record: Record, row: str) -> np.ndarray:
    return np.array([[r.accuracy for r in c.rounds] for c in of_row(record, row)])


@pytest.mark.slow
def test_same_bytes_from_processes_of_other_hashes(tmp_path: Path) -> None:
    """The layout's last bit, and with it an .svg's names, hung on the order of sets."""
    record = make_record(("random", "me", "pe", "star", "more"), seeds=2)
    write_record(tmp_path / "record.json", record)
    code = (
        "import sys; from pathlib import Path; "
        "from star.experiments.report import figures, record; "
        "record = record.read_record('record.json'); "
        "figures.draw(record, Path(sys.argv[1]), kinds=('gap', 'compute'), ending='svg')"
    )
    for seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", code, seed]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    for path in (tmp_path / "1").iterdir():
        assert len({(tmp_path / seed / path.name).read_bytes() for seed in "123"}) == 1


@pytest.mark.parametrize(
    "ending, kinds",
    [
        ("png", tuple(figures.KINDS)),
        ("pdf", ("curves", "overlap")),
        ("svg", ("gap", "reliability")),
    ],
)
def test_same_bytes(ending: str, kinds: tuple[str, ...], tmp_path: Path) -> None:
    record = make_record(("random", "pe"), seeds=2, points={"zero-shot": 0.2})
    first = figures.draw(record, tmp_path / "a", kinds=kinds, ending=ending)
    again = figures.draw(record, tmp_path / "b", kinds=kinds, ending=ending)
    names = [f"arithmetic-{kind}.{ending}" for kind in kinds]
    assert [path.name for path in first] == [path.name for path in again] == names
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == sorted(names)
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
        start = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[ending]
        assert one.read_bytes().startswith(start)
        assert len(one.read_bytes()) > 5_000


def test_bytes_do_not_depend_on_what_the_user_set(tmp_path: Path) -> None:
    import matplotlib

    record = make_record()
    plain = figures.draw(record, tmp_path / "a", kinds=["curves"])[0].read_bytes()
    with matplotlib.rc_context({"font.size": 20, "axes.grid": False, "lines.linewidth": 9}):
        assert figures.draw(record, tmp_path / "b", kinds=["curves"])[0].read_bytes() == plain
        assert matplotlib.rcParams["font.size"] == 20


def test_curves_are_means_with_t_intervals() -> None:
    record = make_record(points={"zero-shot": 0.2, "whole-pool": 0.7})
    (figure,) = figures.KINDS["curves"](record, "arithmetic")
    axes, below = figure.axes
    lines = lines_of(axes)
    assert list(lines) == ["random", "pe", "star-pe", "zero-shot", "whole-pool"]
    assert legend_of(below) == list(lines)
    bands = dict(zip(["random", "pe", "star-pe"], axes.collections, strict=True))
    for row, drawn in bands.items():
        values = table_of(record, row)
        np.testing.assert_allclose(lines[row].get_xdata(), FIRST + QUERY * np.arange(ROUNDS))
        np.testing.assert_allclose(lines[row].get_ydata(), values.mean(axis=0))
        low, high = stats.t.interval(0.95, 3, values.mean(axis=0), stats.sem(values, axis=0))
        corners = drawn.get_paths()[0].vertices
        for t in range(ROUNDS):
            heights = corners[corners[:, 0] == FIRST + QUERY * t, 1]
            np.testing.assert_allclose([heights.min(), heights.max()], [low[t], high[t]])
    assert set(lines["zero-shot"].get_ydata()) == {0.2}
    assert set(lines["whole-pool"].get_ydata()) == {0.7}
    assert figure.get_suptitle() == "arithmetic: mean of 4 seeds, 95 % intervals"


def test_lines_differ_in_colour_marker_and_dashes() -> None:
    rows = ("random", *(f"row {i}" for i in range(5)))
    (figure,) = figures.KINDS["curves"](make_record(rows), "arithmetic")
    lines = figure.axes[0].lines
    assert len(lines) == 6
    for look in ("get_color", "get_marker"):
        assert len({getattr(line, look)() for line in lines}) == 6
    assert len({str(line._dash_pattern) for line in lines}) == 6


def test_many_rows_go_to_several_panels() -> None:
    rows = ("me", "random", *(f"row {i}" for i in range(11)))
    (figure,) = figures.KINDS["curves"](make_record(rows, points={"zero-shot": 0.2}), "arithmetic")
    every = [axes for axes in figure.axes if axes.lines]
    shown = [list(lines_of(axes)) for axes in every]
    assert [len(names) for names in shown] == [6, 6, 6]
    assert all(names[0] == "random" and names[-1] == "zero-shot" for names in shown)
    others = [name for names in shown for name in names[1:-1]]
    assert others == [row for row in rows if row != "random"]
    assert len({lines_of(axes)["random"].get_color() for axes in every}) == 1
    assert len({(axes.get_xlim(), axes.get_ylim()) for axes in every}) == 1


def test_one_seed_has_no_band() -> None:
    (figure,) = figures.KINDS["curves"](make_record(seeds=1), "arithmetic")
    assert len(lines_of(figure.axes[0])) == 3 and not figure.axes[0].collections
    assert figure.get_suptitle() == "arithmetic: one seed"
    for axes in figures.KINDS["gap"](make_record(seeds=1), "arithmetic")[0].axes:
        assert axes.lines and not axes.collections


def test_missing_cells_are_said_and_left_out() -> None:
    failed = [("arithmetic", "pe", 2), *(("arithmetic", "star-pe", s) for s in range(4))]
    record = make_record(("random", "pe", "star-pe", "pe-gold"), failed=failed)
    (figure,) = figures.KINDS["curves"](record, "arithmetic")
    lines = lines_of(figure.axes[0])
    names = ["random", "pe (3 of 4 seeds)", "star-pe (0 of 4 seeds)", "pe-gold (reads labels)"]
    assert list(lines) == legend_of(figure.axes[1]) == names
    accuracy = table_of(record, "pe")
    assert len(accuracy) == 3
    np.testing.assert_allclose(lines["pe (3 of 4 seeds)"].get_ydata(), accuracy.mean(axis=0))
    assert lines["star-pe (0 of 4 seeds)"].get_xdata().size == 0


@pytest.mark.parametrize("kind", ["curves", "compute"])
def test_curves_go_through_the_counts_that_all_seeds_have(kind: str) -> None:
    content = make_content(("random", "pe"))
    ragged = next(c for c in content["cells"] if (c["row"], c["seed"]) == ("pe", 2))
    ragged["rounds"][1]["labeled"] += 1  # people gave one label more
    del ragged["rounds"][-1]
    record = parse(content, "made")
    (figure,) = figures.KINDS[kind](record, "arithmetic")
    line = lines_of(figure.axes[0])["pe (at counts of all seeds)"]
    places = [t for t in range(ROUNDS - 1) if t != 1]
    np.testing.assert_allclose(line.get_xdata(), [FIRST + QUERY * t for t in places])
    runs = [c for c in content["cells"] if c["row"] == "pe"]
    heights = [[run["rounds"][t]["accuracy"] for run in runs] for t in places]
    np.testing.assert_allclose(line.get_ydata(), np.mean(heights, axis=1))
    assert lines_of(figure.axes[0])["random"].get_xdata().size == ROUNDS


@pytest.mark.parametrize(
    "content, said",
    [({"data": "x"}, "other data"), ({"settings": "abc"}, "other settings")],
)
def test_curves_that_are_not_like_for_like_say_so(content: dict[str, str], said: str) -> None:
    made = make_content(("random", "pe"))
    for cell in made["cells"]:
        cell["content"] = {"data": "d"} | (content if cell["row"] == "pe" else {})
    (figure,) = figures.KINDS["curves"](parse(made, "made"), "arithmetic")
    assert list(lines_of(figure.axes[0])) == ["random", f"pe ({said})"]


def test_a_failed_row_takes_no_others_style() -> None:
    rows = ("random", "pe", "star-pe")
    whole = figures.KINDS["curves"](make_record(rows), "arithmetic")[0].axes[0]
    failed = [("arithmetic", "pe", s) for s in range(4)]
    part = figures.KINDS["curves"](make_record(rows, failed=failed), "arithmetic")[0].axes[0]
    assert lines_of(whole)["star-pe"].get_color() == lines_of(part)["star-pe"].get_color()


def test_the_axis_holds_what_an_accuracy_can_be() -> None:
    content = make_content(seeds=2)
    for cell in content["cells"]:
        for r in cell["rounds"]:
            r["accuracy"] = 0.9 if cell["seed"] else 0.3  # an interval of more than ± 3
    (figure,) = figures.KINDS["curves"](parse(content, "made"), "arithmetic")
    low, high = figure.axes[0].get_ylim()
    assert -0.05 < low < 0 and 1 < high < 1.05


def test_compute_counts_scoring_from_the_next_round_on() -> None:
    content = make_content()
    for cell in content["cells"]:
        for r in cell["rounds"]:
            r["seconds"]["train"] += cell["seed"]
    record = parse(content, "made")
    (figure,) = figures.KINDS["compute"](record, "arithmetic")
    labels, seconds, below = figure.axes
    assert "seconds on the machine that ran it" in seconds.get_xlabel()
    assert labels.get_xlabel() == "labelled examples"
    spent = np.cumsum([3.0 + t + 1.5 + 1.5 for t in range(ROUNDS)]) + 4.0 * np.arange(ROUNDS)
    np.testing.assert_allclose(lines_of(seconds)["pe"].get_xdata(), spent)
    for axes in (labels, seconds):
        accuracy = table_of(record, "pe").mean(axis=0)
        np.testing.assert_allclose(lines_of(axes)["pe"].get_ydata(), accuracy)
    assert legend_of(below) == ["random", "pe", "star-pe"]
    content["environments"].append({"hardware": {"cpu": "b", "cores": 64}})
    content["cells"][0]["environment"] = 1
    (figure,) = figures.KINDS["compute"](parse(content, "made"), "arithmetic")
    assert "machines" in figure.axes[1].get_xlabel()


def test_reliability_pools_seeds_by_counts() -> None:
    content = make_content(("random", "pe"), seeds=2)
    one, other = (cell for cell in content["cells"] if cell["row"] == "pe")
    one["reliability"] = {"full": [[0.5, 0.25, 30], [0.97, 1.0, 70]]}
    other["reliability"] = {"full": [[0.49, 0.75, 10], [0.2, 0.0, 90]], "mc": [[1.0, 0.5, 100]]}
    record = parse(content, "made")
    found = series.pooled_reliability(of_row(record, "pe"))
    # 0.2 is an upper edge, its bin ends there; 0.49 and 0.5 lie in (7/15, 8/15].
    expected = [[0.2, 0.0, 90], [0.4975, 0.375, 40], [0.97, 1.0, 70]]
    np.testing.assert_allclose(found["full"], expected)
    np.testing.assert_allclose(found["mc"], [[1.0, 0.5, 100]])
    assert list(found) == ["full", "mc"]

    (figure,) = figures.KINDS["reliability"](record, "arithmetic")
    first, second = figure.axes
    assert [axes.get_title() for axes in (first, second)] == ["random", "pe"]
    assert len(first.collections) == 3 and len(second.collections) == 2
    drawn = second.collections[0]
    np.testing.assert_allclose(drawn.get_offsets(), found["full"][:, :2])
    assert list(np.argsort(drawn.get_sizes())) == [1, 2, 0]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["base view", "full view", "mc view", "perfect"]


def test_bins_of_all_test_examples_are_counted() -> None:
    record = make_record(seeds=3)
    for bins in series.pooled_reliability(of_row(record, "pe")).values():
        assert bins[:, 2].sum() == 3 * TEST
        assert (np.diff(bins[:, 0]) > 0).all()
        assert (np.unique(np.ceil(bins[:, 0] * 15), return_counts=True)[1] == 1).all()


def test_gap() -> None:
    content = make_content()
    content["cells"][1]["rounds"][0]["gap"]["rank_correlation"] = None
    del content["cells"][1]["rounds"][1]["gap"]
    record = parse(content, "made")
    (figure,) = figures.KINDS["gap"](record, "arithmetic")
    above, below, *rest = figure.axes
    assert above.get_title() == "pe" and len(rest) == 2  # random has no scores
    labels = FIRST + QUERY * np.arange(ROUNDS - 1)
    cells = of_row(record, "pe")
    for key, line in (
        ("base", lines_of(above)["base view"]),
        ("full", lines_of(above)["full view"]),
        ("rank_correlation", lines_of(below)["rank correlation"]),
    ):
        np.testing.assert_allclose(line.get_xdata(), labels)
        for t in range(ROUNDS - 1):
            values = [(c.rounds[t].gap or {}).get(key) for c in cells]
            known = [v for v in values if v is not None]
            np.testing.assert_allclose(line.get_ydata()[t], np.mean(known))


def test_overlap_of_rows_and_of_a_row_with_itself_under_other_seeds() -> None:
    record = make_record(failed=[("arithmetic", "pe", 1)])
    shares = series.overlaps(series.strategies(record, "arithmetic"), Likeness(record))
    np.testing.assert_allclose(shares, shares.T)

    def picked(row: str) -> dict[int, set[int]]:
        return {c.seed: {i for r in c.rounds[:-1] for i in r.selected} for c in of_row(record, row)}

    random, pe, star = picked("random"), picked("pe"), picked("star-pe")
    both = [len(pe[s] & star[s]) / len(pe[s] | star[s]) for s in (0, 2, 3)]
    np.testing.assert_allclose(shares[1, 2], np.mean(both))
    pairs = [len(a & b) / len(a | b) for a, b in combinations(random.values(), 2)]
    np.testing.assert_allclose(shares[0, 0], np.mean(pairs))
    # Two draws of 100 out of 400 share 25 of 175.
    assert abs(shares[0, 0] - 25 / 175) < 0.03 < shares[1, 2] - shares[0, 0]

    (figure,) = figures.KINDS["overlap"](record, "arithmetic")
    (axes,) = figure.axes
    said = {text.get_position(): text.get_text() for text in axes.texts}
    assert said == {(j, i): f"{shares[i, j]:.2f}" for i in range(3) for j in range(i + 1)}
    assert f"chance, {shares[0, 0]:.2f}" in figure.get_supxlabel().replace("\n", " ")
    assert all(label.get_rotation() == 0 for label in axes.get_xticklabels())


def test_overlap_without_seeds_to_compare() -> None:
    record = make_record(("random", "pe"), seeds=1, points={"whole-pool": 0.7})
    (figure,) = figures.KINDS["overlap"](record, "arithmetic")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts][::2] == ["–", "–"]
    assert "chance" not in figure.get_supxlabel()
    alone = make_record(("random",), seeds=1)
    assert figures.KINDS["overlap"](alone, "arithmetic") == []


@pytest.mark.parametrize("kind", ["reliability", "gap"])
def test_more_rows_than_a_page_holds(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "A_PAGE", 2)
    rows = ["pe", "me", "star-pe"]
    paths = figures.draw(make_record(rows, seeds=1), tmp_path, kinds=[kind])
    assert [path.name for path in paths] == [f"arithmetic-{kind}.png", f"arithmetic-{kind}-2.png"]


def test_what_cannot_be_drawn_is_left_out_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failed = [("choice", row, s) for row in ("random", "pe", "star-pe") for s in range(4)]
    columns = ("arithmetic", "choice")
    record = make_record(columns=columns, failed=failed, views=(), gap=False)
    with caplog.at_level(logging.INFO):
        paths = figures.draw(record, tmp_path)
    assert [path.stem for path in paths] == [
        f"arithmetic-{k}" for k in ("curves", "compute", "overlap")
    ]
    assert "arithmetic: no results to draw gap from" in caplog.text
    assert "choice: no results to draw curves from" in caplog.text
    with pytest.raises(InputError, match="no results to draw gap, reliability from"):
        figures.draw(record, tmp_path, kinds=["gap", "reliability"])


def test_rows_without_seconds_still_have_curves() -> None:
    content = make_content()
    for cell in content["cells"]:
        for r in cell["rounds"]:
            del r["seconds"]
    record = parse(content, "made")
    assert figures.KINDS["compute"](record, "arithmetic") == []
    assert len(figures.KINDS["curves"](record, "arithmetic")) == 1


def test_a_table_without_its_baseline_has_curves_too() -> None:
    rows = [f"row {i}" for i in range(7)]
    (figure,) = figures.KINDS["curves"](make_record(rows), "arithmetic")
    shown = [list(lines_of(axes)) for axes in figure.axes if axes.lines]
    assert shown == [rows[:3], rows[3:]]


def test_refuses(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no kind of picture 'curve'; did you mean 'curves'\?"):
        figures.draw(make_record(), tmp_path, kinds=["curve"])
    with pytest.raises(InputError, match=r"'\.jpg'.*png, pdf, svg"):
        figures.draw(make_record(), tmp_path, ending="jpg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rows", [3, pytest.param(9, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", figures.KINDS)
def test_all_words_are_inside_the_picture_and_legends_off_the_panels(kind: str, rows: int) -> None:
    import matplotlib.style

    names = ["random", *(f"star-predictive_entropy-variant-{i}" for i in range(rows - 1))]
    record = make_record(names, points={"zero-shot": 0.2}, failed=[("arithmetic", names[2], 1)])
    with matplotlib.style.context(["default", curves.LOOK]):
        (figure,) = figures.KINDS[kind](record, "arithmetic")
        figure.draw_without_rendering()
        whole = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        assert whole.x0 >= 0 and whole.y0 >= 0 and whole.x1 <= width and whole.y1 <= height
        legends = [a.get_legend() for a in figure.axes if a.get_legend()] + figure.legends
        boxes = [legend.get_window_extent() for legend in legends]
        drawn = [axes for axes in figure.axes if axes.lines or axes.images]
        for axes in drawn:
            assert not any(axes.get_tightbbox().overlaps(box) for box in boxes)
        # Words of panels beside and above one another keep apart too.
        for one, other in combinations(drawn, 2):
            assert not one.get_tightbbox().overlaps(other.get_tightbbox())
        # And what is written does not squeeze the curves.
        assert all(axes.get_window_extent().width > 1.2 * figure.dpi for axes in drawn)


def test_names_of_single_runs_make_plain_file_names(tmp_path: Path) -> None:
    record = make_record(columns=("choice of a/model",), seeds=1)
    (path,) = figures.draw(record, tmp_path, kinds=["curves"])
    assert path == tmp_path / "choice-of-a-model-curves.png" and path.is_file()

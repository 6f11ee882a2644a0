"""Records of results: what is gathered is what the runs wrote, and the record is enough."""

from __future__ import annotations

import copy
import functools
import json
import logging
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import made
import numpy as np
import pytest
import runs
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from star.active_learning.loop import run
from star.errors import InputError
from star.experiments import table as grid
from star.experiments import table_file as table_files
from star.experiments.report import formats, series
from star.experiments.report.formats import ENDINGS, FORMATS, stopping_rules
from star.experiments.report.gathering import gather, rounded
from star.experiments.report.record import (
    Cell,
    Record,
    parse,
    read_record,
    write_record,
)
from star.experiments.report.results import find, find_all, load_results
from star.experiments.report.single_runs import of_runs
from star.experiments.report.stopping import stopping_sheet
from star.experiments.report.summary import summary
from star.experiments.sweep.cell_run import write_failure

ROWS = {
    "random": {"settings": {"acquisition.select": "random"}},
    "star": {"about": "ours", "naive": "plain"},
    "plain": {"settings": {"acquisition.combine": "none"}},
    "bald": {"settings": {"acquisition.measure": "bald", "acquisition.combine": "none"}},
    "whole": {
        "settings": {"acquisition.select": "random", "pool.rounds": 1, "pool.initial_size": 12},
        "curve": False,
    },
}
DONE = [("random", 0), ("random", 1), ("star", 0), ("star", 1), ("bald", 0), ("whole", 1)]


@pytest.fixture(scope="module")
def table_file(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a table file of five rows and two seeds, in a repository of its own."""
    place = tmp_path_factory.mktemp("repository") / "configs" / "tables"
    place.mkdir(parents=True)
    data = runs.write_data(place / "data", pool=14, test=6)
    small = (
        "pool.initial_size=4",
        "pool.query_size=3",
        "pool.rounds=2",
        "train.num_train_epochs=1",
    )
    words = runs.words(tiny_llama, data, place, *small, 'evaluation.views=["full","base"]')
    settings = {key: yaml.safe_load(value) for key, _, value in (w.partition("=") for w in words)}
    left_out = ("output_dir", "tracking.progress", "tracking.save_adapters")
    settings = {key: value for key, value in settings.items() if key not in left_out}
    (place / "base.yaml").write_text("{}\n", encoding="utf-8")
    column = {"config": "base.yaml", "about": "sums", "settings": settings}
    content = {"title": "Small", "seeds": 2, "columns": {"sums": column}, "rows": ROWS}
    path = place / "small.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def root(table_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where six of its ten cells have been run, one has failed, and three are missing."""
    root = tmp_path_factory.mktemp("runs")
    for cell in grid.cells(table_files.read_table(table_file)):
        if (cell.row, cell.seed) in DONE:
            run(cell.load(root))
        if (cell.row, cell.seed) == ("plain", 1):
            write_failure(cell.folder(root), "CUDA out of memory", "a trace")
    return root


@pytest.fixture(scope="module")
def gathered(table_file: Path, root: Path) -> Record:
    return gather(table_files.read_table(table_file), root)


def cell_of(record: Record, row: str, seed: int) -> Cell:
    [found] = [c for c in record.cells if (c.row, c.seed) == (row, seed)]
    return found


def markdown(record: Record) -> str:
    return formats.markdown(summary(record))


def same(value: Any, other: Any) -> bool:
    """Whether two JSON values are equal to six digits."""
    if isinstance(other, dict):
        return value.keys() == other.keys() and all(same(value[key], other[key]) for key in other)
    if isinstance(other, list):
        return len(value) == len(other) and all(map(same, value, other))
    if isinstance(other, float):
        return value == pytest.approx(other, rel=5e-6)
    return value == other


# --- gathering ----------------------------------------------------------------------------------


def test_accuracies_and_areas_keep_all_digits(gathered: Record, root: Path) -> None:
    cell = cell_of(gathered, "star", 0)
    result = json.loads((root / "small/sums/star/seed0/result.json").read_text())
    assert cell.auc == result["auc"]
    for point, written in zip(cell.rounds, result["rounds"], strict=True):
        assert point.accuracy == written["accuracy"]
    odd = {"accuracy": 1 / 3, "auc": math.nan, "ece": 1 / 3, "rounds": [{"accuracy": 2 / 3}]}
    assert rounded(odd) == {
        "accuracy": 1 / 3, "auc": None, "ece": 0.333333, "rounds": [{"accuracy": 2 / 3}]
    }  # fmt: skip


def test_a_column_has_the_prompts_that_its_runs_were_asked(
    gathered: Record, table_file: Path, root: Path, tmp_path: Path
) -> None:
    [column] = gathered.columns
    assert column.prompts == {"{question}\nAnswer:": ("random", "star", "bald", "whole")}
    kept = tmp_path / "runs"
    shutil.copytree(root, kept)
    folder = kept / "small/sums/star/seed0"
    told = json.loads((folder / "environment.json").read_text())
    assert told["data"]["prompt"] == "{question}\nAnswer:"
    told["data"]["prompt"] = "Q: {question}"  # of another version's default
    (folder / "environment.json").write_text(json.dumps(told))
    runs.earlier(folder)
    again = gather(table_files.read_table(table_file), kept)
    assert again.columns[0].prompts["Q: {question}"] == ("star",)
    # A run from before it was written there: its own configuration says it.
    del told["data"]["prompt"]
    (folder / "environment.json").write_text(json.dumps(told))
    config = (folder / "config.yaml").read_text()
    assert "  prompt: null\n" in config
    (folder / "config.yaml").write_text(config.replace("  prompt: null", "  prompt: '{question}?'"))
    runs.earlier(folder)
    again = gather(table_files.read_table(table_file), kept)
    assert again.columns[0].prompts["{question}?"] == ("star",)


@pytest.mark.parametrize("draw", ["fixed", "seeded"])
def test_runs_that_draw_by_the_seed_say_so(
    draw: str, gathered: Record, table_file: Path, root: Path, tmp_path: Path
) -> None:
    shutil.copytree(root, tmp_path / "runs")
    for path in (tmp_path / "runs").rglob("config.yaml"):
        path.write_text(path.read_text().replace("  draw: fixed", f"  draw: {draw}"))
        runs.earlier(path.parent)
    made = gather(table_files.read_table(table_file), tmp_path / "runs")
    told = {cell.content.get("draw") for cell in made.results()}
    assert told == {None if draw == "fixed" else "seeded"}
    assert "draw" not in cell_of(gathered, "star", 0).content


def test_every_cell_is_there_whatever_became_of_it(gathered: Record) -> None:
    assert [(c.seed, c.row) for c in gathered.cells] == [(k, r) for k in (0, 1) for r in ROWS]
    states = {(c.row, c.seed): c.status for c in gathered.cells}
    assert {key for key, state in states.items() if state == "done"} == set(DONE)
    assert states["plain", 1] == "failed"
    assert cell_of(gathered, "plain", 1).error == "CUDA out of memory"
    assert states["plain", 0] == states["bald", 1] == states["whole", 0] == "missing"
    assert [row.name for row in gathered.rows] == list(ROWS)
    assert gathered.rows[1].naive == ("plain",) and gathered.rows[4].curve is False
    assert gathered.columns[0].about == "sums" and gathered.baseline == "random"
    assert gathered.seeds == (0, 1) and gathered.title == "Small"


@pytest.mark.parametrize("row, seed", DONE)
def test_a_cell_says_what_its_run_wrote(row: str, seed: int, gathered: Record, root: Path) -> None:
    cell = cell_of(gathered, row, seed)
    folder = root / "small" / "sums" / row / f"seed{seed}"
    result = runs.read(folder / "result.json")
    for key in ("auc", "task", "strategy", "label_free", "config_hash"):
        assert same(getattr(cell, key), result[key])
    picked = runs.queries(folder)
    assert [list(r.selected) for r in cell.rounds if r.selected is not None] == picked
    assert cell.rounds[-1].selected is None
    for point, wanted in zip(cell.rounds, result["rounds"], strict=True):
        known = {k: v for k, v in vars(point).items() if v is not None}
        rest = {k: v for k, v in known.items() if k not in ("gap", "selected", "answers")}
        assert same(rest, {k: v for k, v in wanted.items() if k != "round"})


def test_the_gap_of_the_two_views(gathered: Record, root: Path) -> None:
    with np.load(root / "small/sums/star/seed1/rounds/00/scores.npz") as scores:
        base, full = scores["base"], scores["full"]
    first, last = cell_of(gathered, "star", 1).rounds
    assert first.gap["base"] == pytest.approx(base.mean(), rel=5e-6)
    assert first.gap["full"] == pytest.approx(full.mean(), rel=5e-6)
    assert first.gap["rank_correlation"] == pytest.approx(spearmanr(base, full)[0], rel=5e-6)
    assert last.gap is None and cell_of(gathered, "random", 0).rounds[0].gap is None
    bald = cell_of(gathered, "bald", 0).rounds[0].gap
    assert bald["base"] is None and bald["rank_correlation"] is None and bald["full"] > 0


def test_the_reliability_of_the_last_round(gathered: Record) -> None:
    cell = cell_of(gathered, "star", 0)
    assert set(cell.reliability) == {"full", "base"}
    bins = np.array(cell.reliability["full"])
    assert bins[:, 2].sum() == 6 and (bins[:, 2] > 0).all()
    gap = (bins[:, 2] * np.abs(bins[:, 1] - bins[:, 0])).sum() / 6
    assert gap == pytest.approx(cell.rounds[-1].ece, abs=1e-5)


def test_only_what_is_asked_for(table_file: Path, root: Path) -> None:
    table = table_files.read_table(table_file)
    some = gather(table, root, grid.cells(table, rows=["star", "random"], seeds=[1]))
    assert [row.name for row in some.rows] == ["random", "star"] and some.seeds == (1,)
    assert [c.status for c in some.cells] == ["done", "done"]


def test_environments_are_told_once(gathered: Record, table_file: Path, root: Path) -> None:
    [environment] = gathered.environments
    assert environment.star and environment.hardware and environment.packages
    assert {c.environment for c in gathered.results()} == {0}
    assert len(cell_of(gathered, "star", 0).started) == len("2026-01-01")
    assert cell_of(gathered, "star", 0).resumed is None


def test_a_run_that_went_on_elsewhere_says_so(copied: Path, table_file: Path) -> None:
    path = copied / "small/sums/star/seed1/environment.json"
    told = runs.read(path)
    other = {**told, "hardware": {**told["hardware"], "cpu": "another"}}
    path.write_text(json.dumps({**told, "resumed": [told, other]}), encoding="utf-8")
    runs.earlier(path.parent)
    record = gather(table_files.read_table(table_file), copied)
    assert cell_of(record, "star", 1).resumed == (1,)
    assert record.environments[1].hardware["cpu"] == "another"
    assert "another" in markdown(record)


def test_a_round_without_new_labels_is_said_to_be_left_out(
    copied: Path, table_file: Path, tmp_path: Path
) -> None:
    path = copied / "small/sums/random/seed1/result.json"
    told = runs.read(path)
    labels = [point["labeled"] for point in told["rounds"]]
    told["rounds"][1]["labeled"] = labels[0]  # people gave none
    path.write_text(json.dumps(told), encoding="utf-8")
    shutil.rmtree(path.parent / "rounds")  # whose files tell the count too
    runs.earlier(path.parent)
    record = gather(table_files.read_table(table_file), copied)
    cell = cell_of(record, "random", 1)
    assert (cell.labels, cell.left_out, cell.numbers) == ((labels[0],), (0,), (1,))
    assert cell_of(record, "random", 0).left_out is None
    said = "random: round 0 of seed 1 not on the curve, since a later round has no more labels."
    assert f"* {said}" in markdown(record)
    assert "not on the curve" in formats.latex(summary(record))
    assert "not on the curve" in formats.csv(summary(record))
    write_record(tmp_path / "results.json", record)
    assert read_record(tmp_path / "results.json") == record
    frame = load_results(tmp_path)
    lines = frame[(frame.row == "random") & (frame.seed == 1)]
    assert lines["round"].tolist() == [1]


def test_a_run_of_several_processes_says_so(copied: Path, table_file: Path) -> None:
    for seed, later in ((0, []), (1, [{"processes": 2, "rows_per_update": 32}])):
        path = copied / f"small/sums/star/seed{seed}/environment.json"
        told = runs.read(path)
        assert told["processes"] == 1
        told |= {"resumed": [{**told, **start} for start in later]}
        path.write_text(json.dumps(told | {"rows_per_update": 16}), encoding="utf-8")
        runs.earlier(path.parent)
    record = gather(table_files.read_table(table_file), copied)
    alone, several = (cell_of(record, "star", seed).content for seed in (0, 1))
    assert "processes" not in alone and "rows_per_update" not in alone
    assert (several["processes"], several["rows_per_update"]) == ("1 and 2", "16 and 32")
    said = "* star: trained by updates of 16 and 32 rows, on 1 and 2 processes: seed 1."
    assert said in markdown(record)
    said = "compared with random without a test, since they trained on different numbers of"
    assert f"* star: {said} processes: seed 1." in markdown(record)


@pytest.fixture
def copied(root: Path, tmp_path: Path) -> Path:
    """Return a copy of the run folders, to be spoilt."""
    return Path(shutil.copytree(root, tmp_path / "copy"))


@pytest.mark.parametrize(
    "name, content",
    [
        ("result.json", "{"),
        ("result.json", "[]"),
        ("result.json", '{"rounds": []}'),
        ("rounds/01/metrics.json", "[1]"),
        ("rounds/00/scores.npz", "no archive"),
        ("rounds/00/selected.json", "{}"),
        ("environment.json", "nothing"),
    ],
)
def test_a_damaged_file_is_named(name: str, content: str, copied: Path, table_file: Path) -> None:
    folder = copied / "small/sums/star/seed0"
    (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="star/seed0"):
        gather(table_files.read_table(table_file), copied)


def test_without_scores_and_metrics_a_run_still_counts(copied: Path, table_file: Path) -> None:
    folder = copied / "small/sums/star/seed0"
    (folder / "environment.json").unlink()
    shutil.rmtree(folder / "rounds")
    with pytest.raises(InputError, match=r"star/seed0/environment.json is missing|rounds/00 is m"):
        gather(table_files.read_table(table_file), copied)
    runs.earlier(folder)
    cell = cell_of(gather(table_files.read_table(table_file), copied), "star", 0)
    assert cell.environment is None and cell.reliability == {}
    assert all(point.gap is point.selected is None for point in cell.rounds)


def test_a_run_of_other_settings_is_named(
    table_file: Path, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="star"):
        gather(table_files.read_table(table_file), root)
        assert not caplog.records
        changed = tmp_path / "small.yaml"
        content = yaml.safe_load(table_file.read_text(encoding="utf-8"))
        content["rows"]["star"]["settings"] = {"acquisition.measure": "margin"}
        content["columns"]["sums"]["config"] = str(table_file.parent / "base.yaml")
        changed.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        found = gather(table_files.read_table(changed), root)
    [said] = [one.getMessage() for one in caplog.records]
    assert "small: its runs of sums/star are of other settings" in said
    # Whoever reads the report has not seen the warning.
    said = "run with other settings than the table file has now: seed 0, 1"
    assert f"* star: {said} (acquisition.measure=predictive_entropy)." in markdown(found)
    assert "other settings" not in markdown(gather(table_files.read_table(table_file), root))


@pytest.mark.parametrize("row, unlike", [("star", {"star"}), ("random", {"star", "bald", "whole"})])
def test_data_that_was_edited_between_two_sweeps(
    row: str, unlike: set[str], copied: Path, table_file: Path
) -> None:
    for path in copied.rglob("environment.json"):
        if path.parts[-3] == row:
            told = json.loads(path.read_text(encoding="utf-8"))
            told["data"]["fingerprint"] = "0" * 64
            path.write_text(json.dumps(told), encoding="utf-8")
            runs.earlier(path.parent)
    lines = summary(gather(table_files.read_table(table_file), copied)).lines
    told = {line.row for line in lines if any("of different data" in note for note in line.notes)}
    assert told == unlike
    assert all(line.versus_random is None for line in lines if line.row in unlike)


def test_where_rows_lie_is_no_setting(
    table_file: Path, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = tmp_path / "small.yaml"
    content = yaml.safe_load(table_file.read_text(encoding="utf-8"))
    content["columns"]["sums"]["config"] = str(table_file.parent / "base.yaml")
    content["columns"]["sums"]["settings"]["task.data_dir"] = "elsewhere"
    elsewhere.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    with caplog.at_level(logging.WARNING, logger="star"):
        cells = gather(table_files.read_table(elsewhere), root).results()
    assert not caplog.records
    assert all(set(cell.content or {}) <= {"data", "model"} for cell in cells)


@given(st.floats())
def test_rounding(value: float) -> None:
    [once] = rounded([value])
    assert rounded(once) == once and json.loads(json.dumps(once)) == once
    if not math.isfinite(value):
        assert once is None
    else:
        assert once == pytest.approx(value, rel=5.1e-6, abs=1e-320)


# --- the committed record -------------------------------------------------------------------------


def test_the_record_gives_the_same_bytes_as_the_run_folders(
    table_file: Path,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fresh = find(table_file, root=root)
    write_record(tmp_path / "scripts/results/small/results.json", fresh)
    monkeypatch.chdir(tmp_path)
    kept = find(table_file)
    assert "these are the committed results, scripts/results/small/results.json" in caplog.text
    assert kept == fresh
    # Whoever names a folder asks for the runs in it.
    with pytest.raises(
        InputError, match=r"no run folders in nowhere/small.*leave --output-dir out"
    ):
        find(table_file, root="nowhere")
    for write in FORMATS.values():
        assert write(summary(kept)).encode() == write(summary(fresh)).encode()
    write_record(tmp_path / "again.json", kept)
    first = (tmp_path / "scripts/results/small/results.json").read_bytes()
    assert (tmp_path / "again.json").read_bytes() == first
    lines = first.decode().splitlines()
    assert sum('"status"' in line for line in lines) == len(fresh.cells)
    assert str(root) not in first.decode(), "no path of the machine"


def test_the_record_is_found_in_the_table_files_repository(
    table_file: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = table_file.parents[2] / "scripts/results/small/results.json"
    with pytest.raises(InputError, match=r"small has no results.*run star sweep .*small\.yaml"):
        find(table_file)
    fresh = find(table_file, root=root)
    write_record(kept, fresh)
    try:
        assert find(table_file) == fresh == find(kept) == find(kept.parent)
        # What has been begun here comes before what was committed.
        (tmp_path / "runs/small/sums/star/seed1").mkdir(parents=True)
        assert {cell.status for cell in find(table_file).cells} == {"missing"}
        shutil.rmtree(tmp_path / "runs")
        write_failure(tmp_path / "runs/small/sums/star/seed1", "no disk")
        assert cell_of(find(table_file), "star", 1).error == "no disk"
    finally:
        kept.unlink()


def spoilt(change: Callable[[dict[str, Any]], Any]) -> str:
    record = made.content(made.cell("random", 0, [0.1, 0.2]), made.cell("star", 0, [0.1, 0.2]))
    change(record)
    return json.dumps(record)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        spoilt(lambda r: r.pop("cells")),
        spoilt(lambda r: r.update(title=3)),
        spoilt(lambda r: r.update(cells=3)),
        spoilt(lambda r: r["rows"].append(r["rows"][0])),
        spoilt(lambda r: r["rows"][0].pop("curve")),
        spoilt(lambda r: r["cells"][0].update(row="unheard-of")),
        spoilt(lambda r: r["cells"].append(r["cells"][0])),
        spoilt(lambda r: r["cells"][0].update(status="perhaps")),
        spoilt(lambda r: r["cells"][0].update(rounds=[])),
        spoilt(lambda r: r["cells"][0].update(auc=None)),
        spoilt(lambda r: r["cells"][0].update(auc=math.nan)),
        spoilt(lambda r: r["cells"][0].update(environment=1)),
        spoilt(lambda r: r["cells"][0]["rounds"][1].update(accuracy="0.5")),
        spoilt(lambda r: r["cells"][0]["rounds"][1].pop("labeled")),
        spoilt(lambda r: r["cells"][0]["rounds"][1].update(labeled=20)),
        spoilt(lambda r: r["cells"][0]["rounds"][0].update(accuracy=1.7)),
        spoilt(lambda r: r["cells"][0]["rounds"][0].update(accuracy=10**400)),
        spoilt(lambda r: r["cells"][0]["rounds"][0].update(gap="x")),
        spoilt(lambda r: r["cells"][0].update(reliability=[1])),
        spoilt(lambda r: r.pop("seeds")),
        spoilt(lambda r: r.update(colour="red")),
        spoilt(lambda r: r["cells"][0].update(colour="red")),
        "[" * 200_000,
    ],
)
def test_a_damaged_record_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"results\.json is not"):
        find(path)


def whole_record() -> dict[str, Any]:
    """Return a record with all that a record may hold."""
    record = made.content(
        made.cell("random", 0, [0.1, 0.2], content={"data": "ab"}, resumed=[0]),
        made.cell("star", 0, [0.1, 0.3], reliability={"full": [[0.5, 0.4, 3]]}),
        made.absent("star", 1, error="no disk"),
        rows={"star": {"naive": "random", "preset": "star", "settings": ["a=1"]}},
        settings=["b=2"],
    )
    for cell in record["cells"][:2]:
        cell["rounds"][0] |= {"gap": {"base": 0.1, "full": 0.2}, "selected": [1, 2]}
    return record


def everywhere(part: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to everything in JSON content."""
    items = part.items() if isinstance(part, dict) else enumerate(part)
    for key, value in items:
        yield (*at, key)
        if isinstance(value, (dict, list)):
            yield from everywhere(value, (*at, key))


OTHERS = [3, 0.5, True, [], [1], {}, {"a": 1}]


@pytest.mark.parametrize(
    "other",
    [None, "x", -1, "gone", *(pytest.param(one, marks=pytest.mark.slow) for one in OTHERS)],
)
def test_whatever_is_changed_it_is_refused_or_read(other: Any, tmp_path: Path) -> None:
    taken = 0
    for place in everywhere(whole_record()):
        record = copy.deepcopy(whole_record())
        *way, last = place
        part = functools.reduce(lambda one, key: one[key], way, record)
        if other == "gone":
            del part[last]
        else:
            part[last] = copy.deepcopy(other)
        try:
            read = parse(record, "it")
        except InputError as error:
            assert "\n" not in str(error)
            continue
        taken += 1
        for write in FORMATS.values():
            assert write(summary(read)), place
        if taken % 5 == 0:  # it takes a while
            write_record(tmp_path / "results.json", read)
            load_results(tmp_path)
        for row in series.strategies(read, "task"):
            series.learning_curve(row.cells), series.compute_curve(row.cells)
    assert taken < 0.7 * len(list(everywhere(whole_record())))


def test_runs_that_differ_in_more_than_the_seed_are_told() -> None:
    def row(name: str, *contents: dict[str, str]) -> list[dict[str, Any]]:
        return [made.cell(name, k, [0.1, 0.2], content=c) for k, c in enumerate(contents)]

    same = {"data": "a", "model": "m"}
    record = made.record(
        *row("random", same, same, same),
        *row("data", same, {**same, "data": "b"}, same),
        *row("settings", {**same, "settings": "x"}, same, same),
        *row("asked for", *[{**same, "settings": "x"}] * 3),
        *row("unknown", same, {}, same),
    )
    text = markdown(record)
    assert "data: runs of different data stand together: seed 0, 2 and seed 1." in text
    assert "settings: runs of different settings stand together: seed 0 and seed 1, 2." in text
    assert text.count("stand together") == 2


def test_what_runs_were_made_of_is_gathered(table_file: Path, root: Path, tmp_path: Path) -> None:
    moved = tmp_path / "runs"
    shutil.copytree(root, moved)
    place = moved / "small/sums/star/seed1"
    told = json.loads((place / "environment.json").read_text())
    told["data"]["fingerprint"] = "0" * 64
    (place / "environment.json").write_text(json.dumps(told))
    config = yaml.safe_load((place / "config.yaml").read_text())
    config["train"]["learning_rate"] = 1.0
    (place / "config.yaml").write_text(yaml.safe_dump(config))
    runs.earlier(place)
    text = markdown(find(table_file, root=moved))
    assert "star: runs of different settings stand together: seed 0 and seed 1." in text
    assert "star: runs of different data stand together: seed 0 and seed 1." in text
    assert "stand together" not in markdown(find(table_file, root=root))


def test_a_record_by_hand_is_taken(tmp_path: Path) -> None:
    record = made.record(made.cell("random", 0, [0.1, 0.2]), made.absent("star", 0))
    write_record(tmp_path / "results.json", record)
    assert read_record(tmp_path / "results.json") == record


@pytest.mark.parametrize("name", ["nothing.json", "nowhere", "no.yaml"])
def test_what_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=name):
        find(tmp_path / name)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds neither results\.json nor a run"):
        find(tmp_path)
    with pytest.raises(InputError, match="name a table file"):
        find_all([])


# --- single runs ----------------------------------------------------------------------------------


def folders(root: Path, *names: str) -> list[Path]:
    return [root / "small" / "sums" / name for name in names]


def changed(folder: Path, *, name: str = "copy", **sections: dict[str, Any]) -> Path:
    """Return a copy of a run folder, as if it had been run with other settings."""
    copy = Path(shutil.copytree(folder, folder.parent / name))
    path = copy / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    for section, values in sections.items():
        config[section] |= values
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return runs.earlier(copy)


def places(record: Record) -> list[tuple[str, str, int]]:
    return [(c.column, c.row, c.seed) for c in record.cells]


def test_runs_are_rows_and_seeds(root: Path) -> None:
    record = of_runs(folders(root, "random/seed1", "star/seed0", "random/seed0"))
    name = "star-predictive_entropy"
    assert places(record) == [("jsonl", "random", 1), ("jsonl", name, 0), ("jsonl", "random", 0)]
    assert record.seeds == (0, 1) and record.baseline == "random"
    assert all(row.curve for row in record.rows)
    assert "AUC − random" in markdown(record)


def test_a_run_says_the_same_alone_and_in_its_table(gathered: Record, root: Path) -> None:
    [alone] = find(root / "small/sums/star/seed1").cells
    assert replace(alone, column="sums", row="star") == cell_of(gathered, "star", 1)


def test_runs_of_other_settings_are_rows_of_their_own(copied: Path) -> None:
    plain, *_ = folders(copied, "star/seed0")
    other = changed(plain, regularizer={"kind": "loss"})
    found = places(of_runs([plain, other]))
    assert len({row for _, row, _ in found}) == 2
    assert all(row.startswith("star-predictive_entropy ") for _, row, _ in found)
    assert {column for column, _, _ in found} == {"jsonl"}


def test_settings_that_rows_of_single_runs_do_not_share_are_named(copied: Path) -> None:
    names = ["random/seed0", "random/seed1", "star/seed0", "star/seed1"]
    plain = folders(copied, *names)
    assert "run with" not in markdown(of_runs(plain)), "rows differ in their strategy alone"
    for folder in plain[2:]:
        path = folder / "config.yaml"
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        config["train"]["learning_rate"] = 1e-05
        config["regularizer"]["beta"] = 0.25
        path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        runs.earlier(folder)
    record = of_runs(plain)
    text = markdown(record)
    assert {row for _, row, _ in places(record)} == {"random", "star-predictive_entropy"}
    assert "* random: run with regularizer.beta=null, train.learning_rate=0.01." in text
    star = "regularizer.beta=0.25, train.learning_rate=1e-05"
    assert f"* star-predictive_entropy: run with {star}." in text
    assert "acquisition." not in text


def test_rows_of_one_strategy_are_told_apart_by_more_than_a_hash(copied: Path) -> None:
    plain, random = folders(copied, "star/seed0", "random/seed0")
    other = changed(plain, acquisition={"entropy_floor": 0.25})
    notes = {line.row: line.notes for line in summary(of_runs([plain, other, random])).lines}
    floor = yaml.safe_load((plain / "config.yaml").read_text())["acquisition"]["entropy_floor"]
    assert notes.pop("random") == []
    assert sorted(notes.values()) == sorted(
        [[f"run with acquisition.entropy_floor={value}"] for value in (floor, 0.25)]
    )


def test_columns_of_one_task_say_in_what_they_differ(copied: Path) -> None:
    plain, *_ = folders(copied, "star/seed0")
    test = changed(plain, name="test", task={"test_limit": 3, "data_dir": "/elsewhere/data"})
    one, other = of_runs([plain, test]).columns
    assert (one.about, other.about) == ("task.test_limit=null", "task.test_limit=3")
    assert of_runs([plain]).columns[0].about == ""


def test_runs_of_other_models_or_data_are_columns_of_their_own(copied: Path) -> None:
    plain, *_ = folders(copied, "star/seed0")
    model = changed(plain, name="model", model={"name_or_path": "hub/Some-Model"})
    test = changed(plain, name="test", task={"test_limit": 3})
    columns = [column for column, _, _ in places(of_runs([plain, model]))]
    assert len(set(columns)) == 2 and columns[1] == "jsonl Some-Model"
    columns = [column for column, _, _ in places(of_runs([plain, model, test]))]
    assert len(set(columns)) == 3 and columns[1] == "jsonl Some-Model"
    assert {row for _, row, _ in places(of_runs([plain, model, test]))} == {
        "star-predictive_entropy"
    }


def test_the_same_run_counts_once(copied: Path) -> None:
    plain, *_ = folders(copied, "star/seed0")
    assert len(of_runs([plain, plain / ".." / "seed0"]).cells) == 1
    other = changed(plain)
    with pytest.raises(InputError, match="runs of the same configuration and seed"):
        of_runs([plain, other])


def test_a_folder_of_runs_is_all_that_have_finished(
    copied: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["random/seed0", "random/seed1", "star/seed0", "star/seed1"]
    unfinished, *rest = folders(copied, *names)
    for other in sorted({*(copied / "small/sums").glob("*/seed*")} - {unfinished, *rest}):
        shutil.rmtree(other) if other.is_dir() else other.unlink()
    (unfinished / "result.json").unlink()
    twice = Path(shutil.copytree(rest[0], copied / "later" / "copy"))
    deep = rest[2] / "rounds" / "config.yaml"  # inside of a run there is no other
    deep.write_text("a: 1\n", encoding="utf-8")
    whole = of_runs([twice, *rest[1:]])
    caplog.clear()
    found = find(copied)
    assert sorted(places(found)) == sorted(places(whole)) and len(found.cells) == 3
    skipped = [line for line in caplog.messages if line.startswith("skipped: ")]
    assert len(skipped) == 2
    assert f"{unfinished} has no result.json" in skipped[0]
    assert f"{rest[0]} is the same run as {twice}" in skipped[1]
    # Named beside the folder, a run counts once; unfinished it is refused.
    assert find_all([rest[1], copied])[0].cells[0] == of_runs([rest[1]]).cells[0]
    assert len(find_all([rest[1], copied])[0].cells) == 3
    with pytest.raises(InputError, match="has not finished"):
        find_all([unfinished, copied])
    for folder in (twice, *rest):
        (folder / "result.json").unlink()
    with pytest.raises(InputError, match="none of the 5 run folders can be reported"):
        find(copied)


def test_what_is_no_finished_run_is_refused(copied: Path, tmp_path: Path) -> None:
    plain, *_ = folders(copied, "star/seed0")
    (plain / "result.json").unlink()
    with pytest.raises(InputError, match="has not finished"):
        find(plain)
    with pytest.raises(InputError, match="not a run folder"):
        of_runs([tmp_path])
    with pytest.raises(InputError, match="no run folder"):
        of_runs([])
    (plain / "result.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"result\.json does not fit"):
        of_runs([plain])
    with pytest.raises(InputError, match=r"result\.json has no such 'task'"):
        of_runs([runs.earlier(plain)])
    (plain / "config.yaml").write_text("[]", encoding="utf-8")
    with pytest.raises(InputError, match=r"config\.yaml must hold a mapping"):
        of_runs([plain])


# --- the data frame -------------------------------------------------------------------------------


def test_the_data_frame(table_file: Path, root: Path, gathered: Record) -> None:
    with pytest.raises(InputError, match="table small is named twice"):
        load_results(table_file, table_file, root=root)
    frame = load_results(table_file, root=root)
    assert len(frame) == 2 * 5 + 1
    assert list(frame.columns[:6]) == ["table", "column", "row", "seed", "task", "strategy"]
    line = frame[(frame.row == "star") & (frame.seed == 1) & (frame["round"] == 0)].iloc[0]
    point = cell_of(gathered, "star", 1).rounds[0]
    assert line.accuracy == point.accuracy and line.labeled == point.labeled == 4
    assert line.seconds_train == point.seconds["train"]
    assert line.tokens_score == point.tokens["score"]
    assert line.gap_rank_correlation == point.gap["rank_correlation"]
    random = frame[frame.row == "random"]
    assert random.gap_base.isna().all() and frame.accuracy.notna().all()
    assert frame.labeled.dtype.kind == "i" and frame.accuracy.dtype.kind == "f"
    assert frame.attrs["missing"] == [
        "small/sums/plain/seed0", "small/sums/whole/seed0", "small/sums/plain/seed1",
        "small/sums/bald/seed1",
    ]  # fmt: skip


def test_a_data_frame_of_several_sources(root: Path, tmp_path: Path) -> None:
    record = made.record(made.cell("random", 0, [0.1, 0.2]), made.absent("star", 0))
    write_record(tmp_path / "results.json", record)
    frame = load_results(*folders(root, "star/seed0", "star/seed1"), tmp_path)
    assert frame.groupby("table").size().to_dict() == {"main": 2, "runs": 4}
    assert frame.attrs["missing"] == ["main/task/star/seed0"]


def test_a_frame_without_results_has_its_columns(tmp_path: Path) -> None:
    write_record(tmp_path / "results.json", made.record(made.absent("random", 0)))
    frame = load_results(tmp_path)
    assert len(frame) == 0 and list(frame.accuracy) == []
    assert frame.attrs["missing"] == ["main/task/random/seed0"]


REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "place", sorted(REPOSITORY.glob("scripts/results/*/results.json")), ids=lambda p: p.parent.name
)
def test_what_is_committed_is_what_a_report_says_now(place: Path, tmp_path: Path) -> None:
    record = read_record(place)
    write_record(tmp_path / "results.json", record)
    assert (tmp_path / "results.json").read_bytes() == place.read_bytes()
    table = summary(record)
    for kind, write in FORMATS.items():
        committed = (place.parent / f"table.{ENDINGS[kind]}").read_text(encoding="utf-8")
        assert write(table) == committed, f"star report {place.parent} --output {place.parent}"
    stopping = place.parent / "stopping.md"
    assert stopping.is_file() == (stopping_sheet(record) is not None)
    if stopping.is_file():
        assert stopping_rules(table) == stopping.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda r: r.pop("cells"), "cells is missing"),
        (lambda r: r["rows"][0].pop("curve"), "rows.curve is missing"),
        (lambda r: r["columns"][0].update(name=3), "columns.name must be text, got '3'"),
        (lambda r: r.update(seeds=[-1]), "seeds must be a list, each a whole number, got '[-1]'"),
        (
            lambda r: r["cells"][0].update(status="perhaps"),
            "cell task/star/seed0: status must be one of done, failed, missing, got 'perhaps'",
        ),
        (
            lambda r: r["cells"][0]["rounds"][1].update(accuracy=1.7),
            "cell task/star/seed0: accuracy must be from 0 to 1, got '1.7'",
        ),
        (
            lambda r: r["cells"][0]["rounds"][1].update(labeled=20),
            "cell task/star/seed0: its label counts do not rise: (20, 20)",
        ),
        (
            lambda r: r["cells"][0].update(left_out=[2, 3]),
            "cell task/star/seed0: no run leaves out rounds (2, 3)",
        ),
        (lambda r: r.update(colour="red"), "this version knows no 'colour'"),
    ],
)
def test_what_is_wrong_with_a_record_is_said(change: Callable[[Any], Any], said: str) -> None:
    content = made.content(made.cell("star", 0, [0.1, 0.2]))
    change(content)
    with pytest.raises(InputError) as caught:
        parse(content, "it")
    assert str(caught.value) == f"it is not a record of results: {said}"

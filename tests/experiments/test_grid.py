"""Table files: what they stand for, and what is refused."""

from __future__ import annotations

import dataclasses
import shlex
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from star.acquisition.strategies import STRATEGIES
from star.config import (
    Config,
    TaskConfig,
    config_hash,
    fields_of,
    get,
    load,
    scored_continuation,
)
from star.data import loading as tasks
from star.data.loading import is_choice
from star.data.tasks.embedded.families import POOL_SIZE
from star.errors import InputError
from star.experiments import table as grid
from star.experiments import table_file

ROOT = Path(__file__).parents[2]
TABLES = sorted((ROOT / "configs/tables").glob("*.yaml"))

SMALL: dict[str, Any] = {
    "seeds": 2,
    "preset": "star",
    "settings": {"pool.rounds": 3, "pool.query_size": 7},
    "columns": {
        "one": {"config": "plain.yaml"},
        "two": {"config": "plain.yaml", "settings": {"pool.query_size": 8}},
    },
    "rows": {
        "random": {"settings": {"acquisition.select": "random"}},
        "star": {"settings": {"pool.query_size": 9}, "columns": ["two"], "naive": "plain"},
        "plain": {"preset": "paper"},
    },
}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/plain.yaml").write_text("pool: {rounds: 4, initial_size: 5}\n")

    def write(content: Any = None, **changed: Any) -> Path:
        path = tmp_path / "tables/small.yaml"
        content = SMALL | changed if content is None else content
        path.write_text(
            content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
        )
        return path

    return write


@pytest.mark.parametrize(
    ("written", "meant"), [(True, ()), (False, None), ([0.8, 1], (0.8, 1.0)), ([], ())]
)
def test_gains_are_asked_for(write: Any, written: Any, meant: Any) -> None:
    assert table_file.read_table(write()).gains is None
    assert table_file.read_table(write(gains=written)).gains == meant


def test_cells_seed_by_seed_in_the_tables_order(write: Any) -> None:
    table = table_file.read_table(write())
    assert (table.name, table.title, table.baseline) == ("small", "small", "random")
    names = [cell.name for cell in grid.cells(table)]
    one = ["one/random", "one/plain", "two/random", "two/star", "two/plain"]
    assert names == [f"{name}/seed{seed}" for seed in (0, 1) for name in one]
    some = grid.cells(table, rows=["plain"], columns=["one"], seeds=[1, 5])
    assert [cell.name for cell in some] == ["one/plain/seed1", "one/plain/seed5"]


def test_the_last_setting_wins(write: Any) -> None:
    cells = {cell.name: cell for cell in grid.cells(table_file.read_table(write()))}
    sizes = {"one/random/seed0": 7, "two/random/seed0": 8, "two/star/seed0": 9}
    for name, size in sizes.items():
        config = cells[name].load(Path("out"))
        assert (config.pool.rounds, config.pool.query_size) == (3, size)
        assert config.pool.initial_size == 5  # the file's
    assert cells["two/star/seed0"].load(Path("out")).acquisition.reduction == "mean"
    assert cells["one/plain/seed0"].load(Path("out")).acquisition.reduction == "sum"  # paper
    more = grid.cells(table_file.read_table(write()), words=["pool.query_size=2"])
    assert {cell.load(Path("out")).pool.query_size for cell in more} == {2}


@pytest.mark.parametrize("root", ["out #2", "a: b", "it's", "[x]", "x=y", "'q'", "-"])
def test_any_folder_is_meant_as_it_is_written(write: Any, root: str) -> None:
    cell = grid.cells(table_file.read_table(write()), seeds=[3], rows=["star"])[0]
    config = cell.load(Path(root))
    assert Path(config.output_dir, str(config.run_name)) == cell.folder(Path(root))
    assert config.tracking.first_rounds == str(Path(root) / "small" / grid.FIRST_ROUNDS)


def test_adapters_can_be_kept(write: Any) -> None:
    [cell, *_] = grid.cells(table_file.read_table(write()), words=["tracking.save_adapters=all"])
    assert cell.load(Path("out")).tracking.save_adapters == "all"


@pytest.mark.parametrize("key", ["seed", "output_dir", "run_name", "tracking.first_rounds"])
def test_what_a_sweep_sets_itself_is_refused(write: Any, key: str) -> None:
    table = table_file.read_table(write())
    with pytest.raises(InputError, match=f"key=value: {key} is the sweep's own; use .*--"):
        grid.cells(table, words=[f"{key}=1"])
    with pytest.raises(InputError, match=f"rows.a: settings: {key} is the sweep's own"):
        table_file.read_table(write(rows={"a": {"settings": {key: 1}}}))


def test_a_table_is_called_like_a_folder(write: Any) -> None:
    path = write().rename("tables/a #1.yaml")
    with pytest.raises(InputError, match="'a #1' is not a plain name"):
        table_file.read_table(path)


def test_a_cells_command_is_its_configuration(write: Any) -> None:
    cell = grid.cells(table_file.read_table(write()), seeds=[3], rows=["star"])[0]
    words = shlex.split(shlex.join(cell.arguments(Path("out"))))
    config = load(words[0], words[3:], preset=words[2])
    assert words[1] == "--preset" and config == cell.load(Path("out"))
    assert config.seed == 3 and Path(config.output_dir, str(config.run_name)) == cell.folder(
        Path("out")
    )


@pytest.mark.parametrize(
    "value",
    [
        *(True, None, 3, 1e-6, 0.5, "full", "a:b", "true", "1e3", "null", "a #b", "@main", "😀: é"),
        *("2024-13-45", "{question} Answer:", "[", ["base", "full"], {"a": "b"}, "two\nlines", "~"),
    ],
)
def test_values_come_through_words(value: Any) -> None:
    assert yaml.safe_load(grid.word(value)) == (str(value) if value == 1e-6 else value)
    if value == 1e-6:  # YAML 1.1 wants a point; the configuration's reader does not
        word = f"acquisition.entropy_floor={grid.word(value)}"
        assert load(None, [word]).acquisition.entropy_floor == value


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"rows": {}}, "needs rows, a mapping"),
        ({"columns": None}, "needs columns, a mapping"),
        ({"sedes": 3}, "unknown key 'sedes'; did you mean 'seeds'"),
        ({"seeds": 0}, "got 0"),
        ({"seeds": True}, "got True"),
        ({"seeds": [1, 1]}, r"got \[1, 1\]"),
        ({"baseline": "rnadom"}, "baseline: no 'rnadom'; did you mean 'random'"),
        ({"columns": {"one": {"config": "absent.yaml"}}}, "columns.one.config: no file .*absent"),
        ({"columns": {"one": {}}}, "columns.one needs config"),
        ({"rows": {"a/b": {}}}, "'a/b' is not a plain name"),
        ({"rows": {"random": {}, "Random": {}}}, "random and Random are one folder where case"),
        ({"rows": {"a": {"curve": "no"}}}, "rows.a.curve must be true or false, got 'no'"),
        ({"rows": {"a": {"naive": "a"}}}, "rows.a.naive: no 'a'"),
        ({"rows": {"a": {"naive": 0}}}, "rows.a.naive must be the name of a row, .* got 0"),
        ({"rows": {"a": {}, "b": {"naive": ["a", "a"]}}}, "b.naive must be .*list of different"),
        ({"rows": {"a": {}, "b": {"naive": ["a", "c"]}}}, "rows.b.naive: no 'c'"),
        ({"rows": {"a": {"columns": []}}}, r"rows.a.columns must be a list .* got \[\]"),
        ({"settings": {"task.revision": date(2024, 1, 1)}}, "date is not .*; put it in quotes"),
        ({"rows": {"a": 3}}, "rows.a must be a mapping, got 3"),
        ({"rows": {"random": {"preset": "nature"}}}, "preset must be one of paper.*'nature'"),
        ({"rows": {"random": {"naive": "x"}}}, "rows.random.naive: no 'x'"),
        ({"rows": {"random": {"columns": ["x"]}}}, "rows.random.columns: no 'x'"),
        ({"rows": {"random": {"columns": "one"}}}, "must be a list of column names"),
        ({"settings": ["a=b"]}, "settings must be a mapping"),
        ({"report": "probe"}, "report must be results or probes, got 'probe'"),
        ({"gains": [0.9, 85]}, "gains must be true, or a list of accuracies above 0"),
        ({"gains": "random"}, "gains must be true, or a list of accuracies above 0"),
        ({"gains": True, "report": "probes"}, "gains belongs to report: results"),
    ],
)
def test_what_is_refused(write: Any, changed: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        table_file.read_table(write(**changed))


def test_a_table_takes_the_rows_of_another(write: Any) -> None:
    shared = table_file.read_table(write().rename("tables/shared.yaml"))
    assert table_file.read_table(write(SMALL | {"rows_of": "shared.yaml"})).rows == shared.rows
    own = {
        "plain": {"about": "new", "columns": ["one"]},
        "star": {"naive": None},
        "random": False,
        "added": None,
    }
    table = table_file.read_table(write(rows_of="shared.yaml", preset="released", rows=own))
    _, star, plain = shared.rows
    assert table.rows == (
        dataclasses.replace(star, preset="released", naive=()),
        dataclasses.replace(plain, about="new", columns=("one",)),
        grid.Row("added", preset="released"),
    )
    content = {key: value for key, value in SMALL.items() if key != "rows"}
    assert table_file.read_table(write(content | {"rows_of": "shared.yaml"})).rows == shared.rows
    some = {"rows_of": {"shared.yaml": ["plain", "random"]}}
    assert table_file.read_table(write(content | some)).rows == (shared.rows[0], plain)


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"rows_of": 3}, "rows_of must be the path of a table file beside it, .* got 3"),
        ({"rows_of": {}}, r"rows_of must be the path .*, or \{PATH: \[rows\]\}, got \{\}"),
        ({"rows_of": {"shared.yaml": "star"}}, r"rows_of must .* got \{'shared.yaml': 'star'\}"),
        ({"rows_of": {"shared.yaml": ["satr"]}}, "rows_of: shared.yaml: no 'satr'; did you mean"),
        ({"rows_of": {"shared.yaml": ["star"]}}, "rows.star.naive: no 'plain'"),
        ({"rows_of": "absent.yaml"}, "absent.yaml cannot be read: No such file"),
        ({"rows_of": "plain.yaml"}, "plain.yaml needs rows, a mapping"),
        ({"rows_of": "taker.yaml"}, "taker.yaml takes the rows of shared.yaml; name that one"),
        ({"rows": {"rnadom": False}}, "rows: no 'rnadom'; did you mean 'random'"),
        ({"rows": {"plain": False}}, "rows.star.naive: no 'plain'"),
        ({"rows": {"star": {"colour": 1}}}, "rows.star: unknown key 'colour'"),
        ({"rows": {"star": 3}}, "rows.star must be a mapping, got 3"),
        ({"rows": {"Random": {}}}, "random and Random are one folder where case"),
        ({"rows": ["star"]}, "needs rows, a mapping"),
    ],
)
def test_rows_of_another_table_that_are_refused(write: Any, changed: Any, said: str) -> None:
    write().rename("tables/shared.yaml")
    write(rows_of="shared.yaml").rename("tables/taker.yaml")
    with pytest.raises(InputError, match=said):
        table_file.read_table(write({**SMALL, "rows": None, "rows_of": "shared.yaml", **changed}))


@pytest.mark.parametrize(
    "text, said",
    [
        ("- 1", "must be a mapping"),
        ("a: [", "is not YAML"),
        ("rows: 1\nrows: 2", "stands there twice"),
    ],
)
def test_files_that_are_none(write: Any, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        table_file.read_table(write(text))
    with pytest.raises(InputError, match="cannot be read: No such file"):
        table_file.read_table("absent.yaml")


def test_unknown_names_and_settings_name_the_cell(write: Any) -> None:
    table = table_file.read_table(write())
    with pytest.raises(InputError, match="--rows: no 'starr'; did you mean 'star'"):
        grid.cells(table, rows=["starr"])
    with pytest.raises(InputError, match="--columns: no 'x'"):
        grid.cells(table, columns=["x"])
    [cell] = grid.cells(table, rows=["random"], columns=["one"], seeds=[0], words=["pool.sise=3"])
    with pytest.raises(InputError, match=r"cell small/one/random/seed0: .*pool\.sise"):
        cell.load(Path("out"))


# --- the shipped tables ------------------------------------------------------------------------


def test_every_table_is_shipped_at_three_sizes() -> None:
    # Two try out and report nothing, one has one family's answers read in two ways, three are of
    # the families alone. The probes come in two sizes, and so do the studies of texts with classes.
    alone = {"tuning", "continuation", "extraction", "families", "strategies", "upper_bound"}
    names = {path.stem for path in TABLES} - alone
    kinds = ("main", "ablation", "sensitivity", "deviations")
    sizes = {k + size for k in kinds for size in ("", "_smollm2", "_paper")}
    probes = {"probes", "probes_smollm2"}
    studies = {"sst2_study", "sst2_study_roberta", "emotion", "emotion_bert", "emotion_study"}
    assert names == sizes | probes | studies


def test_table_strategies_has_every_strategy() -> None:
    rows = table_file.read_table(ROOT / "configs/tables/strategies.yaml").rows
    chosen = {word.partition("=")[2] for row in rows for word in row.settings if "select=" in word}
    # Rows that name no other take the first; the second reads labels, and has table upper_bound.
    assert chosen == {*STRATEGIES} - {"top_k", "lookahead"}


@pytest.mark.parametrize(
    "path",
    # Reading some twenty configurations takes seconds: the usual table by default.
    [pytest.param(p, marks=() if p.stem == "main" else pytest.mark.slow) for p in TABLES],
    ids=lambda path: path.stem,
)
def test_shipped_tables_are_valid_and_no_two_rows_alike(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    table = table_file.read_table(path)
    found: dict[tuple[str, str], str] = {}
    ends: dict[str, int] = {}
    for cell in grid.cells(table, seeds=[0]):
        config = cell.load(Path("runs"))
        key = (cell.column, config_hash(config))
        assert key not in found, f"{cell.name} is {found[key]}"
        found[key] = cell.name
        # Rows of a column end at as many labels, whatever their queries: curves can be compared.
        row = next(row for row in table.rows if row.name == cell.row)
        if row.curve:
            end = config.pool.initial_size + (config.pool.rounds - 1) * config.pool.query_size
            assert ends.setdefault(cell.column, end) == end


@pytest.mark.slow  # twenty configurations, as above
def test_a_deviation_differs_from_what_it_is_compared_with_in_one_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    table = table_file.read_table("configs/tables/deviations.yaml")
    made = {c.row: c.load(Path("runs")) for c in grid.cells(table, seeds=[0])}
    for row in table.rows:
        usual = {"released-no-space": "released"}.get(row.name, table.baseline)
        other = next(iter(row.naive), usual)
        differing = [
            key
            for key, _ in fields_of(Config)
            if key != "run_name" and get(made[row.name], key) != get(made[other], key)
        ]
        # Presets differ in many.
        if row.name not in (table.baseline, "paper", "released"):
            assert len(differing) == 1, (row.name, differing)


def test_the_naive_counterpart_has_none_of_the_parts_and_scores_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    table = table_file.read_table("configs/tables/main.yaml")
    cells = {(c.column, c.row): c.load(Path("runs")) for c in grid.cells(table, seeds=[0])}
    compared = []
    for row in filter(lambda row: row.naive, table.rows):
        for column in (c.name for c in table.columns if (c.name, row.name) in cells):
            other = next(name for name in row.naive if (column, name) in cells)
            compared.append((column, row.name, other))
            star, naive = cells[column, row.name], cells[column, other]
            choices = is_choice(star.task)
            scored = {scored_continuation(c.acquisition, choices) for c in (star, naive)}
            assert len(scored) == 1, (column, row.name, scored)
            assert star.acquisition.combine == "dynamic" and naive.acquisition.combine == "none"
            assert star.acquisition.mc_dropout.passes and not naive.acquisition.mc_dropout.passes
            assert star.regularizer.kind != "none" and naive.regularizer.kind == "none"
            same = dataclasses.replace(
                star,
                run_name=naive.run_name,
                regularizer=naive.regularizer,
                acquisition=dataclasses.replace(
                    star.acquisition,
                    combine="none",
                    continuation=naive.acquisition.continuation,
                    mc_dropout=naive.acquisition.mc_dropout,
                ),
            )
            assert same == naive
    assert ("arithmetic", "star-pe", "pe-same") in compared
    assert ("choice", "star-pe", "pe") in compared and (
        "choice",
        "star-pe-own",
        "pe",
    ) not in compared


def test_a_seeded_pool_is_as_large_as_the_whole_pools_row_takes() -> None:
    table = table_file.read_table(ROOT / "configs/tables/main.yaml")
    settings = dict(word.split("=") for row in table.rows for word in row.settings)
    assert int(settings["pool.initial_size"]) == POOL_SIZE
    for name in ("arithmetic", "truefalse", "choice"):
        for seed in table.seeds:
            counts = tasks.load(TaskConfig(name=name, draw="seeded"), seed=seed).counts
            assert counts["pool"] == POOL_SIZE

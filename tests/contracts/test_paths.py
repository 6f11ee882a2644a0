"""A name is no path: what stands in a configuration or a file as a name leads to no other folder.

Every text key of the schema is one of three kinds, and a new one has to be put down here: a path
the user chooses, a name that becomes part of a path or an address, or a text that never does.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import runs
from hypothesis import given, settings
from hypothesis import strategies as st

from star import checksums
from star.active_learning.export import export
from star.active_learning.run_names import folder_of
from star.config import Config, fields_of, load
from star.data.reading import check_hub_id
from star.errors import InputError
from star.experiments.table_file import read_table
from star.models.sources import ASSETS, resolve
from star.names import device, inside, plain

PATHS = {
    *("model.name_or_path", "acquisition.embeddings", "task.data_dir", "output_dir"),
    *("tracking.cache_dir", "tracking.first_rounds"),
}
NAMES = {"run_name", "task.test_split", "task.revision", "model.revision", "task.hub_id"}
TEXTS = {
    *("model.device", "task.prompt", "task.columns", "task.choices", "task.verbalizer"),
    *("acquisition.strategy", "acquisition.name", "evaluation.views", "annotation.masking"),
    "tracking.log_with",
}
LEADS_OUT = (
    *("..", "../x", "/x", "a/../../x", "a/..", "..\\x", "a\\..\\..\\x", "C:\\x", "C:x", "\\x"),
    *("\\\\host\\share\\x", "//host/share/x"),
)
DEVICES = ("NUL", "con.txt", "a/COM1", "aux.tar.gz", "prn ", "LPT9")
OTHERS = {"model.revision": ["model.name_or_path=owner/name"], "task.hub_id": []}
CLASSES = ["task.name=classification", "task.choices=[a,b]"]


def test_every_text_of_the_schema_is_of_a_kind() -> None:
    keys = {key for key, item in fields_of(Config) if "str" in str(item.type)}
    keys -= {key for key, item in fields_of(Config) if "Literal" in str(item.type)}
    assert keys == PATHS | NAMES | TEXTS
    assert not (PATHS & NAMES or PATHS & TEXTS or NAMES & TEXTS)


def refused(key: str, value: str) -> str:
    """Return what is said of a name, in a configuration or by the first that uses it."""
    with pytest.raises(InputError) as error:
        if key == "task.hub_id":
            load(None, [*CLASSES, f"{key}={value}"])
            check_hub_id(value)
        folder_of(load(None, [*OTHERS.get(key, []), f"{key}={value}"]))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("key", sorted(NAMES))
def test_a_name_that_leads_out_is_refused(key: str) -> None:
    for value in LEADS_OUT:
        told = refused(key, value)
        assert key in told or (key == "task.hub_id" and "OWNER/NAME" in told)


@pytest.mark.parametrize("key", sorted(PATHS | NAMES | TEXTS))
@pytest.mark.parametrize("value", ["a\0b", "a\udcffb"])
def test_no_text_has_a_nul_or_half_a_character(key: str, value: str) -> None:
    with pytest.raises(InputError) as error:
        load(None, [f"{key}={value}"])
    assert str(error.value).isprintable()


@pytest.mark.parametrize("key", ["run_name", "acquisition.name", "task.test_split"])
def test_a_device_of_windows_is_no_folder(key: str) -> None:
    for value in DEVICES:
        assert key in refused(key, value)


@pytest.mark.parametrize("value", ["a", "a/b", "..a", "a..b/c", "console", "nul1", "com", "é"])
def test_names_that_stay(value: str) -> None:
    folder = folder_of(load(None, [f"run_name={value}", "output_dir=runs"]))
    assert folder == Path("runs") / value


@settings(max_examples=40)
@given(st.sampled_from([*LEADS_OUT, "...", "~", "a:b", "."]) | st.text(min_size=1, max_size=8))
def test_what_a_strategy_is_called_leads_nowhere(name: str) -> None:
    try:
        config = load(None, [f"acquisition.name={json.dumps(name)}", "output_dir=runs"])
        folder = folder_of(config)
    except InputError as error:
        assert "\n" not in str(error)
        return
    below = folder.relative_to("runs")
    assert len(below.parts) == 3 and all(map(plain, below.parts))


@given(st.lists(st.sampled_from(["a", "..", ".", "", "C:", "é"]), min_size=1, max_size=5))
def test_what_is_inside_is_below(parts: list[str]) -> None:
    for name in ("/".join(parts), "\\".join(parts)):
        if inside(name):
            place = os.path.normpath(os.path.join("/root/here", name.replace("\\", "/")))
            assert place == "/root/here" or place.startswith("/root/here/")
        assert not plain(name) or inside(name)


def test_devices() -> None:
    assert device("a/NuL.txt/b") == "NuL.txt"
    assert device("null/com10/a.nul") is None


@pytest.mark.parametrize("name", ["embedded://", "package://peft/"])
@pytest.mark.parametrize("kind", ["up", "absolute"])
def test_an_address_of_a_model_leads_into_its_package(name: str, kind: str, tmp_path: Path) -> None:
    shutil.copytree(ASSETS / "tiny", tmp_path / "model")
    place = str(tmp_path / "model")
    if kind == "up":
        place = "../" * 30 + place.lstrip("/")
    with pytest.raises(InputError, match=r"no embedded model|no such GGUF file"):
        resolve(load(None, [f"model.name_or_path={name}{place}"]).model, tmp_path / "cache")


def test_a_folder_here_is_not_read_for_a_set_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.write_data(tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="there is a folder of that name here"):
        check_hub_id("owner/name")


@pytest.mark.parametrize("part", ["rows", "columns"])
@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "..", ".a", "a b", "C:x", "a\\b"])
def test_a_row_or_column_of_a_table_is_a_plain_name(part: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("seed: 0\n")
    table = {"columns": {"a": {"config": "c.yaml"}}, "rows": {"b": {}}}
    table[part] = {name: next(iter(table[part].values()))}
    (tmp_path / "t.yaml").write_text(json.dumps(table))
    with pytest.raises(InputError, match="is not a plain name"):
        read_table(tmp_path / "t.yaml")


def test_checksums_name_files_of_their_folder(tmp_path: Path) -> None:
    place = tmp_path / "rounds" / "00"
    place.mkdir(parents=True)
    (tmp_path / "secret").write_text("a")
    sum_ = checksums.digest(tmp_path / "secret")
    for name in ("../../secret", str(tmp_path / "secret")):
        (place / checksums.NAME).write_text(json.dumps({"files": {name: sum_}}))
        with pytest.raises(InputError, match="does not hold checksums"):
            checksums.check_round(place, adapters=True)


def test_an_export_follows_no_link(tiny_llama: Path, tmp_path: Path) -> None:
    """It writes into a folder that it makes: not through a link, to what is there or is not."""
    quick = ("pool.rounds=1", "acquisition.select=random", "tracking.save_adapters=last")
    data = runs.write_data(tmp_path / "data")
    run = runs.go(tiny_llama, data, tmp_path / "runs", *quick, "evaluation.views=[full]")
    full = tmp_path / "full"
    full.mkdir()
    (full / "config.json").write_text("mine")
    for name, target in (("a", full), ("b", tmp_path / "gone"), ("c", full / "config.json")):
        (tmp_path / name).symlink_to(target)
        with pytest.raises(InputError, match="cannot write"):
            export(run, str(tmp_path / name), merge=False)
    assert [path.name for path in full.iterdir()] == ["config.json"]
    assert (full / "config.json").read_text() == "mine" and not (tmp_path / "gone").exists()
    export(run, str(tmp_path / "out"), merge=False)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_symlink()]

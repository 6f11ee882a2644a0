"""Rows from the Hub, in place of which stands what `datasets` returns and raises."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from star.config import TaskConfig
from star.data import loading as tasks
from star.data.reading import read_hub
from star.errors import InputError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB_ROWS = {
    "gsm8k": {"question": "q{}", "answer": "1 + 1 = 2\n#### 2"},
    "boolq": {"question": "q{}", "answer": False, "passage": "p"},
    "openbookqa": {
        "question_stem": "q{}",
        "choices": {"label": ["A", "B", "C", "D"], "text": ["a", "b", "c", "d"]},
        "answerKey": "C",
    },
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The Hub's answer (`rows`, or an `error` to raise) and the `calls` that asked for it."""
    import datasets

    state = SimpleNamespace(calls=[], rows=[], names=None, error=None)

    def load_dataset(path: str, name: str | None, *, revision: str, split: str) -> Any:
        state.calls.append((path, name, revision, split))
        if state.error is not None:
            raise state.error
        table = datasets.Dataset.from_list(state.rows)
        if state.names is not None:  # numbers, and what they mean
            table = table.cast_column("label", datasets.ClassLabel(names=state.names))
        file = f"hf://datasets/{path}@{COMMIT}/main/train.parquet"
        table.info.download_checksums = {file: {"num_bytes": 1, "checksum": None}}
        return table

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return state


@pytest.mark.parametrize(
    ("name", "hub_id", "hub_config", "test_split", "gold"),
    [
        ("gsm8k", "openai/gsm8k", "main", "test", "2"),
        ("boolq", "google/boolq", None, "validation", "false"),
        ("openbookqa", "allenai/openbookqa", "main", "test", "C"),
    ],
)
def test_hub_rows(
    hub: SimpleNamespace,
    name: str,
    hub_id: str,
    hub_config: str | None,
    test_split: str,
    gold: str,
) -> None:
    row = HUB_ROWS[name]
    column = "question" if "question" in row else "question_stem"
    hub.rows = [{**row, column: f"q{number}"} for number in range(3)]
    config = TaskConfig(name=name, pool_limit=2, test_limit=9)  # type: ignore[arg-type]
    data = tasks.load(config)
    assert hub.calls == [
        (hub_id, hub_config, "main", "train"),
        (hub_id, hub_config, "main", test_split),
    ]
    assert (len(data.pool), len(data.test)) == (2, 3)
    assert data.pool.answers[0].gold == gold
    assert data.source["test"] == {
        "hub_id": hub_id,
        "hub_config": hub_config,
        "split": test_split,
        "revision": COMMIT,
    }
    tasks.load(TaskConfig(name=name, revision="v2"))  # type: ignore[arg-type]
    assert hub.calls[-1][2] == "v2"


def test_classes_that_the_hub_stores_as_numbers_have_their_names(hub: SimpleNamespace) -> None:
    hub.rows = [{"text": f"t{number}", "label": number % 2} for number in range(4)]
    hub.names = ["yes", "no"]
    data = tasks.load(TaskConfig(name="classification", hub_id="some/set:en", test_limit=2))
    assert hub.calls[0] == ("some/set", "en", "main", "train")
    assert [answer.gold for answer in data.pool.answers] == ["yes", "no", "yes", "no"]
    hub.rows, hub.names = [{"sentence": "s", "label": -1}], ["negative", "positive"]
    with pytest.raises(InputError, match=r"stanfordnlp/sst2, split train, row 0 .*not public"):
        tasks.load(TaskConfig(name="sst2"))


def test_hub_rows_without_a_column(hub: SimpleNamespace) -> None:
    hub.rows = [{"query": "q", "answer": "#### 2"}]
    with pytest.raises(InputError, match=r"openai/gsm8k, split train, row 0 .*has: query, answer"):
        tasks.load(TaskConfig(name="gsm8k"))


def test_hub_errors_say_what_to_do(hub: SimpleNamespace) -> None:
    from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

    cases: list[tuple[Exception, list[str]]] = [
        (
            DatasetNotFoundError("Dataset 'o/d' is a gated dataset on the Hub."),
            ["accept its terms at https://huggingface.co/datasets/o/d", "HF_TOKEN"],
        ),
        (
            DatasetNotFoundError("Revision 'v9' doesn't exist for dataset 'o/d' on the Hub."),
            ["Revision 'v9'", "check task.revision"],
        ),
        (
            ConnectionError("Couldn't reach 'o/d' on the Hub (ConnectError)"),
            ["Couldn't reach", "HF_HUB_OFFLINE", "task.data_dir"],
        ),
        (ValueError("Unknown split \"x\". Should be one of ['test']."), ["Should be one of"]),
        (DatasetGenerationError("An error occurred\nwhile"), ["cannot be had"]),
    ]
    for hub.error, words in cases:
        with pytest.raises(InputError) as error:
            read_hub("o/d", None, revision="main", split="train")
        message = str(error.value)
        assert "\n" not in message
        assert message.startswith("Hub data set o/d")
        assert all(word in message for word in words)


def test_an_empty_hub_split(hub: SimpleNamespace) -> None:
    with pytest.raises(InputError, match="split train holds no rows"):
        read_hub("o/d", None, revision="main", split="train")


def test_the_call_of_load_dataset_is_a_valid_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"question": "a", "answer": "x"}, {"question": "b", "answer": "y"}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "train.jsonl").write_text(text, encoding="utf-8")
    table = read_hub(str(tmp_path), None, revision="main", split="train")
    assert [dict(row) for row in table.rows] == rows
    with pytest.raises(InputError, match='Unknown split "absent"'):
        read_hub(str(tmp_path), None, revision="main", split="absent")

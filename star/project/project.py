"""A project: a run folder whose labels are people's, and what can be asked of it without a model.

::

    config.yaml  environment.json  initial.json  rounds/NN/  result.json     as of every run
    data/train.jsonl       the rows with the user's own ids; data/test.jsonl where a test was given
    decisions.jsonl        the journal: every decision, with who and when
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from star.active_learning.open_query import Query, open_query
from star.active_learning.people import Decided, decided, ids_of, offered, selling
from star.active_learning.run_checks import check_run
from star.active_learning.run_reader import RunReader
from star.annotation.journal import Entry, Journal
from star.annotation.masking import masker
from star.annotation.records import Item, Suggestion
from star.config import Config, load
from star.data import loading as tasks
from star.data.loading import TaskData
from star.data.task import Example
from star.errors import InputError, unified
from star.files import read_npz
from star.run_files import CONFIG, DATA, JOURNAL

DATA_ANNOTATOR = "data"
"""Whose decisions the labels are that the rows came with."""


def annotator_of(name: str) -> str:
    """Return an annotator's name in one form, so that nobody counts as two.

    Raises:
        InputError: It is empty, long, not printable, or that of the rows' own labels.
    """
    whole = unified(name)
    if not whole or len(whole) > 80 or not whole.isprintable():
        raise InputError(f"a name must have 1 to 80 printable characters, got {name!a:.60}")
    if whole == DATA_ANNOTATOR:
        raise InputError(f"{whole!r} is who the labels are by that the rows came with")
    return whole


@dataclass(frozen=True)
class Project:
    """A project folder, to be asked; only the journal is ever added to.

    Attributes:
        path: The folder.
        config: Of its run, with the folder as it is called now.
    """

    path: Path
    config: Config

    @classmethod
    def of(cls, path: str | Path, overrides: Sequence[str] = ()) -> Project:
        """Return the project in a folder.

        Args:
            path: The folder.
            overrides: ``key=value`` words, of ``annotation`` and ``tracking`` alone.

        Raises:
            InputError: No project, a damaged one, or a word that would make another run of it.
        """
        folder = Path(path)
        if not (folder / CONFIG).is_file():
            raise InputError(f"{folder} is no project: it has no {CONFIG}; star init makes one")
        check_run(folder)
        for word in overrides:
            if not word.startswith(("annotation.", "tracking.")):
                raise InputError(
                    f"a project's settings were fixed by star init, but for annotation.* and "
                    f"tracking.*, got {word!r:.80}; make another project"
                )
        config = load(folder / CONFIG, overrides)
        if config.task.oracle != "people":
            raise InputError(
                f"{folder} is a run whose labels are the data's; star init makes projects"
            )
        place = folder.resolve()
        task = replace(config.task, data_dir=str(place / DATA))
        config = replace(config, output_dir=str(place.parent), run_name=place.name, task=task)
        return cls(folder, config)

    @cached_property
    def run(self) -> RunReader:
        """The folder as a run's."""
        return RunReader(self.path)

    @cached_property
    def journal(self) -> Journal:
        """Every decision."""
        return Journal(self.path / JOURNAL)

    @cached_property
    def data(self) -> TaskData:
        """The rows, without answers."""
        return tasks.load(self.config.task, seed=self.config.seed)

    @cached_property
    def ids(self) -> list[str]:
        """Id of each stored row, by its pool index."""
        return ids_of(self.config)

    @cached_property
    def items(self) -> dict[str, Item]:
        """Id → row as people see it, of all rows that can be decided about."""
        options = self.data.task.labels or ()
        return {
            self.ids[e.index]: Item(self.ids[e.index], self.masked(e.prompt), options)
            for e in sorted(offered(self.data), key=lambda e: e.index)
        }

    @cached_property
    def masked(self) -> Callable[[str], str]:
        """What masks a text before anybody sees it."""
        how = self.config.annotation.masking
        if how is None:
            return str
        mask = masker(None if how == "patterns" else how)
        return lambda text: mask(text).text

    def entries(self) -> list[Entry]:
        """Return the journal's entries, oldest first."""
        return self.journal.entries()

    def decided(self) -> Decided:
        """Return what the decisions come to now."""
        return self.fold(self.entries())

    def fold(self, entries: Sequence[Entry]) -> Decided:
        """Return what entries of the journal come to, oldest first."""
        return decided(entries, self.ids, self.data, self.config.annotation.resolve)

    def query(self, decided: Decided | None = None, *, force: bool = False) -> Query:
        """Return what people are asked.

        Args:
            decided: What their decisions come to; ``None``: now.
            force: One new label is enough for the next training.
        """
        config = self.config
        if force:
            config = replace(config, annotation=replace(config.annotation, min_new_labels=1))
        oracle = selling(config, self.run, self.data, decided or self.decided())
        return open_query(config, self.run, self.data, oracle)

    def scored(self, indices: Sequence[int], suggest: bool = False) -> list[Item]:
        """Return rows as people see them, with the scores they were chosen by where there are some.

        Args:
            indices: Pool indices.
            suggest: With the answer of the last round's model, which is loaded for it.

        Raises:
            InputError: There is no model yet.
        """
        scores = self._scores()
        items = [
            replace(self.items[self.ids[i]], scores={"score": scores[i]} if i in scores else {})
            for i in indices
        ]
        if not suggest or not items:
            return items
        examples = {e.index: e for e in offered(self.data)}
        given = _suggested(self.path, [examples[i] for i in indices], self.masked)
        return [replace(i, suggestion=s) for i, s in zip(items, given, strict=True)]

    def _scores(self) -> dict[int, float]:
        """Return the scores that the open query was decided by, where there are some."""
        last = self.run.complete_rounds() - 1
        if last < 0 or not self.run.scores(last).is_file():
            return {}
        arrays = read_npz(self.run.scores(last))
        return dict(zip(arrays["index"].tolist(), arrays["blended"].tolist(), strict=True))


def _suggested(
    run: Path, examples: Sequence[Example], masked: Callable[[str], str]
) -> list[Suggestion | None]:
    """Return what the last model answers, free texts masked; ``None``: nothing.

    Raises:
        InputError: No round has kept its adapter.
    """
    from star.active_learning.predictor import Predictor  # late: torch
    from star.active_learning.trained_run import TrainedRun

    with Predictor.of(TrainedRun.of(run)) as predictor:
        rows = predictor.predict(examples)
    return [
        Suggestion(row["label"], row["probability"])
        if row.get("label")
        else Suggestion(masked(row["answer"]))
        if row.get("answer")
        else None
        for row in rows
    ]

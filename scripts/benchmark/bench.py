"""What the benchmark measures on: a model, rows and questions, and sides timed in turn."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import Any

import torch

from benchmark import baselines as slow
from benchmark import timing
from benchmark.lines import Side
from benchmark.models import load_model, random_model
from benchmark.timing import Work
from benchmark.training import BATCH, TUNE_UPDATES, Tuned, tune
from star import seeding
from star.config import AdapterConfig, TaskConfig
from star.data import loading as tasks
from star.data.task import Answer, Example
from star.errors import InputError
from star.experiments.estimate.shapes import shape_of
from star.models import adapter
from star.models.batching import Batching
from star.models.encoding import TokenRow
from star.models.reading import DTYPES
from star.models.truncation import Limits, encode_rows

Question = tuple[Example, Answer]

STAND_INS = {"gsm8k": "arithmetic", "boolq": "truefalse", "openbookqa": "choice"}
POOL_LIMIT = 2000  # rows of a train split that the measured ones are picked from
ASKED = 24  # questions asked after fine-tuning; those whose answers stop are measured
UNADAPTED = ("bare", "products")  # sides that see no adapter


class Bench:
    """Model and rows of one run of the benchmark, and what was timed so far."""

    def __init__(self, options: argparse.Namespace, names: Sequence[str]) -> None:
        self.options, self.names = options, names
        self.model = random_model(options) if options.random_weights else load_model(options)
        self.model.batching = Batching(options.batch_size)
        self.shape = shape_of(self.model.causal, AdapterConfig())
        self.dtype = DTYPES[options.dtype]
        self.products = timing.Products(self.model.device, self.dtype)
        new = min(slow.NEW_TOKENS, self.model.max_length // 2)
        self.limits = Limits(max_new_tokens=new)
        self._data: dict[str, tasks.TaskData] = {}
        self.scored: dict[str, dict[str, Side]] = {}  # a task's sides, by name

    def data(self, task: str) -> tasks.TaskData:
        """Return a task's rows: stored ones, or those of its stand-in."""
        if task not in self._data:
            folder = self.options.data_dir
            self._data[task] = tasks.load(
                TaskConfig(
                    name=STAND_INS[task] if folder is None else task,  # type: ignore[arg-type]
                    data_dir=None if folder is None else str(folder / task),
                    pool_limit=POOL_LIMIT,
                    test_limit=max(self.options.rows, ASKED),
                )
            )
        return self._data[task]

    def rows(self, task: str, count: int, *, eos: bool = False) -> list[TokenRow]:
        """Return rows with their gold answers, evenly spaced in the order of their lengths."""
        pool = self.data(task).pool
        targets = [answer.target for answer in pool.answers]
        found = encode_rows(self.model, pool.examples, targets, eos=eos).rows
        # What is longer than the padding of the baseline cannot be compared with it.
        found = [row for row in found if len(row) <= slow.padded_width(self.model)]
        found.sort(key=lambda row: (len(row), row.index))
        if count > len(found):
            raise InputError(f"{task} has {len(found)} rows to measure on, asked for {count}")
        return [found[int((i + 0.5) * len(found) / count)] for i in range(count)]

    def questions(self, task: str) -> list[Question]:
        """Return test questions with their answers, ``--rows`` or ``--questions`` of them.

        Of ``gsm8k`` those whose answers stop, ``--questions`` at most.
        """
        test = self.data(task).test
        every = list(zip(test.examples, test.answers, strict=True))
        if task == "gsm8k":
            return [every[i] for i in self.tuned.stopping][: self.options.questions]
        if len(every) < self.options.rows:
            raise InputError(f"{task} has {len(every)} test rows, asked for {self.options.rows}")
        return every[: self.options.rows]

    @cached_property
    def tuned(self) -> Tuned:
        """The adapter after a short fine-tuning on GSM8K, and the questions whose answers stop."""
        rows = self.rows("gsm8k", TUNE_UPDATES * BATCH, eos=True)
        asked = self.data("gsm8k").test.examples[:ASKED]
        return tune(self.model, rows, asked, self.limits)

    @contextmanager
    def adapted(
        self, state: Mapping[str, Any] | None = None, *, dropout: float = 0.1
    ) -> Iterator[Any]:
        """Yield the model with an adapter: of this state, or with a little noise in every B."""
        config = AdapterConfig(lora_dropout=dropout)
        with adapter.fresh(self.model, config, seed=0, round_=0) as adapted:
            stream = seeding.generator(0, "benchmark")
            for _, layer in adapter.layers(adapted):
                weight = layer.lora_B[adapter.NAME].weight
                weight.data.copy_(0.02 * torch.randn(weight.shape, generator=stream))
            adapted.load_state_dict(dict(state or {}), strict=False)
            yield adapted

    def time(
        self,
        sides: Mapping[str, Work],
        items: Sequence[Any],
        *,
        state: Mapping[str, Any] | None = None,
        dropout: float = 0.1,
    ) -> dict[str, tuple[list[float], Any]]:
        """Return each side's seconds and last result; all start from the same adapter."""

        def setup(name: str) -> AbstractContextManager[Any]:
            return nullcontext() if name in UNADAPTED else self.adapted(state, dropout=dropout)

        repeats, device = self.options.repeats, self.model.device
        return timing.in_turn(sides, setup, items, repeats=repeats, device=device)

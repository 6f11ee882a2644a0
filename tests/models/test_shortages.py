"""Where memory is short, batches are halved: said, noted in the run folder, the numbers stay."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
import tiny
import torch
from peft import PeftModel

from star.cli.main import main
from star.config import RegularizerConfig, TrainConfig
from star.errors import InputError
from star.files import read_json
from star.models import adapter, likelihood, training
from star.models import loading as models
from star.models.batching import Batching
from star.models.embedding import embed
from star.models.generation import generate_scored
from star.models.language_model import LanguageModel
from star.models.shortages import Shortages
from star.models.unfinished import Phase, Unfinished

ROWS = tiny.random_rows(12, seed=5)
CUDA = "CUDA out of memory. Tried to allocate 2 GiB"


# --- batches of places ----------------------------------------------------------------------------


def fits(tokens: int, lengths: list[int], shortages: Shortages) -> list[list[int]]:
    """Return the batches that get through where more than so many tokens are out of memory."""
    through = []

    def work(batch: list[int]) -> int:
        if len(batch) * lengths[batch[0]] > tokens:
            raise torch.OutOfMemoryError(CUDA)
        through.append(batch)
        return len(batch)

    batches = [list(range(start, start + 8)) for start in range(0, len(lengths), 8)]
    made = shortages.halving(batches, work, lengths, kind="score full")
    assert list(made) == [len(batch) for batch in through]
    return through


def test_a_batch_that_does_not_fit_is_halved_and_it_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shortages = Shortages()
    with caplog.at_level(logging.WARNING):
        through = fits(35, [10] * 8 + [5] * 8 + [2] * 8, shortages)
    assert [place for batch in through for place in batch] == list(range(24))
    # Short rows are as many as before, where they fit.
    assert [*map(len, through)] == [2] * 4 + [4] * 2 + [8]
    # Said once a halving: the batches behind it are cut before they fail.
    assert caplog.messages == [
        "out of memory with 8 rows of 10 tokens (score full); going on with at most 40 tokens in "
        "a batch",
        "out of memory with 4 rows of 10 tokens (score full); going on with at most 20 tokens in "
        "a batch",
    ]
    assert shortages.take() == {"score full": {"tokens": 20}} and not shortages.take()
    caplog.clear()
    assert len(fits(80, [10] * 24, shortages)) == 3 and not caplog.records
    assert not shortages.take()


def test_what_halving_cannot_help_is_raised() -> None:
    with pytest.raises(InputError, match=r"a single row of 10 tokens .*model\.dtype"):
        fits(9, [10] * 8, Shortages())

    def broken(batch: list[int]) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        list(Shortages().halving([[1, 2]], broken, [1] * 3, kind="x"))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("of a back-end that says it otherwise"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_device_s_way_to_say_it(error: Exception) -> None:
    def work(batch: list[int]) -> list[int]:
        if len(batch) > 1:
            raise error
        return batch

    assert list(Shortages().halving([[0, 1]], work, [3, 2], kind="x")) == [[0], [1]]


# --- a model's own work ---------------------------------------------------------------------------


@contextmanager
def short(model: LanguageModel, tokens: int, *, gradient: bool) -> Iterator[list[int]]:
    """Let no forward pass have more tokens, with a gradient or without; collect what passes had."""
    seen: list[int] = []

    def limit(_: Any, inputs: tuple[torch.Tensor, ...], __: Any) -> None:
        if torch.is_grad_enabled() is gradient:
            if inputs[0].numel() > tokens:
                raise torch.OutOfMemoryError(CUDA)
            seen.append(inputs[0].numel())

    handle: Any = model.causal.get_input_embeddings().register_forward_hook(limit)  # type: ignore[operator]
    try:
        yield seen
    finally:
        handle.remove()


@pytest.fixture
def whole(model: LanguageModel) -> Iterator[LanguageModel]:
    """Return the model with all rows in one batch."""
    before = model.batching
    model.batching = Batching(rows=12)
    yield model
    model.batching = before


WORK: dict[str, Callable[[LanguageModel], Any]] = {
    "score": lambda model: likelihood.nll(model, ROWS),
    "embed": lambda model: embed(model, ROWS),
    "generate": lambda model: generate_scored(
        model, [row.prompt for row in ROWS], max_new_tokens=4
    )[1],
}


@pytest.mark.parametrize("kind", WORK)
def test_rows_give_what_they_give_at_once(
    kind: str, whole: LanguageModel, adapted: PeftModel
) -> None:
    expected = WORK[kind](whole)
    assert not whole.batching.shortages.take()
    with short(whole, 45, gradient=False) as seen:
        again = WORK[kind](whole)
    assert seen and again == pytest.approx(expected, rel=1e-5, abs=1e-6)
    [size] = whole.batching.shortages.take().values()
    assert max(seen) <= 45 and size["tokens"] > 0


# --- training -------------------------------------------------------------------------------------


def fit(model: LanguageModel, *, rows: int = 8, accumulated: int = 1, dropout: float = 0.0) -> Any:
    config = TrainConfig(
        learning_rate=0.01, per_device_train_batch_size=rows, max_steps=5,
        gradient_accumulation_steps=accumulated,
    )  # fmt: skip
    settings = replace(tiny.ADAPTER, lora_dropout=dropout)
    with adapter.fresh(model, settings, seed=0, round_=1) as adapted:
        result = training.fit(
            model, adapted, ROWS, config=config, regularizer=RegularizerConfig(), seed=0, round_=1
        )
        return result, {name: w.clone() for name, w in adapter.weights(adapted).items()}


def alike(one: Any, two: Any) -> None:
    for entry, other in zip(one[0].log, two[0].log, strict=True):
        assert entry == pytest.approx(other, rel=1e-5, abs=1e-7)
    for name, weight in one[1].items():
        torch.testing.assert_close(weight, two[1][name], rtol=1e-4, atol=1e-5)


def test_training_has_the_same_updates_in_smaller_passes(
    model: LanguageModel, caplog: pytest.LogCaptureFixture
) -> None:
    expected = fit(model)
    assert not model.batching.shortages.take()
    with short(model, 60, gradient=True) as seen, caplog.at_level(logging.WARNING):
        again = fit(model)
    assert max(seen) <= 60
    alike(again, expected)
    [message] = caplog.messages
    assert message.startswith("out of memory training on 8 rows in a forward pass; going on with 4")
    assert model.batching.shortages.take() == {"train": {"rows": 4}}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_an_update_begins_again_without_the_gradients_it_had(
    dropout: float, model: LanguageModel
) -> None:
    """Out of memory in the backward pass, when some gradients are there already."""
    # With dropout: as if so few rows had been asked for from the start.
    expected = fit(model, rows=2, accumulated=4, dropout=dropout)
    body: Any = model.causal
    count = 0

    def fail(_: Any, __: Any, output: torch.Tensor) -> None:
        nonlocal count
        if output.requires_grad:
            count += 1
            if count == 2:  # the second forward pass of the first update
                output.register_hook(broken)

    def broken(gradient: torch.Tensor) -> None:
        raise torch.OutOfMemoryError(CUDA)

    watched = body.model.layers[1].mlp.register_forward_hook(fail)
    try:
        again = fit(model, rows=4, accumulated=2, dropout=dropout)
    finally:
        watched.remove()
    assert count > 2
    alike(again, expected)
    assert model.batching.shortages.take() == {"train": {"rows": 2}}


def test_a_row_that_does_not_fit_is_refused(model: LanguageModel) -> None:
    with (
        short(model, 1, gradient=True),
        pytest.raises(InputError, match=r"a single row.*train\.gradient_checkpointing=true"),
    ):
        fit(model)
    assert model.batching.shortages.take() == {"train": {"rows": 1}}


def test_training_goes_on_with_as_few_rows(
    model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = model.batching
    model.batching = replace(before, unfinished=Unfinished(tmp_path / "kept", seconds=0.0))
    keep, kept = Phase.keep, 0

    def killing(phase: Phase, *args: Any, **options: Any) -> None:
        nonlocal kept
        keep(phase, *args, **options)
        kept += 1
        if kept == 2:
            raise KeyboardInterrupt

    try:
        with monkeypatch.context() as patch, short(model, 60, gradient=True):
            patch.setattr(Phase, "keep", killing)
            with pytest.raises(KeyboardInterrupt):
                fit(model, dropout=0.3)
        model.batching.shortages.take()
        again = fit(model, dropout=0.3)  # there would be room now
        assert model.batching.shortages.take() == {"train": {"rows": 4}}
    finally:
        model.batching = before
    with short(model, 60, gradient=True):
        expected = fit(model, dropout=0.3)
    assert again[0] == expected[0]
    assert all(torch.equal(weight, expected[1][name]) for name, weight in again[1].items())
    model.batching.shortages.take()


# --- a run ----------------------------------------------------------------------------------------


def test_a_run_says_it_where_its_rounds_are(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = runs.write_data(tmp_path / "data", pool=16, test=4)
    words = [
        *("pool.rounds=2", "train.per_device_train_batch_size=6", "adapter.lora_dropout=0"),
        *("run_name=it", "acquisition.mc_dropout.passes=0", "evaluation.views=[full]"),
    ]

    def go(name: str) -> Path:
        out = tmp_path / name
        own = f"tracking.cache_dir={out}/cache"  # base scores and round 0 are made anew
        assert main(["run", "-", *runs.words(tiny_llama, data, out, *words, own)]) == 0
        return out / "it"

    expected = go("whole")
    load = models.load

    def limited(*arguments: Any, **options: Any) -> LanguageModel:
        model = load(*arguments, **options)

        def limit(_: Any, inputs: tuple[torch.Tensor, ...], __: Any) -> None:
            if inputs[0].numel() > 90:
                raise torch.OutOfMemoryError(CUDA)

        model.causal.get_input_embeddings().register_forward_hook(limit)  # type: ignore[operator]
        return model

    monkeypatch.setattr(models, "load", limited)
    run = go("short")
    for t in (0, 1):
        one, other = (read_json(f / f"rounds/{t:02d}/metrics.json") for f in (run, expected))
        noted = one.pop("out_of_memory")
        assert noted["train"] == {"rows": 3} and (t == 1 or noted["score full"]["tokens"] > 0)
        assert "out_of_memory" not in other and one["tokens"] == other["tokens"]
        assert one["nll"] == pytest.approx(other["nll"], rel=1e-4)
    picks = "rounds/00/selected.json"
    assert (run / picks).read_bytes() == (expected / picks).read_bytes()
    scores = [np.load(f / "rounds/00/scores.npz")["blended"] for f in (run, expected)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)

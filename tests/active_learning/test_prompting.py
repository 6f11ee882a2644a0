"""Runs by a chat template and with examples shown: what is read, trained, scored, and reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import chatting
import numpy as np
import pytest
import runs
import torch

from star.active_learning.loop import run
from star.active_learning.predictor import predict
from star.active_learning.round_0 import key_of_round_0
from star.config import config_hash, load
from star.errors import InputError
from star.experiments.replay import replay
from star.models import training
from star.models.encoding import TokenRow

CHAT = "task.chat_template=true"
SHOTS = "task.num_fewshot=2"
HUES = ("red", "green", "blue")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chatting.write_model(tmp_path_factory.mktemp("chat"))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[list[TokenRow]]:
    """Give the rows of each training as they come."""
    rows: list[list[TokenRow]] = []
    fit = training.fit

    def keep(model: Any, adapted: Any, given: list[TokenRow], **more: Any) -> Any:
        rows.append(list(given))
        return fit(model, adapted, given, **more)

    monkeypatch.setattr(training, "fit", keep)
    return rows


def classes(folder: Path, count: int = 20) -> Path:
    rows = [{"text": f"tom has {i} eggs", "label": HUES[i % 3]} for i in range(count)]
    for split, part in (("train", rows[: count - 7]), ("test", rows[-7:])):
        text = "".join(json.dumps(row) + "\n" for row in part)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


def data(kind: str, folder: Path) -> list[str]:
    """Return the words of a task and where its rows are written, and of little work."""
    return [*task(kind, folder), "train.num_train_epochs=1", "acquisition.mc_dropout.passes=2"]


def task(kind: str, folder: Path) -> list[str]:
    if kind == "words":
        prompt = "task.prompt={text} is"
        return [f"task.data_dir={classes(folder)}", "task.name=classification", prompt]
    choices = list(runs.CHOICES) if kind == "choices" else []
    runs.write_data(folder, pool=18, test=3, choices=kind == "choices")
    return [f"task.data_dir={folder}", "evaluation.max_new_tokens=2", *choices]


def prompts(folder: Path) -> tuple[dict[int, str], dict[int, str]]:
    """Return the prompts and the answers of a train split of questions by their rows."""
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    asked = {i: f"{row['question']}\nAnswer:" for i, row in enumerate(rows)}
    return asked, {i: row["answer"] for i, row in enumerate(rows)}


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


@pytest.mark.parametrize("kind", ["words", "choices", "generated"])
def test_a_run_by_the_chat_template_goes_through_and_replays(
    model: Path, tmp_path: Path, kind: str, trained: list[list[TokenRow]]
) -> None:
    more = ("acquisition.combine=dynamic", CHAT, "pool.rounds=2", SHOTS)
    folder = runs.go(model, tmp_path, tmp_path / "runs", *data(kind, tmp_path), *more)
    assert runs.result(folder)["status"] == "done"
    [row] = replay(folder)
    assert row["overlap"] == 1.0
    tokenizer = chatting.tokenizer()
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    for rows in trained:
        for one in rows:
            assert one.continuation.count(end) == 1 and one.continuation[-1] == end
            text = tokenizer.decode(one.prompt)
            assert text.count("<|begin|>") == 1 and text.startswith("<|begin|>")
            assert text.count("<|im_start|>assistant") == 3  # two shots and the question
            assert text.endswith("<|im_start|>assistant\n")


def test_what_is_asked_afterwards_is_asked_alike(model: Path, tmp_path: Path) -> None:
    more = (CHAT, SHOTS, "pool.rounds=1", "acquisition.select=random", "evaluation.views=full")
    words = (*data("words", tmp_path), *more, "tracking.save_adapters=last")
    folder = runs.go(model, tmp_path, tmp_path / "runs", *words)
    lines = (folder / "rounds/00/predictions.jsonl").read_text().splitlines()
    noted = [json.loads(line) for line in lines]
    rows = [json.loads(line)["text"] for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    for row, was in zip(predict(folder, rows), noted, strict=True):
        assert row["label"] == was["prediction"]
        assert row["probability"] == pytest.approx(was["confidence"], rel=1e-4)


def test_what_is_trained_and_scored_are_the_templates_own_tokens(
    model: Path, tmp_path: Path, trained: list[list[TokenRow]]
) -> None:
    from transformers import AutoModelForCausalLM

    words = [*data("choices", tmp_path), CHAT, "acquisition.combine=dynamic", "pool.rounds=2"]
    folder = runs.go(model, tmp_path, tmp_path / "runs", *words)
    tokenizer = chatting.tokenizer()
    asked, answers = prompts(tmp_path)

    def ids(*texts: str, **how: Any) -> tuple[int, ...]:
        return tuple(tokenizer.apply_chat_template(turns(*texts), return_dict=False, **how))

    assert len(trained[0]) == 6 and len(trained[1]) == 11
    for row in trained[1]:
        own = ids(asked[row.index], answers[row.index])
        assert own == (*row.prompt, *row.continuation, *own[-1:])
        assert tokenizer.decode(own[-1:]) == "\n"
        assert row.prompt == ids(asked[row.index], add_generation_prompt=True)
    with np.load(folder / "rounds/00/scores.npz") as stored:
        index, base = stored["index"], stored["base_max_entropy"][:, 0]
    causal = AutoModelForCausalLM.from_pretrained(model)
    for i, score in list(zip(index, base, strict=True))[:5]:
        head = len(ids(asked[i], add_generation_prompt=True))
        sums = []
        for choice in ("true", "false"):
            whole = ids(asked[i], choice, continue_final_message=True)
            with torch.no_grad():
                logs = causal(torch.tensor([whole])).logits[0].double().log_softmax(-1)
            sums.append(sum(float(logs[j - 1, whole[j]]) for j in range(head, len(whole))))
        log_p = torch.tensor(sums).log_softmax(0)
        entropy = -float((log_p.exp() * log_p).sum())
        assert score == pytest.approx(entropy, rel=1e-3)


def test_shots_are_the_first_labels_in_every_round_and_for_every_strategy(
    model: Path, tmp_path: Path, trained: list[list[TokenRow]]
) -> None:
    words = [*data("generated", tmp_path), SHOTS, "pool.rounds=2", "evaluation.views=full"]
    random = runs.go(model, tmp_path, tmp_path / "runs", *words, "acquisition.select=random")
    scored = runs.go(model, tmp_path, tmp_path / "runs", *words)
    shown = [runs.read(path)["shots"] for run in (random, scored)
             for path in sorted(run.glob("rounds/*/metrics.json"))]  # fmt: skip
    assert len(shown) == 4 and all(one == shown[0] for one in shown) and len(shown[0]) == 2
    first = runs.read(random / "initial.json")["indices"]
    assert set(shown[0]) < set(first)
    asked, answers = prompts(tmp_path)
    tokenizer = chatting.tokenizer()
    text = {i: f"{asked[i]} {answers[i]}" for i in asked}
    before = "\n\n".join(text[i] for i in shown[0])
    for rows in trained:
        assert set(first) <= {row.index for row in rows}
        for row in rows:
            read = tokenizer.decode(row.prompt, skip_special_tokens=True)
            *others, own = read.split("\n\n")
            assert own == asked[row.index] and len(others) == 2
            assert text[row.index] not in others
            if row.index not in shown[0]:
                assert read == f"{before}\n\n{asked[row.index]}"
    assert runs.result(random)["rounds"][0]["labeled"] == 6  # shots are labels, and count once


@pytest.mark.slow
def test_shots_and_template_are_in_every_identity(model: Path, tmp_path: Path) -> None:
    words = runs.words(model, tmp_path, tmp_path / "runs", *data("generated", tmp_path))
    cache = tmp_path / "cache"
    ways = [(), (SHOTS,), ("task.num_fewshot=3",), (CHAT,), (CHAT, SHOTS)]
    made: dict[str, set[str]] = {"base": set(), "tested": set()}
    quick = ["pool.rounds=2", "train.max_steps=1", "evaluation.views=base,full"]
    for count, way in enumerate(ways, start=1):
        run(load(None, [*words, *quick, f"tracking.cache_dir={cache}", *way]))
        for part, names in made.items():
            names |= {path.name for path in (cache / part).iterdir()}
            assert len(names) == count, (part, way)
    configs = [load(None, [*words, *way]) for way in ways]
    assert len({key_of_round_0(config) for config in configs}) == len(ways)
    assert len({config_hash(config) for config in configs}) == len(ways)
    plain = load(None, [*words, "task.num_fewshot=0", "task.chat_template=false"])
    assert config_hash(plain) == config_hash(configs[0])


def test_shots_that_do_not_fit_are_left_out_whole_and_counted(
    model: Path, tmp_path: Path, trained: list[list[TokenRow]], caplog: pytest.LogCaptureFixture
) -> None:
    words = [*data("generated", tmp_path), "task.num_fewshot=6", "pool.rounds=1"]
    words += ["evaluation.max_new_tokens=260", "evaluation.views=full", "task.test_limit=1"]
    words += ["acquisition.select=random"]
    runs.go(model, tmp_path, tmp_path / "runs", *words)
    tokenizer = chatting.tokenizer()
    asked, answers = prompts(tmp_path)
    whole = {f"{asked[i]} {answers[i]}" for i in asked}
    counts = set()
    for row in trained[0]:
        *others, own = tokenizer.decode(row.prompt, skip_special_tokens=True).split("\n\n")
        assert own == asked[row.index] and set(others) <= whole
        assert len(row.prompt) <= 512 - 260
        counts.add(len(others))
    assert max(counts) < 5 and min(counts) > 0
    assert "pool: 18 of 18 questions are shown fewer examples than task.num_fewshot=6: 252 " in (
        caplog.text
    )
    with pytest.raises(InputError, match=r"row \d+ and 6 examples before it need more than 252"):
        runs.go(model, tmp_path, tmp_path / "runs", *words, "task.overlong=error")


@pytest.mark.parametrize("kind", ["words", "generated"])
@pytest.mark.parametrize("shots", [0, 3])
@pytest.mark.parametrize("chat", [False, True])
def test_rows_that_train_nothing(
    model: Path, tmp_path: Path, kind: str, shots: int, chat: bool
) -> None:
    more = ("train.max_steps=0", "pool.rounds=1", "acquisition.select=random")
    words = [*data(kind, tmp_path), f"task.num_fewshot={shots}", f"task.chat_template={chat}"]
    folder = runs.go(*(model, tmp_path, tmp_path / "runs", *words, "pool.initial_size=3", *more))
    [point] = runs.result(folder)["rounds"]
    metrics = runs.read(folder / "rounds/00/metrics.json")
    assert point["labeled"] == 3 and 0 <= point["accuracy"] <= 1
    assert metrics["training"]["updates"] == 0
    assert metrics.get("shots", []) == ([] if shots == 0 else metrics["shots"][:shots])
    assert len(metrics.get("shots", [])) == shots
    if kind == "generated":
        assert "per_class" not in metrics
        return
    assert point["macro_f1"] == metrics["macro_f1"]
    assert {name: row["count"] for name, row in metrics["per_class"].items()} == {
        "red": 2, "green": 3, "blue": 2}  # fmt: skip
    assert all(0 <= row["recall"] <= 1 for row in metrics["per_class"].values())
    assert sum(map(sum, metrics["confusion"])) == 7


@pytest.mark.parametrize(
    "words, message",
    [
        ((CHAT, "task.classify_by=head"), "chat_template=true asks an assistant .*classify_by="),
        ((CHAT, "task.trailing_space=prompt"), "set task.trailing_space=answer, got prompt"),
        ((CHAT, "train.loss_mask=released"), "set train.loss_mask=answer, got released"),
        ((SHOTS, "task.classify_by=head"), "num_fewshot=2 shows a language model examples"),
        ((SHOTS, "pool.initial_size=1"), "num_fewshot=2 examples are shown of the first pool.init"),
        (("task.num_fewshot=-1",), "task.num_fewshot must be at least 0"),
    ],
)
def test_what_contradicts_is_refused(words: tuple[str, ...], message: str) -> None:
    more = ["task.name=classification", "acquisition.combine=none", "evaluation.views=full"]
    with pytest.raises(InputError, match=message) as refused:
        load(None, [*more, *words])
    assert "\n" not in str(refused.value)


def test_a_model_without_a_template_is_refused_before_anything_is_scored(
    tiny_llama: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="has no chat template"):
        runs.go(tiny_llama, tmp_path, tmp_path / "runs", *data("generated", tmp_path), CHAT)
    assert not list(tmp_path.glob("runs/**/result.json"))

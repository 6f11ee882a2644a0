"""Pretrain the embedded tiny model and write it with its tokenizer and a log.

One LLaMA-architecture model serves the three generated families. It is trained from nothing on
their "pretrain" split: easy kinds and formal lessons with answers, hard kinds as questions without
answers. Sequences with an answer end in the end-of-sequence token.

    python scripts/pretrain_tiny.py --output star/models/assets/tiny
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from star.config import TaskConfig
from star.data.loading import TASKS
from star.data.task import Task
from star.data.tasks.embedded import families

ROW_SHARES = {"arithmetic": 0.22, "truefalse": 0.5, "choice": 0.28}
"""Part of the pretraining rows; worked solutions are learnt from fewer rows than bare labels."""

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"
PROMPT_WEIGHT = 0.02
"""Weight of a prompt token in the loss; names and numbers of a question can't be predicted."""


def build_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Return a word-level tokenizer of all words in ``texts`` and the numbers in range.

    A word carries the space before it, punctuation stands alone, so decoding restores the text.
    """
    tokenizer = Tokenizer(models.WordLevel({PAD: 0, EOS: 1, UNK: 2}, unk_token=UNK))
    tokenizer.normalizer = normalizers.Replace(Regex(r"\s+"), " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="always"),
            pre_tokenizers.Split(Regex(r"[.,:;?!)]"), "isolated"),
        ]
    )
    words = {word for text in texts for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)}
    words |= {f"▁{number}" for number in range(families.MAX_NUMBER + 1)}
    vocabulary = {word: index for index, word in enumerate([PAD, EOS, UNK, *sorted(words)])}
    tokenizer.model = models.WordLevel(vocabulary, unk_token=UNK)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )


def build_model(
    tokenizer: PreTrainedTokenizerFast, *, hidden: int, layers: int
) -> LlamaForCausalLM:
    """Return an untrained model of ``layers`` layers, ``hidden`` wide."""
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            initializer_range=hidden**-0.5,  # the default, 0.02, is for wide models: no attention
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.generation_config = transformers.GenerationConfig(
        do_sample=False,
        max_new_tokens=40,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model


def family(name: str) -> families.Family:
    """Return what makes the rows of a family."""
    found = TASKS[name].family
    assert found is not None
    return found


def pretraining_texts(rows: int) -> list[tuple[str, str]]:
    """Return ``rows`` (prompt, continuation) pairs; no continuation for language only."""
    pairs = []
    for name, share in ROW_SHARES.items():
        head, tail = TASKS[name].template.split("{question}")
        for row in family(name).pretraining_rows(round(rows * share)):
            question, answer = row["question"], row["answer"]
            pairs.append(
                (f"{head}{question}{tail}", f" {answer}") if answer else (head + question, "")
            )
    return pairs


def encode(
    tokenizer: PreTrainedTokenizerFast, pairs: list[tuple[str, str]]
) -> list[tuple[list[int], int]]:
    """Return (token ids, prompt length in tokens) of every pair."""
    prompts = tokenizer([prompt for prompt, _ in pairs])["input_ids"]
    targets = tokenizer([target for _, target in pairs])["input_ids"]
    return [
        (prompt + target + [tokenizer.eos_token_id] * bool(target), len(prompt))
        for prompt, target in zip(prompts, targets, strict=True)
    ]


def batches(
    data: list[tuple[list[int], int]], size: int, rng: Random
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield shuffled batches of similar lengths for ever: ids and loss weights, both [B, T]."""
    while True:
        order = rng.sample(range(len(data)), len(data))
        span = size * 32
        for start in range(0, len(order) - span + 1, span):
            window = sorted(order[start : start + span], key=lambda i: len(data[i][0]))
            starts = list(range(0, span, size))
            rng.shuffle(starts)
            for offset in starts:
                chosen = [data[i] for i in window[offset : offset + size]]
                width = max(len(ids) for ids, _ in chosen)
                ids = torch.zeros(len(chosen), width, dtype=torch.long)
                weights = torch.zeros(len(chosen), width)
                for row, (tokens, prompt) in enumerate(chosen):
                    ids[row, : len(tokens)] = torch.tensor(tokens)
                    weights[row, :prompt] = PROMPT_WEIGHT
                    weights[row, prompt : len(tokens)] = 1.0
                yield ids, weights


def train(
    model: LlamaForCausalLM,
    data: list[tuple[list[int], int]],
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    log: list[dict[str, float]],
) -> None:
    """Train in place: AdamW, warm-up, a plateau, a linear fall to zero. Appends to ``log``."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.05
    )
    warmup = min(300, steps // 10 + 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        # A long plateau: what the model learns last (looking up, comparing) comes all at once,
        # and late.
        lambda step: min((step + 1) / warmup, 1.0, (steps - step) / (0.3 * steps)),
    )
    model.train()
    begin, total, count = time.monotonic(), 0.0, 0
    stream = batches(data, batch_size, Random(f"{seed}/batches"))
    for step in range(1, steps + 1):
        ids, weights = next(stream)
        # Padding is on the right, where causal attention can't see it: no mask is needed.
        logits = model(input_ids=ids[:, :-1]).logits
        losses = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), ids[:, 1:], reduction="none"
        )
        loss = (losses * weights[:, 1:]).sum() / weights[:, 1:].sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        answers = (weights[:, 1:] == 1.0).float()
        if answers.sum() > 0:
            total += float((losses.detach() * answers).sum() / answers.sum())
            count += 1
        if step % 500 == 0 or step == steps:
            entry = {
                "step": step,
                "answer_loss_nats_per_token": round(total / max(1, count), 5),
                "seconds": round(time.monotonic() - begin, 1),
            }
            log.append(entry)
            print(json.dumps(entry), flush=True)
            total, count = 0.0, 0


@torch.inference_mode()
def accuracies(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, task: Task, rows: list[dict]
) -> dict[str, float]:
    """Return the fraction of right answers per kind: greedy text, or the likeliest label."""
    model.eval()
    right: dict[str, list[bool]] = defaultdict(list)
    for start in range(0, len(rows), 100):
        part = rows[start : start + 100]
        examples = [task.example(row, 0) for row in part]
        batch = tokenizer([e.prompt for e in examples], return_tensors="pt", padding=True)
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        if task.labels is None:
            output = model.generate(**inputs)[:, inputs["input_ids"].shape[1] :]
            texts = tokenizer.batch_decode(output, skip_special_tokens=True)
            predictions = [task.extract(text, strict=False) for text in texts]
        else:
            labels = [tokenizer(label)["input_ids"][0] for label in task.labels]
            best = model(**inputs).logits[:, -1, labels].argmax(-1).tolist()
            predictions = [task.labels[position] for position in best]
        for row, prediction in zip(part, predictions, strict=True):
            right[row["kind"]].append(task.is_correct(prediction, task.answer(row, 0).gold))
    result = {kind: round(sum(hits) / len(hits), 3) for kind, hits in sorted(right.items())}
    result["all"] = round(sum(map(sum, right.values())) / len(rows), 3)
    return result


def main() -> None:
    """Pretrain, measure, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=400_000, help="pretraining rows")
    parser.add_argument("--steps", type=int, default=8_000, help="optimiser steps")
    parser.add_argument("--batch-size", type=int, default=64, help="sequences a step")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="highest rate")
    parser.add_argument("--hidden", type=int, default=128, help="width of the model")
    parser.add_argument("--layers", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)

    pairs = pretraining_texts(arguments.rows)
    stored = {
        name: {split: family(name).generate(split, 300) for split in ("dev", "test")}
        for name in ROW_SHARES
    }
    tokenizer = build_tokenizer([prompt + target for prompt, target in pairs])
    model = build_model(tokenizer, hidden=arguments.hidden, layers=arguments.layers)
    steps: list[dict[str, float]] = []
    log = {
        "command": shlex.join(["python", "scripts/pretrain_tiny.py", *sys.argv[1:]]),
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "hardware": f"{platform.machine()}, {arguments.threads} CPU threads",
        "seed": arguments.seed,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocabulary": len(tokenizer),
        "steps": steps,
    }
    print(json.dumps({key: value for key, value in log.items() if key != "steps"}), flush=True)
    train(
        model,
        encode(tokenizer, pairs),
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
        log=steps,
    )
    for name in ROW_SHARES:
        task = TASKS[name](TaskConfig(name=name))
        lessons = [
            row
            for row in family(name).pretraining_rows(1000)
            if row["answer"] in (task.labels or (row["answer"],)) and row["answer"]
        ]
        log[f"{name}_accuracy"] = {
            "lessons": accuracies(model, tokenizer, task, lessons),
            "dev": accuracies(model, tokenizer, task, stored[name]["dev"]),
            "test": accuracies(model, tokenizer, task, stored[name]["test"]),
        }
        print(name, json.dumps(log[f"{name}_accuracy"]), flush=True)
    arguments.output.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(arguments.output)
    tokenizer.save_pretrained(arguments.output)
    text = json.dumps(log, indent=1)
    (arguments.output / "pretraining_log.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

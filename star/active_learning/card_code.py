"""The lines of a model card that use the model: plain transformers, and PEFT, without star."""

from __future__ import annotations

from collections.abc import Mapping
from string import Template
from typing import Any

OPEN = """\
import json, math, pathlib, torch
from transformers import $auto, AutoTokenizer
$peft
folder = "."  # where this file lies
told = json.loads(pathlib.Path(folder, "star.json").read_text(encoding="utf-8"))
tokenizer = AutoTokenizer.from_pretrained(folder)
$load


def spelled(value):  # None is no text; true and false as JSON has them
    text = json.dumps(value) if isinstance(value, bool) else "" if value is None else str(value)
    return text if told["ending"] else text.strip()  # it keeps the white space of columns too


def prompt_of(row):
    row = {name: spelled(value) for name, value in row.items()}
    return told["prompt"].format(**row).rstrip() + told["ending"]


"""
HEAD = """\
@torch.no_grad()
def answer(row):
    prompt = prompt_of(row)
    cut = {"truncation": True, "max_length": told["max_prompt_tokens"]}
    tokens = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False, **cut)
    p = (model(**tokens).logits[0].double() / (told["temperature"] or 1)).softmax(0)
    return dict(zip(told["labels"], p.tolist()))  # label to probability
"""
IDS = """\
def ids(text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


"""
TEXT = """\
def encode(shots, prompt, word=""):  # the token ids of a prompt, and of a word behind it
    text = "\\n\\n".join([*map("".join, shots), prompt])
    asked, both = ids(text), ids(text + word)
    tail = both[len(asked):] if both[:len(asked)] == asked else ids(word)
    return told["before"] + asked, tail


"""
CHAT = """\
def turns(said, **how):
    how |= {"return_dict": False, "sanitize_control_tokens": True, "enable_thinking": False}
    said = [{"role": role, "content": text} for role, text in said]
    return tokenizer.apply_chat_template(said, chat_template=told["chat_template"], **how)


def encode(shots, prompt, word=""):  # the token ids of a prompt, and of a word behind it
    said = [("user", prompt), ("assistant", word.strip())]
    for question, answer in reversed(shots):
        said = [("user", question), ("assistant", answer.strip()), *said]
    asked = turns(said[:-1], add_generation_prompt=True)
    both = turns(said, continue_final_message=True) if word else asked
    if both[:len(asked)] == asked:
        return asked, both[len(asked):]
    alone = {"add_special_tokens": False, "split_special_tokens": True}
    return asked, tokenizer(word.strip(), **alone)["input_ids"]


"""
SHOTS = """\
def shots_of(prompt):  # as many as fit before it, none of which asks the same
    shots = [shot for shot in told["shots"] if shot[0] != prompt][:told["num_fewshot"]]
    while shots and len(encode(shots, prompt)[0]) > told["max_prompt_tokens"]:
        shots = shots[1:]
    return shots


"""
CUT = """\
def cut(asked):
    room, keep = told["max_prompt_tokens"], told["keep"]
    if len(asked) <= room or len(keep) >= room or asked[:len(keep)] != keep:
        return asked[-room:]
    return keep + asked[len(keep) - room:]


@torch.no_grad()
"""
LABELS = """\
def answer(row):
    prompt, scores = prompt_of(row), []
    shots = $shots
    for word in told["labels"].values():
        head, tail = encode(shots, prompt, word)
        head, tail = cut(head), tail + told["end"]
        logits = model(torch.tensor([head + tail])).logits[0, len(head) - 1:-1].double()
        each = logits.log_softmax(-1)[range(len(tail)), tail]
        scores.append(each.mean() if told["score"] == "mean" else each.sum())
    p = (torch.stack(scores) / (told["temperature"] or 1)).softmax(0)
    return dict(zip(told["labels"], p.tolist()))  # label to probability
"""
ANSWERS = """\
def answer(row):
    prompt = prompt_of(row)
    asked = torch.tensor([cut(encode($shots, prompt)[0])])
    how = {"do_sample": False, "return_dict_in_generate": True, "output_logits": True,
           "max_new_tokens": told["max_new_tokens"], "eos_token_id": told["stop"] or None}
    made = model.generate(asked, attention_mask=torch.ones_like(asked), **how)
    new = made.sequences[0, asked.shape[1]:].tolist()
    each = torch.stack(made.logits)[:, 0].double().log_softmax(-1)[range(len(new)), new]
    log_p, t = min(each.sum().item(), -6e-8), told["temperature"] or 1
    p = 1 / (1 + math.exp(min(700, -(log_p - math.log(-math.expm1(log_p))) / t)))
    text = tokenizer.decode(new[:-1] if new[-1] in told["stop"] else new, skip_special_tokens=True)
    return text, p  # the whole text, and its probability
"""
CAUSAL = "AutoModelForCausalLM"
AUTO = {"head": "AutoModelForSequenceClassification", "labels": CAUSAL, "answers": CAUSAL}


def code(described: Mapping[str, Any]) -> str:
    """Return Python that loads the folder it lies in, and prints the answer to a row.

    Args:
        described: The content of ``star.json``.
    """
    auto, base, kind = AUTO[described["kind"]], described["base"], described["kind"]
    merged = described["weights"] == "merged"
    more = ""
    if kind == "head" and base["revision"] and not merged:
        more = f", num_labels={len(described['labels'])}"
    where = (
        f'"{base["model"]}", revision="{base["revision"]}", dtype="{described["dtype"]}"{more}'
        if base["revision"]
        else 'f"{folder}/base"'
    )
    load = f"{auto}.from_pretrained({'folder' if merged else where})"
    lines = Template(OPEN).substitute(
        auto=auto,
        peft="" if merged else "from peft import PeftModel\n",
        load=f"model = {load}.eval()"
        if merged
        else f"model = {load}\nmodel = PeftModel.from_pretrained(model, folder).eval()",
    )
    row = ", ".join(f'"{name}": "..."' for name in described["columns"])
    return f"{lines}{_answer(described)}\n\nprint(answer({{{row}}}))\n"


def _answer(described: Mapping[str, Any]) -> str:
    if described["kind"] == "head":
        return HEAD
    shots = bool(described["shots"])
    use = Template(LABELS if described["kind"] == "labels" else ANSWERS)
    encode = TEXT if described["chat_template"] is None else CHAT
    parts = [IDS, encode] if encode is TEXT else [encode]
    last = use.substitute(shots="shots_of(prompt)" if shots else "[]")
    return "".join([*parts, SHOTS if shots else "", CUT, last])

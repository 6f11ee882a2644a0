"""The model card of an exported run: what it is, how well it does, and lines that use it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from star.active_learning.trained_run import TrainedRun
from star.config import starts_cold, strategy_name

OPEN = """\
import json, math, pathlib, torch
from transformers import $auto, AutoTokenizer
$peft
folder = "."  # where this file lies
told = json.loads(pathlib.Path(folder, "star.json").read_text(encoding="utf-8"))
tokenizer = AutoTokenizer.from_pretrained(folder)
$load


def prompt_of(row):
    if not told["ending"]:  # a prompt that ends in white space keeps that of its columns
        row = {name: str(text).strip() for name, text in row.items()}
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


@torch.no_grad()
"""
LABELS = (
    IDS
    + """\
def answer(row):
    prompt = prompt_of(row)
    asked, scores = ids(prompt), []
    for word in told["labels"].values():
        both = ids(prompt + word)
        tail = both[len(asked):] if both[:len(asked)] == asked else ids(word)
        head, tail = (told["before"] + asked)[-told["max_prompt_tokens"]:], tail + told["end"]
        logits = model(torch.tensor([head + tail])).logits[0, len(head) - 1:-1].double()
        each = logits.log_softmax(-1)[range(len(tail)), tail]
        scores.append(each.mean() if told["score"] == "mean" else each.sum())
    p = (torch.stack(scores) / (told["temperature"] or 1)).softmax(0)
    return dict(zip(told["labels"], p.tolist()))  # label to probability
"""
)
ANSWERS = (
    IDS
    + """\
def answer(row):
    prompt = prompt_of(row)
    asked = torch.tensor([(told["before"] + ids(prompt))[-told["max_prompt_tokens"]:]])
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
)
USES = {"head": HEAD, "labels": LABELS, "answers": ANSWERS}
AUTO = {"head": "AutoModelForSequenceClassification"}
CAUSAL = "AutoModelForCausalLM"

# Tasks whose columns are not as they are stored.
PREPARED = {
    "boolq": "`question` is given without the question mark at its end.",
    "openbookqa": "`question` is the bare question, `A` to `D` are the options.",
}


def card(trained: TrainedRun, info: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    """Return the model card as Markdown, its front matter as the Hub reads it.

    Args:
        trained: The run and the round.
        info: What is known of the base model, see ``sources.resolve``.
        described: The content of ``star.json``.
    """
    parts = [
        f"---\n{_front(trained, info, described)}\n---\n",
        f"# {_title(trained)}\n",
        _made_of(trained, info, described),
        "## How good it is\n\n" + _measured(trained),
        "## How to use it\n\n" + _used(described),
        "## Limits\n\n" + _limits(trained, described),
    ]
    return "\n".join(parts)


def _title(trained: TrainedRun) -> str:
    return f"{trained.config.task.name}, round {trained.round_} of {strategy(trained)}"


def strategy(trained: TrainedRun) -> str:
    """Return what chose the labels, without the place of a user's own file."""
    return strategy_name(trained.config).rpartition("/")[2]


def base_name(trained: TrainedRun, info: Mapping[str, Any]) -> str:
    """Return what the base model is called anywhere: no folder of this machine."""
    name = trained.config.model.name_or_path
    return name if info["source"] == "hub" or "://" in name else Path(name).name


def _front(trained: TrainedRun, info: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    from huggingface_hub import ModelCardData

    data = _hub_data(trained)
    return ModelCardData(
        base_model=base_name(trained, info) if info["source"] == "hub" else None,
        library_name="transformers" if described["weights"] == "merged" else "peft",
        license=_license(trained, info),
        pipeline_tag="text-classification" if described["kind"] == "head" else "text-generation",
        tags=["active-learning", "lora", "star-al"],
        datasets=None if data is None else [data],
        metrics=["accuracy"],
    ).to_yaml()


def _hub_data(trained: TrainedRun) -> str | None:
    """Return the data set's name on the Hub, if that is where the rows come from."""
    task, config = trained.task, trained.config.task
    if config.data_dir is not None or task.family is not None:
        return None
    named = config.hub_id or task.hub_id
    return named and named.partition(":")[0]


def _license(trained: TrainedRun, info: Mapping[str, Any]) -> str | None:
    """Return the licence that the base model's own card names; ``None``: not known here."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.repocard import metadata_load

    name = trained.config.model.name_or_path
    if info["source"] == "embedded":
        return "apache-2.0"
    try:
        path: str | Path = Path(name).expanduser() / "README.md"
        if info["source"] == "hub":
            path = hf_hub_download(name, "README.md", revision=info["revision"])
        told = metadata_load(path) or {}
    except (OSError, ValueError, HfHubHTTPError):  # no card, or none that can be read
        return None
    license_ = told.get("license")
    return license_ if isinstance(license_, str) else None


def _made_of(trained: TrainedRun, info: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    config, environment = trained.config, trained.folder.environment()
    measured = trained.folder.metrics(trained.round_)
    revision = str(info["revision"])
    what = "commit" if info["source"] == "hub" else "SHA-256"
    licence = _license(trained, info) or "not known here; ask where the base comes from"
    data = _hub_data(trained) or (
        "generated by the package star-al" if trained.task.family else "rows of its owner's"
    )
    cold = starts_cold(config.acquisition)
    first = f"chosen by {config.acquisition.initial}" if cold else "at random"
    held = config.task.validation_size
    kept = f", {held} of them held out for calibration" if held else ""
    rows = [
        ("base model", f"`{base_name(trained, info)}`, {what} `{revision}`, {described['dtype']}"),
        ("licence of the base", licence),
        ("task", f"{config.task.name}: {data}"),
        ("fingerprint of the data", f"`{environment['data']['fingerprint']}`"),
        ("labels bought", f"{measured['labeled']}{kept}"),
        ("bought by", f"{strategy(trained)}, from {config.pool.initial_size} labels {first}"),
        ("rounds", f"{trained.round_ + 1} of {config.pool.rounds}"),
        ("trained with", f"LoRA of rank {config.adapter.r}, star-al {described['star']}"),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return f"| | |\n|---|---|\n{table}\n"


def _measured(trained: TrainedRun) -> str:
    told = trained.folder.metrics(trained.round_)
    count = len(trained.folder.predictions(trained.round_).read_bytes().splitlines())
    error = told.get("accuracy_stderr")
    spread = "" if error is None else f" ± {100 * error:.1f} (standard error)"
    lines = [f"Accuracy {100 * told['accuracy']:.1f} %{spread} on {count} test rows."]
    if told.get("ece") is not None:
        lines.append(
            f"Expected calibration error {told['ece']:.3f}, mean confidence less accuracy "
            f"{told['overconfidence']:+.3f}, both without a temperature."
        )
    t = trained.temperatures
    lines.append(
        f"The temperature of `star.json`, {t.whole:.3g}, was fitted on "
        f"{trained.config.task.validation_size} held-out rows."
        if t
        else "Its probabilities are not calibrated: no rows were held out."
    )
    return "\n".join(lines) + "\n"


def _used(described: Mapping[str, Any]) -> str:
    auto, base = AUTO.get(described["kind"], CAUSAL), described["base"]
    merged = described["weights"] == "merged"
    more = ""
    if described["kind"] == "head" and base["revision"] and not merged:
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
    code = f"{lines}{USES[described['kind']]}\n\nprint(answer({{{row}}}))\n"
    prepared = PREPARED.get(described["task"], "")
    text = f"The columns of a row: {', '.join(f'`{name}`' for name in described['columns'])}."
    return f"{text} {prepared}".rstrip() + f"\n\n```python\n{code}```\n"


def _limits(trained: TrainedRun, described: Mapping[str, Any]) -> str:
    config, lines = trained.config, []
    lines.append(
        f"- A prompt of more than {described['max_prompt_tokens']} tokens loses those on its "
        f"{described['cut_from']}."
    )
    if described["kind"] == "answers":
        lines.append("- The final answer stands in the text; reading it out is left to you.")
    if described["dtype"] != "float32" and described["weights"] == "merged":
        lines.append(
            f"- The adapter is merged in {described['dtype']}: probabilities differ a little from "
            "the run's."
        )
    if config.model.quantization != "none":
        lines.append(
            f"- It was trained on a base in {config.model.quantization}; load the base so (a "
            "`BitsAndBytesConfig`) to get the run's numbers."
        )
    lines.append("- The test rows are like the pool's. Of other texts nothing is known.")
    if described["weights"] == "merged" and described["kind"] != "head":
        lines.append(
            "- For llama.cpp, `convert_hf_to_gguf.py` of its repository makes a GGUF file of this "
            "folder."
        )
    return "\n".join(lines) + "\n"

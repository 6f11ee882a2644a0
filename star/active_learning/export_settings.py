"""What ``star.json`` says: how a row becomes tokens, and a model's logits an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from star import __version__
from star.active_learning import memory
from star.active_learning.trained_run import TrainedRun
from star.data import fewshot
from star.data.task import Example, Task
from star.models.classifier import Classifier
from star.models.encoding import marks
from star.models.language_model import LanguageModel
from star.models.truncation import Limits, closes_choices

BASE = "base"  # folder of the base model inside an adapter's, where the Hub does not have it


def settings(trained: TrainedRun, model: LanguageModel, merge: bool) -> dict[str, Any]:
    """Return what ``star.json`` says: all that turns a row into tokens, and logits into an answer.

    Keys: ``kind``, ``labels`` (by words), ``head`` or ``answers`` (generated); ``prompt``, with
    ``{column}`` fields, each without white space round it unless there is an ``ending``, which
    stands behind the prompt once white space at its end is gone; ``chat_template``, by which prompt
    and answer are turns of a conversation, ``None``: they are bare text; ``shots``, prompts with
    their answers of which the first ``num_fewshot`` that ask something else stand before a prompt,
    as earlier turns or with blank lines between, fewer from the front where they do not fit;
    ``before``, the token ids in front of it; ``labels``, label to the text that stands for it;
    ``end``, the token ids behind that; ``score``, sum or mean of its tokens' log p;
    ``max_prompt_tokens``, to which a longer prompt is cut (``cut_from``), but for the token ids
    ``keep`` at its start; ``max_new_tokens`` and ``stop`` of a generated answer; ``temperature`` of
    the whole answer's probability and ``temperature_token_mean``, ``None`` where no rows were held
    out.

    Raises:
        InputError: The rows that the shots are taken from are others now.
    """
    config, task = trained.config, trained.task
    limits = Limits.of(config.evaluation)
    kind = (
        "head"
        if isinstance(model, Classifier)
        else "labels"
        if trained.by_likelihood
        else "answers"
    )
    labels = {label: task.target(label) for label in task.labels or ()}
    end, longest = [], limits.max_new_tokens
    if kind != "answers":
        end, longest = _behind(model, task, [*labels.values()], closing=kind == "labels")
    room = max(1, model.max_length - longest)
    scaled = trained.temperatures
    return {
        "star": __version__,
        "kind": kind,
        "weights": "merged" if merge else "adapter",
        "task": config.task.name,
        "round": trained.round_,
        "base": _base(trained, model),
        "dtype": config.model.dtype,
        "columns": [name for name in dict.fromkeys(task.prompt.names) if name not in task.added],
        "prompt": _template(task),
        "ending": task.prompt.ending or "",
        "chat_template": None if model.chat is None else model.chat.template,
        "num_fewshot": config.task.num_fewshot,
        "shots": _shots(trained),
        "labels": labels,
        "before": _before(model, task),
        "end": end,
        "score": config.evaluation.choice_score,
        "max_prompt_tokens": min(room, limits.max_prompt_length or room),
        "cut_from": model.cut_from,
        "keep": [] if model.chat is None else list(model.chat.head),
        "max_new_tokens": limits.max_new_tokens,
        "stop": sorted(model.stop_ids),
        "temperature": scaled and scaled.whole,
        "temperature_token_mean": scaled and scaled.token_mean,
    }


def _behind(
    model: LanguageModel, task: Task, choices: Sequence[str], *, closing: bool
) -> tuple[list[int], int]:
    """Return the token ids behind each choice, and the tokens of the longest with them."""
    prompt = task.prompt.fill(dict.fromkeys(task.prompt.names, "a"))
    sample = Example(0, prompt, choices=tuple(choices))
    end = [model.end_id] if closing and closes_choices(model, [sample]) else []
    rows = model.encode([prompt] * len(choices), choices, eos=False)
    return end, max(len(row.continuation) for row in rows) + len(end)


def _base(trained: TrainedRun, model: LanguageModel) -> dict[str, str | None]:
    """Return where the base model is had from elsewhere: the Hub, or the folder beside."""
    if model.info["source"] != "hub":
        return {"model": BASE, "revision": None}
    return {"model": trained.config.model.name_or_path, "revision": model.info["revision"]}


def _shots(trained: TrainedRun) -> list[tuple[str, str]]:
    """Return the run's shots, and the one that stands in where a question is among them."""
    count, seed = trained.config.task.num_fewshot, trained.config.seed
    if not count:
        return []
    questions, answers = memory.first_labels(trained.folder, trained.config, trained.round_)
    shots = fewshot.draw(questions, answers, count=count, seed=seed)
    return [(shot.prompt, shot.answer) for shot in shots]


def _template(task: Task) -> str:
    """Return the prompt for ``str.format``, columns that are the same in all rows filled in."""
    fixed: dict[str, str] = {}
    if task.added:
        row = task.columns(dict.fromkeys(task.inputs[0], "a"))
        fixed = {name: str(row[name]) for name in task.added if name in row}
    parts = []
    for literal, name in task.prompt.pieces:
        parts.append(_braces(literal))
        if name is not None:
            parts.append(_braces(fixed[name]) if name in fixed else f"{{{name}}}")
    return "".join(parts)


def _braces(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _before(model: LanguageModel, task: Task) -> list[int]:
    """Return what the tokenizer puts in front, unless the prompt begins with it already."""
    if model.chat is not None:  # its template writes it
        return []
    start, _ = marks(model.tokenizer)
    opening = model.tokenizer(task.prompt.pieces[0][0], add_special_tokens=False)["input_ids"]
    return [] if start and opening[: len(start)] == start else list(start)

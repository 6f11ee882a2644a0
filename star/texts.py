"""Scores of given texts: ``star score`` and ``star.score_texts``."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from star import adapter as adapters
from star import likelihood, models
from star.config import McDropoutConfig, ModelConfig
from star.distributed import is_main
from star.encoding import TokenRow, encode, fit
from star.errors import InputError
from star.files import write_jsonl
from star.generation import generate, text_of
from star.mc_dropout import Passes, check_spread

logger = logging.getLogger(__name__)


def score_texts(
    model: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    adapter: str | Path | None = None,
    mc_passes: int = 0,
    masks: str = "consistent",
    seed: int = 0,
    batch_size: int = 16,
    max_new_tokens: int = 256,
    dtype: str = "float32",
    device: str = "auto",
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Return each row with the scores of its continuation, order kept.

    Args:
        model: As ``model.name_or_path``: Hub id, folder, ``package://PKG/FILE.gguf``,
            ``embedded://tiny``.
        rows: ``{"prompt": str, "continuation": str}``; other keys are kept. Where the continuation
            is missing or null, the model's own greedy one is made, scored and returned.
        adapter: A PEFT LoRA adapter's folder.
        mc_passes: S, MC-dropout passes in the LoRA branch; needs an adapter with dropout.
        masks: ``consistent`` or ``token``, see ``mc_dropout``.
        seed: Of the masks.
        batch_size: Rows in a forward pass; changes no score beyond rounding.
        max_new_tokens: Limit of a continuation that is made here.
        dtype: Of the base weights.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``.
        progress: Show bars.

    Returns:
        The rows with ``num_tokens``, ``nll`` = −Σ log p(s_i | s_<i, x) and ``entropy`` =
        Σ H(p(· | s_<i, x)) in nats summed over the continuation, ``perplexity`` = exp(nll /
        num_tokens); with S passes also ``X_mean`` and ``X_std`` (sample deviation, 0 for S = 1) of
        each; ``truncated: true`` where a prompt was cut to fit.

    Raises:
        InputError: A bad row, model or adapter.
    """
    _check(rows, adapter, mc_passes=mc_passes, batch_size=batch_size)
    loaded = models.load(ModelConfig(name_or_path=model, dtype=dtype, device=device))  # type: ignore[arg-type]
    options: dict[str, Any] = {"batch_size": batch_size, "progress": progress}
    with adapters.load(loaded, adapter) if adapter is not None else nullcontext() as adapted:
        given = [row.get("continuation") for row in rows]
        encoded = encode(
            loaded.tokenizer, [r["prompt"] for r in rows], [c or "" for c in given], eos=False
        )
        missing = [i for i, c in enumerate(given) if c is None]
        for i, row in enumerate(encoded):
            if given[i] is not None and not row.continuation:
                raise InputError(f"row {i}: 'continuation' {given[i]!r} has no tokens")
        cut: set[int] = set()
        for i, row in enumerate(encoded):
            reserve = max_new_tokens if given[i] is None else 0
            one = fit([row], max_length=loaded.max_length, reserve=reserve, overlong="truncate")
            encoded[i] = one.rows[0]
            cut |= {i} if one.truncated else set()
        made = generate(
            loaded, [encoded[i].prompt for i in missing], max_new_tokens=max_new_tokens, **options
        )
        for i, new in zip(missing, made, strict=True):
            encoded[i] = replace(encoded[i], continuation=new)
        plain = _measure(likelihood.token_scores(loaded, encoded, **options), encoded)
        out = [dict(row) for row in rows]
        for i, row in enumerate(out):
            row["num_tokens"] = len(encoded[i].continuation)
            row |= {name: float(value[i, 0]) for name, value in plain.items()}
        for i in missing:
            out[i]["continuation"] = text_of(loaded, encoded[i].continuation)
        for i in cut:
            out[i]["truncated"] = True
        if mc_passes:
            settings = McDropoutConfig(passes=mc_passes, masks=masks)  # type: ignore[arg-type]
            with Passes(adapted, settings, seed=seed, round_=0).installed() as passes:
                found = likelihood.token_scores(loaded, encoded, passes=passes, **options)
            check_spread(np.concatenate(list(found.values())))
            for name, value in _measure(found, encoded).items():
                spread = value.std(axis=1, ddof=1) if mc_passes > 1 else np.zeros(len(rows))
                for i, row in enumerate(out):
                    row[f"{name}_mean"] = float(value[i].mean())
                    row[f"{name}_std"] = float(spread[i])
    return out


def _measure(sums: dict[str, Any], rows: Sequence[TokenRow]) -> dict[str, Any]:
    lengths = np.array([[len(row.continuation)] for row in rows])
    nll = sums["predictive_entropy"]
    return {"nll": nll, "entropy": sums["max_entropy"], "perplexity": np.exp(nll / lengths)}


def _check(
    rows: Sequence[Mapping[str, Any]],
    adapter: str | Path | None,
    *,
    mc_passes: int,
    batch_size: int,
) -> None:
    if batch_size < 1:
        raise InputError(f"the batch size must be at least 1, got {batch_size}")
    if mc_passes < 0:
        raise InputError(f"the number of MC passes must be at least 0, got {mc_passes}")
    if mc_passes and adapter is None:
        raise InputError("MC dropout acts in the LoRA branch; give an adapter, or no MC passes")
    if not rows:
        raise InputError("there are no rows to score")
    for i, row in enumerate(rows):
        prompt, continuation = row.get("prompt"), row.get("continuation")
        if not isinstance(prompt, str):
            raise InputError(f"row {i}: needs a text in 'prompt', has {sorted(row)}")
        if continuation is not None and (not isinstance(continuation, str) or not continuation):
            raise InputError(f"row {i}: 'continuation' must be a text that is not empty, or null")


def score_file(model: str, source: str | Path, *, output: str | Path, **options: Any) -> None:
    """Score the rows of a JSON-lines file and write them to ``output``; see :func:`score_texts`."""
    source, output = Path(source), Path(output)
    if not source.is_file():
        raise InputError(f"input file {source} not found")
    if not output.parent.is_dir():
        raise InputError(f"the folder of the output, {output.parent}, does not exist")
    try:
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{source} is not UTF-8: {error.reason} at byte {error.start}") from None
    rows = []
    # Not splitlines(): it also splits at U+2028 and the like, which JSON allows inside a text.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{source}, line {number} is not JSON: {error.msg}") from None
        if not isinstance(row, dict):
            raise InputError(f"{source}, line {number} must be an object, got {line[:40]}")
        rows.append(row)
    if not rows:
        raise InputError(f"{source} has no rows")
    scored = score_texts(model, rows, **options)
    if is_main():
        write_jsonl(output, scored)
        cut = sum("truncated" in row for row in scored)
        if cut:
            logger.warning("%d prompts were cut from the left to fit the model", cut)

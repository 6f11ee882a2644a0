"""Scores of given texts: ``star score`` and ``star.score_texts``.

A row is ``{"prompt": str, "continuation": str}``; other keys are kept. Where the continuation is
missing or null, the model's own greedy one is made, scored and returned. ``continuation_ids``,
token ids, are scored in the text's place and must agree with it. A row that was scored before is
scored anew; a column of one's own that a score would replace is refused
(``text_rows.without_scores`` tells the two apart).

Rows come back with ``num_tokens``, ``nll`` = −Σ log p(s_i | s_<i, x) and ``entropy`` =
Σ H(p(· | s_<i, x)) in nats summed over the continuation, ``perplexity`` = exp(nll / num_tokens);
with S MC-dropout passes also ``X_mean`` and ``X_std`` (sample deviation, 0 for S = 1) of each;
``truncated: true`` where a prompt was cut to fit. With ``tokens`` there are lists, an item a token
of the continuation: ``tokens``, as the tokenizer's vocabulary spells them, ``token_ids``,
``token_nll`` and ``token_entropy`` in nats, which add up to the row's figures; with passes also
``token_nll_mean``, ``token_nll_std`` and the like, over the passes.

A continuation that was made here goes on where the prompt ends, so that it can be scored again;
where its text does not give the same tokens (it ended by a stop token, which no text shows),
``continuation_ids`` has them. Only where the prompt was cut the scores may differ then: it makes
room for an answer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from star.config import McDropoutConfig, ModelConfig
from star.errors import InputError
from star.files import write_jsonl
from star.models import likelihood, loading, mc_dropout, saved_adapter
from star.models.batching import Batching
from star.models.distributed import is_main
from star.models.each_token import measured
from star.models.encoding import TokenRow, encode, truncate
from star.models.generation import generate
from star.models.language_model import LanguageModel
from star.models.passes import Passes
from star.models.reading import NoSuchAttention
from star.models.text_rows import CUT, IDS, Row, check_rows, read_rows, without_scores
from star.outputs import refuse_output

logger = logging.getLogger(__name__)


def score_texts(
    model: str,
    rows: Sequence[Row],
    *,
    adapter: str | Path | None = None,
    mc_passes: int = 0,
    masks: str = "consistent",
    seed: int = 0,
    batch_size: int = 16,
    max_new_tokens: int = 256,
    dtype: str = "float32",
    device: str = "auto",
    places: Sequence[str] | None = None,
    revision: str | None = None,
    quantization: str = "none",
    attn: str | None = None,
    batch_tokens: int = Batching.tokens,
    tokens: bool = False,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Return each row with the scores of its continuation, order kept; see the module.

    Args:
        model: As ``model.name_or_path``.
        rows: N rows.
        adapter: A PEFT LoRA adapter's folder.
        mc_passes: S, MC-dropout passes in the LoRA branch; needs an adapter with dropout.
        masks: ``consistent`` or ``token``, see ``mc_dropout``.
        seed: Of the masks.
        batch_size: Rows in a forward pass; changes no score beyond rounding.
        max_new_tokens: Limit of a continuation that is made here.
        dtype: Of the base weights.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``.
        places: (N,) what rows are called in messages; ``None`` = ``row 0``, ``row 1``, ….
        revision: Of a model on the Hub: branch, tag or commit.
        quantization: ``none`` or ``nf4``.
        attn: ``model.attn_implementation``; ``None``: sdpa, or eager where there is no other.
        batch_tokens: Tokens in a forward pass at most; a single row may have more.
        tokens: Give each token's scores too.
        progress: Show bars.

    Raises:
        InputError: A bad row, model or adapter.
    """
    _check(adapter, mc_passes, batch_size, max_new_tokens)
    places = [f"row {i}" for i in range(len(rows))] if places is None else places
    check_rows(rows, places, passes=mc_passes > 0, tokens=tokens)
    config = ModelConfig(
        name_or_path=model, revision=revision, dtype=dtype, device=device,  # type: ignore[arg-type]
        quantization=quantization, attn_implementation=attn or "sdpa",  # type: ignore[arg-type]
    )  # fmt: skip
    settings = McDropoutConfig(passes=mc_passes, masks=masks)  # type: ignore[arg-type]
    batching = Batching(batch_size, batch_tokens, progress)
    loaded = _load(config, batching, any_attention=attn is None)
    with saved_adapter.load(loaded, adapter) if adapter is not None else nullcontext() as adapted:
        scored = _scored(loaded, rows, places, max_new_tokens, tokens)
        if mc_passes:
            passes = mc_dropout.passes(adapted, settings, seed=seed, round_=0)
            _add_passes(loaded, scored, passes, tokens)
    return [row for row, _ in scored]


def _scored(
    loaded: LanguageModel,
    rows: Sequence[Row],
    places: Sequence[str],
    max_new_tokens: int,
    tokens: bool,
) -> list[tuple[dict[str, Any], TokenRow]]:
    """Return each row with its scores, and as the tokens that were scored."""
    encoded = _encode(loaded, rows, places)
    missing = [i for i, row in enumerate(encoded) if not row.continuation]
    cut: set[int] = set()
    if missing and max_new_tokens >= loaded.max_length:
        raise InputError(
            f"{places[missing[0]]} has no continuation, and one of max_new_tokens={max_new_tokens} "
            f"leaves no room for a prompt in the model's {loaded.max_length} tokens; lower "
            "max_new_tokens (--max-new-tokens)"
        )
    for i, row in enumerate(encoded):
        reserve = 0 if row.continuation else max_new_tokens
        fitting = truncate(
            [row], max_length=loaded.max_length, reserve=reserve, overlong="truncate"
        )
        encoded[i] = fitting.rows[0]
        cut |= {i} if fitting.truncated else set()
    made = generate(loaded, [encoded[i].prompt for i in missing], max_new_tokens=max_new_tokens)
    for i, new in zip(missing, made, strict=True):
        encoded[i] = replace(encoded[i], continuation=new)
    sums, each = measured(loaded, encoded, tokens)
    scores = _measure(sums, encoded)
    out = [without_scores(row) for row in rows]
    for i, row in enumerate(out):
        row["num_tokens"] = len(encoded[i].continuation)
        row |= {name: float(value[i, 0]) for name, value in scores.items()}
        if each:
            ids = list(encoded[i].continuation)
            row |= {"tokens": loaded.tokenizer.convert_ids_to_tokens(ids), "token_ids": ids}
            row |= {name: values[i][0].tolist() for name, values in each.items()}
    for i, texts in _made_texts(loaded, rows, encoded, missing):
        out[i] |= texts
    for i in cut:
        out[i][CUT] = True
    return list(zip(out, encoded, strict=True))


def _add_passes(
    loaded: LanguageModel,
    scored: Sequence[tuple[dict[str, Any], TokenRow]],
    passes: Passes,
    tokens: bool,
) -> None:
    """Add mean and deviation over the passes to each row, and to each token."""
    encoded = [tokens for _, tokens in scored]
    with passes.installed():
        sums, each = measured(loaded, encoded, tokens, passes=passes)
    passes.check_spread(np.concatenate(list(sums.values())))
    for name, values in (_measure(sums, encoded) | each).items():
        for (row, _), value in zip(scored, values, strict=True):  # (S,), or (S, T)
            spread = value.std(axis=0, ddof=1) if passes.count > 1 else np.zeros(value.shape[1:])
            row[f"{name}_mean"] = value.mean(axis=0).tolist()
            row[f"{name}_std"] = spread.tolist()


def _load(config: ModelConfig, batching: Batching, *, any_attention: bool) -> LanguageModel:
    """Return the model; with ``any_attention`` by the eager kernel where it has no other."""
    try:
        return loading.load(config, batching=batching)
    except NoSuchAttention:
        if not any_attention:
            raise
    logger.warning("%s has no sdpa attention; going on with eager", config.name_or_path)
    return loading.load(replace(config, attn_implementation="eager"), batching=batching)


def _encode(loaded: LanguageModel, rows: Sequence[Row], places: Sequence[str]) -> list[TokenRow]:
    """Return the rows as tokens, the continuation empty where it is still to be made.

    Raises:
        InputError: A continuation without tokens; ids that the model has not, or that are another
            text than the one beside them.
    """
    texts = [row.get("continuation") for row in rows]
    encoded = encode(
        loaded.tokenizer, [r["prompt"] for r in rows], [t or "" for t in texts], eos=False
    )
    size = loaded.causal.get_input_embeddings().weight.shape[0]
    for i, (row, text, place) in enumerate(zip(rows, texts, places, strict=True)):
        ids = row.get(IDS)
        if ids is not None:
            if max(ids) >= size:
                raise InputError(f"{place}: '{IDS}' has {max(ids)}, the model has {size} tokens")
            encoded[i] = replace(encoded[i], continuation=tuple(ids))
            if text is not None and text not in (read := _readings(loaded, encoded[i])):
                raise InputError(
                    f"{place}: '{IDS}' are the text {read[0]!r}, not the 'continuation' beside "
                    "them; remove one of the two (ids of another model's tokenizer say nothing)"
                )
        elif text is not None and not encoded[i].continuation:
            raise InputError(f"{place}: 'continuation' {text!r} has no tokens behind the prompt's")
    return encoded


def _readings(loaded: LanguageModel, row: TokenRow) -> list[str]:
    """Return the continuation's text as it goes on behind its prompt, and what it is alone."""
    stopped = row.continuation[-1] in loaded.stop_ids
    ids = row.continuation[:-1] if stopped else row.continuation
    decode = partial(
        loaded.tokenizer.decode, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    # Alone it may lose its first blank, or what it shares a character with.
    head, whole, alone = decode(row.prompt), decode(row.prompt + ids), decode(ids)
    behind = [whole[len(head) :]] if whole.startswith(head) else []
    return [*behind, alone, decode(ids, skip_special_tokens=False)]


def _made_texts(
    loaded: LanguageModel,
    rows: Sequence[Row],
    encoded: Sequence[TokenRow],
    missing: Sequence[int],
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield place and ``continuation`` of what was made, its ids too where the text is not all."""
    texts = [_readings(loaded, encoded[i])[0] for i in missing]
    again = encode(loaded.tokenizer, [rows[i]["prompt"] for i in missing], texts, eos=False)
    for i, text, row in zip(missing, texts, again, strict=True):
        same = row.continuation == encoded[i].continuation
        yield (
            i,
            {"continuation": text} | ({} if same else {IDS: list(encoded[i].continuation)}),
        )


def _measure(sums: dict[str, Any], rows: Sequence[TokenRow]) -> dict[str, Any]:
    lengths = np.array([[len(row.continuation)] for row in rows])
    nll = sums[likelihood.NLL]
    return {"nll": nll, "entropy": sums["max_entropy"], "perplexity": np.exp(nll / lengths)}


def _check(adapter: str | Path | None, mc_passes: int, batch_size: int, new: int) -> None:
    if batch_size < 1:
        raise InputError(f"the batch size must be at least 1, got {batch_size}")
    if new < 1:
        raise InputError(f"the tokens of a new continuation must be at least 1, got {new}")
    if mc_passes < 0:
        raise InputError(f"the number of MC passes must be at least 0, got {mc_passes}")
    if mc_passes and adapter is None:
        raise InputError("MC dropout acts in the LoRA branch; give an adapter, or no MC passes")


def score_file(
    model: str, source: str | Path, *, output: str | Path, force: bool = False, **options: Any
) -> None:
    """Score the rows of a JSON-lines file and write them to ``output``; see :func:`score_texts`.

    Everything that can be checked is checked before the model is loaded. ``force`` lets an output
    that is there be replaced; the input never is.
    """
    source, output = Path(source), Path(output)
    rows, places = read_rows(source)
    refuse_output(output, force=force, sources=[source])
    scored = score_texts(model, rows, places=places, **options)
    if is_main():
        write_jsonl(output, scored)
        cut = sum(CUT in row for row in scored)
        if cut:
            logger.warning("%d prompts were cut from the left to fit the model", cut)

"""Embeddings of texts by a sentence encoder: a model of its own, read as its folder says.

Sentence-BERT (Reimers and Gurevych 2019, arXiv 1908.10084), as sentence-transformers stores it:
``modules.json`` lists a transformer, a pooling of its last hidden states over a text's tokens, and
perhaps a normalisation to length 1. A folder without it is pooled by the mean and normalised. What
cannot be followed is refused, never left out. In float32; a text is cut from the right, and padding
is masked, so that what is else in a batch changes nothing but rounding.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize
from tqdm import tqdm
from transformers.utils import cached_file

from star.cache import digest, key
from star.config import Config, ModelConfig
from star.errors import InputError, one_line
from star.files import read_json
from star.models import identity, isolation
from star.models.batching import Batching
from star.models.distributed import collect_arrays, is_main, share
from star.models.loading import device_name
from star.models.reading import NoSuchAttention, device_of, read
from star.models.sources import cache_root, resolve
from star.models.stored_rows import Ragged
from star.models.stored_vectors import kept
from star.models.traits import most_positions

logger = logging.getLogger(__name__)

Vectors = NDArray[np.float32]

VERSION = 1  # of what an embedding means; part of the cache key
AT_ONCE = 10_000  # texts that the tokenizer is given at a time
KEY = "acquisition.embeddings"


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    return (states * mask.unsqueeze(2)).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def _first(states: Tensor, mask: Tensor) -> Tensor:
    return states[:, 0]


def _last(states: Tensor, mask: Tensor) -> Tensor:
    return states[torch.arange(len(states), device=states.device), mask.sum(dim=1).long() - 1]


POOLING: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": _mean,
    "cls": _first,
    "lasttoken": _last,
}
"""By the words of sentence-transformers: (B, T, H) states and (B, T) mask to (B, H)."""
# Of the transformer's settings, by its kind: sentence-transformers takes the first that is there.
KINDS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
SPELT = {"mean_tokens": "mean", "cls_token": "cls"}  # in an older configuration


@dataclass(frozen=True)
class Recipe:
    """What an encoder's folder says of how a text becomes a vector.

    Attributes:
        pooling: A word of ``POOLING``.
        unit: Whether vectors are brought to length 1.
        max_length: Tokens of a text, special ones counted; ``None``: what the model allows.
        lower: Whether texts are put into small letters.
        prompt: What is put before each text.
    """

    pooling: str = "mean"
    unit: bool = True
    max_length: int | None = None
    lower: bool = False
    prompt: str = ""


class SentenceEncoder:
    """The encoder that ``acquisition.embeddings`` names; its weights are loaded when it embeds.

    Args:
        name: As ``model.name_or_path`` takes it.
        config: Of the run: its device, its batches, its cache.

    Attributes:
        batching: How texts go through it.
        recipe: What its folder says.
        info: What ``environment.json`` says of it; ``revision`` is the hash of files and recipe.
        fingerprint: SHA-256 (hex) of its content, its recipe and all that computes with it.

    Raises:
        InputError: No such model, or one whose recipe cannot be followed.
    """

    def __init__(self, name: str, config: Config) -> None:
        cache = cache_root(config.tracking.cache_dir)
        self._model = ModelConfig(name_or_path=name, device=config.model.device)
        self.batching, self._cache = Batching.of(config), cache / "embeddings"
        try:
            self._where, known = resolve(self._model, cache)
        except InputError as error:
            raise InputError(str(error).replace("model.name_or_path", KEY)) from error
        self._options: dict[str, Any] = {"trust_remote_code": False}
        if known["source"] == "hub":
            self._options["revision"] = known["revision"]
        self.recipe = _recipe(name, self._where, self._options.get("revision"))
        self._device = device_of(self._model)
        computed = identity.computation(self._model, device=device_name(self._device), packed=False)
        content = digest([known["revision"], self.recipe])
        self.info = known | {"name_or_path": name, "revision": content, "computation": computed}
        hub = name if known["source"] == "hub" else None
        self.fingerprint = digest([hub, content, computed])

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Return (N, H) embeddings of N texts: computed once, and cached on disk by content.

        Raises:
            InputError: The model cannot be loaded or run, or a vector is not finite.
        """
        name = key(VERSION, encoder=self.fingerprint, texts=digest(list(texts)))
        return kept(self._cache, name, len(texts), partial(self._embed, texts))

    @torch.inference_mode()
    def _embed(self, texts: Sequence[str]) -> Vectors:
        tokenizer, body = self._load()  # local names: both are freed on the way out
        ids, pad = self._tokens(tokenizer, body, texts), tokenizer.pad_token_id or 0
        mine, most = share(len(texts)), self.batching
        vectors: Vectors = np.empty((len(mine), body.config.hidden_size), dtype=np.float32)

        def pooled(rows: Sequence[Sequence[int]]) -> Tensor:
            return self._pooled(body, [torch.tensor(row) for row in rows], pad)

        def work(places: list[int]) -> int:
            rows = [ids[mine[i]] for i in places]
            vectors[places] = pooled(rows).cpu().numpy()
            return sum(map(len, rows))

        lengths = ids.lengths[mine.start :: mine.step]
        bar = tqdm(
            total=int(lengths.sum()), desc="embed texts", unit="tok", unit_scale=True, leave=False,
            disable=not most.progress or not is_main(),
        )  # fmt: skip
        try:
            cuts: Sequence[int] = ()
            if len(ids) and not _apart(ids, pooled):
                cuts = range(int(lengths.max(initial=0)))  # so that no batch is filled
            batches, kind = most.batches(lengths, cuts), "embed texts"
            for count in most.shortages.halving(batches, work, lengths, kind=kind):
                bar.update(count)
        except (InputError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # of code that is not ours: it wants more than ids and a mask
            raise InputError(
                f"{KEY}={self._model.name_or_path} does not embed a text: {one_line(error)}"
            ) from error
        bar.close()
        if not np.isfinite(vectors).all():
            raise InputError(f"{KEY}={self._model.name_or_path} gives vectors that are not finite")
        return collect_arrays({"": vectors}, mine, len(texts))[""]

    def _pooled(self, body: nn.Module, rows: Sequence[Tensor], pad: int) -> Tensor:
        """Return (B, H) vectors of (T,) token ids each, padded on the right."""
        batch = nn.utils.rnn.pad_sequence([*rows], batch_first=True, padding_value=pad)
        ends = torch.tensor([len(row) for row in rows]).unsqueeze(1)
        mask = (torch.arange(batch.shape[1]) < ends).to(self._device)
        seen = {"input_ids": batch.to(self._device), "attention_mask": mask.long()}
        vectors = POOLING[self.recipe.pooling](body(**seen).last_hidden_state.float(), mask.float())
        return normalize(vectors, dim=1) if self.recipe.unit else vectors

    def _load(self) -> tuple[Any, nn.Module]:
        try:
            tokenizer, body, _ = read(self._model, self._where, self._options, body=True)
        except NoSuchAttention:
            eager = ModelConfig(self._model.name_or_path, attn_implementation="eager")
            tokenizer, body, _ = read(eager, self._where, self._options, body=True)
        return tokenizer, body.to(self._device).eval().requires_grad_(False)

    def _tokens(self, tokenizer: Any, body: Any, texts: Sequence[str]) -> Ragged:
        most = self.recipe.max_length or min(most_positions(body), tokenizer.model_max_length)
        pad = tokenizer.pad_token_id or 0

        def ids() -> Any:
            for start in range(0, len(texts), AT_ONCE):
                part = [self.recipe.prompt + text for text in texts[start : start + AT_ONCE]]
                part = [text.lower() for text in part] if self.recipe.lower else part
                rows = tokenizer(part, truncation=True, max_length=most)["input_ids"]
                yield from (tuple(row) or (pad,) for row in rows)

        return Ragged(ids())


def _apart(ids: Ragged, pooled: Callable[[Sequence[Sequence[int]]], Tensor]) -> bool:
    """Whether the beginning of a short text has the vector beside a longer one that it has alone.

    Not so where layers see what a batch is filled with, which the mask keeps from attention alone.
    """
    lengths = ids.lengths
    short, long = ids[int(lengths.argmin())][:8], ids[int(lengths.argmax())][: isolation.LONGEST]
    return isolation.alike(pooled([short])[0], pooled([short, long])[0])


def _recipe(name: str, where: str, revision: str | None) -> Recipe:
    """Return what the files of an encoder say.

    Raises:
        InputError: A part of it that cannot be followed.
    """

    def refused(what: str, can: str) -> InputError:
        return InputError(f"{KEY}={name}: {what}; star follows {can}")

    def settings(file: str) -> Any:
        path = _file(where, file, revision)
        return None if path is None else read_json(path)

    modules = settings("modules.json")
    if modules is None:
        return Recipe()
    try:
        kinds = [module["type"].rpartition(".")[2] for module in modules]
        places = [module["path"] for module in modules]
    except (TypeError, KeyError, AttributeError):
        raise refused("modules.json lists no modules", "sentence-transformers' form") from None
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise refused(f"its modules are {', '.join(kinds)}", "Transformer, Pooling, Normalize")
    if places[0] not in ("", "."):
        raise refused(f"its weights lie in {places[0]}", "weights beside modules.json")
    pooled = settings(f"{places[1]}/config.json") or {}
    modes = [m.removeprefix("pooling_mode_") for m, on in pooled.items() if on is True]
    modes = [SPELT.get(m, m) for m in modes if m != "include_prompt"]
    modes = [str(pooled["pooling_mode"])] if "pooling_mode" in pooled else modes or ["mean"]
    if len(modes) != 1 or modes[0] not in POOLING:
        raise refused(f"its pooling is {', '.join(modes)}", f"one of {', '.join(POOLING)}")
    bert = next(filter(None, (settings(f"sentence_{kind}_config.json") for kind in KINDS)), {})
    said = settings("config_sentence_transformers.json") or {}
    prompt = (said.get("prompts") or {}).get(said.get("default_prompt_name") or "", "")
    if prompt and pooled.get("include_prompt") is False:
        raise refused("its pooling leaves out the prompt", "pooling over the whole text")
    return Recipe(
        modes[0],
        len(kinds) == 3,
        bert.get("max_seq_length"),
        bool(bert.get("do_lower_case")),
        prompt,
    )


def _file(where: str, name: str, revision: str | None) -> str | None:
    """Return the path of a file of a folder or a Hub repository; ``None``: it has none."""
    try:
        path: str | None = cached_file(
            where, name, revision=revision, _raise_exceptions_for_missing_entries=False
        )
    except (OSError, ValueError) as error:
        raise InputError(f"{KEY}={where}: {name} cannot be had: {one_line(error)}") from error
    return path

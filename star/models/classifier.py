"""A model with a classification head in the hand of a run: its vocabulary are the classes.

Any encoder or decoder that transformers has a ``...ForSequenceClassification`` of. A row is a text
and, as its one token of continuation, the number of its class: so what scores, trains and evaluates
the choices of a language model does the same here, class by class. The head is trained whole,
beside the adapter, and starts again with it in each round: what gives the classes, and what its
checkpoint lacks, from new random numbers, its other layers as the checkpoint has them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from star.cache import digest
from star.config import Config, ModelConfig
from star.data.task import Shot
from star.errors import InputError, one_line
from star.models import body_rows, heads, identity, isolation, loading, packing, sharding
from star.models.batching import Batch, Batching
from star.models.encoding import TokenRow, marks
from star.models.free_memory import fitted
from star.models.language_model import LanguageModel
from star.models.reading import device_of, read
from star.models.sources import cache_root, resolve
from star.models.traits import most_positions, traits_of

logger = logging.getLogger(__name__)


@dataclass
class Classifier(LanguageModel):
    """A body, frozen, and a head of C classes, trained.

    Attributes:
        classes: (C,) the texts by which rows name their classes, as ``Example.choices`` has them.
        heads: The head, and a pooling layer that the files lack: what is trained whole.
        drawn: The layers of these whose weights are drawn anew each round: those that the files
            lack, or have for other classes, and ``last``.
        ends: Tokens that the tokenizer puts behind every text.
        deviation: Of the normal distribution that the head's weights are drawn from.
        behind: What the positions of packed rows are counted from, see ``body_rows.inputs``.
        last: Name of the head's last layer, the linear one that gives the C numbers of a row;
            "" where an architecture has none.
    """

    has_base: ClassVar[bool] = False
    task_type: ClassVar[str] = "SEQ_CLS"
    cut_from: ClassVar[str] = "right"
    classes: tuple[str, ...] = ()
    ends: tuple[int, ...] = ()
    deviation: float = 0.02
    drawn: tuple[str, ...] = ()
    behind: int | None = None
    last: str = ""

    @property
    def vocabulary(self) -> int:
        """C, the number of classes."""
        return len(self.classes)

    def encode(
        self,
        prompts: Sequence[str],
        continuations: Sequence[str],
        *,
        eos: bool,
        shots: Sequence[Sequence[Shot]] = (),
    ) -> list[TokenRow]:
        """Return texts as token rows, the class' number as continuation.

        ``eos`` says nothing, and there are no ``shots``: a configuration with a head has none.
        """
        if not prompts:
            return []
        number = {name: i for i, name in enumerate(self.classes)}
        ids = self.tokenizer(list(prompts), verbose=False)["input_ids"]
        return [
            TokenRow(i, tuple(row) or (self.pad_id,), (number[name],) if name else ())
            for i, (row, name) in enumerate(zip(ids, continuations, strict=True))
        ]

    def shortened(self, prompt: tuple[int, ...], room: int) -> tuple[int, ...]:
        """Return a text cut from the right to ``room`` tokens, its end marks kept."""
        if len(prompt) <= room:
            return prompt
        ends = self.ends if prompt[len(prompt) - len(self.ends) :] == self.ends else ()
        return prompt[: max(1, room - len(ends))] + ends

    def renew(self) -> None:
        """Draw ``drawn`` anew: weights normal with the model's deviation, biases zero.

        As transformers starts a head whose weights no file has. The head's other layers stand as
        the files have them: training changes copies.
        """
        for name in self.drawn:
            layer: Any = self.causal.get_submodule(name)
            nn.init.normal_(layer.weight, std=self.deviation)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def predict(self, batch: Batch, cache: packing.Cache | None = None) -> Tensor:
        """Return the (B, C) logits of the batch's rows: head and body are one to transformers."""
        door = body_rows.doorstep(self._body, batch, behind=self.behind, pad_id=self.pad_id)
        with self.packing(batch), door as inputs:
            output: Tensor = self.causal(**inputs).logits
        return output

    def states(self, batch: Batch) -> Tensor:
        """Return the body's last hidden states where the batch predicts, (P, H): no head's work."""
        with self.packing(batch):
            inputs = body_rows.inputs(batch, self.behind)
            states: Tensor = self._body(**inputs).last_hidden_state
        return states.flatten(0, 1)[batch.predicting]

    def head_input(self, batch: Batch) -> Tensor:
        """Return what the head's last layer takes of each row, (B, d).

        The layer hands it on, so that what picks a row's logits of its tokens' picks this alike.

        Raises:
            InputError: There is no such layer.
        """
        if not self.last:
            raise InputError(
                f"{type(self.causal).__name__} has no linear layer that gives one number a class, "
                "so its input is no embedding; take a strategy that does not need it"
            )
        with _handing_on(self.causal.get_submodule(self.last)):
            return self.predict(batch)

    def logits(self, hidden: Tensor, of: Tensor | None = None) -> Tensor:
        """Return float32 logits over the classes, or of the (W,) classes ``of``."""
        return hidden.float() if of is None else hidden[..., of].float()


@contextmanager
def _handing_on(layer: nn.Module) -> Iterator[None]:
    """Let a layer give what it takes, while the context lasts."""
    hook = layer.register_forward_hook(lambda _, taken, given: taken[0])
    try:
        yield
    finally:
        hook.remove()


def load(
    config: ModelConfig,
    classes: Sequence[str],
    *,
    cache_dir: str | None = None,
    batching: Batching | None = None,
) -> Classifier:
    """Load a model with a head for these classes: eval mode, all weights frozen.

    Args:
        config: ``model``.
        classes: (C,) at least two, see :class:`Classifier`.
        cache_dir: ``tracking.cache_dir``.
        batching: What goes through it at once.

    Raises:
        InputError: As for :func:`star.models.loading.load`; an architecture without such a head.
    """
    where, info = resolve(config, cache_root(cache_dir))
    options: dict[str, Any] = {"trust_remote_code": False}
    if info["source"] == "hub":
        options["revision"] = info["revision"]
    tokenizer, module, absent = read(config, where, options, num_labels=len(classes))
    module.eval().requires_grad_(False)
    if sharding.wanted(config):
        sharding.shard(module, device_of(config))
    else:
        module.to(device_of(config))
    for part in packing.configs_of(module):
        if hasattr(part, "use_cache"):  # a text is read once; recomputed layers keep keys twice
            part.use_cache = False
    pad = _pad(tokenizer, config)
    module.config.pad_token_id = pad  # a decoder's head reads the last token that is none
    parts = sorted(heads.parts(module, absent))
    layers = heads.linear_layers(module, parts)
    last = heads.last(module, layers, len(classes))
    model = Classifier(
        causal=module,
        tokenizer=tokenizer,
        fingerprint="",
        info=info | {"name_or_path": config.name_or_path, "dtype": config.dtype},
        max_length=0,
        stop_ids=frozenset(),
        pad_id=pad,
        batching=fitted(batching or Batching(), module, device_of(config)),
        classes=tuple(classes),
        heads=tuple(parts),
        ends=tuple(marks(tokenizer)[1]),
        deviation=getattr(module.config, "initializer_range", None) or 0.02,
        drawn=tuple(name for name in layers if name == last or f"{name}.weight" in absent),
        last=last,
    )
    model.info |= {"classes": len(classes), "head": parts}
    model = replace(model, max_length=_positions(model, config) + 1)  # the class is no token
    _try_out(model, config)
    return model


def _try_out(model: Classifier, config: ModelConfig) -> None:
    """Find out how a model's rows are to be laid out; note what it computes with, and on what."""
    info = model.info
    alone = isolation.shows_padding(model)
    if not alone:
        _pack(model, config)
    info["computation"] = identity.computation(
        config, device=loading.device_name(model.device), packed=model.packable
    )
    name = config.name_or_path if info["source"] == "hub" else None
    content = [name, info["revision"], info["computation"], list(model.classes)]
    if alone:
        logger.info("what fills a batch shows in this model's rows: like lengths alone together")
        model.traits = replace(model.traits, uneven=min(model.max_length, 2**16))
        content.append("rows of one length")
    model.fingerprint = digest(content)


def _pack(model: Classifier, config: ModelConfig) -> None:
    """Lay rows end to end if the body keeps them apart, on a CPU.

    On a GPU, where attention would be a call a row, nobody has measured what that is worth.
    """
    told = traits_of(model.causal)
    apart = told.maskable and not told.chunked and config.attn_implementation == "sdpa"
    if not apart or model.device.type != "cpu" or sharding.wanted(config):
        return
    model.packable = True  # while it is tried
    for behind in (None, model.pad_id):
        model.behind = behind
        if isolation.packs_under_head(model):
            model.traits = replace(model.traits, window=told.window)
            return
    model.packable, model.behind = False, None


def model_of(config: Config, classes: Sequence[str], batching: Batching) -> LanguageModel:
    """Return a run's base model: with a head for the classes where the run classifies by one.

    Raises:
        InputError: As for :func:`load`.
    """
    cache_dir = config.tracking.cache_dir
    if config.task.classify_by == "head":
        return load(config.model, classes, cache_dir=cache_dir, batching=batching)
    chat = config.task.chat_template
    return loading.load(config.model, cache_dir=cache_dir, batching=batching, chat=chat)


def _pad(tokenizer: Any, config: ModelConfig) -> int:
    """Return the token to fill batches with."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise InputError(f"the tokenizer of {config.name_or_path} has no token to fill batches with")


@torch.inference_mode()
def _positions(model: Classifier, config: ModelConfig) -> int:
    """Return the tokens that fit the model's positions; what has more than 8,192 is believed.

    RoBERTa and its like count positions from behind the padding token's, so that as many of those
    in the configuration are none. The tokenizer's own limit counts, too.
    """
    most = min(most_positions(model.causal), int(model.tokenizer.model_max_length))
    word = model.tokenizer.unk_token_id
    word = (model.pad_id + 1 if word is None else word) % model.causal.config.vocab_size
    for size in (most, most - model.pad_id - 1) if most <= 2**13 else (8,):
        ids = torch.full((1, size), word, device=model.device)
        try:
            shape = tuple(model.causal(input_ids=ids).logits.shape)
        except IndexError:
            continue
        except Exception as error:  # of code that is not ours
            raise InputError(
                f"model {config.name_or_path} does not run with model.dtype={config.dtype} here: "
                f"{one_line(error)}"
            ) from error
        if shape != (1, len(model.classes)):
            kind = type(model.causal).__name__
            raise InputError(f"{kind} gives {shape} in the place of one number a class")
        return min(most, 2**30) if size == 8 else size
    raise InputError(f"model {config.name_or_path} takes no text of {most} tokens")

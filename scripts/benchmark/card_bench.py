"""What a card is measured with: a shape with random weights, rows of GSM8K's lengths, seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from benchmark.timing import seconds_of
from star import seeding
from star.config import AdapterConfig
from star.errors import InputError
from star.experiments.estimate.costs import Shape
from star.experiments.estimate.shapes import shape_of
from star.models import adapter, isolation
from star.models.batching import Batching
from star.models.encoding import TokenRow
from star.models.language_model import LanguageModel

# Tokens of GSM8K's questions in a prompt, and of its answers, under Llama-2's tokenizer: about the
# means and deviations of log-normal distributions, and the ends of what is drawn.
QUESTION, ANSWER = (85.0, 35.0, 25, 300), (130.0, 65.0, 20, 450)


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        name: Of the shape.
        config: What ``LlamaConfig`` takes.
        rows: Scored once.
        few: Scored where several ways are compared.
        tokens: Of a batch, tried one after the other; the middle one is used elsewhere.
        new: Tokens of an answer.
        together: Answers made at once.
        updates: Timed of training.
        shrink: By which lengths of rows are divided.
    """

    name: str
    config: dict[str, Any]
    rows: int
    few: int
    tokens: tuple[int, int, int]
    new: int
    together: tuple[int, int]
    updates: int
    shrink: int = 1


LLAMA = Size(
    name="llama-2-7b",
    config={
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "vocab_size": 32000, "max_position_embeddings": 4096,
    },
    rows=2048, few=512, tokens=(4096, 16384, 65536), new=256, together=(64, 256), updates=10,
)  # fmt: skip
TINY = Size(
    name="tiny",
    config={
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": 99, "max_position_embeddings": 256,
    },
    rows=24, few=12, tokens=(64, 256, 1024), new=20, together=(4, 8), updates=2, shrink=8,
)  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """A line of the table: ``value`` in ``unit``; ``None`` where it is not to be had."""

    what: str
    value: float | None
    unit: str = ""
    aim: str = ""
    note: str = ""

    def shown(self) -> str:
        """Return the value with its unit."""
        if self.value is None:
            return "not available"
        digits = f"{self.value:,.0f}" if abs(self.value) >= 1000 else f"{self.value:.3g}"
        return f"{digits} {self.unit}".strip()

    def __str__(self) -> str:
        return f"{self.what}: {self.shown()} {self.aim and f'(aim {self.aim})'} {self.note}".strip()


@dataclass
class Card:
    """A model on a device, and what was found so far."""

    model: LanguageModel
    size: Size
    shape: Shape
    rows: list[TokenRow]
    found: dict[str, float] = field(default_factory=dict)
    """Figures that later parts use: seconds, and peaks in FLOP/s and bytes a second."""
    _end: float = 0.0

    @classmethod
    def made(cls, *, smoke: bool) -> Card:
        """Return it: on the GPU, or tiny on a CPU.

        Raises:
            InputError: There is no GPU.
        """
        if not smoke and not torch.cuda.is_available():
            raise InputError("--gpu needs a GPU, there is none; --smoke runs on a CPU")
        size, device = (TINY, torch.device("cpu")) if smoke else (LLAMA, torch.device("cuda", 0))
        config = LlamaConfig(**size.config)
        with seeding.forked(0, "benchmark"), device:
            make: Any = AutoModelForCausalLM.from_config
            causal = make(config, dtype=torch.bfloat16, attn_implementation="sdpa")
        model = LanguageModel(
            causal=causal.eval().requires_grad_(False),
            tokenizer=None,
            fingerprint=size.name,
            info={"source": "random", "dtype": "bfloat16"},
            max_length=config.max_position_embeddings,
            stop_ids=frozenset(),  # no answer ends: all have as many tokens
            pad_id=0,
            packable=True,
            batching=Batching(rows=1024, tokens=size.tokens[1]),
        )
        model.packable = isolation.packs(model)
        return cls(model, size, shape_of(causal, AdapterConfig()), rows_of(size))

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16

    def begin(self, seconds: float) -> None:
        """Begin a part that has so many seconds."""
        self._end = time.perf_counter() + seconds
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def left(self) -> float:
        """Return the seconds that the part still has."""
        return self._end - time.perf_counter()

    def peak_bytes(self) -> int:
        """Return the most bytes of the GPU's that were held since the part, or a figure, began."""
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0

    def seconds(self, work: Callable[[], Any], *, warm: Callable[[], Any] | None = None) -> float:
        """Return the seconds of ``work``, after ``warm`` (``work`` itself if there is none)."""
        (warm or work)()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        return seconds_of(work, self.device)[0]

    @contextmanager
    def batches(self, tokens: int, rows: int | None = None) -> Iterator[None]:
        """Give batches another size meanwhile."""
        before = self.model.batching
        self.model.batching = replace(before, tokens=tokens, rows=rows or before.rows)
        try:
            yield
        finally:
            self.model.batching = before

    @contextmanager
    def adapted(self, *, dropout: float = 0.1) -> Iterator[Any]:
        """Yield the model with an adapter of rank 64, and a little noise in every B."""
        settings = AdapterConfig(lora_dropout=dropout)
        with adapter.fresh(self.model, settings, seed=0, round_=0) as adapted:
            stream = torch.Generator(self.device).manual_seed(0)
            for _, layer in adapter.layers(adapted):
                layer.lora_B[adapter.NAME].weight.data.normal_(0, 0.01, generator=stream)
            yield adapted


def rows_of(size: Size) -> list[TokenRow]:
    """Return rows of random tokens of about GSM8K's lengths, the same on every machine."""
    stream = torch.Generator().manual_seed(0)

    def lengths(mean: float, deviation: float, least: int, most: int) -> list[int]:
        spread = torch.tensor(1 + (deviation / mean) ** 2).log()
        drawn = torch.randn(size.rows, generator=stream) * spread.sqrt()
        drawn = (drawn - spread / 2).exp() * mean
        whole = (drawn.clamp(least, most) / size.shrink).round().clamp(min=2)
        return [int(x) for x in whole]

    def tokens(count: int) -> tuple[int, ...]:
        drawn = torch.randint(3, size.config["vocab_size"], (count,), generator=stream)
        return tuple(drawn.tolist())

    pairs = zip(lengths(*QUESTION), lengths(*ANSWER), strict=True)
    return [TokenRow(i, tokens(one), tokens(two)) for i, (one, two) in enumerate(pairs)]

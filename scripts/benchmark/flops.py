"""What the benchmark's work takes: tokens and FLOPs.

Counted as what the work needs, once: padding, logits that nobody asks for and the adapter's own
products while scoring are not, so a side that does more shows a lower rate.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.bench import Bench, Question
from star.evaluation.evaluate import Evaluation
from star.experiments.estimate import costs
from star.models.encoding import TokenRow
from star.models.truncation import encode_choices, encode_rows


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

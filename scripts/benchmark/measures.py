"""The ratios of the benchmark: star's way and another, timed in turn on the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from statistics import mean
from typing import Any

from benchmark import baselines as slow
from benchmark.bench import Bench, Question
from benchmark.flops import forward, judging_work, training_work
from benchmark.lines import Line, Side
from benchmark.timing import Work, ratio
from benchmark.training import BATCH, TRAIN, fit, updates_of
from star.acquisition.pool_scorer import PoolScorer
from star.acquisition.uncertainty import from_logits
from star.config import AcquisitionConfig, McDropoutConfig
from star.data.pool import Oracle
from star.evaluation.evaluate import Evaluation, evaluate
from star.models import likelihood, mc_dropout
from star.models.encoding import TokenRow
from star.models.passes import Passes

LONG_AND_SHORT = ("gsm8k", "openbookqa")
# The ratios of scoring: on which data sets, and which two sides.
SCORED = {
    "scoring_over_bare": (LONG_AND_SHORT, ("ours", "bare")),
    "scoring_over_peft_dropout": (LONG_AND_SHORT, ("ours", "dropout")),
    "scoring_over_single_gsm8k": (("gsm8k",), ("ours", "single")),
    "scoring_over_single_openbookqa": (("openbookqa",), ("ours", "single")),
    "bare_over_matmul_peak": (LONG_AND_SHORT, ("bare", "products")),
}
LOSSES_EQUAL = {"float32": 1e-4, "bfloat16": 2e-2}


# ---- the work that is timed ---------------------------------------------------------------------


def drawn(bench: Bench, adapted: Any) -> Passes:
    """Return the MC-dropout passes."""
    settings = McDropoutConfig(passes=bench.options.passes)
    return mc_dropout.passes(adapted, settings, seed=0, round_=0)


def score(bench: Bench, adapted: Any, rows: Sequence[TokenRow]) -> dict[str, Any]:
    """Return the scores of all passes."""
    with drawn(bench, adapted).installed() as passes:
        return likelihood.token_scores(bench.model, rows, from_logits, passes=passes)


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
    options = {"new_tokens": bench.limits.max_new_tokens, "batch_size": bench.model.batching.rows}
    return slow.evaluate_fixed(bench.model, bench.data(data).task, examples, answers, **options)


# ---- the ratios ---------------------------------------------------------------------------------


def scored_sides(bench: Bench, task: str) -> dict[str, Side]:
    """Return the sides of scoring that are asked for, timed in turn on the same rows."""
    if task in bench.scored:
        return bench.scored[task]
    mean_length = mean(map(len, bench.rows(task, bench.options.rows)))
    count = max(bench.options.rows, round(bench.options.tokens / mean_length))
    rows, passes = bench.rows(task, count), bench.options.passes
    # One example at a time gains nothing by more examples.
    few = slice(None, None, max(1, count // bench.options.rows))
    options = {"passes": passes, "batch_size": bench.model.batching.rows}
    sides: dict[str, Work] = {
        "ours": lambda adapted, rows: score(bench, adapted, rows),
        "bare": lambda _, rows: slow.bare(bench.model, rows, batch_size=options["batch_size"]),
        "dropout": lambda adapted, rows: slow.score_through_dropout(
            bench.model, adapted, rows, **options
        ),
        "single": lambda adapted, rows: slow.score_single(
            bench.model, adapted, rows[few], passes=passes
        ),
        "products": bench.products,
    }
    asked = [SCORED[name] for name in bench.names if name in SCORED]
    wanted = {side for data, pair in asked if task in data for side in pair}
    timed = bench.time({name: sides[name] for name in sides if name in wanted}, rows)
    tokens, flops = sum(map(len, rows)), forward(bench, rows)
    found = {
        name: Side(seconds, passes * tokens, passes * flops) for name, (seconds, _) in timed.items()
    }
    if "single" in found:
        part = rows[few]
        work = (passes * sum(map(len, part)), passes * forward(bench, part))
        found["single"] = Side(found["single"].seconds, *work)
    if "bare" in found:
        found["bare"] = Side(found["bare"].seconds, tokens, flops)
    if "products" in found:
        found["products"] = Side(found["products"].seconds, 0, bench.products.flops)
    bench.scored[task] = found
    return found


def scoring(bench: Bench, name: str) -> list[Line]:
    """Return the work a second of one side over that of the other, for each data set.

    Work is counted in FLOPs, which are S times those of one pass; for the same rows that is the
    ratio of tokens a second.
    """
    data, sides = SCORED[name]
    lines = []
    for task in data:
        found = scored_sides(bench, task)
        ours, other = (found[side] for side in sides)
        value = ratio(ours.seconds, other.seconds, ours.flops / other.flops)
        lines.append(Line(name, task, value, ours, other))
    return lines


def training_step(bench: Bench, name: str, *, data: str) -> list[Line]:
    """Return the seconds of padded training over ours: the same updates, equal losses."""
    rows = bench.rows(data, bench.options.updates * BATCH, eos=True)
    sides: dict[str, Work] = {
        "ours": lambda adapted, rows: fit(bench.model, adapted, rows, TRAIN),
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
        fit(bench.model, adapted, labelled, TRAIN)
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

"""How to read a record's tables, in sentences: whatever stands in them is said, and no more."""

from __future__ import annotations

from collections.abc import Sequence

from star.experiments.report.comparisons import LEVEL, QUERY
from star.experiments.report.confidences import NAMES
from star.experiments.report.likeness import PARTS, UNTESTED
from star.experiments.report.record import Record
from star.experiments.report.summary import Line, Summary


def legend(summary: Summary, *, brief: bool = False) -> list[str]:
    """Return how to read a table's sheets, in sentences.

    Args:
        summary: Of the table.
        brief: As for :func:`star.experiments.report.layout.sheets_of`.
    """
    lines, baseline = summary.lines, summary.record.baseline
    said = [
        "Accuracies, areas and RIPL in percent, differences in points of it. ± is half of the 95 % "
        "t-interval over seeds; one seed has none. n: seeds. "
        f"{_what_seeds_draw(summary.record)}",
        "AUC: area under the curve of test accuracy over the label counts, divided by their range, "
        "so the curve's mean height. Final accuracy: after the last round.",
        *(_comparisons(summary, brief) if summary.comparisons else []),
    ]
    if not brief and any(getattr(line, key) for line in lines for key in QUERY):
        said.append(
            "First query shared: percent of it that the other row asked for too, on the same seed, "
            "so after the same labels. Where training is the same, so are the adapters, and only "
            "the scores differ."
        )
    if any(line.ripl for line in lines):
        said.append(
            f"RIPL: relative improvement over passive learning, (AUC − AUC of {baseline}) / (100 − "
            f"AUC of {baseline}), per seed."
        )
    said += _confidences(lines)
    if any(line.label_share for line in lines):
        said.append(_label_share(baseline, brief))
    if any(line.auc for line in lines):
        said.append(
            "Bold: the largest AUC among the rows that read no labels they had not bought"
            f"{_without_bold(summary)}."
        )
    if any(line.label_free is False for line in lines):
        said.append(
            "Label-using: its scores read answers of the whole pool, which active learning has not."
        )
    if any(not line.curve for line in lines):
        said.append("Rows without a learning curve have an accuracy alone.")
    if any(line.n < line.wanted for line in lines):
        said.append(
            "Missing and failed seeds are in no figure; comparisons use the seeds both rows have."
        )
    return said


def _without_bold(summary: Summary) -> str:
    parts = dict.fromkeys(part for parts in summary.unlike.values() for part in parts)
    other = " or ".join(part for part in parts if part in PARTS)
    marks = " or ".join(f"“other {part}”" for part in parts if part in UNTESTED)
    said = [f"whose rows are of different {other}"] if other else []
    said += [f"with a row marked {marks}"] if marks else []
    if any(summary.uneven(column.name) for column in summary.record.columns):
        said.append("whose rows have unlike seeds")
    return f"; none in a column {' or '.join(said)}" if said else ""


def _comparisons(summary: Summary, brief: bool) -> list[str]:
    """Return how to read the differences in area, their arrows and tests."""
    baseline = summary.record.baseline
    naive = (
        " AUC − naive: likewise to the row in parentheses, which lacks what the method adds."
        if any(line.versus_naive for line in summary.lines)
        else ""
    )
    family = max((versus.family or 0 for versus in summary.comparisons), default=0)
    tested = (
        f"↑ better, ↓ worse: p < {LEVEL} in the paired t test of these differences, corrected by "
        f"Holm's method over the {family} comparisons of the whole table. In the summary the arrow "
        f"is that of the difference to {baseline}."
        if family
        else "Nothing is tested: a t test needs two seeds that differ."
    )
    if summary.untested:
        tested += " Rows whose runs are not like for like are laid side by side without a test."
    said = [
        f"AUC − {baseline}: difference on the same seeds, with the paired t-interval.{naive} "
        f"{tested} The ± of a single AUC says less: what seeds have in common is still in it."
    ]
    if family and not brief:
        said.append(
            "p: of the t test; flip: of the sign-flip permutation test, which needs no normal "
            "differences and six seeds at least; both corrected over the table. “k seeds”: with so "
            f"many a paired t test at {LEVEL} / {family}, Holm's strictest level, would find a "
            "difference as large and as unsteady as this one in 4 of 5 cases."
        )
    return said


def _label_share(baseline: str, brief: bool) -> str:
    """Return how to read the share of random's labels."""
    quartiles, one = ("", "") if brief else (" (quartiles)", " or a quartile")
    name = f"“labels; never”: to {baseline}'s end" if brief else f"Labels to {baseline}'s end"
    return (
        f"{name}: the share of the labels at which a run's curve reaches the final accuracy of a "
        f"run of {baseline}; median{quartiles} over pairs of runs of different seeds, on isotonic "
        "curves; “never”: the share of pairs in which it does not. They count as the largest; – "
        f"stands where the median{one} is one of them. The row {baseline} compares {baseline} with "
        "itself, by chance alone: read the others beside it."
    )


def _what_seeds_draw(record: Record) -> str:
    """Return what differs between seeds, so what ± is about."""
    drawn = [(cell.content or {}).get("draw") == "seeded" for cell in record.results()]
    if drawn and all(drawn):
        return (
            "Seeds differ in the pool and the test questions, which each draws for itself, in the "
            "first labels and in training. Families make them anew for each seed; from stored rows "
            "seeds draw some in common, and all where no limit is set, of which ± says nothing."
        )
    if any(drawn):
        return "Some runs draw pool and test questions by the seed, others have the same for all."
    return (
        "Seeds differ in the first labels and in training; pool and test questions are the same, "
        "so ± says nothing of other ones."
    )


def _confidences(lines: Sequence[Line]) -> list[str]:
    """Return how to read the sheets of confidences."""
    if not any(getattr(line, name) for line in lines for name in NAMES):
        return []
    said = (
        "ECE: expected calibration error after the last round, in percent, less is better; "
        "overconfidence: mean confidence − accuracy, in points, of the same answers. Confidence: "
        "the probability of the choice, or of the whole answer. ECE area: as AUC, under the errors."
    )
    if any(line.ece_token_mean for line in lines):
        said += (
            " Token mean: the geometric mean of the probabilities of a generated answer's tokens, "
            "which is the probability of nothing."
        )
    return [f"{said} Base model: the same questions, without the adapter."]

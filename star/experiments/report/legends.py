"""How to read a record's tables, in sentences: whatever stands in them is said, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from star.experiments.report.comparisons import LEVEL, QUERY, VERSUS
from star.experiments.report.confidences import NAMES
from star.experiments.report.gathering import Record
from star.experiments.report.summaries import figures_of


def legend(record: Record, *, brief: bool = False) -> list[str]:
    """Return how to read a record's sheets, in sentences.

    Args:
        record: See :mod:`star.experiments.report.gathering`.
        brief: As for :func:`star.experiments.report.sheets.sheets_of`.
    """
    lines, baseline = figures_of(record), record["baseline"]
    compared = [line[key] for line in lines for key in VERSUS if line[key] is not None]
    said = [
        "Accuracies, areas and RIPL in percent, differences in points of it. ± is half of the 95 % "
        f"t-interval over seeds; one seed has none. n: seeds. {_what_seeds_draw(record)}",
        "AUC: area under the curve of test accuracy over the label counts, divided by their range, "
        "so the curve's mean height. Final accuracy: after the last round.",
    ]
    if compared:
        naive = (
            " AUC − naive: likewise to the row in parentheses, which lacks what the method adds."
            if any(line["versus_naive"] for line in lines)
            else ""
        )
        family = max((one["family"] or 0 for one in compared), default=0)
        tested = (
            f"↑ better, ↓ worse: p < {LEVEL} in the paired t test of these differences, corrected "
            f"by Holm's method over the {family} comparisons of the whole table. In the summary "
            f"the arrow is that of the difference to {baseline}."
            if family
            else "Nothing is tested: a t test needs two seeds that differ."
        )
        said.append(
            f"AUC − {baseline}: difference on the same seeds, with the paired t-interval.{naive} "
            f"{tested} The ± of a single AUC says less: what seeds have in common is still in it."
        )
        if family and not brief:
            said.append(
                "p: of the t test; flip: of the sign-flip permutation test, which needs no normal "
                "differences and six seeds at least; both corrected over the table. “k seeds”: "
                f"with so many a paired t test at {LEVEL} / {family}, Holm's strictest level, "
                "would find a difference as large and as unsteady as this one in 4 of 5 cases."
            )
    if not brief and any(line[key] for line in lines for key in QUERY):
        said.append(
            "First query shared: percent of it that the other row asked for too, on the same seed, "
            "so after the same labels. Where training is the same, so are the adapters, and only "
            "the scores differ."
        )
    if any(line["ripl"] for line in lines):
        said.append(
            f"RIPL: relative improvement over passive learning, (AUC − AUC of {baseline}) / (100 − "
            f"AUC of {baseline}), per seed."
        )
    said += _confidences(lines)
    if any(line["label_share"] for line in lines):
        quartiles, one = ("", "") if brief else (" (quartiles)", " or a quartile")
        name = f"“labels; never”: to {baseline}'s end" if brief else f"Labels to {baseline}'s end"
        said.append(
            f"{name}: the share of the labels at which a run's curve reaches "
            f"the final accuracy of a run of {baseline}; median{quartiles} over pairs of runs of "
            "different seeds, on isotonic curves; “never”: the share of pairs in which it does "
            f"not. They count as the largest; – stands where the median{one} is one of "
            f"them. The row {baseline} compares {baseline} with itself, by chance alone: read the "
            "others beside it."
        )
    if any(line["auc"] for line in lines):
        said.append("Bold: the largest AUC among the rows that read no labels they had not bought.")
    if any(line["label_free"] is False for line in lines):
        said.append(
            "Label-using: its scores read answers of the whole pool, which active learning has not."
        )
    if any(not line["curve"] for line in lines):
        said.append("Rows without a learning curve have an accuracy alone.")
    if any(line["n"] < line["wanted"] for line in lines):
        said.append(
            "Missing and failed seeds are in no figure; comparisons use the seeds both rows have."
        )
    return said


def _what_seeds_draw(record: Record) -> str:
    """Return what differs between seeds, so what ± is about."""
    done = [cell for cell in record["cells"] if cell["status"] == "done"]
    drawn = [(cell.get("content") or {}).get("draw") == "seeded" for cell in done]
    if drawn and all(drawn):
        return (
            "Seeds differ in the pool and the test questions, which each draws for itself, in the "
            "first labels and in training."
        )
    if any(drawn):
        return "Some runs draw pool and test questions by the seed, others have the same for all."
    return (
        "Seeds differ in the first labels and in training; pool and test questions are the same, "
        "so ± says nothing of other ones."
    )


def _confidences(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return how to read the sheets of confidences."""
    if not any(line[name] for line in lines for name in NAMES):
        return []
    said = (
        "ECE: expected calibration error after the last round, in percent, less is better; "
        "overconfidence: mean confidence − accuracy, in points, of the same answers. Confidence: "
        "the probability of the choice, or of the whole answer. ECE area: as AUC, under the errors."
    )
    if any(line["ece_token_mean"] for line in lines):
        said += (
            " Token mean: the geometric mean of the probabilities of a generated answer's tokens, "
            "which is the probability of nothing."
        )
    return [f"{said} Base model: the same questions, without the adapter."]

"""How to read a record's tables, in sentences: whatever stands in them is said, and no more."""

from __future__ import annotations

from star.reporting.gathering import Record
from star.reporting.summaries import LEVEL, QUERY, VERSUS, figures_of


def legend(record: Record, *, brief: bool = False) -> list[str]:
    """Return how to read a record's sheets, in sentences.

    Args:
        record: See :mod:`star.reporting.gathering`.
        brief: As for :func:`star.reporting.sheets.sheets_of`.
    """
    lines, baseline = figures_of(record), record["baseline"]
    compared = [line[key] for line in lines for key in VERSUS if line[key] is not None]
    said = [
        "Accuracies, areas and RIPL in percent, differences in points of it. ± is half of the 95 % "
        "t-interval over seeds; one seed has none. n: seeds. Seeds differ in the first labels and "
        "in training; pool and test questions are the same, so ± says nothing of other ones.",
        "AUC: area under the curve of test accuracy over the label counts, divided by their range, "
        "so the curve's mean height. ECE area: the same of the expected calibration error, less is "
        "better. Final accuracy: after the last round.",
    ]
    if compared:
        naive = (
            " AUC − naive: likewise to the row in parentheses, which lacks what the method adds."
            if any(line["versus_naive"] for line in lines)
            else ""
        )
        said.append(
            f"AUC − {baseline}: difference on the same seeds, with the paired t-interval.{naive} "
            f"↑ better, ↓ worse: p < {LEVEL} in the sign-flip permutation test of these "
            "differences (below 6 seeds, where that can find nothing: the paired t test), "
            "corrected by Holm's method over all comparisons of a column. In the summary the arrow "
            f"is that of the difference to {baseline}. The ± of a single AUC says less: what seeds "
            "have in common is still in it."
        )
        if not brief:
            said.append(
                "p: corrected. “k seeds”: with so many a paired t test of a single comparison "
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

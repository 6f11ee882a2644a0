"""What a finished run's folder says to the rules of ``star.evaluation.stopping``. No model."""

from __future__ import annotations

from star.active_learning.run_reader import RunReader
from star.data.readers import read_lines
from star.errors import InputError
from star.evaluation.stopping import History


def history(run: RunReader) -> History:
    """Return labels, accuracy, uncertainty and predictions of a run's complete rounds.

    Uncertainty is the mean of 1 − confidence, and predictions are the answers, both of the test
    rows: they need no labels, but the accuracy is of the same rows.

    Raises:
        InputError: No complete round, a file that is missing, or rounds tested on unlike rows.
    """
    rounds = range(run.complete_rounds())
    if not rounds:
        raise InputError(f"{run.path} has no complete round; train one first")
    metrics = [run.metrics(t) for t in rounds]
    try:
        rows = [[row for _, row in read_lines(run.predictions(t))] for t in rounds]
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {error.strerror}") from None
    for t in rounds:
        if [row["index"] for row in rows[t]] != [row["index"] for row in rows[0]]:
            raise InputError(f"{run.predictions(t)} is of other rows than round 0's")
    return History(
        labels=[m["labeled"] for m in metrics],
        accuracy=[m["accuracy"] for m in metrics],
        uncertainty=[sum(1 - row["confidence"] for row in part) / len(part) for part in rows],
        predictions=[[row["prediction"] for row in part] for part in rows],
    )

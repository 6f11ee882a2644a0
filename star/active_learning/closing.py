"""What a run says at its end: what came of it, and what can be done with it next."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path

from star.active_learning.run_reader import RunReader

logger = logging.getLogger(__name__)


def say(folder: Path) -> None:
    """Log a finished run's last accuracy and the commands that go on from it."""
    run = RunReader(folder)
    result = run.result()
    last = result["rounds"][-1]
    logger.info(
        "done: accuracy %.3f with %d labels; area under the learning curve %.3f",
        *(last["accuracy"], last["labeled"], result["auc"]),
    )
    place = shlex.quote(str(folder))
    lines = [("results", f"star report {place}")]
    if run.scored_rounds():
        lines.append(("another query", f"star replay {place} acquisition.measure=margin"))
    adapter = run.adapter(last["round"])
    if adapter.is_dir():
        lines.append(("the last adapter", str(adapter)))
    for what, how in lines:
        logger.info("  %-17s %s", f"{what}:", how)

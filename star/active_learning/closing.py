"""What a run says at its end: what came of it, and what can be done with it next."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path

from star.files import read_json

logger = logging.getLogger(__name__)


def say(folder: Path) -> None:
    """Log a finished run's last accuracy and the commands that go on from it."""
    result = read_json(folder / "result.json")
    last = result["rounds"][-1]
    logger.info(
        "done: accuracy %.3f with %d labels; area under the learning curve %.3f",
        *(last["accuracy"], last["labeled"], result["auc"]),
    )
    place = shlex.quote(str(folder))
    lines = [("results", f"star report {place}")]
    if any(folder.glob("rounds/*/scores.npz")):
        lines.append(("another query", f"star replay {place} acquisition.measure=margin"))
    adapter = folder / "rounds" / f"{last['round']:02d}" / "adapter"
    if adapter.is_dir():
        lines.append(("the last adapter", str(adapter)))
    for what, how in lines:
        logger.info("  %-17s %s", f"{what}:", how)

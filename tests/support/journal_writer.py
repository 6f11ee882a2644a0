"""A process that records decisions and says each number once it is confirmed."""

from __future__ import annotations

import sys

from star.annotation.journal import Journal
from star.annotation.records import Decision


def main(path: str, annotator: str, count: int, size: int) -> None:
    journal = Journal(path)
    for number in range(count):
        decision = Decision(
            f"{annotator}-{number}", "answer", annotator, "2026-11-27T00:00:00Z", "x" * size
        )
        (entry,) = journal.append([decision])
        sys.stdout.write(f"{entry.number} {decision.id}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))

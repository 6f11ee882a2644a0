"""python scripts/benchmark: ratios to slow ways (``ratios.py``); --gpu: a card (``card.py``)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# As the command line sets it: threads that wait asleep. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if not __package__:  # python scripts/benchmark puts the folder itself into sys.path
    sys.path[0] = str(Path(__file__).parents[1])


def main() -> int:
    """Return the exit status of what the words ask for."""
    words = sys.argv[1:]
    if "--gpu" in words:  # needs fewer packages: a machine may have no more
        from benchmark import card

        words.remove("--gpu")
        return card.main(words)
    from benchmark import ratios

    return ratios.main(words)


if __name__ == "__main__":
    sys.exit(main())

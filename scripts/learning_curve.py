"""Print a table of finished runs and draw their learning curves.

python scripts/learning_curve.py RUN [RUN ...] --output FILE.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from star.errors import InputError
from star.experiments.report.style import curve_table, learning_curve_figure, read_result


def main() -> int:
    """Return the exit status: 0, or 2 for what the user can mend."""
    parser = argparse.ArgumentParser(
        description="Print a table of finished runs and draw their learning curves."
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="a run folder")
    parser.add_argument(
        "--output", metavar="FILE", type=Path, required=True, help="the picture: .png, .pdf, .svg"
    )
    words = parser.parse_args()
    try:
        results = [read_result(folder) for folder in words.runs]
        print(curve_table(results))
        path = learning_curve_figure(results, words.output)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"\nlearning curves: {path.resolve()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

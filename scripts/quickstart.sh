#!/usr/bin/env bash
# STAR and random choice label the same pool round by round; a table and a learning curve compare
# them. Needs Python 3.11 or newer and no model or data from elsewhere.
#
#   ./scripts/quickstart.sh                        some minutes on 2 cores
#   ./scripts/quickstart.sh seed=1 pool.rounds=4   key=value words change both runs
#
# Paths are relative to the repository. Finished runs are not run again.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$STAR_ROOT"
star_setup

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# The last line that `star run` prints is the run's folder.
echo "== STAR =="
python -m star run configs/quickstart.yaml "$@" | tee "$log"
star_run=$(tail -n 1 "$log")

echo
echo "== random choice =="
python -m star run configs/quickstart.yaml "$@" acquisition.select=random | tee "$log"
random_run=$(tail -n 1 "$log")

echo
echo "== comparison =="
# <output_dir>/<task>/<strategy>/seed<k>-<hash>: beside the two strategies' folders.
python scripts/learning_curve.py "$star_run" "$random_run" \
    --output "$(dirname "$(dirname "$star_run")")/learning_curve.png"

#!/usr/bin/env bash
# STAR and random choice label the same pool round by round; tables and learning curves compare
# them. Needs Python 3.11 or newer and no model or data from elsewhere.
#
#   ./scripts/quickstart.sh                        3 to 7 minutes with installation
#   ./scripts/quickstart.sh seed=1 pool.rounds=4   key=value words change both runs
#
# Paths are relative to the repository. Finished runs are not run again.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
started_in=$PWD active=${VIRTUAL_ENV:-}
cd "$STAR_ROOT"
star_setup

# Both at once, a core each: the embedded model is too small to gain from a second thread.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
star_log=$(mktemp) random_log=$(mktemp)
trap 'rm -f "$star_log" "$random_log"; kill $(jobs -p) 2>/dev/null || true' EXIT

python -m star run configs/quickstart.yaml "$@" acquisition.select=random tracking.progress=false \
    >"$random_log" 2>&1 &
random=$!

# The last line that `star run` prints is the run's folder.
echo "== STAR =="
python -m star run configs/quickstart.yaml "$@" | tee "$star_log"
star_run=$(tail -n 1 "$star_log")

echo
echo "== random choice =="
status=0
wait "$random" || status=$?
cat "$random_log"
[ "$status" = 0 ] || exit "$status"
random_run=$(tail -n 1 "$random_log")

echo
echo "== comparison =="
# <output_dir>/<task>/<strategy>/seed<k>-<hash>: beside the two strategies' folders.
report=$(dirname "$(dirname "$star_run")")/report
python -m star report "$star_run" "$random_run" --output "$report" >/dev/null
cat "$report/table.md"
echo
echo "tables and learning curves: $report"

echo
echo "== next =="
# Whoever has activated no environment has no command `star` yet.
if [ "$started_in" != "$STAR_ROOT" ]; then
    printf 'cd %q\n' "$STAR_ROOT"
fi
if [ -z "$active" ]; then
    echo "source .venv/bin/activate    # once in each terminal: then there is the command star"
fi
echo "star run configs/quickstart.yaml acquisition.measure=margin"
printf 'star report %q\n' "$(dirname "$(dirname "$star_run")")"

#!/usr/bin/env bash
# Make a table again: run what is missing of configs/tables/TABLE.yaml, then write its report.
#
#   ./scripts/reproduce.sh TABLE [words of star sweep]
#   ./scripts/reproduce.sh main --columns arithmetic --seeds 3 --jobs 2
#
# What a table holds and what it took stand at the top of its file. Finished cells are not run again.
# The report goes into OUTPUT_DIR/TABLE/report, or, where RESULTS is set, into $RESULTS/TABLE
# (RESULTS=scripts/results renews what is committed). Ends with 1 if a cell failed.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$STAR_ROOT"

table=${1:-}
if [ ! -f "configs/tables/$table.yaml" ]; then
    echo "error: no table '$table'; there are" $(basename -s .yaml configs/tables/*.yaml) >&2
    exit 2
fi
shift
star_setup

output_dir=runs previous="" status=0
for word in "$@"; do
    [ "$previous" = --output-dir ] && output_dir=$word
    [ "${word#--output-dir=}" != "$word" ] && output_dir=${word#--output-dir=}
    previous=$word
done
star sweep "configs/tables/$table.yaml" "$@" || status=$?
[ "$status" -le 1 ] || exit "$status" # 1: a cell failed, and the report shows the gap
star report "configs/tables/$table.yaml" --output-dir "$output_dir" \
    --output "${RESULTS:-$output_dir/$table/report}${RESULTS:+/$table}"
exit "$status"

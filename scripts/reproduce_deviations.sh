#!/usr/bin/env bash
# README's "Differences from the paper and the released code": what each difference costs.
#
#   ./scripts/reproduce_deviations.sh [--seeds 3] [--jobs 2]
#
# Table `deviations`, 95 cells with 5 seeds; not run whole yet. Each takes about 40 core-seconds.
# Finished cells are not run again, those of other tables are taken over.
# .
# Report: runs/deviations/report/; what is committed: scripts/results/deviations/.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$STAR_ROOT"
star_setup
star_table deviations "$@"

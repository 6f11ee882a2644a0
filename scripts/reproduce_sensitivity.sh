#!/usr/bin/env bash
# Table `sensitivity`: STAR's settings one at a time, on the embedded arithmetic family.
#
#   ./scripts/reproduce_sensitivity.sh [--rows star,sum] [--seeds 3] [--jobs 2]
#
# 105 cells with 5 seeds; not run whole yet. Each takes about 40 seconds of a core.
# Cells that other tables have run are taken over.
# Report: runs/sensitivity/report/; what is committed: scripts/results/sensitivity/.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$STAR_ROOT"
star_setup
star_table sensitivity "$@"

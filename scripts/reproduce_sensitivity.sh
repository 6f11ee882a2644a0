#!/usr/bin/env bash
# Table `sensitivity`: STAR's settings one at a time, on the embedded arithmetic family.
#
#   ./scripts/reproduce_sensitivity.sh [--rows star,sum] [--seeds 3] [--jobs 2]
#
# 115 cells with 5 seeds. Those of other tables are taken over; beside `main`, `ablation` and
# `deviations` 80 are left, 30 minutes on 2 cores (AMD EPYC). Finished cells are not run again.
# Report: runs/sensitivity/report/; committed: scripts/results/sensitivity/ (of figures, the curves).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$STAR_ROOT"
star_setup
star_table sensitivity "$@"

#!/usr/bin/env bash
# README's "Differences from the paper and the released code": what each difference costs.
#
#   ./scripts/reproduce_deviations.sh [--seeds 3] [--jobs 2]
#
# Table `deviations`, 95 cells with 5 seeds. Those of other tables are taken over; beside `main` and
# `ablation` 70 are left, about 28 minutes on 2 cores (AMD EPYC). Finished cells are not run again.
# Report: runs/deviations/report/; committed: scripts/results/deviations/ (of figures, the curves).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$STAR_ROOT"
star_setup
star_table deviations "$@"

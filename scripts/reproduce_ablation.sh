#!/usr/bin/env bash
# Table `ablation`: what each part of STAR adds, on the embedded families.
#
#   ./scripts/reproduce_ablation.sh [--columns arithmetic] [--seeds 3] [--jobs 2]
#
# 230 cells with 10 seeds, 20 to 40 core-seconds each. Cells that table `main` has run are taken over:
# beside it the other 140 take some 45 minutes on 2 cores (AMD EPYC).
# Report: runs/ablation/report/; what is committed: scripts/results/ablation/.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$STAR_ROOT"
star_setup
star_table ablation "$@"

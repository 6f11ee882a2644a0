#!/usr/bin/env bash
# Table `main`: random choice, naive combinations, STAR and controls, on the embedded families.
#
#   ./scripts/reproduce_main.sh [--columns arithmetic] [--seeds 3] [--jobs 2]
#
# 440 cells with 10 seeds: 37 core-seconds each beside other work, so about 2.3 hours on 2 cores (AMD
# EPYC).
# Finished cells are not run again.
# Report: runs/main/report/; what is committed: scripts/results/main/.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$STAR_ROOT"
star_setup
star_table main "$@"

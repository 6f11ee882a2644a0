#!/usr/bin/env bash
# Table `tuning`: what might make STAR better, on seeds that no other table uses.
#
#   ./scripts/reproduce_tuning.sh [--columns arithmetic] [--jobs 2]
#
# 63 cells; at the 37 core-seconds of table `main`'s cells some 20 minutes on 2 cores.
# Finished cells are not run again.
# Report: runs/tuning/report/; what is committed: scripts/results/tuning/ (of figures, the curves).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$STAR_ROOT"
star_setup
star_table tuning "$@"

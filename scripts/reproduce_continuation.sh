#!/usr/bin/env bash
# Table `continuation`: whose answer is scored, on seeds that no other table uses.
#
#   ./scripts/reproduce_continuation.sh [--columns arithmetic] [--jobs 2]
#
# 120 cells of about 40 core-seconds: about 40 minutes on 2 cores.
# Finished cells are not run again.
# Report: runs/continuation/report/; what is committed: scripts/results/continuation/ (of figures, the curves).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$STAR_ROOT"
star_setup
star_table continuation "$@"

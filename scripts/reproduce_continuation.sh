#!/usr/bin/env bash
# Table `continuation`: whose answer is scored, on seeds that no other table uses.
#
#   ./scripts/reproduce_continuation.sh [--columns arithmetic] [--jobs 2]
#
# 120 cells; about 45 minutes on 2 cores (AMD EPYC), beside other work.
# Finished cells are not run again.
# Report: runs/continuation/report/; committed: scripts/results/continuation/ (of figures, curves).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$STAR_ROOT"
star_setup
star_table continuation "$@"

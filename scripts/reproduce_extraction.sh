#!/usr/bin/env bash
# Answers in words, read as words and as the released code reads them (fault 11).
#
#   ./scripts/reproduce_extraction.sh [--seeds 3] [--jobs 2]
#
# Table `extraction`, 10 cells of one short training each: 42 seconds, one after the other.
# .
# Report: runs/extraction/report/; what is committed: scripts/results/extraction/.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$STAR_ROOT"
star_setup
star_table extraction "$@"

#!/usr/bin/env bash
# README's "Differences from the paper and the released code": what each difference costs.
#
#   ./scripts/reproduce_deviations.sh [--seeds N]
#
# 105 runs of the embedded families with 5 seeds: they took 55 minutes on 2 cores beside other work.
# Finished runs are not run again. Results: scripts/results/deviations/.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$STAR_ROOT"
star_setup
python scripts/deviations.py "$@"

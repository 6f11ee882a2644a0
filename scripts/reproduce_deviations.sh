#!/usr/bin/env bash
# README's "Differences from the paper and the released code": what each difference costs.
#
#   ./scripts/reproduce_deviations.sh [--seeds N]
#
# 95 runs of the embedded family arithmetic with 5 seeds: about 50 minutes on 2 cores. Finished runs
# are not run again. Results: scripts/results/deviations/.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$STAR_ROOT"
star_setup
python scripts/deviations.py "$@"

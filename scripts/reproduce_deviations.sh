#!/usr/bin/env bash
# README's "Differences from the paper and the released code": what each difference costs.
#
#   ./scripts/reproduce_deviations.sh [--seeds 3] [--jobs 2]
#
# Table `deviations`, 95 cells with 5 seeds, and `extraction`, 10 short ones; not run whole yet.
# Finished cells are not run again, those of other tables are taken over.
# Results: scripts/results/deviations/, scripts/results/extraction/.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$STAR_ROOT"
star_setup
for table in deviations extraction; do
    star sweep "configs/tables/$table.yaml" "$@"
    star report "configs/tables/$table.yaml" --output "scripts/results/$table"
done

#!/usr/bin/env bash
# The embedded families' table and learning curves, of star/data/tasks/embedded/README.md.
#
#   ./scripts/reproduce_families.sh              5 seeds; 3 took 17 minutes on 2 busy cores
#   SEEDS="0 1 2" ./scripts/reproduce_families.sh
#
# For each family and seed: STAR and random choice over ten rounds; for each family, the base model
# as it is and the model trained on the whole pool. Finished runs are not run again; each process
# has one thread, as many processes as there are cores. Results: scripts/results/families/.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$STAR_ROOT"
star_setup
export OMP_NUM_THREADS=1
out=${OUTPUT_DIR:-runs/families}

{
    for config in configs/quickstart.yaml configs/tiny/truefalse.yaml configs/tiny/choice.yaml; do
        quiet="tracking.progress=false tracking.save_adapters=none output_dir=$out"
        # No training at all: the adapter starts at zero, so this is the base model's accuracy.
        echo "$config $quiet pool.rounds=1 acquisition.select=random train.max_steps=0 acquisition.name=base"
        echo "$config $quiet pool.rounds=1 acquisition.select=random pool.initial_size=${POOL:-800} acquisition.name=whole-pool"
        for seed in ${SEEDS:-0 1 2 3 4}; do
            echo "$config $quiet seed=$seed"
            echo "$config $quiet seed=$seed acquisition.select=random"
        done
    done
} | xargs -P "$(nproc)" -I {} sh -c 'python -m star run {}'

python scripts/family_table.py "$out" scripts/results/families

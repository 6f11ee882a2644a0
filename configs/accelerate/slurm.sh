#!/usr/bin/env bash
# sbatch configs/accelerate/slurm.sh CONFIG [key=value ...]
#
# A process a GPU on two nodes. Two minutes before its time limit the job is told, keeps what is done,
# ends with status 75 and queues itself again; it goes on where it was. Only then: one that scancel
# ends stays ended. Options of sbatch's on the command line count before those here.
#SBATCH --job-name=star
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
set -euo pipefail

MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000)) WORLD_SIZE=$SLURM_NTASKS
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
# For a model that is larger than a GPU, layers in shares:
# export ACCELERATE_USE_FSDP=true FSDP_VERSION=2

# SLURM tells this script, which tells srun, and srun all its tasks.
told=
trap 'told=1; kill -USR1 "$run"' USR1
# No launcher in between: a signal reaches every process, and star ends all when one dies.
srun --kill-on-bad-exit=0 bash -c 'export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID
    exec star run "$@"' star "$@" &
run=$!
status=0
wait "$run" || status=$?
while kill -0 "$run" 2>/dev/null; do # the signal has ended wait, not srun
    status=0
    wait "$run" || status=$?
done
if [ -n "$told" ] && [ "$status" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"

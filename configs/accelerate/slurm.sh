#!/usr/bin/env bash
# sbatch configs/accelerate/slurm.sh CONFIG [key=value ...]
#
# A process a GPU on two nodes. Two minutes before its time limit, or when it is sent away, the job
# keeps what is done, ends with status 75 and queues itself again; it goes on where it was.
#SBATCH --job-name=star
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=USR1@120
#SBATCH --open-mode=append
set -euo pipefail

MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000)) WORLD_SIZE=$SLURM_NTASKS
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
# For a model that is larger than a GPU, layers in shares:
# export ACCELERATE_USE_FSDP=true FSDP_VERSION=2

# No launcher in between: a signal reaches every process, and star ends all when one dies.
status=0
srun --kill-on-bad-exit=0 bash -c 'export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID
    exec star run "$@"' star "$@" || status=$?
[ "$status" -ne 75 ] || scontrol requeue "$SLURM_JOB_ID"
exit "$status"

"""A function's calls as a job array of SLURM, by way of submitit.

The queue is asked with ``squeue`` alone: ``sacct`` needs a data base that small clusters lack.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star import signals
from star.errors import InputError

ARRAY_SIZE = 1000  # tasks in one array; SLURM's MaxArraySize is 1001 unless it is set
PREEMPTED = "SUBMITIT_PREEMPT_SIGNAL"  # in which submitit is told of another signal than USR2
WARNING_SECONDS = 60  # before its time limit a job is told, and puts itself into the queue again
# A job in one of these (squeue's long names) has yet to end.
ALIVE = {
    "PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "STAGE_OUT",
    "SIGNALING", "RESIZING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT",
    "RESV_DEL_HOLD",
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What a job asks for.

    Attributes:
        partition: ``None``: the cluster's default.
        minutes: Time limit of a job. One that reaches it queues again, three times at most.
        cpus: Cores of a job.
        gpus: GPUs of a job.
        memory_gb: Memory of a job in GB; ``None``: the cluster's default.
        parallel: Jobs running at once at most; ``None``: as many as SLURM starts.
    """

    partition: str | None = None
    minutes: int = 60
    cpus: int = 1
    gpus: int = 0
    memory_gb: float | None = None
    parallel: int | None = None


class Again:
    """A function that a job calls, and calls again after its time limit or a preemption.

    submitit asks for ``checkpoint`` when its signal comes, and queues the job with what it returns.
    The same call is right here: it goes on from where it stopped. Before that, what is under way is
    kept.
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, task: Any) -> Any:
        number: signal.Signals = getattr(signal, f"SIG{os.environ.get(PREEMPTED, 'USR2')}")
        try:
            with signals.heeded(number):
                return self.function(task)
        except signals.Stopped:
            queue_again = signal.getsignal(number)  # submitit's own, which ends the process
            if callable(queue_again):
                queue_again(number, None)
            raise

    def checkpoint(self, task: Any) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, task)


def submit(
    function: Callable[[Any], Any],
    tasks: Sequence[Any],
    *,
    folder: Path,
    name: str,
    options: Options,
) -> list[str]:
    """Queue one job a task and return their ids, ``123_4`` the fifth of an array.

    Args:
        function: A module's; it and the tasks are stored in ``folder``.
        tasks: SLURM starts them in this order.
        folder: On a file system that the nodes share; submitit's scripts and logs go there.
        name: Of the jobs.
        options: See :class:`Options`.

    Raises:
        InputError: No SLURM or no submitit here, options out of range, or SLURM refuses the jobs.
    """
    _check(options)
    try:
        import submitit
    except ImportError:
        raise InputError("--executor slurm needs submitit: pip install submitit") from None
    for command in ("sbatch", "squeue", "srun"):
        if shutil.which(command) is None:
            raise InputError(
                f"--executor slurm: no {command} here, so no SLURM; use --executor local or print"
            )
    arrays = [tasks[i : i + ARRAY_SIZE] for i in range(0, len(tasks), ARRAY_SIZE)]
    executor = submitit.AutoExecutor(folder=folder, cluster="slurm")
    executor.update_parameters(**_parameters(options, name, len(arrays)))
    jobs = []
    for array in arrays:
        try:
            jobs += executor.map_array(Again(function), array)
        except (submitit.core.utils.FailedJobError, subprocess.CalledProcessError) as error:
            told = getattr(error, "stderr", None) or error
            raise InputError(f"SLURM refused the jobs: {' '.join(str(told).split())}") from None
    return [str(job.job_id) for job in jobs]


def states(ids: Iterable[str]) -> dict[str, str] | None:
    """Return the state of those jobs that SLURM still knows; it forgets one minutes after its end.

    Returns:
        Id to a state such as ``PENDING``, ``RUNNING``, ``TIMEOUT``; ``None`` where the controller
        does not answer, which says nothing of the jobs.
    """
    wanted = set(ids)
    arrays = sorted({one.partition("_")[0] for one in wanted})
    found: dict[str, str] = {}
    for array in arrays:  # one at a time: an unknown id fails the whole question
        command = ["squeue", "--noheader", "--array", "--states=all", f"--jobs={array}"]
        try:
            done = subprocess.run(
                [*command, "--format=%i %T"], capture_output=True, text=True, timeout=120
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode != 0 and "invalid job id" not in done.stderr.lower():
            return None
        pairs = (line.split() for line in done.stdout.splitlines())
        found |= {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
    return {one: state for one, state in found.items() if one in wanted}


def _check(options: Options) -> None:
    least = {"minutes": 2, "cpus": 1, "gpus": 0, "memory_gb": 0, "parallel": 1}
    for name, bound in least.items():
        value = getattr(options, name)
        if value is not None and (value < bound or (name == "memory_gb" and value == 0)):
            raise InputError(f"slurm: {name} must be at least {bound}, got {value}")


def _parameters(options: Options, name: str, arrays: int) -> dict[str, Any]:
    # The limit holds for one array.
    parallel = max(1, options.parallel // arrays) if options.parallel else ARRAY_SIZE
    # Read by OpenMP when torch is loaded, as in the local executor.
    setup = [f"export OMP_NUM_THREADS={options.cpus}"]
    # Since SLURM 22.05 srun does not take the number over from sbatch.
    setup.append(f"export SRUN_CPUS_PER_TASK={options.cpus}")
    setup.append(f"export OMP_WAIT_POLICY={os.environ.get('OMP_WAIT_POLICY', 'PASSIVE')}")
    asked: dict[str, Any] = {
        "name": name,
        "timeout_min": options.minutes,
        "cpus_per_task": options.cpus,
        "slurm_array_parallelism": parallel,
        "slurm_signal_delay_s": WARNING_SECONDS,
        "slurm_setup": setup,
    }
    if options.gpus:
        asked["gpus_per_node"] = options.gpus
    if options.memory_gb is not None:
        asked["mem_gb"] = options.memory_gb
    if options.partition is not None:
        asked["slurm_partition"] = options.partition
    return asked

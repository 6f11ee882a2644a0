"""The launchers' configurations in ``configs/accelerate``, as Accelerate and SLURM take them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType

from star.config import ModelConfig
from star.errors import InputError
from star.models import sharding

FOLDER = Path(__file__).parents[2] / "configs" / "accelerate"
KINDS = {
    "one_gpu": DistributedType.NO,
    "several_gpus": DistributedType.MULTI_GPU,
    "several_nodes": DistributedType.MULTI_GPU,
    "fsdp2": DistributedType.FSDP,
}


def test_every_file_is_known() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_accelerate_loads_it(name: str) -> None:
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert config.distributed_type == KINDS[name] and not config.use_cpu
    assert config.mixed_precision == "no"  # star says it by model.dtype
    assert (config.num_processes > 1) == (name != "one_gpu")
    assert (config.num_machines > 1) == (name == "several_nodes")


SAY = "import json, os; print(json.dumps(dict(os.environ)))"


@pytest.mark.slow
def test_star_takes_what_accelerate_sets_for_fsdp2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "say.py"
    script.write_text(SAY)
    start = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes=2"]
    done = subprocess.run(
        [*start, f"--config_file={FOLDER / 'fsdp2.yaml'}", str(script)],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert {line["RANK"] for line in lines} == {"0", "1"}
    asked = {k: v for k, v in lines[0].items() if "FSDP" in k}
    assert is_wanted(monkeypatch, asked)


def is_wanted(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], **settings: object
) -> bool:
    """Return whether star shares a model where a launcher of two processes says so."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    state = type("State", (), {"num_processes": 2, "device": type("Cpu", (), {"type": "cpu"})})
    monkeypatch.setattr(sharding.distributed, "state", lambda: state)
    return sharding.wanted(ModelConfig(**settings))  # type: ignore[arg-type]


FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


def test_who_does_not_ask_has_the_model_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_wanted(monkeypatch, {"ACCELERATE_USE_FSDP": "false"})
    assert is_wanted(monkeypatch, FSDP)


@pytest.mark.parametrize(
    "environment, settings, part",
    [
        ({"FSDP_VERSION": "1"}, {}, "got 1; set fsdp_version: 2"),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, {}, "fsdp_offload_params: true"),
        ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, {}, "train.gradient_checkpointing=true does"),
        ({"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}, {}, "fsdp_cpu_ram_efficient_loading"),
        ({}, {"quantization": "nf4"}, "set model.quantization=none"),
        ({}, {"torch_compile": True}, "set model.torch_compile=false"),
        ({}, {"device": "cuda"}, "set model.device=auto"),
    ],
)
def test_what_cannot_be_had_in_shares(
    environment: dict[str, str],
    settings: dict[str, object],
    part: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InputError) as error:
        is_wanted(monkeypatch, FSDP | environment, **settings)
    assert part in str(error.value) and "\n" not in str(error.value)


# Stands for SLURM: two tasks, the limit announced or not; what is said to scontrol is noted.
SRUN = """#!/usr/bin/env bash
trap '' USR1 # which the script passes on
if [ -n "$ANNOUNCED" ]; then kill -USR1 $PPID; fi
shift # --kill-on-bad-exit=0
export SLURM_PROCID SLURM_LOCALID
for SLURM_PROCID in 0 1; do SLURM_LOCALID=$SLURM_PROCID; "$@" || status=$?; done
exit "${status:-0}"
"""
SCONTROL = '#!/usr/bin/env bash\n[ "$1" = show ] && echo node7 || echo "$@" >> "$NOTED"\n'
STAR = (
    "#!/usr/bin/env bash\n"
    'echo "$RANK $LOCAL_RANK $WORLD_SIZE $MASTER_ADDR $MASTER_PORT $*" >> "$NOTED"; exit $STATUS\n'
)


@pytest.mark.parametrize(
    ("status", "announced"), [(0, ""), (2, ""), (75, ""), (0, "yes"), (75, "yes")]
)
def test_a_job_of_slurms(status: int, announced: str, tmp_path: Path) -> None:
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("star", STAR)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    noted = tmp_path / "noted"
    job = {"SLURM_JOB_NODELIST": "node[7-8]", "SLURM_JOB_ID": "20041", "SLURM_NTASKS": "2"}
    own = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "NOTED": str(noted), "STATUS": str(status)}
    own["ANNOUNCED"] = announced
    done = subprocess.run(
        [FOLDER / "slurm.sh", "my config.yaml", "seed=1"], env=os.environ | job | own, text=True,
        capture_output=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (status, "")
    tasks = [f"{rank} {rank} 2 node7 20041 run my config.yaml seed=1" for rank in (0, 1)]
    again = ["requeue 20041"] if status == 75 and announced else []  # scancel says it otherwise
    assert noted.read_text().splitlines() == [*tasks, *again]

"""A recipe through Debian's Slurm on the loopback device: failing jobs, a time limit, nodes."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from clusters import check_recipe, daemon, free_ports, make_recipe, run

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "srun")
NODES = 2
SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthInfo=socket={root}/munge/socket
SlurmUser=root
StateSaveLocation={root}/state
SlurmctldPidFile={root}/slurmctld.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdPidFile={root}/slurmd.%n.pid
SlurmdLogFile={root}/slurmd.%n.log
SlurmdSpoolDir={root}/spool.%n
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_min_interval=100000,sched_interval=1
ReturnToService=2
KillWait=5
MpiDefault=none
"""


def programs() -> dict[str, str]:
    """Return the paths of the programs that are there."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return {name: where for name in PROGRAMS if (where := shutil.which(name, path=path))}


def missing() -> str:
    """Return why Slurm cannot run here, or an empty text."""
    absent = [name for name in PROGRAMS if name not in programs()]
    if absent:
        return f"Slurm is not installed: {', '.join(absent)} missing (apt install slurm-wlm munge)"
    return "" if os.geteuid() == 0 else "slurmd runs jobs as root only"


@contextmanager
def running(root: Path) -> Iterator[Mapping[str, str]]:
    """Start Slurm with its files in ``root``; yield the variables that its commands need."""
    (root / "munge").mkdir(parents=True)
    (root / "munge").chmod(0o755)
    (root / "state").mkdir()
    (root / "key").write_bytes(os.urandom(128))
    (root / "key").chmod(0o600)
    host, ports = socket.gethostname().split(".")[0], free_ports(1 + NODES)
    lines = [SLURM_CONF.format(host=host, ports=ports, root=root)]
    for number, port in enumerate(ports[1:], 1):
        node = f"NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
        lines.append(f"{node} CPUs=2 CoresPerSocket=2 RealMemory=4000 State=UNKNOWN")
    lines.append("PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n")
    (root / "slurm.conf").write_text("\n".join(lines))
    (root / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    environment = {"SLURM_CONF": str(root / "slurm.conf")}
    paths = programs()
    m = root / "munge"
    commands = [
        [paths["munged"], "-F", "-f", f"--socket={m}/socket", f"--key-file={root}/key"]
        + [f"--{name}-file={m}/{name}" for name in ("log", "pid", "seed")],
        [paths["slurmctld"], "-D", "-c"],
        *([paths["slurmd"], "-D", "-N", f"n{number}"] for number in range(1, NODES + 1)),
    ]
    with ExitStack() as stack:
        for command in commands:
            stack.enter_context(daemon(command, root, environment))
            time.sleep(0.3)
        wait_for_nodes(root, environment)
        yield environment


def wait_for_nodes(root: Path, environment: Mapping[str, str]) -> None:
    for _ in range(150):
        shown = subprocess.run(
            ["sinfo", "--noheader", "--format=%T %D"],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )
        if shown.stdout.split() == ["idle", str(NODES)]:
            return
        time.sleep(0.2)
    raise RuntimeError(f"Slurm does not start: {shown.stdout}{shown.stderr}; see {root}")


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module")
def queue(tmp_path_factory):
    with running(tmp_path_factory.mktemp("slurm")) as variables:
        yield variables


@pytest.fixture
def recipe(tmp_path):
    return make_recipe(tmp_path, "utils/slurm.sh")


def test_a_recipe_from_features_to_scores(recipe, queue):
    check_recipe(recipe, queue, "--time 2 --warn 90", "slurm.sh")


def test_a_training_on_two_nodes(recipe, queue):
    """Two processes, started by srun and torchrun."""
    result = run(recipe, queue, "--stop-stage", "4", "--nodes", "2")
    assert result.returncode == 0, result.stderr
    header = (recipe / "exp/las/final.safetensors").read_bytes()
    assert len(header) > 1000
    lines = (recipe / "exp/las/train.jsonl").read_text().splitlines()
    assert len([line for line in lines if json.loads(line)["kind"] == "epoch"]) == 8

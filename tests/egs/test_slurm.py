"""A recipe through Debian's Slurm on the loopback device: failing jobs, a time limit, nodes."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

from asr.bench.corpus import make_corpus
from asr.bench.faults import CONFIG
from asr.config import TrainConfig
from asr.config.read import from_dict

UTILS = Path(__file__).resolve().parents[2] / "egs" / "utils"
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


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in found]


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


@contextmanager
def daemon(command: list[str], root: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Run a daemon in the foreground, and end it by its process id."""
    with (root / "daemons.txt").open("ab") as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


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

RUN = """#!/usr/bin/env bash
stage=1 stop_stage=6 dir=exp/las seed=1 seeds= device=cpu threads=1 decode_nj=2
ngpu=0 nodes=1 requeue=true force=false
train_config=train.yaml train_options= decode_config=decode.yaml decode_options= decode_tag=beam
train=train dev=dev tokens=data/tokens.txt limit=
. ./path.sh
. utils/stages.sh
. utils/parse_options.sh
. utils/steps.sh
set -euo pipefail
train_cmd="utils/slurm.sh $limit"
decode_cmd=utils/slurm.sh
if stage_begin 1 "features" data/train/text; then
  $decode_cmd exp/log/features.log asr features data/train data/dev --config train.yaml
  stage_done data/train/cmvn.ark
fi
train_stage 4
decode_stage 5 dev
score_stage 6 dev
"""
ASR = """#!/usr/bin/env bash
echo "$*" >>calls
if [ -e broken ] && [[ "$*" == *"--part 2/2"* ]]; then echo "this job is broken"; exit 3; fi
if [ "$1" = train ]; then exec python slow.py "$@"; fi
exec python -m asr "$@"
"""
# The training is slow until it has been stopped and submitted again.
SLOW = """
import sys, time
from pathlib import Path
from asr.cli import main
from asr.train.loop import Training

step, again = Training._step, Path("exp/las/checkpoints/last.pt").exists()

def slow_step(self, *args):
    time.sleep(0 if again else 3)
    step(self, *args)

Training._step = slow_step
sys.exit(main())
"""


@pytest.fixture(scope="module")
def queue(tmp_path_factory):
    with running(tmp_path_factory.mktemp("slurm")) as variables:
        yield variables


@pytest.fixture
def recipe(tmp_path):
    make_corpus(tmp_path / "data", 16, from_dict(TrainConfig, CONFIG).features)
    (tmp_path / "utils").symlink_to(UTILS)
    (tmp_path / "bin").mkdir()
    texts = {"run.sh": RUN, "bin/asr": ASR, "slow.py": SLOW, "decode.yaml": "beam: 2\n"}
    texts["train.yaml"] = yaml.safe_dump({**CONFIG, "epochs": 8})
    texts["path.sh"] = f"PATH=$PWD/bin:{Path(sys.executable).parent}:$PATH\n"
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "bin" / "asr").chmod(0o755)
    return tmp_path


def run(recipe, queue, *options):
    environment = {**os.environ, **queue, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        ["bash", "run.sh", *options],
        cwd=recipe,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )


def calls(recipe, verb):
    found = (recipe / "calls").read_text().splitlines()
    (recipe / "calls").write_text("")
    return [line for line in found if line.startswith(verb)]


def test_a_recipe_from_features_to_scores(recipe, queue):
    """The time limit stops the training, which is submitted again; a job of the decoding fails."""
    (recipe / "broken").touch()
    first = run(recipe, queue, "--limit", "--time 2 --warn 90")
    assert "stopped before the time limit, submitted again: job 1" in first.stderr
    log = (recipe / "exp/las/log/train.txt").read_text()
    assert "resuming after step" in log
    assert (recipe / "exp/las/final.safetensors").is_file()
    assert first.returncode == 1
    assert "slurm.sh: 1 / 2 failed:" in first.stderr
    assert "exp/las/decode_dev_beam/log/decode.2.log: failed" in first.stderr
    assert "  this job is broken" in first.stderr
    assert len(calls(recipe, "train")) >= 2

    (recipe / "broken").unlink()
    second = run(recipe, queue)
    assert second.returncode == 0, second.stderr
    assert calls(recipe, "train") == []
    assert (
        "this part is decoded already"
        in (recipe / "exp/las/decode_dev_beam/log/decode.1.log").read_text()
    )
    assert (recipe / "exp/las/decode_dev_beam/scoring_kaldi/best_wer").is_file()
    assert len((recipe / "exp/las/decode_dev_beam/text").read_text().splitlines()) == 4


def test_a_training_on_two_nodes(recipe, queue):
    """Two processes, started by srun and torchrun."""
    result = run(recipe, queue, "--stop-stage", "4", "--nodes", "2")
    assert result.returncode == 0, result.stderr
    header = (recipe / "exp/las/final.safetensors").read_bytes()
    assert len(header) > 1000
    lines = (recipe / "exp/las/train.jsonl").read_text().splitlines()
    assert len([line for line in lines if json.loads(line)["kind"] == "epoch"]) == 8

"""A recipe whose jobs a cluster runs, for the tests of Slurm and Grid Engine on one machine."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from asr.bench.corpus import make_corpus
from asr.bench.faults import CONFIG
from asr.config import TrainConfig
from asr.config.read import from_dict

UTILS = Path(__file__).resolve().parents[1] / "egs" / "utils"
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


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in found]


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


def make_recipe(folder: Path, jobs: str) -> Path:
    """Write a recipe with a small corpus, whose jobs are run by a script of utils."""
    make_corpus(folder / "data", 16, from_dict(TrainConfig, CONFIG).features)
    (folder / "utils").symlink_to(UTILS)
    (folder / "bin").mkdir()
    run = RUN.replace("utils/slurm.sh", jobs)
    texts = {"run.sh": run, "bin/asr": ASR, "slow.py": SLOW, "decode.yaml": "beam: 2\n"}
    texts["train.yaml"] = yaml.safe_dump({**CONFIG, "epochs": 8})
    texts["path.sh"] = f"PATH=$PWD/bin:{Path(sys.executable).parent}:$PATH\n"
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "bin" / "asr").chmod(0o755)
    return folder


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


def check_recipe(recipe, queue, limit, name):
    """The time limit stops the training, which is submitted again; a job of the decoding fails."""
    (recipe / "broken").touch()
    first = run(recipe, queue, "--limit", limit)
    assert "stopped before the time limit, submitted again: job 1" in first.stderr, first.stderr
    log = (recipe / "exp/las/log/train.txt").read_text()
    assert "resuming after step" in log
    assert (recipe / "exp/las/final.safetensors").is_file()
    assert first.returncode == 1
    assert f"{name}: 1 / 2 failed:" in first.stderr
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

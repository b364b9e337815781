"""A full disk, and one that can no longer be written, end a training with one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from asr.config.read import to_dict
from asr.train.checkpoint import read_state


@pytest.fixture
def disk(tmp_path):
    """A disk of 400 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this machine mounts no disk in memory")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def test_a_full_or_read_only_disk(tone_corpus, tiny_training, tmp_path, disk):
    """What is there is kept, and the training goes on when there is room."""
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(to_dict(tiny_training)))
    command = [sys.executable, "-m", "asr", "--quiet", "train", "--out", str(disk / "las")]
    command += [
        "--config",
        str(tmp_path / "conf.yaml"),
        "--tokens",
        str(tone_corpus / "tokens.txt"),
    ]
    command += [f"--{name}={tone_corpus / name}" for name in ("train", "dev")]

    def train():
        return subprocess.run(command, capture_output=True, text=True)

    full = train()
    assert full.returncode == 2 and "Traceback" not in full.stderr
    last = full.stderr.strip().splitlines()[-1]
    assert last.startswith("asr train: ") and "No space left on device" in last
    assert str(disk / "las") in last
    step = read_state(disk / "las" / "checkpoints" / "last.pt")["progress"]["step"]
    assert not list(disk.rglob("*.tmp"))
    remount(disk, "ro")
    locked = train()
    assert locked.returncode == 2 and "Traceback" not in locked.stderr
    assert len(locked.stderr.strip().splitlines()) == 1 and str(disk) in locked.stderr
    remount(disk, "rw,size=9m")
    assert train().returncode == 0
    assert f"resuming after step {step}" in (disk / "las" / "log" / "train.txt").read_text()
    assert (disk / "las" / "final.safetensors").is_file()

"""Process-wide settings of a training, and pictures under a user's settings."""

import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import torch

from asr.commands.machine import machine
from asr.errors import InputError
from asr.explain import pictures
from asr.model import machine as device
from asr.model.fast.product import bfloat16_unit, precision_in_use
from asr.recognize import calibrate
from asr.train.launch import processes
from asr.train.loop import Training


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"job/cpu.max": "max 100000\n", "cpu.max": "300000 100000\n"}, 3),
        ({"cpu/job/cpu.cfs_quota_us": "50000\n", "cpu/job/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({}, 8),
    ],
)
def test_usable_cores_respect_affinity_and_quota(tmp_path, monkeypatch, files, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for name, content in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(content)
    (tmp_path / "process").write_text("4:cpu,cpuacct:/job\n0::/job\n")
    assert device.usable_cores(tmp_path / "cgroup", tmp_path / "process") == expected


def process():
    """Return the settings of this process."""
    return (
        dict(os.environ),
        [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        torch.get_rng_state().tolist(),
        random.getstate(),
        torch.get_num_threads(),
        precision_in_use(),
        torch.tensor(1e-40).mul(1.0).item() == 0,  # whether tiny numbers count as zero
    )


def test_a_training_in_python_leaves_its_process_unchanged(tone_corpus, tiny_training, tmp_path):
    config = replace(tiny_training, epochs=1, threads=2)
    folders = [str(tone_corpus / name) for name in ("train", "dev", "tokens.txt")]
    before = process()
    training = Training(config, *folders, tmp_path / "las")
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(training.run).result() == tmp_path / "las" / "final.safetensors"
    assert process() == before
    with pytest.raises(InputError, match="precision bfloat16: products are in float32"):
        Training(replace(config, precision="bfloat16"), *folders, tmp_path / "other")


def test_a_command_restores_process_wide_settings():
    before = process()
    with machine(1, "auto"):
        assert precision_in_use() == ("bfloat16" if bfloat16_unit() else "float32")
    with pytest.raises(KeyboardInterrupt), machine(3, "bfloat16", keep_memory=True) as threads:
        assert threads == torch.get_num_threads() == 3 and precision_in_use() == "bfloat16"
        assert torch.tensor(1e-40).mul(1.0).item() == 0
        raise KeyboardInterrupt
    assert process() == before
    with pytest.raises(InputError, match="threads"), machine(-1):
        pass


def test_missing_characters_are_reported_once_and_dollars_are_characters(tmp_path, capsys, recwarn):
    for number in range(2):
        pictures.draw_attention(
            [("a$b$c", np.full((2, 3), 0.5), ["\U0010fffd", "$"], 1.0)], tmp_path / f"{number}.png"
        )
    assert capsys.readouterr().err.count("no installed font has") == 1
    assert not recwarn.list


def test_pictures_do_not_depend_on_user_settings(tmp_path):
    predictors, correct = np.zeros((4, 2)), np.array([0, 1, 0, 1])
    found = calibrate.CalibrationData(predictors, correct, np.linspace(0, 1, 4))
    with matplotlib.rc_context({"text.usetex": True}):
        pictures.draw_reliability(found, found, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 0


def test_another_world_size_than_that_of_torchrun(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(InputError, match="is 2 without MASTER_ADDR, MASTER_PORT; start"):
        processes()
    for value in ("", "0", "two"):
        monkeypatch.setenv("WORLD_SIZE", value)
        with pytest.raises(InputError, match=f"WORLD_SIZE is '{value}', expected a number"):
            processes()


def test_ranks_that_torchrun_does_not_set(monkeypatch):
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert processes() == (2, 1)
    for value, message in (("2", "is 2, expected less than"), ("x", "is 'x', expected a number")):
        monkeypatch.setenv("RANK", value)
        with pytest.raises(InputError, match=f"RANK {message}"):
            processes()
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "first")
    assert processes() == (1, 1)  # one process, whatever its rank is called


@pytest.mark.parametrize("name", ["cpu:0", "meta", "tpu"])
def test_devices_of_another_kind_are_refused(name):
    with pytest.raises(InputError, match=f"device {name}: expected auto, cpu, cuda or cuda:N"):
        device.pick_device(name)

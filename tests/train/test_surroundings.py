"""Processors that may be used, and pictures under anybody's settings."""

import os

import matplotlib
import numpy as np
import pytest

from asr.explain import pictures
from asr.model import machine as device
from asr.recognize import calibrate


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
def test_threads_keep_to_affinity_and_quota(tmp_path, monkeypatch, files, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for name, content in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(content)
    (tmp_path / "process").write_text("4:cpu,cpuacct:/job\n0::/job\n")
    assert device.usable_cores(tmp_path / "cgroup", tmp_path / "process") == expected


def test_missing_characters_are_one_line_and_dollars_are_characters(tmp_path, capsys, recwarn):
    for number in range(2):
        pictures.draw_attention(
            [("a$b$c", np.full((2, 3), 0.5), ["\U0010fffd", "$"], 1.0)], tmp_path / f"{number}.png"
        )
    assert capsys.readouterr().err.count("no installed font has") == 1
    assert not recwarn.list


def test_pictures_do_not_depend_on_the_settings(tmp_path):
    evidence = calibrate.Evidence(np.zeros((4, 2)), np.array([0, 1, 0, 1]), np.linspace(0, 1, 4))
    with matplotlib.rc_context({"text.usetex": True}):
        pictures.draw_reliability(evidence, evidence, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 0

"""Trainings that are killed end with the weights of an undisturbed one."""

import json
import os
import subprocess
import sys

import pytest

from asr.bench import faults


@pytest.mark.skipif(os.name == "nt", reason="no named pipes there")
def test_five_kills_change_nothing():
    command = [sys.executable, "-m", "asr", "bench", "faults", "--kills", "5", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["identical"] and sum(found["hits"].values()) == 5


def test_differences_are_found(tmp_path, monkeypatch):
    weights = {"whole": 1.0, "one": 1.0, "two": 1.5}
    for name, step in (("whole", 1), ("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        line = {"step": step, "loss": 0.5, "seconds": len(name)}
        (tmp_path / name / "train.jsonl").write_text(json.dumps(line) + "\n")
    monkeypatch.setattr(faults, "_weights", lambda out: {"w": weights[out.name]})

    def compare(*names):
        return faults._compare(tmp_path / "whole", [tmp_path / name for name in names])

    assert compare("one")["identical"]
    found = compare("one", "two")
    assert not found["identical"] and not found["same_steps"]
    assert found["largest_difference"] == 0.5
    (tmp_path / "one" / ".0.tmp").touch()
    assert compare("one")["partial_files"] == ["one/.0.tmp"]
    assert not compare("one")["identical"]
